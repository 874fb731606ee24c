"""What `fleet_events` works on beside the replicas: their clients and the router's desk, as columns and numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.coefficients import StepCost
from planner.simulation.kernel_state import Array, Costs, inlined, make_costs

# Why a query failed; 0 = it did not.
TIMED_OUT, REJECTED, LOST = 1, 2, 3
# Whether a replica serves (it alone is given requests), finishes what it has, is off, or starts (it is paid for then).
OFF, SERVING, DRAINING, STARTING = 0, 1, 2, 3
# In `Desk.replica`: not at any yet, or no more.
NOWHERE = -1
# Kinds of event. Those of one instant are handled in the order in which they came up. SEND, DEADLINE and LOSE concern a
# query, END and READY a request, MARK an instant at which the ledgers are asked for, DECIDE whatever the caller means.
END, SEND, READY, DEADLINE, MARK, LOSE, DECIDE = 0, 1, 2, 3, 4, 5, 6
NOBODY = np.zeros(0, np.int64)  # no requests


class Client(NamedTuple):
    """What the client side needs to know: the load's shape and limits."""

    width: int
    stage_first: Array  # [stages + 1] first position of each stage within a query
    call_first: Array  # [width] position of the first sample of the same call
    call_end: Array  # [width] position after the last sample of the same call
    clients: int
    per_client: int
    think_s: Array  # [Q] or empty
    follows: Array  # [Q] or empty: the query that each follows, -1 = none
    follower: Array  # [Q] or empty: the query that follows each, -1 = none
    marks_s: Array  # [M]
    max_in_flight: int
    timeout_s: float
    frontend_s: float
    frontend_token_s: float


class Queries(NamedTuple):
    """What became of each query."""

    arrival_s: Array
    sent_s: Array
    failed: Array  # why, 0 = it did not fail
    failed_s: Array  # when
    retried: Array  # requests of it that began again elsewhere
    stage: Array
    remaining: Array  # requests of the present stage that have not ended; 0 = the query is over


class Paces(NamedTuple):
    """Step costs of slower and faster replicas, one row each."""

    tokens_s: Array  # [P, tokens]
    requests_s: Array  # [P, requests]
    ranks_tokens_s: Array  # [P, tokens]
    numbers: Array  # [P, 7] the fields of `Costs` between these, in their order


class Desk(NamedTuple):
    """Where requests are, who waits, and what comes next."""

    replica: Array  # [N] where each request is or was, or NOWHERE
    ended: Array  # [N] whether its end was handled
    parked: Array  # [N] requests that wait at the router because nobody serves
    held: Array  # [Q] queries that wait at the client
    wake: Array  # [R] a time before which each replica completes nothing
    pace: Array  # [R] row of `Paces`, -1 = the usual step cost
    events: Array  # of `fleet_heap.EVENT`
    now_s: Array  # [1] of the event in hand
    counters: Array  # see below


# Places in `Desk.counters`.
# 0 and 1 are `fleet_heap`'s
TURN = 2  # where ties begin to go round
IN_FLIGHT = 3
NEXT_ARRIVAL = 4  # open loop
NEXT_UNCLAIMED = 5  # closed loop: the next query that no client has sent
HELD_FROM, HELD_TO = 6, 7  # queries that wait at the client
PARKED = 8  # requests that wait at the router
OVER = 9  # queries that are over
EMPTIED = 10  # whether a replica that drains may have nothing left
COUNTERS = 11


def make_paces(cost: StepCost, factors: list[float]) -> Paces:
    """`cost` so many times as long."""
    rows = [make_costs(cost.slower(factor)) for factor in factors]
    base = make_costs(cost)
    return Paces(
        np.array([row.tokens_s for row in rows]).reshape(-1, len(base.tokens_s)),
        np.array([row.requests_s for row in rows]).reshape(-1, len(base.requests_s)),
        np.array([row.ranks_tokens_s for row in rows]).reshape(-1, len(base.tokens_s)),
        np.array([row[2:-1] for row in rows], np.float64).reshape(-1, len(base) - 3),
    )


@inlined
def costs_at(paces: Paces, k: int) -> Costs:
    """Row k as the kernel takes it."""
    n = paces.numbers
    return Costs(
        paces.tokens_s[k],
        paces.requests_s[k],
        n[k, 0],
        n[k, 1],
        int(n[k, 2]),
        n[k, 3],
        n[k, 4],
        n[k, 5],
        n[k, 6],
        paces.ranks_tokens_s[k],
    )
