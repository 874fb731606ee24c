"""Which weight format the `quantization_config` of a Hugging Face config.json means."""

from __future__ import annotations

from planner.catalogue.hf_json import Config
from planner.errors import UnsupportedError
from planner.specs import Quantization

METHODS = ("fp8", "fbgemm_fp8", "awq", "gptq", "mxfp4", "compressed-tensors", "modelopt")
# Where the various tools list the modules that they left in 16 bits.
LEFT_OUT_KEYS = ("ignore", "ignored_layers", "exclude_modules", "modules_to_not_convert")


def read_quantization(config: Config, has_experts: bool) -> tuple[Quantization, bool]:
    """The checkpoint's weight format, and whether it covers the routed experts alone.

    `config` is the model's config; without a `quantization_config` the weights are bf16 (a float16 or float32
    checkpoint is served in 16 bits as well). A mixture of experts whose attention is left out of the quantisation
    counts as experts only: shared experts and leading dense layers, where quantised, are a small part.

    Raises `UnsupportedError` for a method, a width or a coverage that is not modelled, by name, and
    `DataFileError` for a malformed entry.
    """
    if not config.has("quantization_config"):
        return "bf16", False
    entry = config.child("quantization_config")
    method = entry.text("quant_method")
    if method == "fp8":
        return ("fp8_block" if entry.has("weight_block_size") else "fp8"), _experts_only(entry, has_experts)
    if method == "fbgemm_fp8":
        return "fp8", _experts_only(entry, has_experts)
    if method in ("awq", "gptq"):
        _refuse_other_widths(entry, method)
        return ("awq" if method == "awq" else "gptq"), _experts_only(entry, has_experts)
    if method == "mxfp4":
        if not has_experts:
            raise _unsupported(entry, method, "is modelled for mixture-of-experts checkpoints only")
        return "mxfp4", True
    if method == "compressed-tensors":
        return _compressed_tensors(entry), _experts_only(entry, has_experts)
    if method.startswith("modelopt"):
        return _modelopt(entry), _experts_only(entry, has_experts)
    raise _unsupported(entry, method, f"is not modelled; known: {', '.join(METHODS)}")


def _refuse_other_widths(entry: Config, method: str) -> None:
    bits = entry.count("bits") if entry.has("bits") else entry.count("w_bit")
    if bits != 4:
        raise _unsupported(entry, f"{method} with {bits} bits", "is not modelled; only 4 bits are")


def _compressed_tensors(entry: Config) -> Quantization:
    groups = entry.child("config_groups")
    if len(groups.values) != 1:
        raise _unsupported(entry, "compressed-tensors", "is modelled with one entry in config_groups only")
    group = groups.child(next(iter(groups.values)))
    weights = group.child("weights")
    bits, number = weights.count("num_bits"), weights.text("type")
    layout = entry.text("format") if entry.has("format") else ""
    activations = group.has("input_activations")
    if number == "float" and bits == 4:
        return "mxfp4" if layout.startswith("mxfp4") else "nvfp4"
    if number == "float" and bits == 8 and activations:
        return "fp8_block" if weights.has("strategy") and weights.text("strategy") == "block" else "fp8"
    if number == "int" and bits == 8 and activations:
        return "int8"
    if number == "int" and bits == 4 and not activations:
        return "int4"
    form = f"compressed-tensors, {bits}-bit {number} weights, {'quantised' if activations else '16-bit'} activations"
    raise _unsupported(entry, form, "is not modelled")


def _modelopt(entry: Config) -> Quantization:
    algorithm = entry.text("quant_algo")
    known: dict[str, Quantization] = {"FP8": "fp8", "NVFP4": "nvfp4", "FP8_PB_WO": "fp8_block"}
    if algorithm not in known:
        raise _unsupported(entry, f"modelopt {algorithm}", f"is not modelled; known: {', '.join(known)}")
    return known[algorithm]


def _experts_only(entry: Config, has_experts: bool) -> bool:
    left_out = [str(name) for key in LEFT_OUT_KEYS for name in entry.items(key)]
    skips_attention = any("attn" in name and "vision" not in name for name in left_out)
    if skips_attention and not has_experts:
        raise _unsupported(entry, "attention left unquantised", "is modelled for mixture-of-experts checkpoints only")
    return skips_attention


def _unsupported(entry: Config, value: str, rule: str) -> UnsupportedError:
    return UnsupportedError(entry.where, value, rule)
