"""Models of the catalogue: every promised name, its aliases, and its size against the published parameter count."""

import pytest

from planner.catalogue.models import model, model_names, model_provenance, models_table
from planner.errors import DataFileError, UnknownNameError
from planner.specs import Model

PROMISED = [
    "llama-2-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "llama-3.3-70b",
    "qwen3-0.6b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-235b-a22b",
    "mixtral-8x7b",
    "mixtral-8x22b",
    "deepseek-v3",
    "deepseek-r1",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "minimax-m2.5",
    "kimi-k2.5",
    "yuan2-m32",
    "gpt-3-175b",
    "palm-540b",
    "dense-500b",
    "dense-1t",
]


def parameters(model: Model) -> float:
    """Matrix weights: embeddings, attention, feed-forwards and router; norms and biases are below 0.2 %."""
    embeddings = model.vocab * model.hidden * (1 if model.tied_embeddings else 2)
    if model.latent:
        mla = model.latent
        query_head = mla.nope_dim + mla.rope_dim
        queries = model.heads * query_head
        query = mla.q_rank * (model.hidden + queries) if mla.q_rank else model.hidden * queries
        keys_values = model.hidden * (mla.kv_rank + mla.rope_dim)
        keys_values += mla.kv_rank * model.heads * (mla.nope_dim + mla.value_dim)
        attention = query + keys_values + model.heads * mla.value_dim * model.hidden
    else:
        attention = 2 * model.hidden * model.head_dim * (model.heads + model.kv_heads)
    projections = 3 if model.gated_ffn else 2
    dense = projections * model.hidden * model.ffn
    total = embeddings + model.layers * attention + (model.layers - model.moe_layers) * dense
    if model.experts:
        experts = model.experts
        routed = projections * model.hidden * (experts.count * experts.ffn + experts.shared_ffn)
        total += model.moe_layers * (routed + model.hidden * experts.count)
    return total


PUBLISHED = [
    ("llama-2-7b", 6.74e9, "Llama 2 paper"),
    ("llama-2-13b", 13.02e9, "Llama 2 paper"),
    ("llama-2-70b", 68.98e9, "Llama 2 paper"),
    ("llama-3.1-8b", 8.03e9, "model card"),
    ("llama-3.1-70b", 70.6e9, "model card"),
    ("llama-3.3-70b", 70.6e9, "the shape of llama-3.1-70b"),
    ("llama-3.1-405b", 405.9e9, "model card"),
    ("qwen3-14b", 14.8e9, "model card"),
    ("qwen3-32b", 32.8e9, "model card"),
    ("qwen3-30b-a3b", 30.5e9, "model card"),
    ("qwen3-235b-a22b", 235e9, "model card"),
    ("mixtral-8x7b", 46.7e9, "all eight experts, not 8 × 7 B"),
    ("mixtral-8x22b", 140.6e9, "model card"),
    ("deepseek-v3", 671e9, "without the multi-token-prediction layer"),
    ("deepseek-r1", 671e9, "the shape of deepseek-v3"),
    ("kimi-k2.5", 1.04e12, "the text model"),
    ("gpt-oss-20b", 20.9e9, "model card"),
    ("gpt-oss-120b", 116.8e9, "model card"),
    ("minimax-m2.5", 230e9, "model card"),
    ("yuan2-m32", 40e9, "head size 256 is inferred from this"),
    ("gpt-3-175b", 175e9, "GPT-3 paper; two projections, tied embeddings"),
    ("palm-540b", 540e9, "PaLM paper; one KV head, SwiGLU"),
    ("dense-500b", 500e9, "the shape is assumed, the count is not"),
    ("dense-1t", 1e12, "the shape is assumed, the count is not"),
]


@pytest.mark.parametrize(("name", "published", "because"), PUBLISHED)
def test_the_shape_has_the_published_parameter_count_within_2_percent(name, published, because):
    assert published == pytest.approx(parameters(model(name)), rel=0.02), because


def test_every_published_count_in_the_table_is_met_within_2_percent():
    table = models_table().dropna(subset="published_parameters")
    assert len(table) > len(PROMISED)
    for name, published in zip(table["name"], table["published_parameters"], strict=True):
        assert published == pytest.approx(parameters(model(name)), rel=0.02), name


def test_yuan2_has_its_published_3_7_billion_active_parameters():
    yuan = model("yuan2-m32")
    assert yuan.experts is not None
    idle = yuan.layers * 3 * yuan.hidden * yuan.experts.ffn * (yuan.experts.count - yuan.experts.per_token)
    published = 3.7e9
    assert published == pytest.approx(parameters(yuan) - idle, rel=0.03)


def test_every_promised_name_is_there():
    assert set(PROMISED) <= set(model_names())


@pytest.mark.parametrize("name", model_names())
def test_a_model_is_coherent(name):
    found = model(name)
    assert name == found.name
    assert found.heads % found.kv_heads == 0
    assert found.source
    assert (found.sliding_window is None) == (found.windowed_layers == 0)
    assert found.windowed_layers <= found.layers
    if found.latent:
        assert found.head_dim == found.latent.nope_dim + found.latent.rope_dim


ALIASES = [
    ("meta-llama/llama-3.1-8b", "llama-3.1-8b", "meta-llama/Llama-3.1-8B", "full Hugging Face name"),
    ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "its own repository"),
    ("llama-3.1-8b-instruct", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "-instruct"),
    ("meta-llama/meta-llama-3.1-8b-instruct", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "former name"),
    ("LLAMA-3.1-8B", "llama-3.1-8b", "meta-llama/Llama-3.1-8B", "case does not matter"),
    ("llama-3.3-70b", "llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", "there is no base model of it"),
    ("mixtral-8x7b-instruct", "mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1", "-instruct in the middle"),
    ("qwen/qwen3-8b", "qwen3-8b", "Qwen/Qwen3-8B", "full Hugging Face name"),
    ("qwen3-8b-instruct", "qwen3-8b", "Qwen/Qwen3-8B", "one repository holds the tuned model"),
    ("openai/gpt-oss-120b", "gpt-oss-120b", "openai/gpt-oss-120b", "full Hugging Face name"),
    ("gpt-3", "gpt-3-175b", None, "never published as weights"),
]


@pytest.mark.parametrize(("alias", "name", "repo", "because"), ALIASES)
def test_an_alias_finds_the_model_and_its_repository(alias, name, repo, because):
    assert (name, repo) == (model(alias).name, model(alias).hf_repo), because


def test_no_name_or_alias_means_two_models():
    owner = {}
    for row in models_table().astype(object).fillna("").itertuples():
        for name in {row.name, row.hf_repo.lower(), row.instruct_repo.lower(), *row.aliases.split(";")} - {""}:
            assert name not in owner, f"{name} means {owner.get(name)} and {row.name}"
            owner[name] = row.name
    assert owner == {name: model(name).name for name in owner}


def test_an_unknown_name_offers_the_nearest_ones():
    with pytest.raises(UnknownNameError, match=r"^model \(=llama-3\.1-9b\): .*nearest: .*llama-3\.1-8b"):
        model("llama-3.1-9b")
    with pytest.raises(UnknownNameError, match=r"nearest: .*qwen3-32b"):
        model("Qwen/Qwen3-33B-Instruct")
    with pytest.raises(UnknownNameError) as nothing_near:
        model("zzz")
    assert nothing_near.value.nearest is None


@pytest.mark.parametrize("odd", ["", " ", "\0", "x" * 5000, "a\nb"])
def test_odd_names_are_refused_on_one_line(odd, tmp_path):
    with pytest.raises((UnknownNameError, DataFileError)) as refused:
        model(odd, tmp_path)
    assert "\n" not in str(refused.value)


def test_checkpoints_have_their_published_format():
    formats = {name: (model(name).checkpoint, model(name).quantized_experts_only) for name in model_names()}
    assert formats["llama-3.3-70b"] == ("bf16", False)
    assert ("fp8_block", False) == formats["deepseek-v3"] == formats["minimax-m2.5"]
    assert formats["gpt-oss-120b"] == ("mxfp4", True)
    assert formats["kimi-k2.5"] == ("int4", True)


def test_half_of_the_layers_of_gpt_oss_see_128_tokens():
    found = model("gpt-oss-120b")
    assert (found.sliding_window, found.windowed_layers, found.layers) == (128, 18, 36)


def test_deepseek_caches_latent_vectors():
    latent = model("deepseek-v3").latent
    assert latent is not None
    ranks = (latent.kv_rank, latent.rope_dim, latent.q_rank, latent.nope_dim, latent.value_dim)
    assert ranks == (512, 64, 1536, 128, 128)


def test_an_assumed_shape_is_marked_and_so_is_its_provenance():
    assumed = [name for name in model_names() if model(name).shape_assumed]
    assert assumed == ["dense-500b", "dense-1t"]
    assert model_provenance(model("dense-1t"))[0].kind == "assumed"
    assert model_provenance(model("llama-3.1-8b"))[0].kind == "datasheet"
    assert "inferred: head_dim" in model("yuan2-m32").source


def test_every_row_names_source_and_date():
    table = models_table()
    assert table["source"].notna().all()
    assert table["date"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
