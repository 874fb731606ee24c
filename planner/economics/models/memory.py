"""What fits into a GPU's memory: 1 GB = 10⁹ bytes, 1 GiB = 2³⁰ bytes, as the input is written."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Annotated

from planner.economics.models.fields import BytesPerParam, Factor, GbPerGpu, Given, Gpus, Made, Params, PositiveShare

BYTES_PER_GB = 1e9


@dataclass(frozen=True)
class StateMemory:
    """Memory of a model's state, and the GPUs that hold it."""

    gb: Annotated[float, Made("GB", "params × bytes_per_param ÷ 10^9")]
    gpus: Annotated[float, Made("gpu", "ceil(gb ÷ gb_per_gpu)")]


@dataclass(frozen=True)
class ServingMemory:
    """Weights and KV cache of a full batch against the memory of a server."""

    weights_gb: Annotated[float, Made("GB", "params × bytes_per_param ÷ 10^9")]
    kv_bytes_per_token: Annotated[float, Made("byte/token", "2 × layers × hidden × kv_bytes_per_value")]
    kv_gb: Annotated[float, Made("GB", "kv_bytes_per_token × tokens_per_request × batch ÷ 10^9")]
    total_gb: Annotated[float, Made("GB", "weights_gb + kv_gb")]
    memory_gb: Annotated[float, Made("GB", "gpus × gb_per_gpu")]
    fits: Annotated[bool, Made("")]
    most_requests: Annotated[
        float,
        Made(
            "request",
            "floor((memory_gb × usable_share − weights_gb) × 10^9 ÷ (kv_bytes_per_token × tokens_per_request))",
        ),
    ]


def state_memory(params: Params, bytes_per_param: BytesPerParam, gb_per_gpu: GbPerGpu) -> StateMemory:
    """Parameters times bytes, and the whole GPUs that many bytes take.

    20 bytes a parameter is mixed-precision training with Adam: 2 + 4 weights, 2 + 4 gradients, 8 moments.
    """
    gb = params * bytes_per_param / BYTES_PER_GB
    return StateMemory(gb, float(ceil(gb / gb_per_gpu)))


def serving_memory(
    params: Params,
    bytes_per_param: BytesPerParam,
    layers: Factor,
    hidden: Factor,
    kv_bytes_per_value: Annotated[float, Given("byte", 0, above=True)],
    batch: Annotated[float, Given("request", 0, above=True)],
    tokens_per_request: Annotated[float, Given("token/request", 0, above=True)],
    gpus: Gpus,
    gb_per_gpu: GbPerGpu,
    usable_share: PositiveShare,
) -> ServingMemory:
    """Whether weights and the KV cache of a batch fit, for a model whose every head keeps keys and values.

    `fits` takes all memory, `most_requests` the usable share of it; activations are left out.
    """
    weights = params * bytes_per_param / BYTES_PER_GB
    per_token = 2 * layers * hidden * kv_bytes_per_value
    kv = per_token * tokens_per_request * batch / BYTES_PER_GB
    memory = gpus * gb_per_gpu
    left = (memory * usable_share - weights) * BYTES_PER_GB
    most = max(0, floor(left / (per_token * tokens_per_request)))
    return ServingMemory(weights, per_token, kv, weights + kv, memory, weights + kv <= memory, float(most))
