"""Quantiles of values and of histograms of gaps: one rule for whatever is simulated or measured."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from planner.simulation.kernel_state import GAP_FLOOR_S, GAP_WIDTH
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
ROUNDING = 1e-9  # 99.9 % of 1,000 values are 999 of them, whatever the last bit says


def quantile(values: F64, percentile: float) -> float:
    """The smallest value that at least `percentile` per cent of `values` do not exceed (inverse of their CDF)."""
    place = rank(percentile, len(values))
    return float(np.partition(values, place)[place])


def rank(percentile: float, count: int) -> int:
    """Place of that quantile among `count` values in ascending order."""
    return max(math.ceil(percentile * count / 100.0 - ROUNDING) - 1, 0)


def gap_quantile_s(counts: F64, share: float) -> float | None:
    """Quantile of a histogram of gaps, at the middle of its bin (±0.25 %); None if it is empty."""
    total = counts.sum()
    if total == 0:
        return None
    at = int(np.searchsorted(np.cumsum(counts), share * total - ROUNDING))
    return GAP_FLOOR_S * math.exp((at + 0.5) * GAP_WIDTH)


def gap_ms(counts: F64, total_s: float, percentile: float | None, failed_share: float) -> float | None:
    """Mean or percentile of a histogram of gaps above which `failed_share` of the whole mass lies at infinity."""
    if percentile is None:
        if failed_share > 0:
            return math.inf
        return float(total_s / counts.sum()) * MS_PER_S if counts.sum() > 0 else None
    if percentile > 100.0 * (1.0 - failed_share):
        return math.inf
    gap_s = gap_quantile_s(counts, min(percentile / 100.0 / (1.0 - failed_share), 1.0))
    return None if gap_s is None else gap_s * MS_PER_S
