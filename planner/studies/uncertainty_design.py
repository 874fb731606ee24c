"""The simulations behind a response surface: where to look, and the most load found there.

Points are spread by a scrambled Halton sequence over the range of the draws: factor on the step time, factor on the
output tokens, serving replicas. At each the rate is looked for at which the worst limit is just met, by the plan's own
rule on full-length runs: a few rates around it, then a straight line between the two nearest in logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from planner.deployment import FULL_SPANS, Deployment, idle_e2e_s, idle_outcome, make_load, run, run_length
from planner.scenario import Distribution, Lognormal, Normal, Scenario, Uniform
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.sizing import Probe
from planner.sizing.probes import short_of
from planner.studies.uncertainty_surface import At, Idle, Point, fit

F64 = NDArray[np.float64]
Slowed = tuple[Deployment, float, float]  # a deployment as it may be, its step-time and its prompt-time factor
MOST_POINTS = 18  # of one candidate, beside the planned point
MOST_PROBES = 9  # rates tried at one point
FIRST_PROBES = 20  # at the first point, which may lie far from the planned load: a replica can carry 1,000 times it
LEAST_RATE_QPS, MOST_RATE_QPS = 1e-6, 1e7  # the latter: no scenario may state more
NEAR, NEAREST = 1.12, 1.02  # so close two rates are joined by a straight line; so close where one of them saturates
LEAST_STEP, MOST_STEP, SATURATED_STEP = 0.03, 0.7, 0.12  # of the log of the rate
FIRST_STEP = 5.0  # instead of MOST_STEP where nothing is known yet but the planned load
OVERSHOOT = 0.7  # times the log of the worst latency over its limit: a step that mostly brackets the answer
EDGE = 0.01  # the points lie between this quantile of the draws and the one as far from the other end
REACH = 0.95  # of the step time at which even an idle fleet fails: beyond, hardly anything is carried


@dataclass
class Budget:
    """How many simulations were spent."""

    spent: int = 0


@dataclass(frozen=True)
class Laboratory:
    """One candidate with what it takes to simulate it, in runs of `queries` counted queries.

    `idle_e2e_s` is the 99th percentile of E2E of an idle fleet, which sets how long a run must be.
    """

    scenario: Scenario
    deployment: Deployment
    seed: int
    queries: int
    budget: Budget
    idle: Idle
    idle_e2e_s: float

    def run(
        self, deployment: Deployment, scenario: Scenario, step_time: float, serving: int, rate_qps: float
    ) -> tuple[Load, Outcome]:
        """A full-length run as a plan verifies its size with, at a rate and in a world `step_time` as slow."""
        at_rate = scenario.with_values({"traffic.peak_qps": rate_qps})
        length = run_length(at_rate, self.queries, step_time * self.idle_e2e_s, FULL_SPANS)
        load = make_load(at_rate, deployment.config.max_model_len, self.seed, length)
        self.budget.spent += 1
        return load, run(deployment, at_rate, load, serving, self.seed)

    def planned_run(self, serving: int) -> tuple[Load, Outcome]:
        """The planned fleet under the planned load."""
        return self.run(self.deployment, self.scenario, 1.0, serving, self.scenario.traffic.peak_qps or 0.0)


def laboratory(
    scenario: Scenario, deployment: Deployment, seed: int, queries: int, output_tokens: Sequence[float]
) -> Laboratory:
    """A laboratory, an idle fleet simulated at some factors on the output tokens."""
    budget, ttft, others, longest = Budget(), [], [], 0.0
    for factor in output_tokens:
        _, outcome = idle_outcome(deployment, with_outputs(scenario, factor), short_of(queries), seed)
        budget.spent += 1
        longest = max(longest, idle_e2e_s(outcome))
        shares = {check.key: _share(check.value_ms, check.limit_ms) for check in outcome.checks}
        ttft.append(max((share for key, share in shares.items() if "_ttft_" in key), default=0.0))
        others.append(max((share for key, share in shares.items() if "_ttft_" not in key), default=0.0))
    idle = Idle(tuple(output_tokens), tuple(ttft), tuple(others))
    return Laboratory(scenario, deployment, seed, queries, budget, idle, longest)


def explore(
    lab: Laboratory,
    serving: int,
    places: Sequence[tuple[float, ...]],
    slowed: Callable[[float, float], Slowed],
    most: int,
) -> list[Point]:
    """The most load at the planned point, then at the places, until they or `most` simulations are used up.

    No points at all where none is found at the planned one: nothing says then where to look elsewhere.

    A place is (step-time factor, prompt-time factor, factor on the output tokens, serving replicas). `slowed` gives
    the deployment where the first two are about as asked.
    """
    points: list[Point] = []

    def look(there: Slowed, output_tokens: float, replicas: int) -> None:
        deployment, step_time, prompt_time = there
        at = At(step_time, prompt_time, output_tokens)
        scenario = with_outputs(lab.scenario, output_tokens)
        start, tries, stride = lab.scenario.traffic.peak_qps or 0.0, FIRST_PROBES, FIRST_STEP
        if points:
            start = replicas * float(fit(points, lab.idle).rate_per_replica(at, replicas))
            tries, stride = MOST_PROBES, MOST_STEP

        def worst(rate_qps: float) -> float:
            load, outcome = lab.run(deployment, scenario, step_time, replicas, rate_qps)
            return worst_of(Probe(rate_qps, True, load, outcome))

        rate = most_rate(worst, max(start, LEAST_RATE_QPS), min(tries, most - lab.budget.spent), stride)
        if rate is not None:
            points.append(Point(step_time, prompt_time, output_tokens, replicas, rate))

    look((lab.deployment, 1.0, 1.0), 1.0, serving)
    for step_time, prompt_time, output_tokens, replicas in places:
        if points and most - lab.budget.spent >= 2:
            slowest = REACH / float(lab.idle.at(At(1.0, prompt_time, output_tokens)))
            look(slowed(min(step_time, slowest), prompt_time), output_tokens, max(round(replicas), 1))
    return points


def spread(columns: Sequence[F64], count: int, seed: int) -> list[tuple[float, ...]]:
    """`count` points over the draws: one value of each column [draws], at quantiles that fill their cube evenly.

    Each column's lowest and highest points lie at `EDGE` from its ends.
    """
    wide = [place for place, column in enumerate(columns) if np.ptp(column) > 0]
    if not wide:
        return []
    shares = np.full((count, len(columns)), 0.5)
    shares[:, wide] = qmc.Halton(len(wide), scramble=True, rng=np.random.default_rng(seed)).random(count)
    low, wide_by = shares.min(axis=0), np.ptp(shares, axis=0)
    shares = EDGE + (1.0 - 2.0 * EDGE) * (shares - low) / np.where(wide_by > 0, wide_by, 1.0)
    found = [np.quantile(column, shares[:, place]).tolist() for place, column in enumerate(columns)]
    return list(zip(*found, strict=True))


def most_rate(worst: Callable[[float], float], start: float, most: int, stride: float = MOST_STEP) -> float | None:
    """The rate in queries/s at which `worst` is 1, looked for from `start`; None where `most` tries do not find it.

    The steps double up to `stride` (of the rate's log) as long as they lead the same way: where not even a trickle
    holds the limits, that soon shows.
    """
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    rate, step = start, 0.0
    for _ in range(most):
        value = worst(rate)
        if value <= 1.0:
            low = (rate, value)
        else:
            high = (rate, value)
        if low is None or high is None:
            step = max(2.0 * step, _step(value))
            rate *= math.exp(min(step, stride) * (1.0 if high is None else -1.0))
            if rate > MOST_RATE_QPS:
                return None
            continue
        if high[0] <= low[0] * (NEAR if math.isfinite(high[1]) and low[1] > 0 else NEAREST):
            return _between(low, high)
        rate = math.sqrt(low[0] * high[0])
    return None


def _step(value: float) -> float:
    """How far to go in the log of the rate: a little further than needed, so that the answer lies between."""
    if not math.isfinite(value):
        return SATURATED_STEP
    return max(OVERSHOOT * abs(math.log(max(value, 1e-9))), LEAST_STEP)


def _between(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Where the straight line through two (rate, worst) in logs is 1; their middle where one of them saturates."""
    (rate, value), (above, over) = low, high
    share = 0.5
    if math.isfinite(over) and value > 0.0:
        share = -math.log(value) / (math.log(over) - math.log(value))
    return rate * float((above / rate) ** share)


def worst_of(probe: Probe) -> float:
    """The largest of the judged values over their limits: at most 1 where the probe holds, above where it does not."""
    if probe.outcome.saturated:
        return math.inf
    judged = [
        _share(check.value_ms if check.upper_ms is None else check.upper_ms, check.limit_ms)
        for check in probe.outcome.checks
    ]
    worst = max(judged, default=0.0)
    return min(worst, 1.0) if probe.met else max(worst, math.nextafter(1.0, 2.0))


def _share(value_ms: float | None, limit_ms: float) -> float:
    return 0.0 if value_ms is None else value_ms / limit_ms


# --- more or fewer output tokens ---


def with_outputs(scenario: Scenario, factor: float) -> Scenario:
    """The scenario with the mean output tokens of every stage times `factor`, the shape of their law unchanged."""
    if factor == 1.0:
        return scenario
    values = {
        f"query.stages[{index}].output_tokens": scaled(stage.output_tokens, factor)
        for index, stage in enumerate(scenario.query.stages)
        if stage.output_tokens is not None
    }
    return scenario.with_values(values)


def scaled(distribution: Distribution, factor: float) -> object:
    """A distribution as the scenario file gives it, with every token count times `factor`, at least 1."""
    match distribution:
        case Uniform(uniform=(low, high)):
            return {"uniform": [_tokens(low * factor), _tokens(high * factor)]}
        case Lognormal(lognormal=moments):
            return {"lognormal": {"mean": max(moments.mean * factor, 1.0), "cv": moments.cv}}
        case Normal(normal=moments):
            ends = {"min": _tokens(moments.min * factor)}
            if moments.max is not None:
                ends["max"] = _tokens(moments.max * factor)
            mean = max(moments.mean * factor, ends["min"])
            return {"normal": {"mean": min(mean, ends.get("max", mean)), "sd": moments.sd * factor, **ends}}
        case int():
            # What is drawn is cut where it does not fit the context; a fixed count would be refused.
            return {"uniform": [_tokens(distribution * factor)] * 2}
    raise TypeError(f"samples of a file cannot be scaled: {distribution!r}")


def _tokens(value: float) -> int:
    return max(round(value), 1)
