"""How arrivals reach replicas, compiled: three loops over the kernel, from the simplest to the most entangled.

- `run_alone`: one replica whose requests are all known beforehand.
- `run_least_loaded`: arrivals are known, but who serves them depends on what the replicas have finished.
- `run_dependent`: arrivals themselves wait for finishes (stages, sessions, closed loops, client limits) or end early
  (timeouts).

A replica is advanced only when somebody must know its state: `wake[r]` is a time before which it completes nothing.
"""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np

from planner.simulation.kernel import advance, wake_s
from planner.simulation.kernel_queue import abort, enqueue
from planner.simulation.kernel_state import (
    ABORTED,
    FINISHED,
    PENDING,
    Array,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
    inlined,
    released,
)

RANDOM, ROUND_ROBIN, LEAST_LOADED = 0, 1, 2
# Kinds of event in `run_dependent`. Those of one instant are handled in the order in which they came up. SEND and
# DEADLINE concern a query, END and READY a request, MARK an instant at which the ledgers are asked for.
END, SEND, READY, DEADLINE, MARK = 0, 1, 2, 3, 4


class Client(NamedTuple):
    """What the client side of `run_dependent` needs to know: the load's shape and limits."""

    width: int
    stage_first: Array  # [stages + 1] first position of each stage within a query
    call_first: Array  # [width] position of the first sample of the same call
    clients: int
    per_client: int
    think_s: Array  # [Q] or empty
    follows: Array  # [Q] or empty: the query that each follows, -1 = none
    follower: Array  # [Q] or empty: the query that follows each, -1 = none
    marks_s: Array  # [M] ascending
    max_in_flight: int
    timeout_s: float
    frontend_s: float
    frontend_token_s: float


class Queries(NamedTuple):
    """What became of each query."""

    arrival_s: Array
    sent_s: Array
    failed: Array
    stage: Array
    remaining: Array  # requests of the present stage that have not ended; 0 = the query is over


@released
def run_alone(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, order: Array, until: float) -> None:
    """Hand replica r the requests `order` (by `ready_s`) and run it up to `until`."""
    for k in range(len(order)):
        enqueue(p, q, r, order[k])
    advance(p, q, st, c, g, r, until)


@inlined
def least_loaded(p: Replicas, t: float, turn: int) -> int:
    """The replica with the fewest unfinished requests at time t; ties go round, beginning at `turn`."""
    count = len(p.scalars)
    best, fewest = -1, 0
    for k in range(count):
        r = turn + k
        if r >= count:
            r -= count
        s = p.scalars[r]
        load = s.outstanding
        if s.now > t:  # the step in hand ends later: its requests are still outstanding
            load += s.finished_now
        if best < 0 or load < fewest:
            best, fewest = r, load
    return best


@released
def run_least_loaded(
    p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, order: Array, leader: Array, replica: Array
) -> None:
    """Route the requests `order` (by `ready_s`) one after the other; samples of a call follow their `leader`.

    Afterwards every replica stands at the last arrival; what is left in them is `run_alone`'s to finish.
    """
    count = len(p.scalars)
    wake = np.full(count, math.inf)
    turn = 0
    for k in range(len(order)):
        i = order[k]
        t = q.rows[i].ready_s
        for r in range(count):
            if wake[r] <= t:
                advance(p, q, st, c, g, r, t)
                wake[r] = wake_s(p, q, st, c, r)
        if leader[i] == i:
            replica[i] = least_loaded(p, t, turn)
            turn = replica[i] + 1 if replica[i] + 1 < count else 0
        else:
            replica[i] = replica[leader[i]]
        r = replica[i]
        advance(p, q, st, c, g, r, t)
        enqueue(p, q, r, i)
        wake[r] = wake_s(p, q, st, c, r)
    if len(order) > 0:
        for r in range(count):
            advance(p, q, st, c, g, r, q.rows[order[-1]].ready_s)


@inlined
def first_to_wake(wake: Array) -> int:
    """The replica that may be the first to complete something."""
    first = 0
    for r in range(1, len(wake)):
        if wake[r] < wake[first]:
            first = r
    return first


@released
def run_dependent(
    p: Replicas,
    q: Requests,
    st: Settings,
    c: Costs,
    g: Gaps,
    client: Client,
    queries: Queries,
    routing: int,
    draws: Array,
    replica: Array,
    marks: Array,
) -> None:
    """One clock over all replicas: always handle what happens first, an event of the clients or a completion.

    A query that has not had its last token `timeout_s` after it was sent fails at that instant: what is pending of it
    is aborted, and its client goes on. A request that ends in the step in hand is finished for the engine, too late
    for the client.

    `draws` [requests] holds a replica for each call under random routing. A replica runs ahead only as far as no
    completion elsewhere could send it anything new. `marks` [M, replicas] gets the ledgers of `client.marks_s`.
    """
    count = len(p.scalars)
    total = len(queries.arrival_s)
    width = client.width
    wake = np.full(count, math.inf)
    events = [(math.inf, 0, 0, 0)]
    number = 0
    turn = 0
    next_arrival = 0  # open loop
    next_unclaimed = 0  # closed loop
    in_flight = 0
    held = np.empty(total, np.int64)  # queries that wait at the client
    held_from, held_to = 0, 0
    for k in range(min(client.clients, total)):
        number += 1
        heapq.heappush(events, (0.0, number, SEND, k))
        next_unclaimed = k + 1
    for k in range(len(client.marks_s)):
        number += 1
        heapq.heappush(events, (client.marks_s[k], number, MARK, k))
    while True:
        # --- what is next: an arrival, an event, or a replica that may complete something? ---
        if len(client.follows) > 0:
            while next_arrival < total and client.follows[next_arrival] >= 0:  # it comes when the one before has ended
                next_arrival += 1
        t = events[0][0]
        from_arrivals = False
        if client.clients == 0 and next_arrival < total and queries.arrival_s[next_arrival] <= t:
            t = queries.arrival_s[next_arrival]
            from_arrivals = True
        at = first_to_wake(wake)
        if wake[at] <= t and wake[at] < math.inf:
            advance(p, q, st, c, g, at, wake[at])
            number = collect(p, q, at, events, number)
            wake[at] = wake_s(p, q, st, c, at)
            if p.scalars[at].stuck != 0:
                return
            continue
        if t == math.inf:
            return
        # --- handle it ---
        if from_arrivals:
            kind, subject = SEND, next_arrival
            next_arrival += 1
        else:
            _, _, kind, subject = heapq.heappop(events)
        send = -1
        if kind == SEND:
            queries.arrival_s[subject] = t
            if client.max_in_flight > 0 and in_flight >= client.max_in_flight:
                held[held_to] = subject
                held_to += 1
            else:
                send = subject
        elif kind == READY:
            if q.rows[subject].status != PENDING:  # given up before the front end had passed it on
                continue
            first = subject - subject % width + client.call_first[subject % width]
            if first == subject:
                if routing == RANDOM:
                    replica[subject] = draws[subject]
                elif routing == ROUND_ROBIN:
                    replica[subject] = turn
                else:
                    replica[subject] = least_loaded(p, t, turn)
                turn = replica[subject] + 1 if replica[subject] + 1 < count else 0
            else:
                replica[subject] = replica[first]
            r = replica[subject]
            advance(p, q, st, c, g, r, t)
            number = collect(p, q, r, events, number)
            enqueue(p, q, r, subject)
            wake[r] = wake_s(p, q, st, c, r)
        elif kind == MARK:
            for r in range(count):
                advance(p, q, st, c, g, r, t)
                number = collect(p, q, r, events, number)
                wake[r] = wake_s(p, q, st, c, r)
                marks[subject, r] = p.scalars[r]
        else:
            owner = subject if kind == DEADLINE else subject // width
            if queries.remaining[owner] == 0:  # it is over
                continue
            stage = queries.stage[owner]
            last_stage = stage + 2 == len(client.stage_first)
            if kind == DEADLINE:
                in_time = last_stage
                for position in range(client.stage_first[stage], client.stage_first[stage + 1]):
                    i = owner * width + position
                    r = replica[i]
                    if q.rows[i].status == PENDING and r >= 0:
                        advance(p, q, st, c, g, r, t)
                        number = collect(p, q, r, events, number)
                        abort(p, q, st, c, r, i)
                        wake[r] = wake_s(p, q, st, c, r)
                    elif q.rows[i].status == PENDING:
                        q.rows[i].status = ABORTED
                    in_time = in_time and q.rows[i].status == FINISHED and q.rows[i].last_token_s <= t
                if in_time:  # the last of it ends at this very instant
                    continue
                queries.failed[owner] = 1
                queries.remaining[owner] = 0
            else:
                queries.remaining[owner] -= 1
                if queries.remaining[owner] > 0:
                    continue
                if not last_stage:
                    queries.stage[owner] += 1
                    number = send_stage(q, client, queries, owner, t, events, number)
                    continue
            # --- the query is over: its client may send another, and one held back may go ---
            in_flight -= 1
            if client.clients > 0:
                following = owner + client.clients if client.per_client != 0 else next_unclaimed
                if following < total:
                    next_unclaimed += 1
                    number += 1
                    pause = client.think_s[owner] if len(client.think_s) > 0 else 0.0
                    heapq.heappush(events, (t + pause, number, SEND, following))
            elif len(client.follower) > 0 and client.follower[owner] >= 0:
                following = client.follower[owner]
                number += 1
                heapq.heappush(events, (t + client.think_s[following], number, SEND, following))
            if held_from < held_to:
                send = held[held_from]
                held_from += 1
        if send >= 0:
            in_flight += 1
            queries.sent_s[send] = t
            queries.stage[send] = 0
            if client.timeout_s < math.inf:
                number += 1
                heapq.heappush(events, (t + client.timeout_s, number, DEADLINE, send))
            number = send_stage(q, client, queries, send, t, events, number)


@released
def collect(p: Replicas, q: Requests, r: int, events: list[tuple[float, int, int, int]], number: int) -> int:
    """Turn the completions that replica r has chained up into events."""
    s = p.scalars[r]
    while s.done >= 0:
        number += 1
        heapq.heappush(events, (q.rows[s.done].last_token_s, number, END, s.done))
        s.done = q.rows[s.done].link
    return number


@released
def send_stage(
    q: Requests,
    client: Client,
    queries: Queries,
    query: int,
    t: float,
    events: list[tuple[float, int, int, int]],
    number: int,
) -> int:
    """Send all calls of the query's present stage at time t; the engine sees them after the front end."""
    stage = queries.stage[query]
    first, end = client.stage_first[stage], client.stage_first[stage + 1]
    queries.remaining[query] = end - first
    for position in range(first, end):
        i = query * client.width + position
        q.rows[i].ready_s = t + client.frontend_s + client.frontend_token_s * q.rows[i].prompt
        number += 1
        heapq.heappush(events, (q.rows[i].ready_s, number, READY, i))
    return number
