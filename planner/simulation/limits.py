"""Limits held against a run: each statistic with its confidence, failed queries standing above every value."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from planner.simulation.quantiles import gap_ms, quantile
from planner.simulation.service import Latencies, Service, all_gaps_ms
from planner.specs import Limit

F64 = NDArray[np.float64]
BATCHES = 20
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Check:
    """One limit held against a run, judged by the upper end of the 95 % batch-means interval or by the run's own value.

    `upper_ms` is that end (inf where nothing is known about the spread), None where the run's own statistic judges.
    `value_ms` is None where no request has such a figure (inf where too many failed); the limit then holds unless a
    query failed.
    """

    key: str
    limit_ms: float
    value_ms: float | None
    upper_ms: float | None
    judged_by: Literal["interval", "own statistic"]
    met: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null for what is infinite; `judged_by` tells an infinite `upper_ms` from none."""
        return {
            "key": self.key,
            "limit_ms": self.limit_ms,
            "value_ms": _finite(self.value_ms),
            "upper_ms": _finite(self.upper_ms),
            "judged_by": self.judged_by,
            "met": self.met,
        }


def good_queries(latencies: Latencies, limits: tuple[Limit, ...]) -> NDArray[np.bool_]:
    """Which queries meet every limit themselves. ITL limits hold for the mean gap, which is the request's TPOT."""
    good = np.isfinite(latencies.e2e_ms)
    for limit in limits:
        if limit.metric == "ttft":
            good &= latencies.ttft_ms <= limit.limit_ms
        elif limit.metric == "e2e":
            good &= latencies.e2e_ms <= limit.limit_ms
        else:
            good[latencies.tpot_batch[latencies.tpot_ms > limit.limit_ms]] = False
    return good


def held_against(limit: Limit, service: Service, latencies: Latencies, *, steady: bool) -> Check:
    """One limit against a run; of a `steady` one by the upper end of the 95 % interval of batch means."""
    if limit.metric == "itl":
        value, parts = _judged_gaps(service, limit.percentile)
    else:
        value, parts = stretches(limit, latencies, 1)[0], stretches(limit, latencies, BATCHES)
    return _judged(limit, value, parts, not service.failed[service.load.warmup :].any(), steady=steady)


def held_among(limit: Limit, latencies: Latencies, *, steady: bool, settling: int = 0) -> Check:
    """One limit against some queries of a run (`service.only`); an ITL limit by their TPOT, a request's mean gap.

    `steady`: by the upper end of the interval of batch means, over batches of the queries in their order. What happened
    in the first `settling` batches counts into the value, but was no chance: the spread is that of the others.
    """
    value, parts = stretches(limit, latencies, 1)[0], stretches(limit, latencies, BATCHES)[settling:]
    return _judged(limit, value, parts, bool(np.isfinite(latencies.e2e_ms).all()), steady=steady)


def stretches(limit: Limit, latencies: Latencies, count: int) -> list[float | None]:
    """The limit's statistic in ms over each of `count` successive stretches of equally many queries.

    None where nobody in it has such a figure, inf where too many failed. An ITL limit by TPOT.
    """
    queries = len(latencies.ttft_ms)
    values, owner = latencies.tpot_ms, latencies.tpot_batch
    if limit.metric in ("ttft", "e2e"):
        values, owner = getattr(latencies, f"{limit.metric}_ms"), np.arange(queries)
    edges = np.searchsorted(owner, np.linspace(0, queries, count + 1))
    return [_statistic(values[a:b], limit.percentile) for a, b in itertools.pairwise(edges)]


def _judged(limit: Limit, value: float | None, parts: list[float | None], unharmed: bool, *, steady: bool) -> Check:
    if value is None:  # no request has a second token: there is no gap to judge
        return Check(limit.key, limit.limit_ms, None, None, "own statistic", unharmed)
    if not steady:
        return Check(limit.key, limit.limit_ms, value, None, "own statistic", value <= limit.limit_ms)
    upper = batch_means_upper(value, parts)
    return Check(limit.key, limit.limit_ms, value, upper, "interval", upper <= limit.limit_ms)


def batch_means_upper(value: float, parts: list[float | None]) -> float:
    """Upper end of the two-sided 95 % interval about `value`, from the same statistic of successive batches.

    value + t(0.975, b − 1) · s/√b with s the standard deviation of the b batches (Law & Kelton, batch means).
    inf where a batch has no value: then nothing is known about the spread.
    """
    known = np.array([part for part in parts if part is not None])
    if len(known) < len(parts) or len(known) < 2 or not np.isfinite(known).all():
        return math.inf
    reach = float(stdtrit(len(known) - 1, 0.5 + CONFIDENCE / 2))
    return value + reach * float(known.std(ddof=1)) / math.sqrt(len(known))


def _statistic(values: F64, percentile: float | None) -> float | None:
    if len(values) == 0:
        return None
    return float(values.mean()) if percentile is None else quantile(values, percentile)


def _judged_gaps(service: Service, percentile: float | None) -> tuple[float | None, list[float | None]]:
    """ITL in ms over the run and over each of its time windows, the share of failed queries standing above all gaps."""
    windows = len(service.gaps.total_s)
    failed, ended_s = service.failed[service.load.warmup :], service.ended_s[service.load.warmup :]
    window = np.clip((ended_s - service.gaps.start_s) / service.gaps.window_s, 0, windows - 1).astype(np.int64)
    ended = np.bincount(window, minlength=windows)
    shares = np.bincount(window, weights=failed, minlength=windows) / ended.clip(min=1)
    rows = zip(service.gaps.count, service.gaps.total_s, shares, strict=True)
    parts = [gap_ms(counts, float(total), percentile, float(share)) for counts, total, share in rows]
    return all_gaps_ms(service, percentile, float(failed.mean())), parts


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
