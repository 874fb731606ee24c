"""The response surface: the most load that one replica carries within the limits, where things are other than planned.

    ln rate = −ln f + h + a + b·h + c/n + quadratic(ln f, ln p, ln τ),  h = ln(1 − idle(f, p, τ))

f is the factor on the time of a step, f·p that on the time of a prompt alone, τ that on the output tokens, n the
number of serving replicas, `idle` the worst latency of an idle fleet over its limit. −ln f + h is physics:
every duration f times as long is the same run in slow motion, and where even an idle fleet misses a limit nothing is
carried. What they leave is smooth, and is fitted by least squares to simulated points; beyond those the fitted part
stays at what it is at their edge. Leaving each point out in turn tells the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
LEAST_SPREAD = 0.02  # of a log: over less, an input's own slope is lost in the noise of the runs
LEAST_SPARE_POINTS = 3  # points beyond the coefficients
TERMS = ("f", "n", "t", "p", "ff", "h", "tt", "pp", "fp", "ft")  # the most useful first
MANY = 1e9  # replicas: a fleet so large that its size no longer matters
MOST_STEPS = 50
INSIDE = 0.1  # an anchored surface stays so far inside the interval that the planned size leaves, as a share of it


class At(NamedTuple):
    """Where a surface is asked: factors on the step time, on a prompt's time beside it, on the output tokens."""

    step_time: ArrayLike = 1.0
    prompt_time: ArrayLike = 1.0
    output_tokens: ArrayLike = 1.0


@dataclass(frozen=True)
class Point:
    """One simulated answer: the most load in queries/s that `serving` replicas carry, at three factors (see `At`)."""

    step_time: float
    prompt_time: float
    output_tokens: float
    serving: int
    rate_qps: float


@dataclass(frozen=True)
class Idle:
    """The worst latency of an idle fleet over its limit, TTFT and others apart, by factor on the output tokens."""

    output_tokens: tuple[float, ...]
    ttft: tuple[float, ...]
    others: tuple[float, ...]

    def at(self, at: At) -> F64:
        """Worst over limit at other factors: TTFT follows the time of a prompt, the others that of a step."""
        log_t = np.log(at.output_tokens)
        ttft, others = (
            np.exp(np.interp(log_t, np.log(self.output_tokens), np.log(np.maximum(worst, 1e-12))))
            for worst in (self.ttft, self.others)
        )
        return np.asarray(np.asarray(at.step_time) * np.maximum(ttft * np.asarray(at.prompt_time), others))


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
        table = _table(np.array([astuple(point)[:4] for point in self.points]), self.idle)
        arguments = np.stack(np.broadcast_arrays(*at, serving), axis=-1).astype(np.float64)
        inside = np.clip(_table(arguments, self.idle), table.min(axis=0), table.max(axis=0))
        known = _columns(self.terms, inside) @ self.coefficients
        return np.asarray(np.exp(_physics(self.idle, at) + known + self.shift))

    def beyond(self, at: At) -> NDArray[np.bool_]:
        """Where a fleet holds, but at factors outside those of the points, so that physics alone says how large."""
        arguments = np.stack(np.broadcast_arrays(*at), axis=-1).astype(np.float64)
        known = np.array([astuple(point)[:3] for point in self.points])
        outside = (arguments < known.min(axis=0)) | (arguments > known.max(axis=0))
        return np.asarray(outside.any(axis=-1) & (self.idle.at(at) < 1.0))

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
    """The surface through simulated points (at least one); only what the points are spread over has terms."""
    arguments = np.array([astuple(point)[:4] for point in points])
    rates = np.array([point.rate_qps / point.serving for point in points])
    table = _table(arguments, idle)
    terms = _terms(table)
    left = np.log(rates) - _physics(idle, At(*arguments[:, :3].T))
    coefficients = np.linalg.lstsq(_columns(terms, table), left, rcond=None)[0]
    return Surface(tuple(points), idle, terms, np.asarray(coefficients), np.zeros(0))


def fit_with_error(points: Sequence[Point], idle: Idle) -> Surface:
    """`fit`, and what each point says of the surface through the others: none where they are too few to tell."""
    surface = fit(points, idle)
    if len(points) <= len(surface.terms) + 1:
        return surface
    residuals = []
    for index, point in enumerate(points):
        others = fit([*points[:index], *points[index + 1 :]], idle)
        at = At(point.step_time, point.prompt_time, point.output_tokens)
        said = float(others.rate_per_replica(at, point.serving))
        residuals.append(np.log(point.rate_qps / point.serving / said))
    return replace(surface, residuals=np.array(residuals))


def _table(arguments: F64, idle: Idle) -> F64:
    """(f, p, τ, n) as what the terms are made of: ln f, ln p, ln τ, 1/n, h."""
    room = _room(idle, At(*np.moveaxis(arguments[..., :3], -1, 0)))
    return np.concatenate([np.log(arguments[..., :3]), 1.0 / arguments[..., 3:], room[..., None]], axis=-1)


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
