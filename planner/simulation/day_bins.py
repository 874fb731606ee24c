"""Latencies of many days in bounded memory: histograms by the hour in which a query arrived.

Bins are half a per cent wide: a percentile is read off at the middle of its bin and is right to `BIN_ERROR`. Means are
of the values themselves. A query that failed, or has not ended, stands above all bins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.simulation.kernel_state import Gaps, released
from planner.simulation.load import Load
from planner.simulation.quantiles import gap_ms, rank
from planner.specs import Limit
from planner.units import MS_PER_S, S_PER_HOUR

F64 = NDArray[np.float64]
BIN_FLOOR_S, BIN_WIDTH, BINS = 1e-5, 0.005, 5200  # from 10 µs to some twenty days
BIN_ERROR = math.expm1(BIN_WIDTH / 2)  # relative, either way
TTFT, TPOT, E2E = 0, 1, 2
METRICS = {"ttft": TTFT, "tpot": TPOT, "e2e": E2E}


class HourBins(NamedTuple):
    """What was seen of the queries that arrived in each of H hours; whole numbers, so sums are exact in any order."""

    counts: F64  # [H, 3, BINS] values of TTFT, TPOT, E2E
    sum_s: F64  # [H, 3]
    lost: F64  # [H, 3] values that stand above all bins
    queries: F64  # [H]
    good: F64  # [H] queries that met every limit themselves


def empty_bins(hours: int) -> HourBins:
    """Of a run in which nothing has arrived yet."""
    shape = hours, len(METRICS)
    return HourBins(np.zeros((*shape, BINS)), np.zeros(shape), np.zeros(shape), np.zeros(hours), np.zeros(hours))


def fold(
    bins: HourBins, load: Load, arrival_s: F64, failed: NDArray[np.bool_], tokens_s: tuple[F64, F64], limits: F64
) -> None:
    """Add all queries of a run to `bins`. `tokens_s`: first and last token of each request, NaN = never.

    `limits` [3] are the seconds that a query's own TTFT, TPOT and E2E may take to be good (`strictest_s`).
    """
    last = load.stages[-1].requests
    _fold(bins, arrival_s, failed, *tokens_s, load.output_tokens, load.width, load.width - last, limits)


@released
def _fold(
    bins: HourBins,
    arrival_s: F64,
    failed: NDArray[np.bool_],
    first_s: F64,
    last_s: F64,
    output: NDArray[np.int32],
    width: int,
    begin: int,
    limits: F64,
) -> None:
    hours = len(bins.queries)
    for query in range(len(arrival_s)):
        hour = min(int(arrival_s[query] / S_PER_HOUR), hours - 1)
        bins.queries[hour] += 1
        lost = failed[query]
        start, end = math.inf, -math.inf
        for i in range(query * width + begin, (query + 1) * width):
            if not last_s[i] < math.inf:  # NaN too
                lost = True
            start, end = min(start, first_s[i]), max(end, last_s[i])
        good = not lost
        for i in range(query * width + begin, (query + 1) * width):
            if output[i] < 2:
                continue
            if lost:
                bins.lost[hour, TPOT] += 1
                continue
            tpot = (last_s[i] - first_s[i]) / (output[i] - 1.0)
            good = good and tpot <= limits[TPOT]
            bins.sum_s[hour, TPOT] += tpot
            bins.counts[hour, TPOT, _bin(tpot)] += 1
        if lost:
            bins.lost[hour, TTFT] += 1
            bins.lost[hour, E2E] += 1
            continue
        ttft, e2e = start - arrival_s[query], end - arrival_s[query]
        bins.sum_s[hour, TTFT] += ttft
        bins.sum_s[hour, E2E] += e2e
        bins.counts[hour, TTFT, _bin(ttft)] += 1
        bins.counts[hour, E2E, _bin(e2e)] += 1
        if good and ttft <= limits[TTFT] and e2e <= limits[E2E]:
            bins.good[hour] += 1


@released
def _bin(value_s: float) -> int:
    """The bin of a value; the first and the last also hold what is beyond them."""
    return min(max(int(math.log(max(value_s, BIN_FLOOR_S) / BIN_FLOOR_S) / BIN_WIDTH), 0), BINS - 1)


def strictest_s(limits: tuple[Limit, ...]) -> F64:
    """[3] what a query's own TTFT, TPOT and E2E may be, in seconds; an ITL limit holds for the mean gap, its TPOT."""
    least = np.full(len(METRICS), np.inf)
    for limit in limits:
        at = METRICS["tpot" if limit.metric == "itl" else limit.metric]
        least[at] = min(least[at], limit.limit_ms / MS_PER_S)
    return least


def statistic_ms(bins: HourBins, gaps: Gaps, hour: int | None, metric: str, percentile: float | None) -> float | None:
    """Mean or percentile of one hour, or of all of them, in ms: inf where too many are lost, None where nothing is.

    ITL gaps are those of tokens that came in that hour, its lost queries standing above them.
    """
    row: slice | int = slice(None) if hour is None else slice(hour, hour + 1)
    if metric == "itl":
        queries = float(bins.queries[row].sum())
        lost = float(bins.lost[row, TTFT].sum()) / queries if queries else 0.0
        return gap_ms(gaps.count[row].sum(axis=0), float(gaps.total_s[row].sum()), percentile, lost)
    at = METRICS[metric]
    counts, lost = bins.counts[row, at].sum(axis=0), float(bins.lost[row, at].sum())
    inside = float(counts.sum())
    if inside + lost == 0:
        return None
    if percentile is None:
        return math.inf if lost else float(bins.sum_s[row, at].sum()) / inside * MS_PER_S
    place = rank(percentile, int(inside + lost)) + 1
    if place > inside:
        return math.inf
    found = int(np.searchsorted(np.cumsum(counts), place))
    return BIN_FLOOR_S * math.exp((found + 0.5) * BIN_WIDTH) * MS_PER_S
