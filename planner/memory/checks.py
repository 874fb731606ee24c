"""Which formats and which parallel sizes vLLM would refuse, before any byte is counted."""

from __future__ import annotations

from typing import Literal

from planner.errors import MisfitError
from planner.specs import EngineOptions, Gpu, Model, Quantization

# Formats that need more than the GPU's vendor or age allows. NVIDIA from Turing on runs every format, natively or
# through vLLM's weight-only Marlin kernels; a Volta (V100) has only the 16-bit and GPTQ paths.
_VOLTA: frozenset[Quantization] = frozenset({"bf16", "gptq"})
_FORMATS: dict[str, frozenset[Quantization]] = {
    "nvidia": frozenset({"bf16", "fp8", "fp8_block", "int8", "awq", "gptq", "nvfp4", "mxfp4", "int4"}),
    "amd": frozenset({"bf16", "fp8", "fp8_block", "int8", "awq", "gptq", "mxfp4", "int4"}),
    "intel": frozenset({"bf16", "fp8", "int8", "awq", "gptq", "mxfp4"}),
    "google": frozenset({"bf16", "int8"}),
    "cpu": frozenset({"bf16", "int8", "awq", "gptq"}),
}


def resolve_quantization(model: Model, requested: Quantization | Literal["auto"]) -> Quantization:
    """The weight format that runs: `auto` is the checkpoint's own, and fp8 on a block-fp8 checkpoint is that one."""
    if requested == "auto":
        return model.checkpoint
    if requested == "fp8" and model.checkpoint == "fp8_block":
        return "fp8_block"
    return requested


def runnable_formats(gpu: Gpu) -> frozenset[Quantization]:
    """Weight formats that vLLM runs on this GPU at all, however slowly."""
    formats = _FORMATS.get(gpu.vendor, frozenset({"bf16"}))
    return _VOLTA if gpu.name.startswith("v100") else formats


def valid_tensor_parallel(model: Model, most: int) -> list[int]:
    """Tensor-parallel sizes up to `most` that divide the heads and suit the key/value heads."""
    return [
        size
        for size in range(1, most + 1)
        if model.heads % size == 0
        and (model.latent is not None or model.kv_heads % size == 0 or size % model.kv_heads == 0)
    ]


def check_parallelism(model: Model, gpu: Gpu, engine: EngineOptions, gpus_per_node: int | None = None) -> None:
    """Raise MisfitError where vLLM would refuse this combination, or it cannot be run sensibly.

    Rules: TP divides the query heads; TP divides the key/value heads or is a multiple of them (latent attention has
    none to divide); TP stays within a node of `gpus_per_node` (default: the GPU's own) GPUs; PP has a layer for each
    stage; expert parallelism needs experts; the GPU can run the weight format.
    """
    node = gpus_per_node or gpu.gpus_per_node
    tp, pp = engine.tensor_parallel_size, engine.pipeline_parallel_size
    valid = valid_tensor_parallel(model, node)
    nearest = ", ".join(str(size) for size in sorted(sorted(valid, key=lambda size: abs(size - tp))[:2]))
    key = "engine.tensor_parallel_size"
    if tp > node:
        raise MisfitError(key, tp, f"must be <= {node}, the GPUs of one node of {gpu.name}", nearest)
    if model.heads % tp:
        raise MisfitError(key, tp, f"must divide the {model.heads} attention heads of {model.name}", nearest)
    if tp not in valid:
        rule = f"must divide the {model.kv_heads} key/value heads of {model.name} or be a multiple of them"
        raise MisfitError(key, tp, rule, nearest)
    if pp > model.layers:
        rule = f"must be <= the {model.layers} layers of {model.name}"
        raise MisfitError("engine.pipeline_parallel_size", pp, rule, str(model.layers))
    if engine.enable_expert_parallel and model.experts is None:
        rule = f"needs a mixture of experts, and {model.name} is dense"
        raise MisfitError("engine.enable_expert_parallel", True, rule, "false")
    formats = runnable_formats(gpu)
    if engine.quantization not in formats:
        rule = f"vLLM has no kernel for this format on {gpu.name}"
        raise MisfitError("engine.quantization", engine.quantization, rule, ", ".join(sorted(formats)))
