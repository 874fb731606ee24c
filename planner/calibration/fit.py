"""Robust, positive regression: measured = Σ factor · share, for factors that may be tens of times off their prior.

Factors are sought as logs, so they stay positive, with a weak normal prior around the planner's own value (`PRIOR_SD`):
it moves nothing that the data tell, and holds what they do not. Residuals are relative to the fitted value.
Gauss-Newton with Huber's weights to find the bulk, then Tukey's, which give stalls no weight at all. The covariance is
a jackknife over stretches of time: requests side by side share their steps, so their rows are one observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
PRIOR_SD = 2.0  # of a factor's log: 95 % between 1/50 and 50
HUBER, TUKEY = 1.345, 4.685  # 95 % efficient on normal noise
MAD_TO_SD = 1.4826
LEAST_SCALE = 1e-4  # relative: noise below it is rounding
MOST_LOG, LONGEST_STEP = 12.0, 1.0
ROUNDS = 60
CONVERGED = 1e-7
LEAST_FREEDOM = 4.0  # degrees of freedom of an interval
SINGULAR = 1e-11  # of the largest eigenvalue, columns scaled alike: below it a direction is rounding, nothing is told
PRESENT = 1e-6  # of a direction's square: below it a factor has no part in it


@dataclass(frozen=True)
class Problem:
    """`group` says which rows have one noise level, `block` which are one observation for the covariance."""

    measured_s: F64
    share: F64
    weight: F64
    group: I64
    block: I64


@dataclass(frozen=True)
class Fit:
    """`log_factor` [P] with its `covariance`; `linear_sd` [P] is how well the data alone tell each *factor*.

    It is infinite where they do not at all: what a part costs could as well be another's, or no row has any of it.
    `reach` [P]: how many standard deviations a 95 % interval reaches, with as few stretches of time as tell a factor.
    `kept_weight` [R] is 0 for rows that were taken for stalls.
    """

    log_factor: F64
    covariance: F64
    linear_sd: F64
    fitted_s: F64
    kept_weight: F64
    reach: F64

    @property
    def factor(self) -> F64:
        """The factors."""
        return np.asarray(np.exp(self.log_factor))

    @property
    def log_sd(self) -> F64:
        """Standard deviation of each log."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def common_scale(problem: Problem) -> float:
    """By how much all parts together are off, as a log: where a search begins on unknown hardware."""
    return float(np.log(_weighted_median(problem.measured_s / problem.share.sum(axis=1), problem.weight)))


def solve(problem: Problem, begin: F64) -> Fit:
    """The factors, sought from the logs `begin` on."""
    logs = begin.copy()
    prior = np.eye(len(logs)) / PRIOR_SD**2
    for kind in ("huber", "tukey"):
        for _ in range(ROUNDS):
            fitted, slopes, wrong = _linearised(problem, logs)
            weight = problem.weight * _robust(wrong / _scales(problem, wrong), kind) / _scales(problem, wrong) ** 2
            hessian = slopes.T @ (weight[:, None] * slopes) + prior
            step = np.linalg.solve(hessian, slopes.T @ (weight * wrong) - prior @ logs)
            step *= min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
            logs = np.clip(logs + step, -MOST_LOG, MOST_LOG)
            if float(np.abs(step).max()) < CONVERGED:
                break
    fitted, slopes, wrong = _linearised(problem, logs)
    scale = _scales(problem, wrong)
    robust = _robust(wrong / scale, "tukey")
    weight = problem.weight * robust / scale**2
    scores = slopes * (weight * wrong)[:, None]
    weight = weight * _curvature(wrong / scale, robust)
    information = slopes.T @ (weight[:, None] * slopes)
    bread = information + prior
    covariance, reach = _jackknife(problem, slopes, weight, scores, prior)
    widened = np.sqrt(np.maximum(np.diag(covariance) / np.diag(np.linalg.inv(bread)), 1.0))  # blocks are not rows
    linear_sd = np.exp(logs) * np.sqrt(bare_variance(information)) * widened
    return Fit(logs, covariance, linear_sd, fitted, robust, reach)


def bare_variance(information: F64) -> F64:
    """Variances [P] by the data alone, without the prior: infinite for a factor in a direction that they do not tell.

    Columns are scaled alike first, so that a small part is told from a collinear one.
    """
    size = np.sqrt(np.diag(information))
    variance = np.full(len(size), np.inf)
    some = np.flatnonzero(size > 0.0)
    if len(some) == 0:
        return variance
    values, directions = np.linalg.eigh(information[np.ix_(some, some)] / np.outer(size[some], size[some]))
    told = values > SINGULAR * values[-1]
    squares = directions**2
    found = (squares[:, told] / values[told]).sum(axis=1)
    lost = (squares[:, ~told] > PRESENT).any(axis=1)
    variance[some] = np.where(lost, np.inf, found / size[some] ** 2)
    return variance


def _linearised(problem: Problem, logs: F64) -> tuple[F64, F64, F64]:
    """Fitted seconds, d ln fitted ÷ d ln factor, and relative residuals."""
    parts = problem.share * np.exp(logs)
    fitted = np.maximum(parts.sum(axis=1), 1e-12)
    return fitted, parts / fitted[:, None], problem.measured_s / fitted - 1.0


def _scales(problem: Problem, wrong: F64) -> F64:
    """Noise level of each row's group: median absolute residual, as a standard deviation."""
    scale = np.empty_like(wrong)
    for group in np.unique(problem.group):
        rows = problem.group == group
        scale[rows] = max(MAD_TO_SD * _weighted_median(np.abs(wrong[rows]), problem.weight[rows]), LEAST_SCALE)
    return scale


def _robust(score: F64, kind: str) -> F64:
    if kind == "huber":
        return np.asarray(np.minimum(1.0, HUBER / np.maximum(np.abs(score), 1e-12)))
    return np.asarray(np.where(np.abs(score) < TUKEY, (1.0 - (score / TUKEY) ** 2) ** 2, 0.0))


def _curvature(score: F64, robust: F64) -> float:
    """Mean derivative of Tukey's score against its mean weight: what Gauss-Newton's Hessian is too large by."""
    squared = (score / TUKEY) ** 2
    derivative = np.where(squared < 1.0, (1.0 - squared) * (1.0 - 5.0 * squared), 0.0)
    return max(float(derivative.mean() / robust.mean()), 0.1)


def _jackknife(problem: Problem, slopes: F64, weight: F64, scores: F64, prior: F64) -> tuple[F64, F64]:
    """Covariance from leaving out one block after the other (one Newton step each), and the reach of its intervals.

    Rows that alone tell a factor are fitted exactly, so no residual shows their doubt; leaving them out does.
    """
    names, place = np.unique(problem.block, return_inverse=True)
    size, count = slopes.shape[1], len(names)
    sums, breads = np.zeros((count, size)), np.zeros((count, size, size))
    np.add.at(sums, place, scores)
    np.add.at(breads, place, (weight[:, None] * slopes)[:, :, None] * slopes[:, None, :])
    bread = breads.sum(axis=0) + prior
    moved = np.linalg.solve(bread - breads, sums[:, :, None])[:, :, 0]
    inverse = np.linalg.inv(bread)
    covariance = (count - 1) / count * moved.T @ moved + inverse @ prior @ inverse
    telling = (moved**2).sum(axis=0) ** 2 / np.maximum((moved**4).sum(axis=0), 1e-300)
    reach = stdtrit(np.maximum(telling - 1.0, LEAST_FREEDOM), 0.975)
    return 0.5 * (covariance + covariance.T), np.asarray(reach)


def _weighted_median(values: F64, weight: F64) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
