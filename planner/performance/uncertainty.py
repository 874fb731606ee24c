"""Other possible worlds: factors on what the step cost hangs on, drawn from how well each of it is known.

Kernels: log-normal, with the spread of their fit over shapes (wider for a stand-in). Overheads: jointly log-normal,
with the intervals and correlations of their fit, cut off where physics ends (`largest_factors`). `step_model` and
`prefill_model`: what terms and constants together do not explain, as seen between engines of the rows that the
overheads were fitted to.

Each quantity is drawn in equally likely layers (a Latin hypercube), so that a few dozen worlds already have the
quantiles of many, and from a stream of its own, so that it draws the same numbers whatever else is drawn.
"""

from __future__ import annotations

from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from planner.performance.breakdown import Breakdown
from planner.performance.constants import correlations, largest_factors, log_spreads

F64 = NDArray[np.float64]
RUN_TO_RUN = "run_to_run"  # of a figure, not of a step: what differs when the same run is repeated


def draw_factors(breakdown: Breakdown, count: int, seed: int) -> list[dict[str, float]]:
    """`count` sets of factors, one for each driver of `breakdown`; their medians are 1."""
    names, root = _fitted()
    common = np.column_stack([layered_normals(name, count, seed) for name in names]) @ root.T
    logs = {name: common[:, column] for column, name in enumerate(names)}
    spreads = log_spreads() | dict(breakdown.spreads)
    for driver in breakdown.drivers:
        if driver not in logs:
            logs[driver] = spreads[driver] * layered_normals(driver, count, seed)
    for driver, most in largest_factors().items():
        if driver in logs:
            logs[driver] = np.minimum(logs[driver], np.log(most))
    return [{driver: float(np.exp(logs[driver][draw])) for driver in breakdown.drivers} for draw in range(count)]


def layered_normals(name: str, count: int, seed: int) -> F64:
    """`count` standard normal numbers, one from each of `count` equally likely layers, in an order of `name`'s own."""
    generator = np.random.default_rng([seed, crc32(name.encode())])
    return np.asarray(ndtri((generator.permutation(count) + generator.random(count)) / count))


@cache
def _fitted() -> tuple[tuple[str, ...], F64]:
    """The overheads that were fitted together, and A with A·Aᵀ = the covariance of their logs."""
    pairs = correlations()
    names = tuple(sorted({name for pair in pairs for name in pair}))
    spreads = np.array([log_spreads()[name] for name in names])
    place = {name: at for at, name in enumerate(names)}
    matrix = np.eye(len(names))
    for (one, other), correlation in pairs.items():
        matrix[place[one], place[other]] = matrix[place[other], place[one]] = correlation
    return names, spreads[:, None] * correlation_root(matrix)


def correlation_root(matrix: F64) -> F64:
    """The Cholesky factor of a correlation matrix that rounding may have left slightly indefinite."""
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least <= 0.0:
        shrunk = 1.0 - 1e-9 + 1.01 * least
        matrix = shrunk * matrix + (1.0 - shrunk) * np.eye(len(matrix))
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
