"""Models, GPUs and engine settings written out by hand, so that tests need no catalogue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.specs import EngineOptions, Experts, Gpu, LatentAttention, Model

LLAMA_8B = Model("llama-3.1-8b", None, "LlamaForCausalLM", 32, 4096, 32, 8, 128, 14336, 128256, False, 131072)
LLAMA_70B = Model("llama-3.3-70b", None, "LlamaForCausalLM", 80, 8192, 64, 8, 128, 28672, 128256, False, 131072)
QWEN3_8B = Model("qwen3-8b", None, "Qwen3ForCausalLM", 36, 4096, 32, 8, 128, 12288, 151936, False, 40960)
QWEN3_30B_A3B = Model(
    "qwen3-30b-a3b", None, "Qwen3MoeForCausalLM", 48, 2048, 32, 4, 128, 6144, 151936, False, 40960,
    experts=Experts(128, 8, 768),
)  # fmt: skip
DEEPSEEK_V3 = Model(
    "deepseek-v3", None, "DeepseekV3ForCausalLM", 61, 7168, 128, 128, 192, 18432, 129280, False, 163840,
    experts=Experts(256, 8, 2048, shared_ffn=2048, dense_layers=3),
    latent=LatentAttention(kv_rank=512, rope_dim=64, q_rank=1536, nope_dim=128, value_dim=128),
    checkpoint="fp8_block",
)  # fmt: skip
GPT_OSS_20B = Model(
    "gpt-oss-20b", None, "GptOssForCausalLM", 24, 2880, 64, 8, 64, 2880, 201088, False, 131072,
    experts=Experts(32, 4, 2880), sliding_window=128, windowed_layers=12,
    checkpoint="mxfp4", quantized_experts_only=True,
)  # fmt: skip

_GIB = 2**30
A100 = Gpu("a100-sxm-80gb", 80 * _GIB, 2039e9, 312e12, None, None, 624e12, 400, 300e9, 25e9, 8)
H100 = Gpu("h100-sxm-80gb", 80 * _GIB, 3350e9, 989e12, 1978e12, None, 1978e12, 700, 450e9, 50e9, 8)
H200 = Gpu("h200-sxm-141gb", 141 * _GIB, 4800e9, 989e12, 1978e12, None, 1978e12, 700, 450e9, 50e9, 8)
B200 = Gpu("b200-sxm-180gb", 180 * _GIB, 7700e9, 2250e12, 4500e12, 9000e12, 4500e12, 1000, 900e9, 100e9, 8)
L40S = Gpu("l40s-48gb", 48 * _GIB, 864e9, 362e12, 733e12, None, 733e12, 350, 32e9, 50e9, 8)
RTX_4090 = Gpu("rtx-4090-24gb", 24 * _GIB, 1008e9, 165e12, 330e12, None, 330e12, 450, 32e9, 50e9, 8)
V100 = Gpu("v100-sxm-32gb", 32 * _GIB, 900e9, 125e12, None, None, None, 300, 150e9, 25e9, 8)

_ENGINE = EngineOptions(
    quantization="bf16",
    kv_cache_dtype="auto",
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    data_parallel_size=1,
    enable_expert_parallel=False,
    max_model_len=8192,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    gpu_memory_utilization=0.9,
    block_size=16,
    enable_prefix_caching=True,
    enable_chunked_prefill=True,
    async_scheduling=True,
    enforce_eager=False,
    vllm_version="0.30",
)


def engine(**changes: Any) -> EngineOptions:
    """Engine settings with some of them changed."""
    return replace(_ENGINE, **changes)
