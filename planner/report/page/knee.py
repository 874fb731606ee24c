"""The knee of the capacity curve: the size from which a replica fewer begins to cost much latency.

Kneedle (Satopää, Albrecht, Irwin, Raghavan, "Finding a 'Kneedle' in a Haystack", 2011) on latency against the load of
one replica. Both axes are stretched to 0…1 over the sizes tried; with x the load and y the latency, the knee is where
the curve lies furthest below the straight line between its ends:

    knee = argmax (x − y)        x = (1/n − 1/n_max) ÷ (1/n_min − 1/n_max)        y = (ms − ms_min) ÷ (ms_max − ms_min)

n replicas share the load of the peak, so that one of them bears 1/n of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Document = Mapping[str, Any]
LEAST_SIZES = 5  # fewer make no curve
LEAST_BEND, NOISE = 0.1, 0.05  # of the curve's height: what bends less has no knee; what may rise the wrong way


class Knee(NamedTuple):
    """The size at the knee, and the figures that tell it: latency there, one size up, one size down [ms]."""

    serving: int
    key: str
    value_ms: float
    fewer: int
    fewer_ms: float
    more: int
    more_ms: float


def knee(points: Sequence[Document], key: str) -> Knee | None:
    """The knee of the latency under `key` over `points` (rows of `capacity_curve`, one a size, rising).

    Saturated sizes are left out: their latency is that of the run's length. None where fewer than `LEAST_SIZES` are
    left, where the curve bends by less than `LEAST_BEND` or than the 95 % interval of the figure at the knee, and where
    latency rises by more than `NOISE` from a size to the next larger one: then noise hides what is looked for.
    """
    held = [point for point in points if not point.get("saturated") and _known(point.get(key))]
    if len(held) < LEAST_SIZES:
        return None
    sizes, values = [point["serving"] for point in held], [point[key] for point in held]
    loads = [1 / size for size in sizes]
    low, high = values[-1], values[0]
    if high <= low or any(after - before > NOISE * (high - low) for before, after in pairwise(values)):
        return None
    below = [
        (load - loads[-1]) / (loads[0] - loads[-1]) - (value - low) / (high - low)
        for load, value in zip(loads, values, strict=True)
    ]
    at = max(range(len(held)), key=below.__getitem__)
    upper = held[at].get(f"{key}_upper")
    noise = 0.0 if not _known(upper) else max(upper - values[at], 0.0) / (high - low)
    if not 0 < at < len(held) - 1 or below[at] < max(LEAST_BEND, noise):
        return None
    around = (sizes[at - 1], values[at - 1], sizes[at + 1], values[at + 1])
    return Knee(int(sizes[at]), key, values[at], int(around[0]), around[1], int(around[2]), around[3])


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
