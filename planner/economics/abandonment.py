"""Users who do not wait for the answer, and what is lost with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.economics.checks import not_negative, share
from planner.economics.demand import FLAT_DAY, Demand
from planner.economics.lines import money_line
from planner.economics.revenue import MILLE, Abandonment, Revenue
from planner.errors import InputError
from planner.provenance import Provenance

F64 = NDArray[np.float64]
STEP_MS = 100.0  # patience is stated per 100 ms, and revenue at risk too
WAIT_LEVELS = (0.25, 0.5, 0.75, 0.9)  # of the peak, beside the peak itself: where waiting is told


@dataclass(frozen=True)
class Patience:
    """How users wait for `metric`: nobody minds `after_ms` (None: 0), then `per_100ms` of those still there leave in
    each 100 ms. Raises InputError on values out of range.
    """

    metric: Literal["ttft", "e2e"]
    per_100ms: float
    after_ms: float | None = None

    def __post_init__(self) -> None:
        not_negative("revenue.abandonment.after_ms", self.after_ms or 0.0)
        if not 0 <= self.per_100ms < 1:
            rule = "must be a share of at least 0 and below 1"
            raise InputError("revenue.abandonment.per_100ms", self.per_100ms, rule)


@dataclass(frozen=True)
class Lost:
    """Shares of all users' queries, cached ones included, that are left before the answer: as it is, and with every
    latency 100 ms longer. `share_at_peak` is that of the busiest hour, where these are a day's.
    """

    share: float
    share_100ms_later: float
    share_at_peak: float | None = None


def stay_shares(latency_ms: F64, patience: Patience) -> F64:
    """Share of users who are still there after each latency: (1 − per_100ms)^(max(0, t − after_ms) ÷ 100).

    A query that failed has an infinite latency: nobody waits for it, unless nobody ever leaves (`per_100ms` 0).
    """
    waited = np.maximum(0.0, latency_ms - (patience.after_ms or 0.0)) / STEP_MS
    stays: F64 = np.power(1.0 - patience.per_100ms, waited)
    return stays


def lost_queries(latency_ms: F64, patience: Patience, uncached_share: float = 1.0) -> Lost:
    """Abandonment over a distribution of latencies, one value for each query that reached the model.

    lost = uncached_share · mean(1 − stay(t)); `uncached_share` of the users' queries reach the model, and an answer
    from the response cache keeps nobody waiting. Raises InputError on no latencies and on undefined ones.
    """
    share("uncached_share", uncached_share)
    if len(latency_ms) == 0 or np.isnan(latency_ms).any():
        raise InputError("latency_ms", f"{len(latency_ms)} values", "must hold at least one latency and no NaN")
    as_is, later = (float(np.mean(1.0 - stay_shares(t, patience))) for t in (latency_ms, latency_ms + STEP_MS))
    return Lost(uncached_share * as_is, uncached_share * later)


def lost_in_day(demand: Demand, lost_at: Callable[[float], Lost]) -> Lost:
    """Who leaves in 24 hours, each with the latencies of its own load: Σ queries · lost ÷ Σ queries.

    `lost_at(of_peak)` tells it at a share of the peak rate. It is asked at the peak and, where some hour is quieter,
    at those `WAIT_LEVELS` that the hours lie between; in between it is linear, below the lowest level flat. What is
    lost grows ever faster with the load, so that both err towards losing more.
    """
    day = np.array(FLAT_DAY if demand.day is None else demand.day)
    of_peak, at_peak = day / day.max(), lost_at(1.0)
    if of_peak.min() == 1:
        return replace(at_peak, share_at_peak=at_peak.share)
    lowest = max((level for level in WAIT_LEVELS if level <= of_peak.min()), default=WAIT_LEVELS[0])
    quieter = [level for level in WAIT_LEVELS if level >= lowest]
    told, levels = [*(lost_at(level) for level in quieter), at_peak], [*quieter, 1.0]
    as_is, later = (
        float(np.average(np.interp(of_peak, levels, values), weights=day))
        for values in ([lost.share for lost in told], [lost.share_100ms_later for lost in told])
    )
    return Lost(as_is, later, at_peak.share)


def net_of(revenue: Revenue, patience: Patience, lost: Lost, day_queries: float) -> Revenue:
    """Revenue less what is lost with those who leave; its lines end with that loss, where there is one.

    Costs stay: what a user does not wait for has been computed all the same.
    """
    gross = revenue.usd_per_query
    gone, shown = gross * lost.share, revenue.impressions_per_query
    at_risk = gross * (lost.share_100ms_later - lost.share)
    after = f" beyond {patience.after_ms:g} ms" if patience.after_ms else ""
    found = Abandonment(
        metric=patience.metric,
        lost_share=lost.share,
        usd_per_query_lost=gone,
        at_risk_usd_per_query_per_100ms=at_risk,
        at_risk_usd_per_day_per_100ms=at_risk * day_queries,
        source=f"{100 * patience.per_100ms:.3g} % of the users leave per 100 ms of {patience.metric.upper()}{after}",
        lost_share_at_peak=lost.share_at_peak,
        lost_impressions=None if shown is None else lost.share * day_queries * shown,
    )
    line = money_line(f"left before the answer ({patience.metric.upper()})", -lost.share * day_queries, "query", gross)
    return replace(
        revenue,
        usd_per_query=gross - gone,
        query_rpm_usd=(gross - gone) * MILLE,
        lines=(*revenue.lines, line) if lost.share > 0 else revenue.lines,
        abandonment=found,
    )


def assumed_patience(patience: Patience) -> tuple[Provenance, ...]:
    """What the scenario does not say of it."""
    rows = [
        Provenance(
            "revenue.abandonment: latencies of the day",
            "assumed",
            "simulated at a few loads of the day, in between linear, with the spare replicas idle",
            errs="pessimistic",
        )
    ]
    if patience.after_ms is None:
        why = "not given: users begin to leave at once"
        rows.append(Provenance("revenue.abandonment.after_ms", "assumed", why, "0 ms", errs="pessimistic"))
    return tuple(rows)
