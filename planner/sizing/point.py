"""The most load that a given fleet carries, as one number to divide another by: no bands, no confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.deployment import Deployment, Length, make_load, run
from planner.scenario import Scenario
from planner.sizing.most import most_rate
from planner.sizing.probes import Probe

POINT_TOLERANCE = 0.002
FIRST_STRIDE = 1.02  # around `start`, which is thought to be near


def most_qps(
    deployment: Deployment, scenario: Scenario, serving: int, *, seeds: Sequence[int], length: Length, start: float
) -> float | None:
    """The most users' queries/s that `serving` replicas carry within the SLO by its point estimates; None if none.

    The geometric mean over `seeds`, each found to within 0.2 %. Every rate of a seed is judged on the same arrays, and
    so is every other question with the same `length`: in the ratio of two answers most of their chance cancels. With
    four runs of 4,000 queries the ratio's own standard deviation is half a per cent. `start` (queries/s) only shortens
    the search. Open arrivals only.
    """
    logs = []
    for seed in seeds:

        def at(rate: float, seed: int = seed) -> Probe:
            at_rate = scenario.with_values({"traffic.peak_qps": rate})
            load = make_load(at_rate, deployment.config.max_model_len, seed, length)
            return Probe(rate, False, load, run(deployment, at_rate, load, serving, seed))

        best = most_rate(at, start, FIRST_STRIDE, POINT_TOLERANCE)
        if best is None:
            return None
        logs.append(math.log(best.at))
        start = best.at
    return math.exp(sum(logs) / len(logs))
