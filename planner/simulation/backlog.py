"""Whether a run's backlog grows: more arrives than is served, so its latencies are those of no steady state."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from planner.simulation.service import Service

F64 = NDArray[np.float64]
LEAST = 1.0  # percentile of a wait that nobody prolongs
SPANS = 3  # a stay of up to so many times the unhurried one is not overdue: steps slow down while a fleet fills


def backlog_grows(service: Service) -> bool:
    """Whether overdue queries pile up between the middle and the end of the counted arrivals.

    A fleet that starts empty fills, and by Little's law a backlog of rate × stay belongs to any load; within the time
    of a few queries nothing else is to be seen. So only who stays longer than `SPANS` unhurried stays counts into the
    backlog, and a run in which nobody does is not saturated, however short it is. Two backlogs are looked at: queries
    that are not over, and queries without any token yet, which tell within less time. The unhurried wait before the
    first tokens of a query's stages is the first percentile; the unhurried time from there to their last tokens is
    the mean of the first quarter of the queries.

    A stable backlog wanders by some multiple of √arrivals, so a growth beyond four of them and beyond 1 % of what
    arrived meanwhile is a trend: more comes than is served.
    """
    load = service.load
    if load.queries - load.warmup < 2:
        return False
    first_token_s = service.first_token_s.reshape(-1, load.width)
    last_token_s = service.last_token_s.reshape(-1, load.width)
    ended_s, served_s = service.ended_s, np.zeros(load.queries)
    bounds = np.cumsum([0, *(stage.requests for stage in load.stages)]).tolist()
    for start, end in itertools.pairwise(bounds):
        served_s += last_token_s[:, start:end].max(axis=1) - first_token_s[:, start:end].min(axis=1)
    # who failed in the queue left it without a token
    begun_s = np.fmin(first_token_s[:, : load.stages[0].requests].min(axis=1), ended_s)
    served_s = np.where(service.failed, ended_s - begun_s, served_s)
    early = served_s[: -(-load.queries // 4)]
    unhurried_s = _least(ended_s - service.sent_s - served_s) + float(early.mean())
    wait_s = _least(begun_s - service.sent_s)
    return _piles_up(service, ended_s, SPANS * unhurried_s) or _piles_up(service, begun_s, SPANS * wait_s)


def _least(wait_s: F64) -> float:
    return float(np.percentile(wait_s, LEAST, method="inverted_cdf"))


def _piles_up(service: Service, left_s: F64, due_s: float) -> bool:
    """Whether ever more of the queries that have arrived are still there `due_s` later; they go at `left_s` [Q].

    Of sessions only the first turns tell the time: a later one waits for the fleet, and still comes when no session
    begins any more. A session has one turn outstanding at most, so what piles up is held against the sessions begun.
    """
    load, arrival_s = service.load, service.arrival_s
    counted_s, coming_s = arrival_s[load.warmup :], arrival_s
    if load.follows is not None:
        counted_s = coming_s = np.sort(counted_s[load.follows[load.warmup :] < 0])
    if len(counted_s) < 2:
        return False
    middle, last = counted_s[len(counted_s) // 2], counted_s[-1]
    before, after = (int(((arrival_s <= at) & (left_s > at + due_s)).sum()) for at in (middle, last))
    arrived = int(((coming_s > middle) & (coming_s <= last)).sum())
    return after - before > max(4.0 * math.sqrt(arrived), 0.01 * arrived)
