"""Bytes of key/value cache on one GPU: GQA with replicated heads, latent attention, sliding windows, fp8."""

from __future__ import annotations

from math import ceil

from planner.shapes import local_kv_heads
from planner.specs import EngineOptions, KvDtype, Model


def layer_kv_bytes(model: Model, kv_cache_dtype: KvDtype, tp: int) -> float:
    """Bytes that one layer keeps for one token on one GPU.

    Keys and values of the local heads; for latent attention the compressed vector and the rotary part, which tensor
    parallelism does not divide (every GPU of the group holds all of it).
    """
    width = 1 if kv_cache_dtype == "fp8" else 2
    if model.latent is not None:
        return float((model.latent.kv_rank + model.latent.rope_dim) * width)
    return float(2 * local_kv_heads(model, tp) * model.head_dim * width)


def stage_layers(model: Model, pp: int) -> tuple[int, int]:
    """Full-attention and windowed layers of the fullest pipeline stage."""
    layers = ceil(model.layers / pp)
    full = min(layers, ceil((model.layers - model.windowed_layers) / pp))
    return full, layers - full


def kv_bytes_per_token(model: Model, kv_cache_dtype: KvDtype, tp: int = 1, pp: int = 1) -> float:
    """Bytes that one token within every layer's window takes on one GPU."""
    return sum(stage_layers(model, pp)) * layer_kv_bytes(model, kv_cache_dtype, tp)


def longest_request_bytes(model: Model, engine: EngineOptions) -> float:
    """Bytes on one GPU of one request of max_model_len tokens.

    A windowed layer keeps what it can still see plus what one step may add: min(max_model_len, window +
    max_num_batched_tokens) tokens, vLLM's own bound for such layers.
    """
    full, windowed = stage_layers(model, engine.pipeline_parallel_size)
    length = engine.max_model_len
    seen = min(length, (model.sliding_window or length) + engine.max_num_batched_tokens)
    per_layer = layer_kv_bytes(model, engine.kv_cache_dtype, engine.tensor_parallel_size)
    return per_layer * (full * length + windowed * seen)
