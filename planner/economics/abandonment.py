"""Users who do not wait for the answer, and what is lost with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.economics.checks import not_negative, share
from planner.economics.lines import money_line
from planner.economics.revenue import MILLE, Abandonment, Revenue
from planner.errors import InputError
from planner.provenance import Provenance

F64 = NDArray[np.float64]
STEP_MS = 100.0  # patience is stated per 100 ms, and revenue at risk too


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
    latency 100 ms longer.
    """

    share: float
    share_100ms_later: float


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


def net_of(revenue: Revenue, patience: Patience, lost: Lost, day_queries: float) -> Revenue:
    """Revenue less what is lost with those who leave; its lines end with that loss.

    Costs stay: what a user does not wait for has been computed all the same.
    """
    gross = revenue.usd_per_query
    gone = gross * lost.share
    at_risk = gross * (lost.share_100ms_later - lost.share)
    after = f" beyond {patience.after_ms:g} ms" if patience.after_ms else ""
    found = Abandonment(
        metric=patience.metric,
        lost_share=lost.share,
        usd_per_query_lost=gone,
        at_risk_usd_per_query_per_100ms=at_risk,
        at_risk_usd_per_day_per_100ms=at_risk * day_queries,
        source=f"{100 * patience.per_100ms:.3g} % of the users leave per 100 ms of {patience.metric.upper()}{after}",
    )
    line = money_line(f"left before the answer ({patience.metric.upper()})", -lost.share * day_queries, "query", gross)
    return replace(
        revenue,
        usd_per_query=gross - gone,
        query_rpm_usd=(gross - gone) * MILLE,
        lines=(*revenue.lines, line),
        abandonment=found,
    )


def assumed_patience(patience: Patience) -> tuple[Provenance, ...]:
    """What the scenario does not say of it."""
    rows = [
        Provenance(
            "revenue.abandonment: latencies of the day",
            "assumed",
            "the distribution at the peak stands for every hour; at quieter ones users wait less",
            errs="pessimistic",
        )
    ]
    if patience.after_ms is None:
        why = "not given: users begin to leave at once"
        rows.append(Provenance("revenue.abandonment.after_ms", "assumed", why, "0 ms", errs="pessimistic"))
    return tuple(rows)
