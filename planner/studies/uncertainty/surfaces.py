"""The few best candidates, each simulated where the draws lie, and a response surface through its runs."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, Progress, in_world
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.sizing import search
from planner.studies.uncertainty.answers import Draws, Money
from planner.studies.uncertainty.contenders import Contender, contender, few_rows
from planner.studies.uncertainty.design import MOST_POINTS, explore, spread
from planner.studies.uncertainty.laboratory import Laboratory, laboratory
from planner.studies.uncertainty.surface import At, Point, Surface
from planner.studies.uncertainty.tail import surface_of, with_tail
from planner.studies.uncertainty.worlds import StepTimes, from_worlds, in_draws, slower, world_factors

F64 = NDArray[np.float64]
MOST_SIMULATIONS = 200  # under load, behind all surfaces together
FIRST_SIMULATIONS = 165  # of them before the tail is looked at
OWN = ("step_time", "prompt_time", "token_time")
SLOW = 0.98  # the quantile of the step time in which a plan says which candidate is the best when all is slow


class _Own(NamedTuple):
    """One candidate's factors in every draw, shape [draws] each, and the runs of an idle fleet that told them."""

    step_time: F64
    prompt_time: F64
    token_time: F64
    idle_runs: int


@dataclass(frozen=True)
class Surfaces:
    """The few best candidates with their surfaces and the runs behind each, the planned one first.

    `simulations` are those under load, `idle_runs` the short ones without.
    """

    few: list[Contender]
    surfaces: list[Surface]
    simulations: list[int]
    idle_runs: list[int]
    times: StepTimes
    draws: Draws


def read_off(
    document: Mapping[str, Any],
    scenario: Scenario,
    money: Money,
    factors: Mapping[str, F64],
    scores: Mapping[str, F64],
    seed: int,
    queries: int,
    tell: Progress,
) -> Surfaces:
    """Choose the few best candidates of a feasible plan, simulate them over the draws and in their tail, and fit.

    `factors` and `scores` are those of the draws; without a factor the step time follows its worlds. `queries` is the
    length of a full run. At most `MOST_SIMULATIONS` runs under load are behind the surfaces, short ones of an idle
    fleet beside them; the plan of a slow world, which only says what the third candidate is, is not among them. A
    candidate whose most load is not found is left out; raises ScenarioError where that is the planned one.
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

    def points_of(place: int) -> tuple[list[Point], int]:
        tell("simulating what may be", place, len(few))
        return _points(labs[place], few[place], times, own[place], tokens, sizes, FIRST_SIMULATIONS // len(few))

    with ThreadPoolExecutor(len(few)) as pool:  # the compiled simulator holds no lock
        found = list(pool.map(points_of, range(len(few))))
    if not found[0][0]:
        rule = "finds no load at which the planned fleet just holds the limits: nothing tells how far it is from them"
        raise ScenarioError("uncertainty", None, f"{rule}; tighten slo, or leave uncertainty out")
    kept = [place for place, (points, _) in enumerate(found) if points]
    few, labs = [few[place] for place in kept], [labs[place] for place in kept]
    own = [own[place] for place in kept]
    others = (factors[name] for name in ("peak_qps", "output_tokens", "price", "revenue"))
    draws = Draws(*(np.array([getattr(one, name) for one in own]) for name in OWN), *others)
    spent = [found[place][1] + 1 for place in kept]  # and the planned run
    surfaces = [surface_of(lab, one, found[place][0]) for lab, one, place in zip(labs, few, kept, strict=True)]
    tell("simulating what needs the most", 0, 1)
    surfaces, more = with_tail(labs, few, surfaces, money, draws, times, MOST_SIMULATIONS - sum(spent))
    return Surfaces(
        few=few,
        surfaces=surfaces,
        simulations=[first + second for first, second in zip(spent, more, strict=True)],
        idle_runs=[len(idle_at) + one.idle_runs for one in own],
        times=times,
        draws=draws,
    )


def _step_times(
    lab: Laboratory, planned: Contender, factors: Mapping[str, F64], scores: Mapping[str, F64], seed: int
) -> StepTimes:
    """The step time in every draw: the factors given, or the worlds of the planned candidate."""
    if "step_time" in factors:
        return StepTimes(factors["step_time"])
    return from_worlds(planned.deployment, *lab.planned_run(planned.serving), scores["step_time"], seed)


def _own_factors(lab: Laboratory, one: Contender, times: StepTimes) -> _Own:
    """A candidate's own factors on the times in every draw, see `surface.At`.

    Without a limit on TTFT `prompt_time` is that of a long prompt alone; it still tells a world from another.
    """
    worlds = times.worlds(one.deployment)
    if worlds is None:
        alike = np.ones_like(times.factors)
        return _Own(times.factors, alike, alike, 0)
    step_time, prompt_time = world_factors(one.deployment, worlds, *lab.planned_run(one.serving))
    idle = lab.idle_factors(worlds)
    return _Own(
        step_time,
        prompt_time if idle.ttft is None else idle.ttft / step_time,
        np.ones_like(step_time) if idle.others is None else idle.others / step_time,
        idle.runs,
    )


def _best_when_slow(scenario: Scenario, times: StepTimes, seed: int, queries: int) -> Deployment | None:
    """What a plan chooses in a world as slow as few draws are; None where all draws are alike, or nothing holds."""
    if np.ptp(times.factors) == 0:
        return None
    draw = int(np.argsort(times.factors, kind="stable")[int(SLOW * (len(times.factors) - 1))])
    in_world_of = partial(in_draws(times, [draw]), draw)
    found = search(scenario, seed, queries, lambda what, done, total: None, in_world_of).chosen
    return None if found is None else found.option.deployment


def _points(
    lab: Laboratory, one: Contender, times: StepTimes, own: _Own, tokens: F64, sizes: F64, most: int
) -> tuple[list[Point], int]:
    """A contender simulated at the planned point and at places spread over the draws, with at most `most` runs.

    `tokens` and `sizes` are the factors on the output tokens and on the tokens at the peak.
    """
    steps, prompts = own.step_time, own.prompt_time
    worlds = times.worlds(one.deployment)

    def slowed(step_time: float, prompt_time: float) -> tuple[Deployment, At]:
        if worlds is None:
            return replace(one.deployment, cost=slower(one.deployment.cost, step_time)), At(step_time)
        nearest = int(np.argmin(np.log(steps / step_time) ** 2 + np.log(prompts / prompt_time) ** 2))
        at = At(float(steps[nearest]), float(prompts[nearest]), 1.0, float(own.token_time[nearest]))
        return in_world(one.deployment, worlds[nearest]), at

    fleets = np.maximum(one.serving * sizes * steps, float(one.least))
    places = spread([steps, prompts, tokens, fleets], MOST_POINTS, lab.seed)
    return explore(lab, one.serving, places, slowed, most)
