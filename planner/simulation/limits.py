"""Limits held against a run: each statistic with its confidence, failed queries standing above every value."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from planner.simulation.kernel_state import Gaps
from planner.simulation.quantiles import ROUNDING, gap_ms, quantile
from planner.simulation.service import Latencies, Service
from planner.specs import Limit

F64 = NDArray[np.float64]
BATCHES = 20
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Check:
    """One limit held against a run, judged by the upper end of the 95 % batch-means interval or by the run's own value.

    "TPOT": an ITL limit of which only some queries are looked at, so by their mean gaps, `value_ms` being that too.
    `upper_ms` is that end (inf where nothing is known about the spread), None where the run's own statistic judges.
    `value_ms` is None where no request has such a figure (inf where too many failed); the limit then holds unless a
    query failed.
    """

    key: str
    limit_ms: float
    value_ms: float | None
    upper_ms: float | None
    judged_by: Literal["interval", "own statistic", "TPOT"]
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
        everybody = np.ones(service.load.queries - service.load.warmup, np.bool_)
        return held_gaps(limit, service, everybody, slice(None), steady=steady)
    value, parts = stretches(limit, latencies, 1)[0], stretches(limit, latencies, BATCHES)
    return _judged(limit, value, parts, not service.failed[service.load.warmup :].any(), steady=steady)


def held_among(limit: Limit, latencies: Latencies) -> Check:
    """One limit against some queries of a run (`service.only`), by their own statistic.

    Gaps between tokens are not kept by query, so an ITL limit is held against their TPOT, a request's mean gap.
    """
    check = _judged(limit, stretches(limit, latencies, 1)[0], [], _unharmed(latencies), steady=False)
    return replace(check, judged_by="TPOT") if limit.metric == "itl" else check


def held_settling(limit: Limit, latencies: Latencies, settling: int) -> Check:
    """The same by the interval of batch means, over batches of the queries in their order; not for ITL: `held_gaps`.

    What happened in the first `settling` batches counts into the value, but was no chance: the spread is that of the
    others.
    """
    value, parts = stretches(limit, latencies, 1)[0], stretches(limit, latencies, BATCHES)[settling:]
    return _judged(limit, value, parts, _unharmed(latencies), steady=True)


def held_gaps(
    limit: Limit, service: Service, among: NDArray[np.bool_], windows: slice, *, steady: bool, settling: int = 0
) -> Check:
    """An ITL limit against the gaps that ended in some time windows of a run, each of them a batch.

    A gap is known by when it ended and not by its query; `among` says which counted queries [Q] may have failed there.
    """
    value, parts = _judged_gaps(service, limit.percentile, among, windows)
    unharmed = not service.failed[service.load.warmup :][among].any()
    return _judged(limit, value, parts[settling:], unharmed, steady=steady)


def windows_around(gaps: Gaps, at_s: float) -> tuple[slice, slice]:
    """The time windows that end by `at_s`, and those that begin then or later; of one window that one is the latter."""
    at, last = (at_s - gaps.start_s) / gaps.window_s, len(gaps.total_s) - 1
    ended, begun = math.floor(at + ROUNDING), math.ceil(at - ROUNDING)
    return slice(min(max(ended, 0), last)), slice(min(max(begun, 0), last), None)


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


def _judged_gaps(
    service: Service, percentile: float | None, among: NDArray[np.bool_], windows: slice
) -> tuple[float | None, list[float | None]]:
    """ITL in ms over these time windows and over each of them, the share of failed queries standing above all gaps."""
    gaps, counted = service.gaps, slice(service.load.warmup, None)
    failed, ended_s = service.failed[counted][among], service.ended_s[counted][among]
    count = len(gaps.total_s)
    window = np.clip((ended_s - gaps.start_s) / gaps.window_s, 0, count - 1).astype(np.int64)
    ended = np.bincount(window, minlength=count)
    shares = np.bincount(window, weights=failed, minlength=count) / ended.clip(min=1)
    rows = zip(gaps.count[windows], gaps.total_s[windows], shares[windows], strict=True)
    parts = [gap_ms(counts, float(total), percentile, float(share)) for counts, total, share in rows]
    share = float(failed.mean()) if len(failed) else 0.0
    return gap_ms(gaps.count[windows].sum(axis=0), float(gaps.total_s[windows].sum()), percentile, share), parts


def _unharmed(latencies: Latencies) -> bool:
    return bool(np.isfinite(latencies.e2e_ms).all())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
