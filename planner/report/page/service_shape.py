"""Service in a plan's document: the runs with their limits, the proof of the spare, the scenario and the fleet."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, Required, TypedDict

import msgspec

_Band = list[float | None]


class Histogram(TypedDict):
    """A histogram: counts between rising edges."""

    edges: list[float]
    counts: list[float]


class Limit(TypedDict, total=False):
    """A limit and how a run held it."""

    key: Required[str]
    limit_ms: Required[Annotated[float, msgspec.Meta(gt=0)]]
    value_ms: float | None
    upper_ms: float | None
    met: bool | None


class Confidence(TypedDict, total=False):
    """How sure a run is, and by what rule its size was accepted."""

    rule: str | None
    batches: float | None
    weakest: str | None
    kernel_path: str | None
    worlds: float | None
    holds_share: float | None
    saturated_share: float | None


class Run(TypedDict, total=False):
    """A simulated run: what it was judged by, its latencies, the fleet at work."""

    slo: list[Limit]
    slo_met: bool | None
    saturated: bool
    ttft_ms: dict[str, float | None] | None
    tpot_ms: dict[str, float | None] | None
    itl_ms: dict[str, float | None] | None
    e2e_ms: dict[str, float | None] | None
    band80: dict[str, _Band]
    confidence: Confidence
    memory: dict[str, float | None]
    kv_cache_usage: dict[str, float | None]
    ledger: dict[str, float | None]
    kv_cache_tokens: float | None
    prefix_cache_hit_rate: float | None
    num_preemptions: float | None
    utilisation: float | None
    query_throughput: float | None
    request_throughput: float | None
    output_throughput: float | None
    total_token_throughput: float | None
    goodput_rps: float | None
    goodput_share: float | None
    duration_s: float | None
    wall_s: float | None
    requests: int | None
    queries: int | None
    failed: int | None
    clipped_share: float | None
    cached_share: float | None
    notes: list[str]


class SpareLimit(Limit, total=False):
    """A limit with the verdict of the proof's interval about its figure."""

    verdict: str | None


class _Span(TypedDict, total=False):
    queries: int | None
    failed: int | None
    retried: int | None
    ttft_ms: dict[str, float | None] | None
    limits: list[SpareLimit] | None


class SpareProof(TypedDict, total=False):
    """The spare replicas stopped in a run at the peak: each limit before and after, and what they had in hand."""

    replicas: Required[int]
    stopped: Required[int]
    verdict: Required[Literal["holds", "fails", "undecided"]]
    slo_met_after: bool | None
    saturated_after: bool | None
    retried: int | None
    seeds: list[int] | None
    before: _Span | None
    after: _Span | None
    in_hand: _Span | None


class _Arrivals(TypedDict, total=False):
    concurrency: float | None
    requests: float | None
    speedup: float | None


class _Traffic(TypedDict, total=False):
    peak_qps: float | None
    arrivals: str | dict[str, _Arrivals] | None


class _FleetWish(TypedDict, total=False):
    max_gpus: float | None
    min_replicas: float | None
    spare_replicas: float | None


class Scenario(TypedDict, total=False):
    """The scenario, as far as the page reads it."""

    name: str | None
    slo: dict[str, str | float]
    traffic: _Traffic
    fleet: _FleetWish
    hardware: str | list[str]


class _Engine(TypedDict, total=False):
    quantization: str | None
    kv_cache_dtype: str | None
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    data_parallel_size: int | None
    enable_expert_parallel: bool | None


class Fleet(TypedDict):
    """The chosen fleet."""

    hardware: str
    gpus: int
    replicas: int
    spare_replicas: int
    engine: _Engine
    gpus_per_replica: NotRequired[int | None]


class Model(TypedDict):
    """The model that it serves."""

    name: str
