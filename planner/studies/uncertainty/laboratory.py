"""One candidate to be simulated, and the most load found at one place.

The rate is looked for at which the worst limit is just met, by the plan's own rule on full-length runs: a few rates
around it, then a straight line between the two nearest in logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from planner.deployment import FULL_SPANS, Deployment, World, idle_e2e_s, idle_outcome, make_load, run, run_length
from planner.scenario import Distribution, Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.sizing import Probe
from planner.sizing.probes import short_of
from planner.studies.token_counts import scaled
from planner.studies.uncertainty.idle import IdleFactors, idle_factors, shares_of, worst
from planner.studies.uncertainty.surface import At, Idle, Point

LEAST_RATE_QPS, MOST_RATE_QPS = 1e-6, 1e7  # the latter: no scenario may state more
NEAR, NEAREST = 1.12, 1.02  # so close two rates are joined by a straight line; so close where one of them saturates
LEAST_STEP, MOST_STEP, SATURATED_STEP = 0.03, 0.7, 0.12  # of the log of the rate
OVERSHOOT = 0.7  # times the log of the worst latency over its limit: a step that mostly brackets the answer


class Place(NamedTuple):
    """Where to look: a deployment as it may be, where its surface is asked, and how many replicas serve."""

    deployment: Deployment
    at: At
    serving: int


@dataclass(frozen=True)
class Laboratory:
    """One candidate with what it takes to simulate it, in runs of `queries` counted queries.

    `idle_e2e_s` is the 99th percentile of E2E of an idle fleet, which sets how long a run must be; `idle_shares` its
    latencies over their limits, as planned.
    """

    scenario: Scenario
    deployment: Deployment
    seed: int
    queries: int
    idle: Idle
    idle_e2e_s: float
    idle_shares: dict[str, float]

    def run(
        self, deployment: Deployment, scenario: Scenario, step_time: float, serving: int, rate_qps: float
    ) -> tuple[Load, Outcome]:
        """A full-length run as a plan verifies its size with, at a rate and in a world `step_time` as slow."""
        at_rate = scenario.with_values({"traffic.peak_qps": rate_qps})
        length = run_length(at_rate, self.queries, step_time * self.idle_e2e_s, FULL_SPANS)
        load = make_load(at_rate, deployment.config.max_model_len, self.seed, length)
        return load, run(deployment, at_rate, load, serving, self.seed)

    def planned_run(self, serving: int) -> tuple[Load, Outcome]:
        """The planned fleet under the planned load."""
        return self.run(self.deployment, self.scenario, 1.0, serving, self.scenario.traffic.peak_qps or 0.0)

    def idle_factors(self, worlds: Sequence[World]) -> IdleFactors:
        """Factors on the worst latencies of an idle fleet in each world."""

        def measure(deployment: Deployment) -> dict[str, float]:
            return shares_of(idle_outcome(deployment, self.scenario, short_of(self.queries), self.seed)[1])

        return idle_factors(self.deployment, worlds, self.idle_shares, measure)

    def look(self, place: Place, start_qps: float, most: int, stride: float) -> tuple[Point | None, int]:
        """The most load at a place, looked for from a rate with at most `most` runs; and how many it took."""
        runs = 0
        step_time, prompt_time, output_tokens, token_time = (float(factor) for factor in place.at)  # type: ignore[arg-type]
        scenario = with_outputs(self.scenario, output_tokens)

        def worst_at(rate_qps: float) -> float:
            nonlocal runs
            runs += 1
            load, outcome = self.run(place.deployment, scenario, step_time, place.serving, rate_qps)
            return worst_of(Probe(rate_qps, True, load, outcome))

        rate = most_rate(worst_at, max(start_qps, LEAST_RATE_QPS), most, stride)
        if rate is None:
            return None, runs
        return Point(step_time, prompt_time, output_tokens, place.serving, rate, token_time), runs


def laboratory(
    scenario: Scenario, deployment: Deployment, seed: int, queries: int, output_tokens: Sequence[float]
) -> Laboratory:
    """A laboratory, an idle fleet simulated at some factors on the output tokens, 1 among them."""
    ttft, others, longest, planned = [], [], 0.0, {}
    for factor in output_tokens:
        _, outcome = idle_outcome(deployment, with_outputs(scenario, factor), short_of(queries), seed)
        longest = max(longest, idle_e2e_s(outcome))
        shares = shares_of(outcome)
        if factor == 1.0:
            planned = shares
        ttft.append(worst(shares, ttft=True))
        others.append(worst(shares, ttft=False))
    idle = Idle(tuple(output_tokens), tuple(ttft), tuple(others))
    return Laboratory(scenario, deployment, seed, queries, idle, longest, planned)


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
        f"query.stages[{index}].output_tokens": _scaled_law(stage.output_tokens, factor)
        for index, stage in enumerate(scenario.query.stages)
        if stage.output_tokens is not None
    }
    return scenario.with_values(values)


def _scaled_law(distribution: Distribution, factor: float) -> dict[str, Any]:
    """`scaled`; a fixed count as a law of one value, which is cut to the context where a fixed one is refused."""
    new = scaled(distribution, factor)
    return {"uniform": [new, new]} if isinstance(new, int) else new
