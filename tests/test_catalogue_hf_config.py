"""Hugging Face config.json files: what is understood, and that everything else is refused on one line."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.catalogue.hf_config import ARCHITECTURES, read_config
from planner.catalogue.models import model
from planner.errors import DataFileError, InputError, UnsupportedError


def config(architecture="LlamaForCausalLM", **changes):
    values = {
        "architectures": [architecture],
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value is not ...}


@pytest.fixture
def read(tmp_path):
    def write_and_read(values):
        path = tmp_path / "config.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return read_config(path)

    return write_and_read


MLA = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
}
DEEPSEEK = {
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "intermediate_size": 18432,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    **MLA,
}
GPT_OSS = {
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "head_dim": 64,
    "num_hidden_layers": 36,
    "intermediate_size": 2880,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
    },
}
QWEN_MOE = {
    "hidden_size": 2048,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_hidden_layers": 48,
    "intermediate_size": 6144,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "sliding_window": None,
    "use_sliding_window": False,
}
KIMI = {
    **DEEPSEEK,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "vocab_size": 163840,
    "max_position_embeddings": 262144,
    "n_routed_experts": 384,
    "first_k_dense_replace": 1,
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}, "input_activations": None}
        },
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
    },
}
SAME = [
    ("llama-3.1-8b", config(), "head_dim absent: hidden ÷ heads"),
    ("qwen3-30b-a3b", config("Qwen3MoeForCausalLM", **QWEN_MOE), "experts"),
    ("deepseek-v3", config("DeepseekV3ForCausalLM", **DEEPSEEK), "latent attention, shared expert, dense layers"),
    ("gpt-oss-120b", config("GptOssForCausalLM", **GPT_OSS), "half of the layers windowed, mxfp4 experts"),
    (
        "kimi-k2.5",
        {"architectures": ["KimiK25ForConditionalGeneration"], "text_config": config("-", **KIMI), "vision_config": {}},
        "the text model of a multimodal one, int4 experts",
    ),
]


@pytest.mark.parametrize(("name", "values", "because"), SAME)
def test_a_config_gives_the_catalogue_model(read, name, values, because):
    found, known = read(values), model(name)
    own = {"name": known.name, "hf_repo": known.hf_repo, "source": known.source}
    assert known == dataclasses.replace(found, **own), because


READ = [
    (config(num_key_value_heads=...), {"kv_heads": 32}, "absent: as many as heads"),
    (config(num_key_value_heads=None), {"kv_heads": 32}, "null counts as absent"),
    (config(head_dim=64), {"head_dim": 64}, "given"),
    (config(tie_word_embeddings=True), {"tied_embeddings": True}, "tied"),
    (config(), {"tied_embeddings": False, "sliding_window": None, "windowed_layers": 0}, "the class's defaults"),
    (config("MistralForCausalLM", sliding_window=4096), {"sliding_window": 4096, "windowed_layers": 32}, "all layers"),
    (config("MistralForCausalLM", sliding_window=None), {"sliding_window": None, "windowed_layers": 0}, "no window"),
    (
        config("Phi3ForCausalLM", sliding_window=262144),
        {"sliding_window": None, "windowed_layers": 0},
        "a window longer than any sequence is none",
    ),
    (
        config("Qwen2ForCausalLM", sliding_window=4096, use_sliding_window=False, max_window_layers=28),
        {"sliding_window": None, "windowed_layers": 0},
        "switched off",
    ),
    (
        config("Qwen2ForCausalLM", sliding_window=4096, use_sliding_window=True, max_window_layers=28),
        {"sliding_window": 4096, "windowed_layers": 4},
        "the layers from max_window_layers on",
    ),
    (
        config("Gemma2ForCausalLM", head_dim=256, sliding_window=4096, num_hidden_layers=42),
        {"windowed_layers": 21, "tied_embeddings": True},
        "every other layer; Gemma ties by default",
    ),
    (
        config("Gemma3ForCausalLM", head_dim=256, sliding_window=512, num_hidden_layers=26),
        {"windowed_layers": 22},
        "five of six, and layers 25 and 26",
    ),
    (config("Qwen2MoeForCausalLM", **(QWEN_MOE | {"shared_expert_intermediate_size": 5632})), {}, "shared expert"),
    (
        config("DeepseekV2ForCausalLM", **(MLA | {"q_lora_rank": None})),
        {"head_dim": 192, "kv_heads": 32},
        "queries projected directly; no head counts of their own in the cache",
    ),
]


@pytest.mark.parametrize(("values", "expected", "because"), READ)
def test_defaults_and_windows_are_those_of_the_class(read, values, expected, because):
    found = read(values)
    assert expected == {key: getattr(found, key) for key in expected}, because


def test_experts_are_read_with_shared_ones_and_leading_dense_layers(read):
    shared = read(config("Qwen2MoeForCausalLM", **(QWEN_MOE | {"shared_expert_intermediate_size": 5632}))).experts
    assert shared is not None
    assert shared.shared_ffn == 5632
    two_shared = read(config("DeepseekV2ForCausalLM", **(MLA | {"n_shared_experts": 2}))).experts
    assert two_shared is not None
    assert (two_shared.shared_ffn, two_shared.dense_layers) == (4096, 3)
    minimax = read(
        config("MiniMaxM2ForCausalLM", num_local_experts=256, num_experts_per_tok=8, attn_type_list=[1] * 32)
    )
    assert minimax.experts is not None
    assert (minimax.experts.count, minimax.experts.per_token, minimax.experts.ffn) == (256, 8, 14336)


def compressed(bits, number, activations, **weights):
    group = {"weights": {"num_bits": bits, "type": number, **weights}, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


QUANTIZED = [
    (None, "bf16", "none given"),
    ({"quant_method": "fp8"}, "fp8", "per tensor"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", "blocks"),
    ({"quant_method": "awq", "bits": 4}, "awq", "four bits"),
    ({"quant_method": "gptq", "bits": 4}, "gptq", "four bits"),
    (compressed(8, "float", {"num_bits": 8}), "fp8", "w8a8 float"),
    (compressed(8, "float", {"num_bits": 8}, strategy="block"), "fp8_block", "w8a8 float in blocks"),
    (compressed(8, "int", {"num_bits": 8}), "int8", "w8a8 int"),
    (compressed(4, "int", None), "int4", "w4a16"),
    (compressed(4, "float", {"num_bits": 4}) | {"format": "nvfp4-pack-quantized"}, "nvfp4", "nvfp4"),
    (compressed(4, "float", None) | {"format": "mxfp4-pack-quantized"}, "mxfp4", "mxfp4"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "ModelOpt"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", "ModelOpt"),
]


@pytest.mark.parametrize(("entry", "expected", "because"), QUANTIZED)
def test_the_checkpoint_format_is_read(read, entry, expected, because):
    assert expected == read(config(quantization_config=entry)).checkpoint, because


UNSUPPORTED = [
    (config("MambaForCausalLM"), "MambaForCausalLM", "supported: LlamaForCausalLM", "another kind of model"),
    (config("Llama4ForConditionalGeneration"), "Llama4", "supported: ", "chunked attention"),
    (config("DeepseekV32ForCausalLM"), "DeepseekV32", "nearest: DeepseekV3", "sparse attention"),
    (config("DeepseekV3ForCausalLM", **DEEPSEEK, index_topk=2048), "index_topk", "sparse", "sparse attention"),
    (config("Qwen3ForCausalLM", layer_types=["linear_attention"] * 32), "linear_attention", "supported", "hybrid"),
    (
        config("MiniMaxM2ForCausalLM", num_local_experts=8, num_experts_per_tok=2, attn_type_list=[0] * 32),
        "linear attention",
        "not modelled",
        "lightning attention",
    ),
    (config("Qwen3MoeForCausalLM", **(QWEN_MOE | {"decoder_sparse_step": 2})), "sparse_step", "must be 1", "mixed"),
    (config("Qwen3MoeForCausalLM", **(QWEN_MOE | {"mlp_only_layers": [5]})), "[5]", "front", "dense in the middle"),
    (config(quantization_config={"quant_method": "bitsandbytes"}), "bitsandbytes", "known: fp8", "method"),
    (config(quantization_config={"quant_method": "gptq", "bits": 8}), "8 bits", "only 4", "width"),
    (config(quantization_config=compressed(8, "int", None)), "8-bit int", "not modelled", "weights only"),
    (config(quantization_config={"quant_method": "modelopt", "quant_algo": "W4A8"}), "W4A8", "known: FP8", "modelopt"),
    (config(quantization_config={"quant_method": "mxfp4"}), "mxfp4", "mixture", "a dense model"),
]


@pytest.mark.parametrize(("values", "named", "rule", "because"), UNSUPPORTED)
def test_what_is_not_modelled_is_refused_by_name(read, values, named, rule, because):
    with pytest.raises(UnsupportedError) as refused:
        read(values)
    message = str(refused.value)
    assert named in message, because
    assert rule in message, because
    assert "\n" not in message


BAD = [
    (config(hidden_size=...), "hidden_size", "missing"),
    (config(hidden_size="4096"), "hidden_size", "a string"),
    (config(hidden_size=4096.5), "hidden_size", "not whole"),
    (config(hidden_size=-1), "hidden_size", "negative"),
    (config(num_hidden_layers=0), "num_hidden_layers", "zero"),
    (config(num_hidden_layers=True), "num_hidden_layers", "a flag"),
    (config(vocab_size=10**30), "vocab_size", "absurd"),
    (config(vocab_size=float("nan")), "vocab_size", "not a number"),
    (config(num_key_value_heads=5), "num_key_value_heads", "does not divide the heads"),
    (config(num_attention_heads=33, num_key_value_heads=...), "num_attention_heads", "head_dim would not be whole"),
    (config(tie_word_embeddings="yes"), "tie_word_embeddings", "not a flag"),
    (config(architectures=[]), "architectures", "empty"),
    (config(architectures="LlamaForCausalLM"), "architectures", "not a list"),
    (config(architectures=[1]), "architectures", "not a name"),
    (config(quantization_config=[1]), "quantization_config", "not an object"),
    (config(quantization_config={}), "quant_method", "missing"),
    (config("MixtralForCausalLM"), "num_local_experts", "missing"),
    (config("MixtralForCausalLM", num_local_experts=8, num_experts_per_tok=9), "num_experts_per_tok", "too many"),
    (config("DeepseekV3ForCausalLM"), "kv_lora_rank", "missing"),
    (config("DeepseekV3ForCausalLM", **(DEEPSEEK | {"first_k_dense_replace": 62})), "first_k_dense", "too many"),
    (config("Gemma2ForCausalLM", sliding_window=4096), "head_dim", "the class's own default is another"),
    (config("Qwen3ForCausalLM", layer_types=["full_attention"]), "layer_types", "too short"),
    (config("KimiK25ForConditionalGeneration"), "text_config", "missing"),
    ("{", "JSON", "cut off"),
    ("", "JSON", "empty"),
    ("[1, 2]", "object", "a list"),
    ("[" * 100_000, "nested", "a nesting bomb"),
    (" " * 1_000_001, "1000000 bytes", "too large"),
    ('{"hidden_size": ' + "9" * 10_000 + "}", "JSON", "a number of ten thousand digits"),
]


@pytest.mark.parametrize(("values", "named", "because"), BAD, ids=[row[2] for row in BAD])
def test_a_bad_config_is_refused_on_one_line(read, values, named, because):
    with pytest.raises(DataFileError) as refused:
        read(values)
    assert named in str(refused.value), because
    assert "\n" not in str(refused.value)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataFileError, match="not valid JSON"):
        read_config(path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(DataFileError, match="no such file"):
        model("absent.json", tmp_path)
    (tmp_path / "my-model").mkdir()
    with pytest.raises(DataFileError, match="is a directory"):
        model("my-model", tmp_path)


def test_a_path_is_relative_to_the_scenario_and_the_folder_names_the_model(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config()))
    (tmp_path / "other.json").write_text(json.dumps(config()))
    assert model("my-model/config.json", tmp_path).name == "my-model"
    assert model("other.json", tmp_path).name == "other"
    assert model(str(folder / "config.json"), tmp_path / "elsewhere").name == "my-model"
    assert model("my-model/config.json", tmp_path).hf_repo is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SAMPLES = [*(values for _, values, _ in SAME), *(values for values, _, _ in READ)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_any_one_damaged_key_gives_a_model_or_a_named_error(read, values, data):
    key = data.draw(st.sampled_from(sorted(values)))
    damaged = values | {key: data.draw(json_values)}
    try:
        answer = f"{read(damaged).layers} layers"
    except InputError as refused:  # anything else is a traceback for bad input
        answer = str(refused)
    assert len(answer.splitlines()) == 1


def test_every_architecture_is_read_by_a_function():
    assert all(callable(read) for read in ARCHITECTURES.values())
    assert len(ARCHITECTURES) >= 14
