"""Money in a plan's document: bill, earnings, the day, a fleet that follows the day, the response cache."""

from __future__ import annotations

from typing import Any, TypedDict


class Line(TypedDict, total=False):
    """A line of a bill or of earnings."""

    what: str
    quantity: float | None
    unit: str
    unit_price_usd: float | None
    product_usd: float | None


class _Price(TypedDict, total=False):
    kind: str | None
    gpu_hour_usd: float | None
    parts: list[dict[str, Any]] | None


class _Currency(TypedDict, total=False):
    code: str
    per_usd: float | None


class Cost(TypedDict, total=False):
    """What the fleet and a query cost."""

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


class Revenue(TypedDict, total=False):
    """What a query earns."""

    usd_per_query: float | None
    query_rpm_usd: float | None
    model: str | None
    lines: list[Line] | None
    abandonment: _Abandonment | None


class Hour(TypedDict, total=False):
    """An hour of the day."""

    hour: int
    queries: float | None
    cost: float | None
    utilisation: float | None


class _Way(TypedDict, total=False):
    gpu_hours: float | None
    usd_per_day: float | None
    startup_gpu_hours: float | None
    replicas: list[float]


class LoadShape(TypedDict, total=False):
    """The fleet on all day beside one that follows the day."""

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


class Autoscaler(TypedDict, total=False):
    """The day as the autoscaler runs it."""

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


class ResponseCache(TypedDict, total=False):
    """The response cache: hits and what they cost."""

    by_hour: list[float] | None
    usd_per_hit: float | None
    usd_per_hour: float | None
