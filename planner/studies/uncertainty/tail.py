"""More points where the most GPUs are needed: the worlds of single draws, after a first look over all of them.

Points spread evenly over the draws leave two or three to the slowest twentieth, on which the 99 % figure rests. So the
draws are ranked by what the first surfaces say that they need, and some of the highest are simulated as they are: their
own world, its cache included, their answers, and the fleet that they are said to need. A second round ranks anew, as
a point may show that a draw needs far less than was thought.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from planner.deployment import Deployment
from planner.studies.uncertainty.answers import Draws, Money, Needed, needed
from planner.studies.uncertainty.contenders import Contender
from planner.studies.uncertainty.design import LEAST_PROBES, MOST_PROBES, REACH, look_near
from planner.studies.uncertainty.laboratory import Laboratory, Place
from planner.studies.uncertainty.surface import At, Point, Surface, fit_with_error
from planner.studies.uncertainty.worlds import StepTimes, in_draws

ROUNDS = 2
RANKS = (0.93, 0.944, 0.957, 0.971, 0.984, 0.998)  # of the draws that some fleet holds, by the GPUs they need
LARGEST = 400  # replicas simulated: the size of a larger fleet no longer matters
AT_ONCE = 2
InDraw = Callable[[int, Deployment], Deployment]
Looked = tuple[int, Point | None, int]  # which contender, the point if there is one, the runs it took


def surface_of(lab: Laboratory, one: Contender, points: Sequence[Point]) -> Surface:
    """A contender's surface, through the planned size where that is verified."""
    found = fit_with_error(points, lab.idle)
    return found.anchored(one.serving, lab.scenario.traffic.peak_qps or 0.0, one.least) if one.verified else found


def with_tail(
    labs: Sequence[Laboratory],
    few: Sequence[Contender],
    surfaces: Sequence[Surface],
    money: Money,
    draws: Draws,
    times: StepTimes,
    most: int,
) -> tuple[list[Surface], list[int]]:
    """The surfaces of the contenders through more points, at most `most` simulations; and what each contender took.

    Unchanged where all draws need the same.
    """
    known, taken = list(surfaces), [0] * len(few)
    seen: set[int] = set()
    for _ in range(ROUNDS):
        answer = needed(few, known, money, draws)
        chosen = [draw for draw in _highest(answer) if draw not in seen]
        each = (most - sum(taken)) // max(len(chosen), 1)
        if each < LEAST_PROBES:
            break
        seen.update(chosen)
        in_draw = in_draws(times, chosen)

        def look(draw: int, answer: Needed = answer, in_draw: InDraw = in_draw, each: int = each) -> Looked:
            place = int(answer.contender[draw])
            one = few[place]
            at = At(*(float(np.broadcast_to(factor, answer.gpus.shape)[draw]) for factor in draws.at(place)))
            if float(known[place].idle.at(at)) > REACH:
                return place, None, 0
            serving = min(max(round(answer.gpus[draw] / one.gpus_per_replica) - one.spare, 1), LARGEST)
            there = Place(in_draw(draw, one.deployment), at, serving)
            return place, *look_near(labs[place], known[place], there, min(MOST_PROBES, each))

        with ThreadPoolExecutor(AT_ONCE) as pool:  # the compiled simulator holds no lock
            found = list(pool.map(look, chosen))
        for place, (lab, one) in enumerate(zip(labs, few, strict=True)):
            more = [point for where, point, _ in found if where == place and point is not None]
            taken[place] += sum(runs for where, _, runs in found if where == place)
            if more:
                known[place] = surface_of(lab, one, [*known[place].points, *more])
    return known, taken


def _highest(answer: Needed) -> list[int]:
    """The draws at `RANKS` of those that a fleet holds; none where all need the same."""
    ranked = np.argsort(answer.gpus, kind="stable")
    ranked = ranked[answer.contender[ranked] >= 0]
    if not len(ranked) or np.ptp(answer.gpus[ranked]) == 0:
        return []
    return list(dict.fromkeys(int(ranked[round(rank * (len(ranked) - 1))]) for rank in RANKS))
