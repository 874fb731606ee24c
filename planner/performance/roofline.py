"""The naive roofline, which the step cost is held against: weights and KV at full bandwidth, FLOP at peak, no more."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.shapes import (
    Matrix,
    attention_matrices,
    dense_format,
    expert_shards,
    feed_forward_matrices,
    local_heads,
    local_kv_heads,
    stored_bytes,
)
from planner.specs import EngineOptions, Gpu, Model, Quantization

F64 = NDArray[np.float64]


def roofline_cost(model: Model, gpu: Gpu, engine: EngineOptions) -> StepCost:
    """A step as a datasheet gives it: max(weight bytes ÷ bandwidth, FLOP ÷ peak), plus KV bytes ÷ bandwidth.

    Ideal tensor, pipeline and data parallelism (no communication), experts touched min(E, T·k), no launch, no
    scheduler, no API server. Units and table shapes as in `StepCost`.
    """
    pp = engine.pipeline_parallel_size
    tokens = np.arange(engine.max_num_batched_tokens + 1, dtype=np.float64) / pp
    sequences = np.arange(engine.max_num_seqs + 1, dtype=np.float64) / pp
    attention = attention_matrices(model, engine.tensor_parallel_size)
    layer_s = _dense_s(attention, dense_format(model, engine.quantization), gpu, tokens)
    tokens_s = model.layers * layer_s + _feed_forward_s(model, gpu, engine, tokens)
    head = Matrix(ceil(model.vocab / engine.tensor_parallel_size), model.hidden)
    kv_s, pair_s = _kv_token_s(model, gpu, engine), _pair_s(model, gpu, engine)
    full, windowed = model.layers - model.windowed_layers, model.windowed_layers
    tokens_s[0] = 0.0
    requests_s = _dense_s([head], "bf16", gpu, sequences)
    requests_s[0] = 0.0
    return StepCost(
        tokens_s=np.ascontiguousarray(tokens_s),
        requests_s=np.ascontiguousarray(requests_s),
        decode_token_s=full * kv_s / pp,
        window=(model.sliding_window or 0) if windowed else 0,
        window_token_s=windowed * kv_s / pp,
        prefill_token2_s=0.5 * full * pair_s / pp,
        prefill_window_s=windowed * pair_s / pp,
    )


def _dense_s(matrices: list[Matrix], quantization: Quantization, gpu: Gpu, tokens: F64) -> F64:
    """Σ max(W_bytes ÷ bandwidth, 2·T·W ÷ peak)."""
    total = np.zeros_like(tokens)
    for matrix in matrices:
        memory_s = stored_bytes(matrix, quantization) / gpu.memory_bandwidth
        total += np.maximum(memory_s, 2.0 * matrix.weights * tokens / peak_flops(gpu, quantization))
    return total


def _feed_forward_s(model: Model, gpu: Gpu, engine: EngineOptions, tokens: F64) -> F64:
    """Dense, shared and routed feed-forwards of all layers."""
    tp, dp = engine.tensor_parallel_size, engine.data_parallel_size
    dense = dense_format(model, engine.quantization)
    total = np.zeros_like(tokens)
    if model.layers > model.moe_layers:
        matrices = feed_forward_matrices(model, model.ffn, tp)
        total += (model.layers - model.moe_layers) * _dense_s(matrices, dense, gpu, tokens)
    if model.experts is None:
        return total
    if model.experts.shared_ffn:
        matrices = feed_forward_matrices(model, model.experts.shared_ffn, tp)
        total += model.moe_layers * _dense_s(matrices, dense, gpu, tokens)
    shards, width = expert_shards(tp, dp, engine.enable_expert_parallel)
    one = feed_forward_matrices(model, model.experts.ffn, width)
    visits = tokens * dp * model.experts.per_token
    touched = np.minimum(visits, model.experts.count)
    memory_s = sum(stored_bytes(matrix, engine.quantization) for matrix in one) * touched / gpu.memory_bandwidth
    weights = sum(matrix.weights for matrix in one)
    math_s = 2.0 * weights * visits / peak_flops(gpu, engine.quantization)
    return np.asarray(total + model.moe_layers / shards * np.maximum(memory_s, math_s))


def peak_flops(gpu: Gpu, quantization: Quantization) -> float:
    """Datasheet FLOP/s of the format's math, or of bf16 where the GPU has none."""
    rates = {"fp8": gpu.fp8_flops, "fp8_block": gpu.fp8_flops, "int8": gpu.int8_flops, "nvfp4": gpu.fp4_flops}
    return rates.get(quantization) or gpu.bf16_flops


def _kv_token_s(model: Model, gpu: Gpu, engine: EngineOptions) -> float:
    """Seconds a layer reads one cached token: its bytes ÷ bandwidth."""
    width = 1 if engine.kv_cache_dtype == "fp8" else 2
    latent = model.latent
    if latent is not None:
        return (latent.kv_rank + latent.rope_dim) * width / gpu.memory_bandwidth
    return 2 * local_kv_heads(model, engine.tensor_parallel_size) * model.head_dim * width / gpu.memory_bandwidth


def _pair_s(model: Model, gpu: Gpu, engine: EngineOptions) -> float:
    """Seconds of one query-token pair in a layer: its FLOP ÷ the bf16 peak."""
    heads, latent = local_heads(model, engine.tensor_parallel_size), model.latent
    if latent is not None:
        return 2.0 * heads * (latent.nope_dim + latent.rope_dim + latent.value_dim) / gpu.bf16_flops
    return 4.0 * heads * model.head_dim / gpu.bf16_flops
