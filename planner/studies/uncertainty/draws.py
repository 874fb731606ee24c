"""Draws of the inputs: log-normal factors of mean 1, joined by a Gaussian copula.

Each input has a standard normal score, drawn in equally likely layers from a stream of its own; the scores are mixed
by the Cholesky root of their correlation matrix, and each becomes a factor by its input's law:

    factor = exp(σ·score − σ²/2),  σ² = ln(1 + cv²)

so that its mean is 1 and its median exp(−σ²/2). The copula's correlation is that of the scores, and of the logs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from planner.performance import layered_normals
from planner.performance.uncertainty import correlation_root
from planner.scenario import INPUTS, Uncertainty

F64 = NDArray[np.float64]


def draw_scores(given: Uncertainty, seed: int) -> dict[str, F64]:
    """Standard normal scores of every input that varies, shape [samples] each; equal seeds give equal bits."""
    names = given.varied
    alone = np.column_stack([layered_normals(f"uncertainty {name}", given.samples, seed) for name in names])
    mixed = alone @ correlation_root(given.correlation_matrix()).T if given.correlations else alone
    return {name: np.ascontiguousarray(mixed[:, column]) for column, name in enumerate(names)}


def lognormal(scores: F64, cv: float) -> F64:
    """Factors of mean 1 and coefficient of variation `cv` from standard normal scores."""
    variance = np.log1p(cv**2)
    return np.asarray(np.exp(np.sqrt(variance) * scores - variance / 2))


def factors_of(scores: Mapping[str, F64], given: Uncertainty) -> dict[str, F64]:
    """The factor of every input that has a cv; 1 throughout where an input does not vary.

    The step time without a cv is not here: its law is that of the worlds (`worlds`).
    """
    ones = np.ones(given.samples)
    factors: dict[str, F64] = {
        name: lognormal(scores[name], given.cv(name) or 0.0) if name in scores else ones for name in INPUTS
    }
    if given.step_time_cv is None:
        del factors["step_time"]
    return factors
