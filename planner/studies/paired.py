"""How much one run differs from another that sent the same queries, with an interval that knows of time.

Queries that are near in time share their steps and their queue, so they are no independent witnesses: whole blocks of
the schedule are drawn again (block bootstrap), the same blocks of both runs.
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
    """b ÷ a of one statistic. `low` and `high` bound the 95 % interval; None where there are too few queries."""

    a: float
    b: float
    low: float | None
    high: float | None

    @property
    def ratio(self) -> float:
        """b ÷ a."""
        return self.b / self.a

    @property
    def differs(self) -> bool | None:
        """Whether the interval excludes 1; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 1.0 <= self.high


def mean(values: F64) -> float:
    """The arithmetic mean."""
    return float(values.mean())


def at_percentile(percentile: float) -> Statistic:
    """The statistic that is this percentile."""
    return lambda values: quantile(values, percentile)


def paired_ratio(a: F64, b: F64, statistic: Statistic, seed: int) -> Ratio | None:
    """b ÷ a of a statistic of the same queries in two runs, in the order in which they were due.

    A query that lacks a finite value in either run is left out of both; None where none is left or a is 0.
    """
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) == 0 or statistic(a) == 0:
        return None
    if len(a) < BLOCKS * LEAST_PER_BLOCK:
        return Ratio(statistic(a), statistic(b), None, None)
    blocks = np.array_split(np.arange(len(a)), BLOCKS)
    drawn = _drawn(seed)
    ratios = []
    for choice in drawn:
        places = np.concatenate([blocks[block] for block in choice])
        below = statistic(a[places])
        ratios.append(statistic(b[places]) / below if below else np.inf)
    low, high = np.percentile(ratios, [LOW, HIGH])
    return Ratio(statistic(a), statistic(b), float(low), float(high))


def unpaired_ratio(a: F64, b: F64, statistic: Statistic, seed: int) -> Ratio | None:
    """b ÷ a where the runs did not send the same queries: blocks are drawn from each run by itself."""
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if len(a) == 0 or len(b) == 0 or statistic(a) == 0:
        return None
    if min(len(a), len(b)) < BLOCKS * LEAST_PER_BLOCK:
        return Ratio(statistic(a), statistic(b), None, None)
    below, above = (_resampled(values, statistic, seed + index) for index, values in enumerate((a, b)))
    low, high = np.percentile(above / below, [LOW, HIGH])
    return Ratio(statistic(a), statistic(b), float(low), float(high))


def _resampled(values: F64, statistic: Statistic, seed: int) -> F64:
    blocks = np.array_split(values, BLOCKS)
    return np.array([statistic(np.concatenate([blocks[block] for block in choice])) for choice in _drawn(seed)])


def _drawn(seed: int) -> NDArray[np.int64]:
    """Which blocks each draw takes."""
    return np.random.default_rng([seed, 7]).integers(0, BLOCKS, (DRAWS, BLOCKS))
