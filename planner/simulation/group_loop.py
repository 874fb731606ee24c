"""How known arrivals reach replicas whose data-parallel ranks compute in step: among replicas, then among ranks."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from planner.simulation.fleet_world import NOBODY
from planner.simulation.kernel_group import advance_group, wake_group_s
from planner.simulation.kernel_queue import enqueue
from planner.simulation.kernel_state import Array, Costs, Gaps, Replicas, Requests, Settings, inlined, released
from planner.simulation.ranks import choose_rank
from planner.simulation.routing import unfinished


def run_groups(
    p: Replicas,
    q: Requests,
    st: Settings,
    c: Costs,
    g: Gaps,
    ranks: int,
    order: NDArray[np.int64],
    leader: NDArray[np.int64],
    replica: NDArray[np.int64],
    engine: NDArray[np.int64],
) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """Simulate the requests `order` (by `ready_s`) on len(p.scalars) // ranks idle replicas of `ranks` ranks each.

    `replica` [N] says where each request goes, -1 = to the replica with the fewest unfinished; samples of a call follow
    their `leader`. `engine` [N] gets the rank that serves it, counted through all replicas. Returns the ledgers of all
    ranks at the last arrival and at the end, and the seconds that it took.
    """
    route_groups(p, q, st, c, g, ranks, NOBODY, leader, replica, engine)  # the first call of a process compiles
    finish_groups(p, q, st, c, g, ranks, 0.0)
    started = time.perf_counter()
    route_groups(p, q, st, c, g, ranks, order, leader, replica, engine)
    steady = p.scalars.copy()
    finish_groups(p, q, st, c, g, ranks, math.inf)
    return steady, p.scalars, time.perf_counter() - started


@inlined
def least_loaded_group(p: Replicas, ranks: int, t: float, turn: int) -> int:
    """The replica with the fewest unfinished requests over its ranks; ties go round, beginning at `turn`."""
    groups = len(p.scalars) // ranks
    best, fewest = -1, 0
    for k in range(groups):
        group = (turn + k) % groups
        load = 0
        for r in range(group * ranks, (group + 1) * ranks):
            load += unfinished(p.scalars, r, t)
        if best < 0 or load < fewest:
            best, fewest = group, load
    return best


@released
def route_groups(
    p: Replicas,
    q: Requests,
    st: Settings,
    c: Costs,
    g: Gaps,
    ranks: int,
    order: Array,
    leader: Array,
    replica: Array,
    engine: Array,
) -> None:
    """Hand out the requests one after the other; afterwards every replica stands at the last arrival."""
    groups = len(p.scalars) // ranks
    wake = np.full(groups, math.inf)
    turns = np.zeros(groups, np.int64)
    turn = 0
    for k in range(len(order)):
        i = order[k]
        t = q.rows[i].ready_s
        group = replica[i]
        if leader[i] != i:
            group = engine[leader[i]] // ranks
        elif group < 0:
            for other in range(groups):
                if wake[other] <= t:
                    advance_group(p, q, st, c, g, other * ranks, ranks, t)
                    wake[other] = wake_group_s(p, q, st, c, other * ranks, ranks)
            group = least_loaded_group(p, ranks, t, turn)
            turn = group + 1
        advance_group(p, q, st, c, g, group * ranks, ranks, t)
        if leader[i] == i:
            engine[i] = choose_rank(p, st, t, group * ranks, ranks, turns[group])
            turns[group] += 1
        else:
            engine[i] = engine[leader[i]]
        enqueue(p, q, engine[i], i)
        wake[group] = wake_group_s(p, q, st, c, group * ranks, ranks)
    if len(order) > 0:
        finish_groups(p, q, st, c, g, ranks, q.rows[order[-1]].ready_s)


@released
def finish_groups(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, ranks: int, until: float) -> None:
    """Run every replica up to `until`."""
    for first in range(0, len(p.scalars), ranks):
        advance_group(p, q, st, c, g, first, ranks, until)
