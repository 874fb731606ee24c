"""What the page reads of a plan's document, name by name. Other names are let through unread."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, Required, TypedDict

import msgspec

_Band = list[float | None]
_Named = dict[str, Any]


class _Histogram(TypedDict):
    edges: list[float]
    counts: list[float]


class _Limit(TypedDict, total=False):
    key: Required[str]
    limit_ms: Required[Annotated[float, msgspec.Meta(gt=0)]]
    value_ms: float | None
    upper_ms: float | None
    met: bool | None


class _Confidence(TypedDict, total=False):
    rule: str | None
    batches: float | None
    weakest: str | None
    kernel_path: str | None
    worlds: float | None
    holds_share: float | None
    saturated_share: float | None


class _Run(TypedDict, total=False):
    slo: list[_Limit]
    slo_met: bool | None
    saturated: bool
    ttft_ms: dict[str, float | None] | None
    tpot_ms: dict[str, float | None] | None
    itl_ms: dict[str, float | None] | None
    e2e_ms: dict[str, float | None] | None
    band80: dict[str, _Band]
    confidence: _Confidence
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


class _Scenario(TypedDict, total=False):
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


class _Fleet(TypedDict):
    hardware: str
    gpus: int
    replicas: int
    spare_replicas: int
    engine: _Engine
    gpus_per_replica: NotRequired[int | None]


class _Model(TypedDict):
    name: str


class _Line(TypedDict, total=False):
    what: str
    quantity: float | None
    unit: str
    unit_price_usd: float | None
    product_usd: float | None


class _Price(TypedDict, total=False):
    kind: str | None
    gpu_hour_usd: float | None
    parts: list[_Named] | None


class _Currency(TypedDict, total=False):
    code: str
    per_usd: float | None


class _Cost(TypedDict, total=False):
    usd_per_hour: float | None
    usd_per_query: float | None
    usd_per_million_tokens: float | None
    usage_usd_per_query: float | None
    idle_usd_per_query: float | None
    amortised_training_usd_per_query: float | None
    usd_per_query_with_training: float | None
    price: _Price | None
    currency: _Currency | None


class _Abandonment(TypedDict, total=False):
    metric: str | None
    lost_share: float | None
    lost_share_at_peak: float | None
    lost_impressions: float | None
    usd_per_query_lost: float | None
    at_risk_usd_per_query_per_100ms: float | None
    at_risk_usd_per_day_per_100ms: float | None
    source: str | None


class _Revenue(TypedDict, total=False):
    usd_per_query: float | None
    query_rpm_usd: float | None
    model: str | None
    lines: list[_Line] | None
    abandonment: _Abandonment | None


class _Hour(TypedDict, total=False):
    hour: int
    queries: float | None
    cost: float | None
    utilisation: float | None


class _Alternative(TypedDict, total=False):
    model: str | None
    hardware: str | None
    routing: str | None
    engine: dict[str, str | float | bool | None]
    feasible: bool
    chosen: bool
    verified: bool
    replicas: int | None
    gpus: int | None
    usd_per_hour: float | None
    usd_per_query: float | None
    utilisation: float | None
    reason: str | None


class _Size(TypedDict, total=False):
    gpus: float | None
    usd_per_query: float | None


class _Alone(_Size, total=False):
    removed: _Size | None


class _Step(TypedDict, total=False):
    step: int | str
    what: str
    set: _Named | None
    feasible: bool | None
    reason: str | None
    gpus: int | None
    usd_per_hour: float | None
    usd_per_query: float | None
    removed: _Size | None
    alone: _Alone | None
    interaction: _Size | None


class _Bar(TypedDict, total=False):
    name: str
    low: float | str | None
    high: float | str | None
    usd_per_query_low: float | None
    usd_per_query_high: float | None
    margin_low: float | None
    margin_high: float | None
    gpus_low: float | None
    gpus_high: float | None


class _Input(TypedDict, total=False):
    name: str
    law: str | None
    source: str | None
    kind: str | None


class _Fit(TypedDict, total=False):
    error_share: float | None
    typical_error_share: float | None
    beyond_points_share: float | None


class _Against(TypedDict, total=False):
    exact: float | None
    gpus: dict[str, float | None] | None
    other_candidate: float | None
    only_one_finds_a_fleet: float | None


class _Surface(TypedDict, total=False):
    simulations: float | None
    candidates: list[_Fit]
    error: _Size | None
    checked: _Against | None


class _Checked(TypedDict, total=False):
    draw: int | str | None
    surface: _Size | None
    plan: _Size | None


class _Uncertainty(TypedDict, total=False):
    draws: int
    seed: int | None
    inputs: list[_Input]
    p_slo_held: float | None
    p_slo_held_within_error: list[float | None] | None
    p_margin_positive: float | None
    gpus: dict[str, float | None] | None
    usd_per_query: dict[str, float | None] | None
    margin_usd_per_query: dict[str, float | None] | None
    resized: dict[str, dict[str, float | None] | None] | None
    p_both: float | None
    p_no_fleet: float | None
    tornado: list[_Bar]
    at_medians: dict[str, float | None] | None
    surface: _Surface | None
    checked: list[_Checked]


class _Origin(TypedDict, total=False):
    what: str
    kind: str
    source: str
    value: str
    date: str
    errs: str


class _Way(TypedDict, total=False):
    gpu_hours: float | None
    usd_per_day: float | None
    startup_gpu_hours: float | None
    replicas: list[float]


class _LoadShape(TypedDict, total=False):
    static: _Way | None
    following: _Way | None
    peak_replicas: float | None
    mean_replicas: float | None
    basis: str | None


class _ScaledStatic(TypedDict, total=False):
    replicas: float | None
    gpu_hours_per_day: float | None
    usd_per_day: float | None


class _ScaledHour(TypedDict, total=False):
    hour: int
    rate_qps: float | None
    paid_replicas: float | None
    slo_met: bool | None
    missed: list[str]


class _Autoscaler(TypedDict, total=False):
    days: int | None
    peak_replicas: float | None
    mean_paid_replicas: float | None
    gpu_hours_per_day: float | None
    usd_per_day: float | None
    static: _ScaledStatic | None
    slo_hours_share: float | None
    goodput_share: float | None
    hours: list[_ScaledHour]
    notes: list[str]


class _ResponseCache(TypedDict, total=False):
    by_hour: list[float] | None
    usd_per_hit: float | None
    usd_per_hour: float | None


class _Needed(TypedDict):
    scenario: _Scenario
    feasible: bool
    alternatives: list[_Alternative]


class PlanShape(_Needed, total=False):
    """A plan's document; what a plan may leave out is optional, what it may not know is null."""

    seed: int | None
    response_cache: _ResponseCache | None
    model: _Model | None
    fleet: _Fleet | None
    at_peak: _Run | None
    one_fewer: _Run | None
    one_fewer_gap: str | None
    day: list[_Hour]
    capacity_curve: list[dict[str, float | bool | None]]
    distributions: dict[str, _Histogram]
    cost: _Cost | None
    cost_lines: list[_Line]
    revenue: _Revenue | None
    margin: dict[str, float | None] | None
    break_even: dict[str, float | None]
    break_even_after_training: dict[str, float | None] | None
    economics_notes: list[str]
    confidence: _Confidence | None
    provenance: list[_Origin]
    waterfall: list[_Step] | None
    uncertainty: _Uncertainty | None
    load_shape: _LoadShape | None
    autoscaler: _Autoscaler | None
