"""Where to simulate for a response surface: places spread over the draws.

Points are spread by a scrambled Halton sequence over the range of the draws: factor on the step time, factor on the
output tokens, serving replicas. `tail` adds points in the worlds of single draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from planner.deployment import Deployment
from planner.studies.uncertainty.laboratory import MOST_STEP, Laboratory, Place
from planner.studies.uncertainty.surface import At, Point, Surface, fit

F64 = NDArray[np.float64]
MOST_POINTS = 18  # of one candidate, beside the planned point
LEAST_PROBES, MOST_PROBES = 2, 9  # rates tried at one point
FIRST_PROBES = 20  # at the first point, which may lie far from the planned load: a replica can carry 1,000 times it
FIRST_STEP = 5.0  # instead of MOST_STEP where nothing is known yet but the planned load
EDGE = 0.01  # the points lie between this quantile of the draws and the one as far from the other end
REACH = 0.95  # of the step time at which even an idle fleet fails: beyond, hardly anything is carried


def explore(
    lab: Laboratory,
    serving: int,
    places: Sequence[tuple[float, ...]],
    slowed: Callable[[float, float], tuple[Deployment, At]],
    most: int,
) -> tuple[list[Point], int]:
    """The most load at the planned point, then at the places, until they or `most` simulations are used up.

    Returns the points, and how many simulations it took.
    No points at all where none is found at the planned one: nothing says then where to look elsewhere.

    A place is (step-time factor, prompt-time factor, factor on the output tokens, serving replicas). `slowed` gives
    the deployment where the first two are about as asked, and its own factors.
    """
    planned = Place(lab.deployment, At(), serving)
    first, spent = lab.look(planned, lab.scenario.traffic.peak_qps or 0.0, min(FIRST_PROBES, most), FIRST_STEP)
    points = [] if first is None else [first]
    for step_time, prompt_time, output_tokens, replicas in places:
        if points and most - spent >= LEAST_PROBES:
            slowest = REACH / float(lab.idle.at(At(1.0, prompt_time, output_tokens)))
            deployment, at = slowed(min(step_time, slowest), prompt_time)
            place = Place(deployment, at._replace(output_tokens=output_tokens), max(round(replicas), 1))
            found, runs = look_near(lab, fit(points, lab.idle), place, min(MOST_PROBES, most - spent))
            spent += runs
            points += [] if found is None else [found]
    return points, spent


def look_near(lab: Laboratory, surface: Surface, place: Place, most: int) -> tuple[Point | None, int]:
    """The most load at a place, looked for from where a surface says that it is; and how many runs it took."""
    start = place.serving * float(surface.rate_per_replica(place.at, place.serving))
    return lab.look(place, start, most, MOST_STEP)


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
