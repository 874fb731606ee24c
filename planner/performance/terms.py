"""The terms of a step over T tokens, one short function each. Seconds, bytes, FLOP; T is an array of token counts.

Source of every form: roofline with a soft maximum, fitted to kernel tables (see `data/kernels.csv`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.performance.paths import KernelPath

F64 = NDArray[np.float64]
ACTIVATION_BYTES = 2.0  # activations are bf16


def gemm_s(tokens: F64, weights: float, weight_bytes: float, path: KernelPath) -> F64:
    """Seconds of one GEMM: ((W_bytes/(bw·MBU))^p + (2·T·W/(peak·MFU))^p)^(1/p) + t0.

    `weights` counts the matrix's elements. The soft maximum joins the memory-bound and the compute-bound line:
    a hard maximum is 12 points worse on the kernel tables.
    """
    memory_s = weight_bytes / (path.bandwidth * path.mbu)
    math_s = 2.0 * weights / (path.peak_flops * path.mfu)
    if path.p == 1.0:
        return memory_s + math_s * tokens + path.t0_s
    relative = (math_s / memory_s) ** path.p
    return np.asarray(memory_s * (1.0 + relative * tokens**path.p) ** (1.0 / path.p) + path.t0_s)


def gemm_time_factor(tokens: F64, small: float, large: float) -> F64:
    """Fitted multiplier of GEMM time: `small` up to 256 tokens, `large` from 1,024, log-linear in between."""
    return np.interp(np.log2(np.maximum(tokens, 1.0)), [8.0, 10.0], [small, large])


def experts_touched(tokens: F64, experts: int, per_token: int) -> F64:
    """Expected distinct experts that T tokens visit: E·(1 − (1 − k/E)^T).

    Routing is taken as even; real routing is skewed (power law about 1.01) and touches fewer, which the fit of the
    kernel constants to skewed rows absorbs.
    """
    if per_token >= experts:
        return np.where(tokens > 0, float(experts), 0.0)
    return np.asarray(-experts * np.expm1(tokens * np.log1p(-per_token / experts)))


def routed_experts_s(
    tokens: F64, experts: int, per_token: int, shards: int, expert_weights: float, expert_bytes: float, path: KernelPath
) -> F64:
    """Seconds of the routed experts of one layer on one GPU of `shards` that share them out.

    Memory: the touched experts that live here are read once. Math: T·k/shards visits. Both add up (p = 1 fits the
    kernel tables best: 6 to 15 % median error).
    """
    memory_s = experts_touched(tokens, experts, per_token) / shards * expert_bytes / (path.bandwidth * path.mbu)
    math_s = 2.0 * tokens * (per_token / shards) * expert_weights / (path.peak_flops * path.mfu)
    return np.asarray((memory_s**path.p + math_s**path.p) ** (1.0 / path.p) + path.t0_s)


def elementwise_s(tokens: F64, values_per_token: float, bandwidth: float) -> F64:
    """Seconds of norms, rotary embedding and activation functions of one layer: bytes moved over bandwidth."""
    return np.asarray(tokens * (values_per_token * ACTIVATION_BYTES / bandwidth))


def allreduce_s(tokens: F64, hidden: int, group: int, alpha_s: float, bandwidth: float) -> F64:
    """Seconds of one all-reduce of T × hidden activations: α + 2(n−1)/n · bytes/(β·link)."""
    return np.asarray(alpha_s + tokens * (2.0 * (group - 1) / group * hidden * ACTIVATION_BYTES / bandwidth))


def expert_exchange_s(tokens: F64, hidden: int, ranks: int, latency_s: float, bandwidth: float) -> F64:
    """Seconds to gather the tokens of all data-parallel ranks before the experts and scatter the sums after them.

    vLLM's default all-gather and reduce-scatter: each rank receives, then sends, (ranks − 1)·T·hidden activations.
    """
    return np.asarray(2.0 * (latency_s + tokens * ((ranks - 1) * hidden * ACTIVATION_BYTES / bandwidth)))


def head_s(sequences: F64, hidden: int, vocab: float, path: KernelPath, sampling_bytes: float) -> F64:
    """Seconds of LM head (a bf16 GEMM over the sampled positions) and of sampling from its logits."""
    weights = hidden * vocab
    gemm = gemm_s(sequences, weights, 2.0 * weights, path)
    return np.asarray(gemm + sequences * (sampling_bytes * vocab / path.bandwidth))
