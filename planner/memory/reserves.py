"""What vLLM needs on a GPU beside weights and KV cache, as named terms, and how much memory there is at all.

vLLM measures these at start-up by running a dummy batch; here they are estimated from shapes. All are assumptions of
this model but where a source is given, and a logged capacity (`num_gpu_blocks_override`) replaces them.
"""

from __future__ import annotations

from planner.provenance import Kind, Provenance
from planner.shapes import expert_shards, local_heads, local_kv_heads
from planner.specs import EngineOptions, Gpu, Model
from planner.units import GIB

# --- memory that a process can see (torch's total), where somebody has printed it ---
SEEN_BYTES: dict[str, tuple[float, Kind, str]] = {
    "h100-sxm-80gb": (79.11 * GIB, "measured", "PyTorch message in github.com/vllm-project/vllm/issues/27508"),
    "a100-sxm-80gb": (79.25 * GIB, "measured", "PyTorch message in github.com/levihsu/OOTDiffusion/issues/235"),
    "rtx-4090-24gb": (25250627584.0, "measured", "device_total_memory_bytes of a LLMServingSim bench run"),
    "a10g-24gb": (21.99 * GIB, "inherited", "PyTorch message for an A10 in github.com/THUDM/CogVLM/issues/236"),
    "l40s-48gb": (44.40 * GIB, "inherited", "PyTorch message for an L40 in github.com/QwenLM/Qwen3-VL/issues/2097"),
    "l4-24gb": (21.99 * GIB, "inherited", "as on the A10, the same 24 GB with error correction"),
}
SEEN_SHARE = 0.99  # of the nominal memory, for the other GPUs; the H100's own is 0.989

# --- terms ---
CONTEXT_BYTES = 0.6e9  # CUDA context, cuBLAS and attention workspaces
GRAPH_BYTES_PER_LAYER = 8e6  # CUDA graphs of all captured batch sizes
COMMUNICATION_BYTES = 0.4e9  # NCCL and custom all-reduce buffers of a group of two or more
SAMPLER_BYTES = 16  # a sequence and vocabulary entry: logits in bf16 and fp32, sorted copy, probabilities
ACTIVATION_BYTES = 2  # activations are bf16


def seen_memory(gpu: Gpu) -> tuple[float, Provenance]:
    """Bytes that torch reports as the GPU's total; `gpu_memory_utilization` is a share of this."""
    nominal: tuple[float, Kind, str] = (
        SEEN_SHARE * gpu.memory_bytes,
        "assumed",
        f"{SEEN_SHARE} of the nominal memory, as on the H100",
    )
    seen, kind, source = SEEN_BYTES.get(gpu.name, nominal)
    errs = "" if kind == "measured" else "unknown"
    row = Provenance("usable GPU memory", kind, source, f"{seen / GIB:.1f} GiB", errs=errs)
    return seen, row


def activation_bytes(model: Model, engine: EngineOptions) -> float:
    """Peak of a forward pass over max_num_batched_tokens tokens, or of sampling max_num_seqs sequences.

    The two do not overlap, so the larger counts. Forward: residual and hidden states, and the widest of
    queries-keys-values, dense feed-forward (gate, up and their product) and routed experts (each token once per
    expert it visits). Sampling: 16 bytes for each sequence and vocabulary entry.
    """
    tp = engine.tensor_parallel_size
    tokens = engine.max_num_batched_tokens
    widths = [(local_heads(model, tp) + 2 * local_kv_heads(model, tp)) * model.head_dim]
    if model.moe_layers < model.layers:
        widths.append(3 * model.ffn // tp)
    experts = model.experts
    if experts is not None:
        shards, width_shards = expert_shards(tp, engine.data_parallel_size, engine.enable_expert_parallel)
        # every rank's tokens meet on the group, and each GPU serves its share of the visits
        visits = experts.per_token * engine.data_parallel_size / shards
        widths.append(int(visits * (3 * experts.ffn / width_shards + model.hidden)))
    forward = tokens * (2 * model.hidden + max(widths)) * ACTIVATION_BYTES
    sampling = engine.max_num_seqs * model.vocab * SAMPLER_BYTES
    return float(max(forward, sampling))


def reserve_terms(model: Model, engine: EngineOptions) -> dict[str, float]:
    """Named bytes per GPU beside weights and KV cache."""
    layers = -(-model.layers // engine.pipeline_parallel_size)
    group = engine.tensor_parallel_size > 1 or engine.pipeline_parallel_size > 1
    group = group or (engine.data_parallel_size > 1 and model.experts is not None)
    return {
        "activations": activation_bytes(model, engine),
        "cuda_graphs": 0.0 if engine.enforce_eager else GRAPH_BYTES_PER_LAYER * layers,
        "communication": COMMUNICATION_BYTES if group else 0.0,
        "cuda_context": CONTEXT_BYTES,
    }


RESERVE_PROVENANCE = (
    Provenance("activation memory", "assumed", "widest intermediates of one step, by shape", errs="unknown"),
    Provenance("CUDA graph memory", "assumed", "8 MB a layer", "", errs="unknown"),
    Provenance(
        "communication buffers", "assumed", "342 to 392 MB in aiconfigurator-core 0.12.0 h100_sxm.yaml", "0.4 GB"
    ),
    Provenance("CUDA context", "assumed", "0.55 GB in aiconfigurator-core 0.12.0, rounded up", "0.6 GB"),
)
