"""The perfect scaler: at every moment the fewest replicas that hold the service levels at that moment's rate for ever.

It knows the load beforehand, and starts and stops in no time. Where the rate steps within an hour, so does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, default_queries
from planner.deployment.days import at_rate
from planner.scenario import Scenario
from planner.sizing.replicas import MOST_REPLICAS, rough_size
from planner.units import S_PER_HOUR
from planner.workload import Reaching

LEVELS = 24  # rates at which the number of replicas is looked for

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """A rate of the users, what of it reaches the model, and the fewest replicas that hold it."""

    users_qps: float
    reaching_qps: float
    replicas: int


@dataclass(frozen=True)
class Perfect:
    """`hours`: for each hour (replicas, share of the hour) one after the other; empty where `reason` says why not."""

    levels: tuple[Level, ...]
    hours: tuple[tuple[tuple[int, float], ...], ...]
    reason: str | None = None

    @property
    def peak(self) -> int:
        """The most that it ever runs: what a fleet of constant size would have to be."""
        return max(count for hour in self.hours for count, _ in hour)

    def mean(self, hour: int) -> float:
        """Replicas over the hour."""
        return math.fsum(count * share for count, share in self.hours[hour])


def perfect_scaler(
    deployment: Deployment,
    scenario: Scenario,
    load: Reaching,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> Perfect:
    """Sized by `sizing`'s short runs at each rate that reaches the model; of more than `LEVELS` rates at so many from
    the least to the largest, between them along a straight line, rounded up. Never below `fleet.min_replicas`.
    """
    if not scenario.slo:
        return Perfect((), (), "no slo is given: nothing has to be held")
    load = load.hourly()
    levels: list[Level] = []
    rates = _rates(load)
    most = MOST_REPLICAS
    if scenario.fleet.max_gpus is not None:
        most = max(scenario.fleet.max_gpus // deployment.gpus_per_replica, 1)
    free = {"fleet.min_replicas": None, "fleet.spare_replicas": None, "fleet.replicas": None}
    for number, (users_qps, reaching_qps) in enumerate(rates):
        steady = at_rate(scenario, users_qps, max(1.0 - reaching_qps / users_qps, 0.0)).with_values(free)
        size = rough_size(deployment, steady, seed, default_queries(scenario), most)
        if size.serving is None:
            return Perfect((), (), f"at {users_qps:.3g} queries/s {size.reason}")
        levels.append(Level(users_qps, reaching_qps, size.serving))
        progress("sizing for each rate", number + 1, len(rates))
    return Perfect(tuple(levels), _hours(load, levels, scenario.fleet.min_replicas))


def _rates(load: Reaching) -> list[tuple[float, float]]:
    """(users' rate, what of it reaches the model), by the second ascending: of all steps, or of `LEVELS` between."""
    used = load.users.qps > 0
    reaching, first = np.unique(load.model.qps[used], return_index=True)
    users = load.users.qps[used][first]
    if len(reaching) > LEVELS:
        levels = np.linspace(reaching[0], reaching[-1], LEVELS)
        users, reaching = np.interp(levels, reaching, users), levels
    return list(zip(users.tolist(), reaching.tolist(), strict=True))


def _hours(load: Reaching, levels: list[Level], floor: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Replicas of each step, hour by hour; without load the floor alone."""
    known = np.array([level.reaching_qps for level in levels])
    needed = np.array([level.replicas for level in levels], np.float64)
    steps = load.model
    counts = np.maximum(np.ceil(np.interp(steps.qps, known, needed) - 1e-9), floor)
    counts[steps.qps == 0] = floor
    shares = np.diff(steps.edges_s) / S_PER_HOUR
    hours: list[list[tuple[int, float]]] = [[] for _ in range(round(steps.end_s / S_PER_HOUR))]
    for begin_s, count, share in zip(steps.start_s, counts, shares, strict=True):
        hours[int(begin_s / S_PER_HOUR)].append((int(count), float(share)))
    return tuple(tuple(hour) for hour in hours)
