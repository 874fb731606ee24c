"""The weight matrices of a model as one GPU holds them under tensor parallelism, and what each format makes of them.

Memory sums these matrices up and the step cost multiplies by them, so both read the same list.
Sharding is vLLM's: attention heads and feed-forward widths are divided by the tensor-parallel size, key/value heads
are replicated once there are fewer of them than GPUs, and the down-projections of latent attention are replicated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from planner.specs import Model, Quantization


@dataclass(frozen=True)
class Matrix:
    """One projection: `outputs` × `inputs` weights."""

    outputs: int
    inputs: int

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.outputs * self.inputs


def local_heads(model: Model, tp: int) -> int:
    """Query heads on one GPU."""
    return ceil(model.heads / tp)


def local_kv_heads(model: Model, tp: int) -> int:
    """Key/value heads on one GPU; replicated where there are more GPUs than heads."""
    return max(1, ceil(model.kv_heads / tp))


def attention_matrices(model: Model, tp: int) -> list[Matrix]:
    """Projections of one attention layer on one GPU."""
    heads = local_heads(model, tp)
    latent = model.latent
    if latent is None:
        qkv = (heads + 2 * local_kv_heads(model, tp)) * model.head_dim
        return [Matrix(qkv, model.hidden), Matrix(model.hidden, heads * model.head_dim)]
    query = heads * (latent.nope_dim + latent.rope_dim)
    down = Matrix(latent.q_rank + latent.kv_rank + latent.rope_dim, model.hidden)  # replicated over the TP group
    return [
        down,
        Matrix(query, latent.q_rank or model.hidden),
        Matrix(heads * (latent.nope_dim + latent.value_dim), latent.kv_rank),
        Matrix(model.hidden, heads * latent.value_dim),
    ]


def feed_forward_matrices(model: Model, width: int, shards: int) -> list[Matrix]:
    """Projections of one feed-forward of intermediate size `width`, split over `shards` GPUs."""
    local = ceil(width / shards)
    return [Matrix((2 if model.gated_ffn else 1) * local, model.hidden), Matrix(model.hidden, local)]


def expert_shards(tp: int, dp: int, expert_parallel: bool) -> tuple[int, int]:
    """Over how many GPUs (the routed experts, the width of each of them) are split.

    vLLM flattens tensor and data parallelism into one group for the routed experts: with expert parallelism whole
    experts are dealt out to its members, without it every expert's width is divided by the group.
    """
    return (tp * dp, 1) if expert_parallel else (1, tp * dp)


def dense_format(model: Model, quantization: Quantization) -> Quantization:
    """Format of everything but the routed experts."""
    experts_only = model.quantized_experts_only and quantization == model.checkpoint
    return "bf16" if experts_only else quantization


def stored_bytes(matrix: Matrix, quantization: Quantization) -> float:
    """Bytes of one matrix with its scales, as the published formats lay them out.

    fp8/int8: one fp32 scale an output channel. fp8_block: one fp32 scale a 128×128 block. awq/gptq: groups of 128
    along the inputs with a 16-bit scale and a 4-bit zero. int4: groups of 32 with a 16-bit scale. nvfp4: blocks of
    16 with an 8-bit scale and one fp32 a tensor. mxfp4: blocks of 32 with an 8-bit scale.
    """
    weights = matrix.weights
    match quantization:
        case "bf16":
            return 2.0 * weights
        case "fp8" | "int8":
            return weights + 4.0 * matrix.outputs
        case "fp8_block":
            return weights + 4.0 * ceil(matrix.outputs / 128) * ceil(matrix.inputs / 128)
        case "awq" | "gptq":
            return 0.5 * weights + 2.5 * matrix.outputs * ceil(matrix.inputs / 128)
        case "int4":
            return 0.5 * weights + 2.0 * matrix.outputs * ceil(matrix.inputs / 32)
        case "nvfp4":
            return 0.5 * weights + 1.0 * matrix.outputs * ceil(matrix.inputs / 16) + 4.0
        case "mxfp4":
            return 0.5 * weights + 1.0 * matrix.outputs * ceil(matrix.inputs / 32)
