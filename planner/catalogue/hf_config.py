"""A model from a Hugging Face config.json, one small function for one family of architectures.

Whatever is not in `ARCHITECTURES` is refused by name: a model that is nearly understood would get a plan that is
quietly wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from planner.catalogue.hf_json import Config, load_config
from planner.catalogue.hf_quantization import read_quantization
from planner.errors import UnsupportedError, nearest_names
from planner.specs import Experts, LatentAttention, Model


def read_config(path: Path) -> Model:
    """The model that a Hugging Face config.json describes; its name is the file's, or its folder's for `config.json`.

    Absent `num_key_value_heads` means as many as heads, absent `head_dim` hidden ÷ heads. Multi-token-prediction
    layers and vision towers are left out.

    Raises `DataFileError` (missing or mistyped keys, no JSON, no file …) and `UnsupportedError` (an architecture,
    attention pattern or quantisation that is not modelled, by name, with what is).
    """
    config = load_config(path)
    names = config.items("architectures")
    if not names or not isinstance(names[0], str):
        raise config.error("architectures", "must be a list with the model's class, as in ['LlamaForCausalLM']")
    architecture = names[0]
    read = ARCHITECTURES.get(architecture)
    if read is None:
        rule = f"is not modelled; supported: {', '.join(ARCHITECTURES)}"
        raise UnsupportedError(f"{path}: architectures", architecture, rule, nearest_names(architecture, ARCHITECTURES))
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    text = config
    if architecture == KIMI_K25:
        text = config.child("text_config")
    model = replace(read(text), name=name, architecture=architecture, source=f"config.json of {name}")
    quantized = text if text.has("quantization_config") else config
    checkpoint, experts_only = read_quantization(quantized, model.experts is not None)
    return replace(model, checkpoint=checkpoint, quantized_experts_only=experts_only)


@dataclass(frozen=True)
class Window:
    """Sliding-window attention: how many tokens it sees, and in how many layers."""

    tokens: int | None = None
    layers: int = 0


def _base(config: Config, *, ffn: int, tied: bool = False, window: Window | None = None) -> Model:
    """What all decoders share; `ffn` is the dense feed-forward, `tied` the class's default for tied embeddings."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise config.error("num_key_value_heads", f"must divide num_attention_heads ({heads})")
    if not config.has("head_dim") and hidden % heads:
        raise config.error("num_attention_heads", f"must divide hidden_size ({hidden}) where head_dim is absent")
    max_position = config.count("max_position_embeddings")
    # A window that no sequence can outgrow is none.
    if window is None or window.tokens is None or window.tokens >= max_position:
        window = Window()
    return Model(
        name="",
        hf_repo=None,
        architecture="",
        layers=config.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=config.count("head_dim", default=hidden // heads),
        ffn=ffn,
        vocab=config.count("vocab_size"),
        tied_embeddings=config.flag("tie_word_embeddings", default=tied),
        max_position=max_position,
        sliding_window=window.tokens if window.layers else None,
        windowed_layers=window.layers if window.tokens else 0,
    )


# --- attention patterns -------------------------------------------------------------------------------------------


def _windows(config: Config, layers_without_list: int) -> Window:
    """The window of `layer_types` where the file lists them, else of `layers_without_list` layers."""
    listed = _listed_windows(config)  # refuses layer kinds that are not modelled
    if not config.has("sliding_window") and not listed:
        return Window()
    return Window(config.count("sliding_window"), layers_without_list if listed is None else listed)


def _listed_windows(config: Config) -> int | None:
    """How many entries of `layer_types` are windowed; None without that list."""
    if not config.has("layer_types"):
        return None
    kinds = config.items("layer_types")
    strange = next((kind for kind in kinds if kind not in ("full_attention", "sliding_attention")), None)
    if strange is not None:
        rule = "is not modelled; supported: full_attention, sliding_attention"
        raise UnsupportedError(f"{config.where}: layer_types", strange, rule)
    layers = config.count("num_hidden_layers")
    if len(kinds) != layers:
        raise config.error("layer_types", f"must have one entry for each of num_hidden_layers ({layers})")
    return kinds.count("sliding_attention")


def _every_layer(config: Config) -> Window:
    return _windows(config, config.count("num_hidden_layers"))


def _qwen_window(config: Config) -> Window:
    """Qwen: off unless `use_sliding_window`, and then only from layer `max_window_layers` on."""
    if not config.flag("use_sliding_window", default=False):
        _listed_windows(config)
        return Window()
    layers = config.count("num_hidden_layers")
    return _windows(config, max(0, layers - config.count("max_window_layers", default=layers, least=0)))


def _alternating(config: Config) -> Window:
    """Every other layer is windowed, the first one included."""
    _required(config, "sliding_window")
    return _windows(config, (config.count("num_hidden_layers") + 1) // 2)


# --- families -----------------------------------------------------------------------------------------------------


def _llama(config: Config) -> Model:
    return _base(config, ffn=config.count("intermediate_size"))


def _mistral(config: Config) -> Model:
    return _base(config, ffn=config.count("intermediate_size"), window=_every_layer(config))


def _qwen(config: Config) -> Model:
    return _base(config, ffn=config.count("intermediate_size"), window=_qwen_window(config))


def _gemma2(config: Config) -> Model:
    _required(config, "head_dim")
    return _base(config, ffn=config.count("intermediate_size"), tied=True, window=_alternating(config))


def _gemma3(config: Config) -> Model:
    """One layer in `sliding_window_pattern` sees everything, the others a window."""
    _required(config, "head_dim")
    _required(config, "sliding_window")
    layers = config.count("num_hidden_layers")
    pattern = config.count("sliding_window_pattern", default=6)
    window = _windows(config, layers - layers // pattern)
    return _base(config, ffn=config.count("intermediate_size"), tied=True, window=window)


def _mixtral(config: Config) -> Model:
    """All feed-forwards are experts of `intermediate_size` (Mixtral, gpt-oss and MiniMax-M2 alike)."""
    return _local_experts(config, _every_layer(config))


def _gpt_oss(config: Config) -> Model:
    return _local_experts(config, _alternating(config))


def _minimax_m2(config: Config) -> Model:
    if any(kind != 1 for kind in config.items("attn_type_list")):
        rule = "is not modelled; supported: 1 (full attention) in every layer"
        raise UnsupportedError(f"{config.where}: attn_type_list", "linear attention", rule)
    return _local_experts(config, _every_layer(config))


def _local_experts(config: Config, window: Window) -> Model:
    ffn = config.count("intermediate_size")
    experts = _experts(config, count="num_local_experts", ffn=ffn)
    return replace(_base(config, ffn=ffn, window=window), experts=experts)


def _qwen_moe(config: Config) -> Model:
    """Qwen2-MoE and Qwen3-MoE; only the first has a shared expert."""
    layers = config.count("num_hidden_layers")
    if config.count("decoder_sparse_step", default=1) != 1:
        raise UnsupportedError(
            f"{config.where}: decoder_sparse_step", config.values["decoder_sparse_step"], "must be 1"
        )
    dense = config.items("mlp_only_layers")
    if dense != list(range(len(dense))) or len(dense) > layers:
        rule = "dense layers are modelled at the front only"
        raise UnsupportedError(f"{config.where}: mlp_only_layers", dense, rule)
    shared = config.count("shared_expert_intermediate_size", default=0, least=0)
    experts = _experts(
        config, "num_experts", config.count("moe_intermediate_size"), shared_ffn=shared, dense_layers=len(dense)
    )
    ffn = config.count("intermediate_size", default=experts.ffn)
    return replace(_base(config, ffn=ffn, window=_qwen_window(config)), experts=experts)


def _deepseek(config: Config) -> Model:
    """DeepSeek V2, V3, R1 and Kimi-K2: latent attention, shared experts, leading dense layers."""
    if config.has("index_topk"):
        raise UnsupportedError(f"{config.where}: index_topk", config.values["index_topk"], "sparse attention")
    latent = LatentAttention(
        kv_rank=config.count("kv_lora_rank"),
        rope_dim=config.count("qk_rope_head_dim"),
        q_rank=config.count("q_lora_rank", default=0),
        nope_dim=config.count("qk_nope_head_dim"),
        value_dim=config.count("v_head_dim"),
    )
    base = _base(config, ffn=config.count("intermediate_size"))
    model = replace(base, latent=latent, kv_heads=base.heads, head_dim=latent.nope_dim + latent.rope_dim)
    if not config.has("n_routed_experts"):
        return model
    if config.count("moe_layer_freq", default=1) != 1:
        raise UnsupportedError(f"{config.where}: moe_layer_freq", config.values["moe_layer_freq"], "must be 1")
    dense = config.count("first_k_dense_replace", default=0, least=0)
    if dense > model.layers:
        raise config.error("first_k_dense_replace", f"must be at most num_hidden_layers ({model.layers})")
    ffn = config.count("moe_intermediate_size")
    shared = config.count("n_shared_experts", default=0, least=0) * ffn
    return replace(model, experts=_experts(config, "n_routed_experts", ffn, shared_ffn=shared, dense_layers=dense))


def _experts(config: Config, count: str, ffn: int, shared_ffn: int = 0, dense_layers: int = 0) -> Experts:
    total, used = config.count(count), config.count("num_experts_per_tok")
    if used > total:
        raise config.error("num_experts_per_tok", f"must be at most {count} ({total})")
    return Experts(total, used, ffn, shared_ffn, dense_layers)


def _required(config: Config, key: str) -> None:
    """Ask for a key whose absence would mean the class's own default, not the usual one."""
    config.count(key)


KIMI_K25 = "KimiK25ForConditionalGeneration"
ARCHITECTURES: dict[str, Callable[[Config], Model]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Phi3ForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen,
    "Qwen3ForCausalLM": _qwen,
    "MiMoForCausalLM": _qwen,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "MixtralForCausalLM": _mixtral,
    "GptOssForCausalLM": _gpt_oss,
    "MiniMaxM2ForCausalLM": _minimax_m2,
    "Qwen2MoeForCausalLM": _qwen_moe,
    "Qwen3MoeForCausalLM": _qwen_moe,
    "DeepseekV2ForCausalLM": _deepseek,
    "DeepseekV3ForCausalLM": _deepseek,
    KIMI_K25: _deepseek,
}
