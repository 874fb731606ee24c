"""The response surface: the most load that one replica carries within the limits, where things are other than planned.

    ln rate = −ln f + h + a + b·h + c/n + quadratic(ln f, ln p, ln τ),  h = ln(1 − idle(f, p, τ, e))

f is the factor on the time of a step, f·p that on the worst TTFT of an idle fleet, f·e that on its worst other
latency, τ that on the output tokens, n the number of serving replicas, `idle` the worst latency of an idle fleet over
its limit. −ln f + h is physics: every duration f times as long is the same run in slow motion, and where even an idle
fleet misses a limit nothing is carried. What they leave is smooth, and is fitted to simulated points by ridge
regression: where worlds are slow their f, p and h rise together, and least squares would pay for a little noise with
large coefficients of opposite sign, which the tail then multiplies. Beyond the points the fitted part stays at what it
is at their edge. Leaving each point out in turn tells the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
LEAST_SPREAD = 0.02  # of a log: over less, an input's own slope is lost in the noise of the runs
LEAST_SPARE_POINTS = 3  # points beyond the coefficients
RIDGE = 1e-3  # weight of the squared coefficients of standardised terms, for each point
TERMS = ("f", "n", "t", "p", "ff", "h", "tt", "pp", "fp", "ft")  # the most useful first
MANY = 1e9  # replicas: a fleet so large that its size no longer matters
MOST_STEPS = 50
INSIDE = 0.1  # an anchored surface stays so far inside the interval that the planned size leaves, as a share of it


class At(NamedTuple):
    """Where a surface is asked: factors on the step time and on the output tokens.

    `prompt_time` and `token_time` are beside the step time: those times it are the factors on the worst TTFT of an
    idle fleet and on its worst other latency.
    """

    step_time: ArrayLike = 1.0
    prompt_time: ArrayLike = 1.0
    output_tokens: ArrayLike = 1.0
    token_time: ArrayLike = 1.0


@dataclass(frozen=True)
class Point:
    """One simulated answer: the most load in queries/s that `serving` replicas carry, at the factors of an `At`."""

    step_time: float
    prompt_time: float
    output_tokens: float
    serving: int
    rate_qps: float
    token_time: float = 1.0

    @property
    def at(self) -> At:
        """Where it lies."""
        return At(self.step_time, self.prompt_time, self.output_tokens, self.token_time)


@dataclass(frozen=True)
class Idle:
    """The worst latency of an idle fleet over its limit, TTFT and others apart, by factor on the output tokens."""

    output_tokens: tuple[float, ...]
    ttft: tuple[float, ...]
    others: tuple[float, ...]

    def at(self, at: At) -> F64:
        """Worst over limit at other factors: TTFT follows `prompt_time`, the others `token_time`."""
        log_t = np.log(at.output_tokens)
        ttft, others = (
            np.exp(np.interp(log_t, np.log(self.output_tokens), np.log(np.maximum(worst, 1e-12))))
            for worst in (self.ttft, self.others)
        )
        worst = np.maximum(ttft * np.asarray(at.prompt_time), others * np.asarray(at.token_time))
        return np.asarray(np.asarray(at.step_time) * worst)


@dataclass(frozen=True)
class Surface:
    """A fitted surface. `residuals`: ln of each point over what the surface without it says, shape [points]."""

    points: tuple[Point, ...] = field(repr=False)
    idle: Idle
    terms: tuple[str, ...]
    coefficients: F64 = field(repr=False)
    residuals: F64 = field(repr=False)
    shift: float = 0.0

    @property
    def error(self) -> float | None:
        """Root mean square of the residuals, a relative error of the rate; None with too few points."""
        return float(np.sqrt(np.mean(self.residuals**2))) if len(self.residuals) else None

    @property
    def typical_error(self) -> float | None:
        """Median of the residuals' sizes: what most draws see, which lie where the points are dense."""
        return float(np.median(np.abs(self.residuals))) if len(self.residuals) else None

    def rate_per_replica(self, at: At, serving: ArrayLike) -> F64:
        """Queries/s that each of `serving` replicas carries within the limits; 0 where no fleet holds them."""
        table = _table_of(self.points, self.idle)
        inside = np.clip(_table(at, serving, self.idle), table.min(axis=0), table.max(axis=0))
        known = _columns(self.terms, inside) @ self.coefficients
        return np.asarray(np.exp(_physics(self.idle, at) + known + self.shift))

    def beyond(self, at: At) -> NDArray[np.bool_]:
        """Where a fleet holds, but at factors away from those of the points, so that physics says how large.

        Away is outside the range of one factor, or, with all of them within theirs, further from the middle of the
        points than any of these, by the leverage that a place has on a plane through them: an empty corner.
        """
        known, asked = _logs(_at_of(self.points)), _logs(at)
        outside = ((asked < known.min(axis=0)) | (asked > known.max(axis=0))).any(axis=-1)
        wide = np.ptp(known, axis=0) > LEAST_SPREAD
        if wide.any():
            middle = known[:, wide].mean(axis=0)
            inverse = np.linalg.pinv(np.atleast_2d(np.cov(known[:, wide], rowvar=False)))

            def leverage(logs: F64) -> F64:
                off = logs[..., wide] - middle
                return np.asarray(np.einsum("...i,ij,...j->...", off, inverse, off))

            outside |= leverage(asked) > leverage(known).max() * (1.0 + 1e-9)
        return np.asarray(outside & (self.idle.at(at) < 1.0))

    def serving(self, at: At, rate_qps: ArrayLike, least: int = 1) -> F64:
        """The fewest serving replicas, at least `least`, that carry `rate_qps`; inf where no fleet does."""
        *factors, rate = np.broadcast_arrays(*at, rate_qps)
        holds = self.rate_per_replica(At(*factors), MANY) > 0
        known = At(*(np.where(holds, factor, 1.0) for factor in factors))  # what holds nowhere is set right at the end

        def carried(n: F64) -> F64:
            return n * self.rate_per_replica(known, n)

        n = np.maximum(np.ceil(rate / self.rate_per_replica(known, MANY)), float(least))
        for _ in range(MOST_STEPS):  # replicas of a small fleet carry a little more or less than those of a large one
            short = carried(n) < rate
            if not short.any():
                break
            n = np.where(short, np.maximum(np.ceil(rate / self.rate_per_replica(known, n)), n + 1), n)
        for _ in range(MOST_STEPS):
            fewer = (n > least) & (carried(np.maximum(n - 1, 1.0)) >= rate)
            if not fewer.any():
                break
            n = np.where(fewer, n - 1, n)
        return np.where(holds, n, np.inf)

    def anchored(self, serving: int, rate_qps: float, least: int) -> Surface:
        """Moved by what it takes to agree that `serving` replicas carry a rate as planned, and one fewer does not."""
        low = np.log(rate_qps / serving) - np.log(float(self.rate_per_replica(At(), serving)))
        high = low + np.log1p(1 / serving)
        if serving > least:
            high = np.log(rate_qps / (serving - 1)) - np.log(float(self.rate_per_replica(At(), serving - 1)))
        elif low <= 0:
            return self  # nothing is known of fewer than the least
        inside = INSIDE * max(high - low, 0.0)
        return replace(self, shift=self.shift + float(np.clip(0.0, low + inside, max(high - inside, low + inside))))


def fit(points: Sequence[Point], idle: Idle) -> Surface:
    """The surface through simulated points (at least one); only what the points are spread over has terms.

    Ridge regression on standardised columns, the intercept free: min Σ residual² + RIDGE·points·Σ coefficient².
    """
    rates = np.array([point.rate_qps / point.serving for point in points])
    table = _table_of(points, idle)
    terms = _terms(table)
    left = np.log(rates) - _physics(idle, _at_of(points))
    columns = _columns(terms, table)
    middle, scale = columns.mean(axis=0), columns.std(axis=0)
    middle[0], scale[scale == 0.0] = 0.0, 1.0
    standard = (columns - middle) / scale
    weights = np.full(len(terms), RIDGE * len(points))
    weights[0] = 0.0
    slopes = np.linalg.solve(standard.T @ standard + np.diag(weights), standard.T @ left) / scale
    slopes[0] -= float(slopes @ middle)
    return Surface(tuple(points), idle, terms, np.asarray(slopes), np.zeros(0))


def fit_with_error(points: Sequence[Point], idle: Idle) -> Surface:
    """`fit`, and what each point says of the surface through the others: none where they are too few to tell."""
    surface = fit(points, idle)
    if len(points) <= len(surface.terms) + 1:
        return surface
    residuals = []
    for index, point in enumerate(points):
        others = fit([*points[:index], *points[index + 1 :]], idle)
        said = float(others.rate_per_replica(point.at, point.serving))
        residuals.append(np.log(point.rate_qps / point.serving / said))
    return replace(surface, residuals=np.array(residuals))


def _at_of(points: Sequence[Point]) -> At:
    return At(*np.array([point.at for point in points], dtype=np.float64).T)


def _logs(at: At) -> F64:
    """ln f, ln p, ln τ, shape [..., 3]."""
    return np.log(np.stack(np.broadcast_arrays(*at[:3]), axis=-1).astype(np.float64))


def _table_of(points: Sequence[Point], idle: Idle) -> F64:
    return _table(_at_of(points), [point.serving for point in points], idle)


def _table(at: At, serving: ArrayLike, idle: Idle) -> F64:
    """What the terms are made of: ln f, ln p, ln τ, 1/n, h; shape [..., 5]."""
    *logs, size = np.broadcast_arrays(*np.moveaxis(_logs(at), -1, 0), 1.0 / np.asarray(serving, dtype=np.float64))
    return np.stack(np.broadcast_arrays(*logs, size, _room(idle, at)), axis=-1)


def _terms(table: F64) -> tuple[str, ...]:
    """The terms that so many points, so far apart, can tell."""
    least = [LEAST_SPREAD, LEAST_SPREAD, LEAST_SPREAD, 0.0, LEAST_SPREAD]
    spread = dict(zip("fptnh", np.ptp(table, axis=0) > least, strict=True))
    known = [term for term in TERMS if all(spread[letter] for letter in term)]
    return ("1", *known[: max(len(table) - 1 - LEAST_SPARE_POINTS, 0)])


def _columns(terms: tuple[str, ...], table: F64) -> F64:
    """The regressors, shape [..., terms]: products of the columns that a term's letters name."""
    place = {"f": 0, "p": 1, "t": 2, "n": 3, "h": 4}
    return np.stack(
        [np.prod([table[..., place[letter]] for letter in term if term != "1"], axis=0) * np.ones(table.shape[:-1])
         for term in terms],
        axis=-1,
    )  # fmt: skip


def _physics(idle: Idle, at: At) -> F64:
    """−ln f + h, −inf where an idle fleet misses a limit."""
    return np.asarray(_room(idle, at) - np.log(at.step_time))


def _room(idle: Idle, at: At) -> F64:
    """h = ln(1 − idle), −inf where an idle fleet misses a limit."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(1.0 - idle.at(at), 0.0)))
