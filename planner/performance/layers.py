"""The terms of the transformer layers: projections, feed-forwards, experts, elementwise kernels, collectives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.performance.breakdown import BALANCED_RANKS, DATA_PARALLEL
from planner.performance.collectives import Collective, allreduce_s, collective, expert_exchange_s
from planner.performance.expert_kernels import expert_kernel
from planner.performance.experts import routed_experts_s
from planner.performance.gemm import matrix_s, tabulated
from planner.performance.ledger import F64, Ledger
from planner.performance.paths import OLDER_TILES, KernelPath, dense_path, has_older_tiles, native_rate
from planner.performance.routing import ROUTING_SPREAD, routing_provenance
from planner.performance.terms import elementwise_s
from planner.shapes import (
    Matrix,
    attention_matrices,
    dense_format,
    expert_shards,
    feed_forward_matrices,
    local_heads,
    local_kv_heads,
)
from planner.specs import Experts, Quantization

DATA_PARALLEL_SPREAD = 0.3  # assumed: of the experts' time, from lone prompts to all ranks prefilling at once
LEAST_SURCHARGE = 0.01  # on unaligned token counts: a smaller one is the fit's way of writing none


def add_layers(ledger: Ledger) -> None:
    """Every layer of the model: its matrices, its experts, its small kernels."""
    model, tp = ledger.model, ledger.engine.tensor_parallel_size
    dense_layers = model.layers - model.moe_layers
    quantization = dense_format(model, ledger.engine.quantization)
    _add_matrices(ledger, "attention projections", model.layers, attention_matrices(model, tp), quantization)
    if dense_layers:
        _add_matrices(ledger, "feed-forward", dense_layers, feed_forward_matrices(model, model.ffn, tp), quantization)
    values = model.layers * _attention_values(ledger) + dense_layers * _feed_forward_values(ledger, model.ffn)
    if model.experts is not None:
        _add_experts(ledger, model.experts, quantization)
        values += model.moe_layers * _feed_forward_values(ledger, model.experts.shared_ffn)
    bandwidth = ledger.gpu.memory_bandwidth * ledger.overhead("elementwise_bandwidth")
    moved = elementwise_s(ledger.micro, values, bandwidth)
    ledger.over_tokens("elementwise", ("elementwise_bandwidth",), moved)
    launches = np.full_like(ledger.micro, model.layers * ledger.overhead("layer"))
    ledger.over_tokens("layer", ("layer",), launches)


def _add_matrices(ledger: Ledger, name: str, layers: int, matrices: list[Matrix], quantization: Quantization) -> None:
    """GEMMs of `layers` equal layers.

    Small and large batches have their own fitted multiplier, and so have formats whose activations are rounded first:
    vLLM fuses the rounding into other kernels, the tables hold it. What the tables add for token counts that are no
    multiple of 16 is a term of its own: runs end to end show only a share of it.
    """
    path = dense_path(ledger.gpu, quantization)
    driver = ledger.use(f"gemm {quantization}", path)
    aligned = replace(path, tiling=replace(path.tiling, unaligned=0.0))
    aligned_s = layers * _matrices_s(ledger, matrices, quantization, aligned)
    rounded = quantization != "bf16" and native_rate(ledger.gpu, quantization) is not None
    for size, share in (("small", 1.0 - ledger.large), ("large", ledger.large)):
        multiplier = f"gemm_time_{size}_rounded" if rounded else f"gemm_time_{size}"
        ledger.over_tokens(name, (driver, multiplier), ledger.overhead(multiplier) * share * aligned_s)
    if has_older_tiles(ledger.gpu, quantization, ledger.engine.release):
        middle = (ledger.micro > OLDER_TILES[0]) & (ledger.micro <= OLDER_TILES[1])
        slower_s = ledger.overhead("older_fp8_tiles") * np.where(middle, aligned_s, 0.0)
        ledger.over_tokens(f"{name}, older tiles", (driver, "older_fp8_tiles"), slower_s)
    if path.tiling.unaligned > LEAST_SURCHARGE:
        surcharge_s = layers * _matrices_s(ledger, matrices, quantization, path) - aligned_s
        ledger.over_tokens(f"{name}, unaligned", (driver, "unaligned"), ledger.overhead("unaligned") * surcharge_s)


def _matrices_s(ledger: Ledger, matrices: list[Matrix], quantization: Quantization, path: KernelPath) -> F64:
    """Seconds of one layer's matrices over the micro-batch's tokens."""

    def cost_s(tokens: F64) -> F64:
        total = np.zeros_like(tokens)
        for matrix in matrices:
            total += matrix_s(tokens, matrix, quantization, path)
        return total

    return tabulated(cost_s, len(ledger.micro) - 1)


def _attention_values(ledger: Ledger) -> float:
    """Values that the small kernels around attention move for a token of one layer.

    Each of two norms reads and writes residual and hidden states; the rotary embedding reads and writes heads.
    """
    model, tp = ledger.model, ledger.engine.tensor_parallel_size
    heads = local_heads(model, tp) + 2 * local_kv_heads(model, tp)
    return 8.0 * model.hidden + 2.0 * heads * model.head_dim


def _feed_forward_values(ledger: Ledger, width: int) -> float:
    """Values that the activation function moves for a token: it reads gate and up, and writes one."""
    return (3.0 if ledger.model.gated_ffn else 2.0) * width / ledger.engine.tensor_parallel_size


def _add_experts(ledger: Ledger, experts: Experts, dense: Quantization) -> None:
    """Router, shared experts and routed experts, with the tokens of all data-parallel ranks."""
    model, engine = ledger.model, ledger.engine
    tp, dp, layers = engine.tensor_parallel_size, engine.data_parallel_size, model.moe_layers
    _add_matrices(ledger, "router", layers, [Matrix(experts.count, model.hidden)], "bf16")
    if experts.shared_ffn:
        shared = feed_forward_matrices(model, experts.shared_ffn, tp)
        _add_matrices(ledger, "shared experts", layers, shared, dense)
    shards, width_shards = expert_shards(tp, dp, engine.enable_expert_parallel)
    kernel = expert_kernel(ledger.gpu, engine.quantization, shards, engine.release)
    driver = ledger.use(f"experts {engine.quantization}", kernel)
    ledger.rows.extend(routing_provenance(shards))
    routed = routed_experts_s(
        ledger.micro * dp, model.hidden, experts, model.gated_ffn, shards, width_shards, engine.quantization, kernel
    )
    ledger.spreads["routing"] = ROUTING_SPREAD
    drivers = (driver, "routing", *_ranks_in_step(ledger))
    factor = ledger.overhead("experts_prefill")
    ledger.over_tokens("routed experts", drivers, layers * (1.0 - ledger.large) * routed)
    ledger.over_tokens("routed experts", (*drivers, "experts_prefill"), factor * layers * ledger.large * routed)
    if dp > 1:
        shared_link = link(ledger, tp * dp) * ledger.overhead("exchange_bandwidth")
        exchanged = expert_exchange_s(ledger.micro, model.hidden, dp, ledger.overhead("exchange_latency"), shared_link)
        ledger.over_tokens("expert exchange", ("exchange_latency", *_ranks_in_step(ledger)), layers * exchanged)


def _ranks_in_step(ledger: Ledger) -> tuple[str, ...]:
    """The driver of what is assumed of other data-parallel ranks, if there are any.

    Each is taken to schedule as many tokens as this one in every step. That gets the experts' work right over time,
    but charges a lone prompt for prompts that the others do not have, and lets no rank wait for another's. A simulation
    of ranks in step (`simulation.kernel_group`) puts the mean of their tokens in this one's place.
    """
    if ledger.engine.data_parallel_size == 1:
        return ()
    source = "every rank schedules as many tokens as this one; a lone prompt pays for prompts that the others lack"
    ledger.assume(BALANCED_RANKS, source, "pessimistic")
    ledger.spreads[DATA_PARALLEL] = DATA_PARALLEL_SPREAD
    return (DATA_PARALLEL,)


def add_collectives(ledger: Ledger) -> None:
    """Two all-reduces a layer: after attention and after the feed-forward."""
    tp = ledger.engine.tensor_parallel_size
    if tp == 1:
        return
    reduced: F64 = 2.0 * allreduce_s(ledger.micro, ledger.model.hidden, tensor_collective(ledger))
    ledger.over_tokens("all-reduce", ("allreduce",), ledger.model.layers * reduced)


def tensor_collective(ledger: Ledger) -> Collective:
    """The all-reduce of the tensor-parallel group."""
    found = collective(ledger.gpu, ledger.engine.tensor_parallel_size)
    ledger.use("allreduce", found)
    return found


def link(ledger: Ledger, group: int) -> float:
    """Bandwidth in bytes/s between the members of a group, one direction."""
    gpu = ledger.gpu
    if group <= gpu.gpus_per_node:
        return gpu.link_bandwidth
    if gpu.internode_bandwidth is None:
        source = f"no figure between nodes of {gpu.name}: the link within a node stands in"
        ledger.assume("link between nodes", source, "optimistic")
        return gpu.link_bandwidth
    return gpu.internode_bandwidth
