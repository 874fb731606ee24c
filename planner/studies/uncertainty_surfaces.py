"""The few best candidates, each simulated where the draws lie, and a response surface through its runs."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, Progress, in_world
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.sizing import search
from planner.studies.uncertainty_contenders import Contender, contender, few_rows
from planner.studies.uncertainty_design import MOST_POINTS, Laboratory, Slowed, explore, laboratory, spread
from planner.studies.uncertainty_surface import Surface, fit_with_error
from planner.studies.uncertainty_worlds import StepTimes, from_worlds, in_draws, slower, world_factors

F64 = NDArray[np.float64]
MOST_SIMULATIONS = 200  # behind all surfaces together
SLOW = 0.98  # the quantile of the step time in which a plan says which candidate is the best when all is slow


@dataclass(frozen=True)
class Surfaces:
    """The few best candidates with their surfaces and the simulations behind each, the planned one first.

    `step_time` and `prompt_time` are the factors of every draw, each candidate's own, shape [candidates, draws].
    """

    few: list[Contender]
    surfaces: list[Surface]
    simulations: list[int]
    times: StepTimes
    step_time: F64
    prompt_time: F64


def read_off(
    document: Mapping[str, Any],
    scenario: Scenario,
    factors: Mapping[str, F64],
    scores: Mapping[str, F64],
    seed: int,
    queries: int,
    tell: Progress,
) -> Surfaces:
    """Choose the few best candidates of a feasible plan, simulate them over the draws, and fit.

    `factors` and `scores` are those of the draws; without a factor the step time follows its worlds. `queries` is the
    length of a full run. At most `MOST_SIMULATIONS` runs are behind the surfaces; the plan of a slow world, which only
    says what the third candidate is, is not among them. A candidate whose most load is not found is left out;
    raises ScenarioError where that is the planned one.
    """
    tokens = factors["output_tokens"]
    idle_at = sorted({1.0, float(tokens.min()), float(tokens.max())})

    def lab_of(deployment: Deployment) -> Laboratory:
        return laboratory(scenario, deployment, seed, queries, idle_at)

    planned = contender(few_rows(document, None)[0], scenario)
    first = lab_of(planned.deployment)
    times = _step_times(first, planned, factors, scores, seed)
    tell("looking for the best when all is slow", 0, 1)
    rows = few_rows(document, _best_when_slow(scenario, times, seed, queries))
    few = [planned, *(contender(row, scenario) for row in rows[1:])]
    labs = [first, *(lab_of(one.deployment) for one in few[1:])]
    own = [_own_factors(lab, one, times) for lab, one in zip(labs, few, strict=True)]
    sizes = factors["peak_qps"] * tokens

    def surface_of(place: int) -> Surface | None:
        tell("simulating what may be", place, len(few))
        step_time, prompt_time = own[place]
        return _surface(labs[place], few[place], times, [step_time, prompt_time, tokens, sizes * step_time], len(few))

    with ThreadPoolExecutor(len(few)) as pool:  # the compiled simulator holds no lock
        found = list(pool.map(surface_of, range(len(few))))
    if found[0] is None:
        rule = "finds no load at which the planned fleet just holds the limits: nothing tells how far it is from them"
        raise ScenarioError("uncertainty", None, f"{rule}; tighten slo, or leave uncertainty out")
    known = [(place, surface) for place, surface in enumerate(found) if surface is not None]
    kept = [place for place, _ in known]
    return Surfaces(
        few=[few[place] for place in kept],
        surfaces=[surface for _, surface in known],
        simulations=[labs[place].budget.spent for place in kept],
        times=times,
        step_time=np.array([own[place][0] for place in kept]),
        prompt_time=np.array([own[place][1] for place in kept]),
    )


def _step_times(
    lab: Laboratory, planned: Contender, factors: Mapping[str, F64], scores: Mapping[str, F64], seed: int
) -> StepTimes:
    """The step time in every draw: the factors given, or the worlds of the planned candidate."""
    if "step_time" in factors:
        return StepTimes(factors["step_time"])
    return from_worlds(planned.deployment, *lab.planned_run(planned.serving), scores["step_time"], seed)


def _own_factors(lab: Laboratory, one: Contender, times: StepTimes) -> tuple[F64, F64]:
    """A candidate's own step-time and prompt-time factors in every draw."""
    worlds = times.worlds(one.deployment)
    if worlds is None:
        return times.factors, np.ones_like(times.factors)
    return world_factors(one.deployment, worlds, *lab.planned_run(one.serving))


def _best_when_slow(scenario: Scenario, times: StepTimes, seed: int, queries: int) -> Deployment | None:
    """What a plan chooses in a world as slow as few draws are; None where all draws are alike, or nothing holds."""
    if np.ptp(times.factors) == 0:
        return None
    draw = int(np.argsort(times.factors, kind="stable")[int(SLOW * (len(times.factors) - 1))])
    in_world_of = partial(in_draws(times, [draw]), draw)
    found = search(scenario, seed, queries, lambda what, done, total: None, in_world_of).chosen
    return None if found is None else found.option.deployment


def _surface(lab: Laboratory, one: Contender, times: StepTimes, draws: list[F64], contenders: int) -> Surface | None:
    """A contender's surface, through the planned size where that is verified; None where no load is its most.

    `draws` are the factors on step time, prompt time and output tokens, and on the size of the fleet.
    """
    steps, prompts, tokens, sizes = draws
    worlds = times.worlds(one.deployment)

    def slowed(step_time: float, prompt_time: float) -> Slowed:
        if worlds is None:
            return replace(one.deployment, cost=slower(one.deployment.cost, step_time)), step_time, 1.0
        nearest = int(np.argmin(np.log(steps / step_time) ** 2 + np.log(prompts / prompt_time) ** 2))
        return in_world(one.deployment, worlds[nearest]), float(steps[nearest]), float(prompts[nearest])

    places = spread([steps, prompts, tokens, np.maximum(one.serving * sizes, float(one.least))], MOST_POINTS, lab.seed)
    points = explore(lab, one.serving, places, slowed, MOST_SIMULATIONS // contenders)
    if not points:
        return None
    found = fit_with_error(points, lab.idle)
    if one.verified:
        found = found.anchored(one.serving, lab.scenario.traffic.peak_qps or 0.0, one.least)
    return found
