"""A fleet on one clock, compiled: clients that wait for answers, client limits, a router that may have to wait.

`run_dependent` handles what happens first, again and again: an event, an arrival, or a completion in a replica. It
returns when somebody must decide what happens to a replica, which is not compiled: `fleet_operations`.
"""

from __future__ import annotations

import math

from planner.simulation.fleet_handlers import (
    admitted,
    anybody_serves,
    end_query,
    end_request,
    followed,
    send_query,
)
from planner.simulation.fleet_heap import EVENTS, remove_first
from planner.simulation.fleet_replicas import bring, bring_and_reckon, first_to_wake, reckon
from planner.simulation.fleet_world import (
    DEADLINE,
    DECIDE,
    DRAINING,
    EMPTIED,
    END,
    LOSE,
    LOST,
    MARK,
    NEXT_ARRIVAL,
    OVER,
    PARKED,
    READY,
    REJECTED,
    SEND,
    TIMED_OUT,
    TURN,
    Client,
    Desk,
    Paces,
    Queries,
)
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
    compiled,
)
from planner.simulation.prefix_index import remember
from planner.simulation.routing import PREFIX_AWARE, Router, choose

# What `run_dependent` returns beside the subject of a DECIDE: all queries are over, or a replica may be drained.
ALL_OVER, MAY_BE_DRAINED = -1, -2


@compiled
def run_dependent(
    p: Replicas,
    q: Requests,
    st: Settings,
    c: Costs,
    paces: Paces,
    g: Gaps,
    router: Router,
    client: Client,
    queries: Queries,
    desk: Desk,
    marks: Array,
) -> int:
    """One clock over all replicas: always handle what happens first, an event or a completion.

    A query that has not had its last token `timeout_s` after it was sent fails at that instant: what is pending of it
    is aborted, and its client goes on. A request that ends in the step in hand is finished for the engine, too late
    for the client. A query is rejected, and fails, when a call of it finds no room at any replica that serves; while
    none serves calls wait at the router.

    A replica runs ahead only as far as no completion elsewhere could send it anything new. `marks` [M, replicas] gets
    the ledgers of `client.marks_s`. Returns ALL_OVER with the last query, whatever else was still to come; before that
    the subject of a DECIDE event at its time, or MAY_BE_DRAINED: call it again with the same desk to go on.
    """
    count = len(desk.wake)
    total = len(queries.arrival_s)
    rows, n, events = q.rows, desk.counters, desk.events
    while n[OVER] < total:
        if n[EMPTIED] != 0:
            n[EMPTIED] = 0
            return MAY_BE_DRAINED
        # --- what is next: an arrival, an event, or a replica that may complete something? ---
        if len(client.follows) > 0:
            while n[NEXT_ARRIVAL] < total and client.follows[n[NEXT_ARRIVAL]] >= 0:  # it comes when another has ended
                n[NEXT_ARRIVAL] += 1
        t = events[0].t if n[EVENTS] > 0 else math.inf
        from_arrivals = False
        if client.clients == 0 and n[NEXT_ARRIVAL] < total and queries.arrival_s[n[NEXT_ARRIVAL]] <= t:
            t = queries.arrival_s[n[NEXT_ARRIVAL]]
            from_arrivals = True
        at = first_to_wake(desk.wake)
        if desk.wake[at] <= t and desk.wake[at] < math.inf:
            bring(p, q, st, c, paces, g, desk, at, desk.wake[at])
            reckon(p, q, st, c, paces, desk.wake, desk.pace, at)
            if p.scalars[at].stuck != 0:
                return ALL_OVER
            continue
        if t == math.inf:
            return ALL_OVER
        # --- handle it ---
        if from_arrivals:
            kind, subject = SEND, n[NEXT_ARRIVAL]
            n[NEXT_ARRIVAL] += 1
        else:
            kind, subject = events[0].kind, events[0].subject
            remove_first(events, n)
        desk.now_s[0] = t
        fails, why, over, send = -1, TIMED_OUT, -1, -1
        if kind == SEND:
            send = admitted(client, queries, desk, subject, t)
        elif kind == READY:
            if rows[subject].status != PENDING:  # given up before the front end had passed it on
                continue
            place = subject % client.width
            r = followed(rows, desk.replica, subject - place + client.call_first[place], subject)
            if r < 0:
                if router.policy == PREFIX_AWARE:
                    for k in range(count):
                        if desk.wake[k] < math.inf:
                            bring_and_reckon(p, q, st, c, paces, g, desk, k, t)
                r = choose(p, q, st, router, subject, t, n[TURN], client.call_end[place] - place)
                if r >= 0:
                    n[TURN] = r + 1 if r + 1 < count else 0
                    if router.policy == PREFIX_AWARE:
                        remember(router.prefixes, q, st.block_size, r, subject)
            if r >= 0:
                desk.replica[subject] = r
                bring(p, q, st, c, paces, g, desk, r, t)
                enqueue(p, q, r, subject)
                reckon(p, q, st, c, paces, desk.wake, desk.pace, r)
            elif anybody_serves(router.member):
                fails, why = subject // client.width, REJECTED
            else:
                desk.parked[n[PARKED]] = subject
                n[PARKED] += 1
        elif kind == END:
            over = end_request(p.scalars, rows, router.member, client, queries, desk, subject, t)
        elif kind in (DEADLINE, LOSE):
            if queries.remaining[subject] == 0:  # it is over
                continue
            stage = queries.stage[subject]
            in_time = kind == DEADLINE and stage + 2 == len(client.stage_first)
            for position in range(client.stage_first[stage], client.stage_first[stage + 1]):
                i = subject * client.width + position
                if rows[i].status == PENDING and desk.replica[i] >= 0:
                    bring_and_reckon(p, q, st, c, paces, g, desk, desk.replica[i], t)
                in_time = in_time and rows[i].status == FINISHED and rows[i].last_token_s <= t
            if not in_time:  # otherwise the last of it ends at this very instant
                fails = subject
                if kind == LOSE:
                    why = LOST
        elif kind == DECIDE:
            return subject
        elif kind == MARK:
            for r in range(count):
                bring_and_reckon(p, q, st, c, paces, g, desk, r, t)
                marks[subject, r] = p.scalars[r]
        # --- what follows from it: a query fails, one is over, one is sent ---
        if fails >= 0:
            stage = queries.stage[fails]
            for position in range(client.stage_first[stage], client.stage_first[stage + 1]):
                i = fails * client.width + position
                r = desk.replica[i]
                if rows[i].status == PENDING and r >= 0:
                    bring_and_reckon(p, q, st, c, paces, g, desk, r, t)
                    abort(p, q, st, c, r, i)
                    reckon(p, q, st, c, paces, desk.wake, desk.pace, r)
                    if router.member[r] == DRAINING and p.scalars[r].outstanding == 0:
                        n[EMPTIED] = 1
                elif rows[i].status == PENDING:
                    rows[i].status = ABORTED
            queries.failed[fails] = why
            queries.failed_s[fails] = t
            queries.remaining[fails] = 0
            over = fails
        if over >= 0:
            send = end_query(client, queries, desk, over, t)
        if send >= 0:
            send_query(rows, client, queries, desk, send, t)
    return ALL_OVER
