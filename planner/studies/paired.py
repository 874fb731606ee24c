"""How much one run differs from another that sent the same queries, with an interval that knows of time.

Queries that are near in time share their steps and their queue, so they are no independent witnesses: whole blocks of
the schedule are drawn again (block bootstrap), the same blocks of both runs. A query that failed stands above all
latencies, as infinity: a server that turns away its slow queries is not faster. NaN is a query of which nothing is
known; it is left out of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.simulation.quantiles import quantile

F64 = NDArray[np.float64]
BLOCKS = 20
LEAST_PER_BLOCK = 2  # queries; of fewer no interval is claimed
DRAWS = 1000
LOW, HIGH = 2.5, 97.5
Statistic = Callable[[F64], float]


@dataclass(frozen=True)
class Ratio:
    """b ÷ a of one statistic, either of them infinite where too many queries failed.

    `low` and `high` bound the 95 % interval; None where there are too few queries, or too many failed.
    """

    a: float
    b: float
    low: float | None
    high: float | None

    @property
    def ratio(self) -> float | None:
        """b ÷ a; None where one of them is infinite."""
        return self.b / self.a if np.isfinite([self.a, self.b]).all() else None

    @property
    def differs(self) -> bool | None:
        """Whether the interval excludes 1; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 1.0 <= self.high


@dataclass(frozen=True)
class Difference:
    """b − a of a share of the queries, with its 95 % interval; None where there are too few queries."""

    a: float
    b: float
    low: float | None
    high: float | None

    @property
    def differs(self) -> bool | None:
        """Whether the interval excludes 0; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 0.0 <= self.high


def mean(values: F64) -> float:
    """The arithmetic mean."""
    return float(values.mean())


def at_percentile(percentile: float) -> Statistic:
    """The statistic that is this percentile."""
    return lambda values: quantile(values, percentile)


def without_common_failures(a: F64, b: F64) -> tuple[F64, F64]:
    """For means: queries that failed in both runs are left out of both; any other failure makes its mean infinite."""
    both = np.isinf(a) & np.isinf(b)
    return np.where(both, np.nan, a), np.where(both, np.nan, b)


def paired_ratio(a: F64, b: F64, statistic: Statistic, seed: int) -> Ratio | None:
    """b ÷ a of a statistic of the same queries in two runs, in the order in which they were due.

    None where no query is left, or the statistic of `a` is 0.
    """
    a, b = _known_in_both(a, b)
    if len(a) == 0 or statistic(a) == 0:
        return None
    if len(a) < BLOCKS * LEAST_PER_BLOCK:
        return Ratio(statistic(a), statistic(b), None, None)
    places = _drawn_places(len(a), seed)
    below, above = (np.array([statistic(values[place]) for place in places]) for values in (a, b))
    return _ratio(statistic(a), statistic(b), below, above)


def unpaired_ratio(a: F64, b: F64, statistic: Statistic, seed: int) -> Ratio | None:
    """b ÷ a where the runs did not send the same queries: blocks are drawn from each run by itself."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if len(a) == 0 or len(b) == 0 or statistic(a) == 0:
        return None
    if min(len(a), len(b)) < BLOCKS * LEAST_PER_BLOCK:
        return Ratio(statistic(a), statistic(b), None, None)
    below, above = (_resampled(values, statistic, seed + index) for index, values in enumerate((a, b)))
    return _ratio(statistic(a), statistic(b), below, above)


def paired_difference(a: F64, b: F64, seed: int) -> Difference | None:
    """b − a of the mean of the same queries in two runs; None where none is known in both."""
    a, b = _known_in_both(a, b)
    if len(a) == 0:
        return None
    if len(a) < BLOCKS * LEAST_PER_BLOCK:
        return Difference(mean(a), mean(b), None, None)
    change = b - a
    low, high = np.percentile([mean(change[place]) for place in _drawn_places(len(a), seed)], [LOW, HIGH])
    return Difference(mean(a), mean(b), float(low), float(high))


def unpaired_difference(a: F64, b: F64, seed: int) -> Difference | None:
    """b − a of the mean where the runs did not send the same queries."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if len(a) == 0 or len(b) == 0:
        return None
    if min(len(a), len(b)) < BLOCKS * LEAST_PER_BLOCK:
        return Difference(mean(a), mean(b), None, None)
    below, above = (_resampled(values, mean, seed + index) for index, values in enumerate((a, b)))
    low, high = np.percentile(above - below, [LOW, HIGH])
    return Difference(mean(a), mean(b), float(low), float(high))


def _known_in_both(a: F64, b: F64) -> tuple[F64, F64]:
    both = ~np.isnan(a) & ~np.isnan(b)
    return a[both], b[both]


def _ratio(a: float, b: float, below: F64, above: F64) -> Ratio:
    """With the interval of the drawn ratios; a draw that is infinite in both runs may be any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = above / below
    unknown = np.isnan(drawn)
    low = quantile(np.where(unknown, 0.0, drawn), LOW)
    high = quantile(np.where(unknown, np.inf, drawn), HIGH)
    told = np.isfinite([a, b, high]).all()
    return Ratio(a, b, low, high) if told else Ratio(a, b, None, None)


def _resampled(values: F64, statistic: Statistic, seed: int) -> F64:
    return np.array([statistic(values[places]) for places in _drawn_places(len(values), seed)])


def _drawn_places(count: int, seed: int) -> list[NDArray[np.int64]]:
    """The places of each draw: as many blocks of time as there are, each any of them."""
    blocks = np.array_split(np.arange(count), BLOCKS)
    chosen = np.random.default_rng([seed, 7]).integers(0, BLOCKS, (DRAWS, BLOCKS))
    return [np.concatenate([blocks[block] for block in choice]) for choice in chosen]
