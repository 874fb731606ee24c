"""The planned fleet simulated under conditions as they are: what drift asks, and a memory of the answers.

Fresh answers take about a second. So that a poller need not wait for each, whatever a capacity hangs on is rounded to
a grid of `STEP` in its logarithm, and an answer on the grid is kept. Between its points lengths and step time are
interpolated: capacity within the SLO may fall with more than the third power of step time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from planner.deployment import (
    Deployment,
    Length,
    default_queries,
    deploy,
    idle_e2e_s,
    idle_outcome,
    make_load,
    only_candidate,
    run,
    run_length,
)
from planner.drift.queries import Means, Shape, shaped, without_files
from planner.planned import Planned
from planner.scenario import Scenario
from planner.simulation.load import Load, typical
from planner.sizing import most_qps, search
from planner.sizing.probes import SHORT_SPANS

T = TypeVar("T")
STEP = math.log(1.02)
CAPACITY_CALLS, MOST_RUNS = 16_000, 4  # model calls of all runs at one rate; runs that they are shared among
MEANS_CALLS = 200_000  # for the plan's own means: a wide distribution's is then known to 0.2 %
FIT_CALLS = 20_000  # for their ratio to other means, on the same draws
FIGURE_CALLS = 20_000
WANTED_CALLS = 60_000
LEAST_QUERIES = 1500  # of any run, however many calls a query makes
IDLE_SAMPLE = 2000
MOST_KEPT = 1000  # answers: a poller meets new conditions for months
MOST_TIMES = 10.0  # the planned load or fleet that is simulated: beyond, it is another plan
LEAST_QPS = 1e-6
SLOWEST = 8.0  # times the plan's step time: what is looked for, and its inverse


@dataclass(frozen=True)
class Simulated:
    """The planned deployment and its queries, ready to be run under other conditions.

    `base` is the pinned scenario without files. `means` are the plan's tokens of a model call, `stage_prompts` those of
    its prompts by stage; `fit_means` are those of the fewer draws that other queries are fitted on.
    """

    planned: Planned
    deployment: Deployment
    base: Scenario
    length: Length
    seeds: tuple[int, ...]
    means: Means
    fit_means: Means
    stage_prompts: tuple[float, ...]
    notes: tuple[str, ...]
    memory: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer of `make`, asked once for each key; of very many the one longest unused is forgotten."""
        found: T = self.memory.pop(key) if key in self.memory else make()
        self.memory[key] = found
        while len(self.memory) > MOST_KEPT:
            del self.memory[next(iter(self.memory))]
        return found

    def scenario(self, shape: Shape) -> Scenario:
        """The scenario with queries of a shape. Raises ScenarioError where they do not fit the context."""
        return self.kept(("scenario", shape), lambda: shaped(self.base, shape, self.fit_means, self._means_of))

    def beyond(self, queries_per_s: float, replicas: float) -> str:
        """Why a load on so many replicas is not simulated; empty where it is."""
        peak, planned = max(self.planned.queries_per_s), self.planned.replicas
        if queries_per_s > MOST_TIMES * peak:
            return f"{queries_per_s:.3g} queries/s are more than {MOST_TIMES:g} times the plan's {peak:.3g}: plan anew"
        if replicas > MOST_TIMES * planned:
            return f"{replicas:.3g} replicas are more than {MOST_TIMES:g} times the plan's {planned}: plan anew"
        return "hardly a query came" if queries_per_s < LEAST_QPS else ""

    def _means_of(self, scenario: Scenario) -> Means:
        return _means_of(scenario, self.deployment, self.planned, self.length)

    def figures(self, shape: Shape, model_qps: float, replicas: int, step_time: float = 1.0) -> dict[str, Any]:
        """Figures of a run as `simulate` has them: `replicas` under `model_qps` queries/s that reach the model."""
        peak = model_qps / self.planned.uncached_share
        scenario = self.scenario(shape).with_values({"traffic.peak_qps": peak})
        length = run_length(scenario, _queries(self.planned, FIGURE_CALLS), self._idle_s(shape), SHORT_SPANS)
        deployment = slower(self.deployment, step_time)
        load = make_load(scenario, deployment.config.max_model_len, self.planned.seed, length)
        return run(deployment, scenario, load, replicas, self.planned.seed).figures

    def _idle_s(self, shape: Shape) -> float:
        def idle_s() -> float:
            scenario = self.scenario(shape)
            return idle_e2e_s(idle_outcome(self.deployment, scenario, IDLE_SAMPLE, self.planned.seed)[1])

        return self.kept(("idle", shape), idle_s)

    def capacity_qps(self, shape: Shape, step_time: float, serving: int, *, caching: bool = True) -> float | None:
        """The most users' queries/s, at the planned response cache, that `serving` replicas carry; None if none.

        ln capacity is interpolated over ln `step_time` between two points of the grid.
        """
        place = math.log(step_time) / STEP
        below = math.floor(place + 1e-9)
        low = self._at_step(shape, below, serving, caching)
        if place - below < 1e-6 or low is None:
            return low
        high = self._at_step(shape, below + 1, serving, caching)
        return None if high is None else low * (high / low) ** (place - below)

    def capacity_of_lengths_qps(self, lengths: Shape, serving: int) -> float | None:
        """`capacity_qps` of token lengths between the points of the grid: its logarithm is interpolated along each."""
        places = [math.log(lengths.prompt) / STEP, math.log(lengths.output) / STEP]
        below = [math.floor(place + 1e-9) for place in places]
        corners = [below, *([below[0] + (axis == 0), below[1] + (axis == 1)] for axis in (0, 1))]
        parts = [1.0, *(place - low for place, low in zip(places, below, strict=True))]
        logs = []
        for corner, part in zip(corners, parts, strict=True):
            if part < 1e-6:
                logs.append(0.0)
                continue
            prompt, output = (math.exp(place * STEP) if place else 1.0 for place in corner)
            most = self.capacity_qps(Shape(prompt, output), 1.0, serving)
            if most is None:
                return None
            logs.append(part * (math.log(most) - (logs[0] if logs else 0.0)))
        return math.exp(sum(logs))

    def _at_step(self, shape: Shape, step: int, serving: int, caching: bool) -> float | None:
        def most() -> float | None:
            more = max(serving / self.planned.serving, 1.0)  # as long a run, of more replicas
            deployment = self.deployment if caching else self._uncached()
            return most_qps(
                slower(deployment, math.exp(step * STEP)),
                self.scenario(shape),
                serving,
                seeds=self.seeds,
                length=Length(*(math.ceil(more * count) for count in self.length)),
                start=self._start(shape, step, serving),
            )

        return self.kept(("capacity", shape, step, serving, caching), most)

    def _start(self, shape: Shape, step: int, serving: int) -> float:
        """Where a search begins: at a neighbour's answer, else at the plan's peak for so many replicas."""
        for other in (step - 1, step + 1, 0):
            known = self.memory.get(("capacity", shape, other, serving, True))
            if known:
                return float(known)
        return max(self.planned.queries_per_s) * serving / self.planned.serving

    def _uncached(self) -> Deployment:
        off = self.base.with_values({"engine.enable_prefix_caching": False})
        return self.kept("uncached", lambda: deploy(only_candidate(off, "drift")))

    def wanted(self, shape: Shape, step_time: float, queries_per_s: float, hit_rate: float) -> int | None:
        """The fewest replicas, spare ones included, that carry the users' queries; None if none do.

        fleet.max_gpus does not bind: it is for the reader to see that more are wanted than may be.
        """
        peak = max(self.planned.queries_per_s)
        step, rate = round(math.log(step_time) / STEP), round(math.log(queries_per_s / peak) / STEP)
        cached = round(hit_rate, 2)

        def fewest() -> int | None:
            values: dict[str, Any] = {"traffic.peak_qps": peak * math.exp(rate * STEP), "fleet.max_gpus": None}
            if cached or self.base.query.response_cache is not None:
                values["query.response_cache.hit_rate"] = min(cached, 0.99)
            found = search(
                self.scenario(shape).with_values(values),
                self.planned.seed,
                min(_queries(self.planned, WANTED_CALLS), default_queries(self.base)),
                lambda what, done, total: None,
                world=lambda deployment: slower(deployment, math.exp(step * STEP)),
            )
            return None if found.chosen is None else found.chosen.replicas

        return self.kept(("wanted", shape, step, rate, cached), fewest)


class FleetModel(NamedTuple):
    """The capacity model of a plan. `simulated` is None where its demand is no open arrivals: `why` says so."""

    simulated: Simulated | None
    why: str = ""


def fleet_model(planned: Planned) -> FleetModel:
    """The capacity model of a plan; it simulates on demand and remembers its answers.

    Raises InputErrors for what a plan's scenario names and is no longer there: a file, a catalogue entry.
    """
    if planned.pinned.demand != "open":
        return FleetModel(None, f"a plan for {planned.pinned.demand} demand has no rate to vary")
    base, notes = without_files(planned.pinned)
    deployment = deploy(only_candidate(base, "drift"))
    _, idle = idle_outcome(deployment, base, IDLE_SAMPLE, planned.seed)
    length = run_length(base, _queries(planned, CAPACITY_CALLS // MOST_RUNS), idle_e2e_s(idle), SHORT_SPANS)
    runs = max(1, min(CAPACITY_CALLS // (length.counted * planned.requests_per_query), MOST_RUNS))
    load = make_load(base, deployment.config.max_model_len, planned.seed, _longer(planned, length, MEANS_CALLS))
    by_call = load.prompt_tokens[typical(load)].reshape(-1, load.width).mean(axis=0)
    ends = np.cumsum([stage.requests for stage in load.stages])
    return FleetModel(
        Simulated(
            planned,
            deployment,
            base,
            length,
            tuple(planned.seed + more for more in range(runs)),
            _means(load),
            _means_of(base, deployment, planned, length),
            tuple(
                float(by_call[end - stage.requests : end].mean()) for stage, end in zip(load.stages, ends, strict=True)
            ),
            notes,
        )
    )


def _means_of(scenario: Scenario, deployment: Deployment, planned: Planned, length: Length) -> Means:
    drawn = _longer(planned, length, FIT_CALLS)
    return _means(make_load(scenario, deployment.config.max_model_len, planned.seed, drawn))


def _means(load: Load) -> Means:
    counted = typical(load)
    return float(load.prompt_tokens[counted].mean()), float(load.output_tokens[counted].mean())


def _longer(planned: Planned, length: Length, calls: int) -> Length:
    return length._replace(counted=max(length.counted, _queries(planned, calls)), cooldown=0)


def _queries(planned: Planned, calls: int) -> int:
    """Queries that make so many model calls."""
    return max(calls // planned.requests_per_query, LEAST_QUERIES)


def slower(deployment: Deployment, factor: float) -> Deployment:
    """The deployment with every duration of its step cost times `factor`."""
    return deployment if factor == 1.0 else replace(deployment, cost=deployment.cost.slower(factor))


def on_grid(ratio: float) -> float:
    """A ratio rounded to the grid; near 1 it is 1."""
    place = round(math.log(ratio) / STEP)
    return math.exp(place * STEP) if place else 1.0
