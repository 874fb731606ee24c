"""The other way round: from lengths and times that were seen to the scenario's distributions and arrival laws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import lognorm, norm

LEAST_TO_FIT = 20  # fewer values tell a mean, not a shape
CONSTANT_CV = 0.05


def fitted_tokens(values: NDArray[np.int64]) -> Any:
    """One number, or the distribution of the scenario language that lies closest to `values` (at least one).

    Closest by the largest distance between distribution functions (Kolmogorov and Smirnov), the parameters being
    those of the values' own mean and spread, or ends.
    """
    mean, sd = float(values.mean()), float(values.std())
    low, high = int(values.min()), int(values.max())
    if low == high:
        return low
    if len(values) < LEAST_TO_FIT:
        return {"lognormal": {"mean": _short(mean), "cv": _short(sd / mean)}}
    ordered = np.sort(values)
    sigma = math.sqrt(math.log1p((sd / mean) ** 2))
    shapes: dict[str, tuple[NDArray[np.float64], Any]] = {
        "lognormal": (
            lognorm.cdf(ordered, sigma, scale=mean / math.exp(sigma * sigma / 2)),
            {"mean": _short(mean), "cv": _short(sd / mean)},
        ),
        "normal": (norm.cdf(ordered, mean, sd), {"mean": _short(mean), "sd": _short(sd), "min": low, "max": high}),
        "uniform": ((ordered - low + 0.5) / (high - low + 1), [low, high]),
    }
    seen = np.searchsorted(ordered, ordered, side="right") / len(ordered)
    best = min(shapes, key=lambda name: float(np.abs(shapes[name][0] - seen).max()))
    return {best: shapes[best][1]}


def fitted_arrivals(due_s: NDArray[np.float64], hit_rate: float = 0.0) -> tuple[float, Any]:
    """Rate in queries/s and the arrival law of queries due at these times (ascending, at least two of them differ).

    By the coefficient of variation of the gaps: about 0 is constant, 1 within two standard errors is Poisson, any
    other gamma with burstiness 1/CV². Where a response cache answered a share `hit_rate` before these queries were
    seen, rate and law are those of all queries: a gap that was seen is the sum of a geometric number of theirs, and
    so CV² = (seen CV² − hit_rate) / (1 − hit_rate).
    """
    gaps_s = np.diff(due_s)
    seen_qps = 1.0 / float(gaps_s.mean())
    seen_cv = float(gaps_s.std()) * seen_qps
    rate_qps = _short(seen_qps / (1.0 - hit_rate))
    cv = math.sqrt(max(0.0, seen_cv**2 - hit_rate) / (1.0 - hit_rate))
    if cv < CONSTANT_CV:
        return rate_qps, "constant"
    if abs(seen_cv - 1.0) < max(0.05, 2.0 / math.sqrt(len(gaps_s))):  # leaving queries out of it keeps it Poisson
        return rate_qps, "poisson"
    return rate_qps, {"gamma": {"burstiness": _short(1.0 / cv**2)}}


def _short(value: float) -> float:
    """Three significant digits, whole where it is."""
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded.is_integer() else rounded
