"""What events do to queries and their clients, compiled into the loop of `fleet_events`.

Nothing here runs an engine: each compiled function that does has all of the kernel compiled into it once more.
"""

from __future__ import annotations

import math

from planner.simulation.fleet_heap import push, within
from planner.simulation.fleet_world import (
    DEADLINE,
    DRAINING,
    EMPTIED,
    HELD_FROM,
    HELD_TO,
    IN_FLIGHT,
    NEXT_UNCLAIMED,
    OVER,
    READY,
    SEND,
    SERVING,
    Client,
    Desk,
    Queries,
)
from planner.simulation.kernel_state import PENDING, Array, inlined


@within
def send_stage(
    rows: Array, client: Client, queries: Queries, events: Array, counters: Array, query: int, t: float
) -> None:
    """Send all calls of the query's present stage at time t; the engine sees them after the front end."""
    stage = queries.stage[query]
    first, end = client.stage_first[stage], client.stage_first[stage + 1]
    queries.remaining[query] = end - first
    for position in range(first, end):
        i = query * client.width + position
        rows[i].ready_s = t + client.frontend_s + client.frontend_token_s * rows[i].prompt
        push(events, counters, rows[i].ready_s, READY, i)


@within
def following_query(client: Client, queries: Queries, counters: Array, events: Array, owner: int, t: float) -> None:
    """A query is over: its client, or its session, has another one to send."""
    counters[IN_FLIGHT] -= 1
    counters[OVER] += 1
    if client.clients > 0:
        following = owner + client.clients if client.per_client != 0 else counters[NEXT_UNCLAIMED]
        if following < len(queries.arrival_s):
            counters[NEXT_UNCLAIMED] += 1
            pause = client.think_s[owner] if len(client.think_s) > 0 else 0.0
            push(events, counters, t + pause, SEND, following)
    elif len(client.follower) > 0 and client.follower[owner] >= 0:
        following = client.follower[owner]
        push(events, counters, t + client.think_s[following], SEND, following)


@within
def followed(rows: Array, replica: Array, begin: int, i: int) -> int:
    """The replica that a sample of the call from `begin` on and before i is at, -1 = i is the first under way."""
    for j in range(begin, i):
        if replica[j] >= 0 and rows[j].status == PENDING:
            return int(replica[j])
    return -1


@within
def anybody_serves(member: Array) -> bool:
    """Whether any replica serves."""
    serving = 0
    for r in range(len(member)):
        serving += member[r] == SERVING
    return serving > 0


# --- what is called at one place only, and so costs no call; they give back the query that follows, -1 = none ---


@inlined
def admitted(client: Client, queries: Queries, desk: Desk, query: int, t: float) -> int:
    """A query comes at time t: it is sent, or waits at the client because as many as may be are under way."""
    n = desk.counters
    queries.arrival_s[query] = t
    if client.max_in_flight == 0 or n[IN_FLIGHT] < client.max_in_flight:
        return query
    desk.held[n[HELD_TO]] = query
    n[HELD_TO] += 1
    return -1


@inlined
def send_query(rows: Array, client: Client, queries: Queries, desk: Desk, query: int, t: float) -> None:
    """A query leaves its client at time t."""
    n = desk.counters
    n[IN_FLIGHT] += 1
    queries.sent_s[query] = t
    queries.stage[query] = 0
    if client.timeout_s < math.inf:
        push(desk.events, n, t + client.timeout_s, DEADLINE, query)
    send_stage(rows, client, queries, desk.events, n, query, t)


@inlined
def end_request(
    scalars: Array, rows: Array, member: Array, client: Client, queries: Queries, desk: Desk, i: int, t: float
) -> int:
    """A request has its last token at time t; with the last of its stage the next one is sent, or its query over."""
    if desk.ended[i] != 0 or rows[i].last_token_s != t:  # of a step that was cut off
        return -1
    desk.ended[i] = 1
    r = desk.replica[i]
    if member[r] == DRAINING and scalars[r].outstanding == 0:
        desk.counters[EMPTIED] = 1
    query = i // client.width
    if queries.remaining[query] == 0:  # it is over
        return -1
    queries.remaining[query] -= 1
    if queries.remaining[query] > 0:
        return -1
    if queries.stage[query] + 2 == len(client.stage_first):
        return query
    queries.stage[query] += 1
    send_stage(rows, client, queries, desk.events, desk.counters, query, t)
    return -1


@inlined
def end_query(client: Client, queries: Queries, desk: Desk, query: int, t: float) -> int:
    """A query is over at time t: its client has another one to send, and one that waits at a client may be sent."""
    n = desk.counters
    following_query(client, queries, n, desk.events, query, t)
    if n[HELD_FROM] == n[HELD_TO]:
        return -1
    n[HELD_FROM] += 1
    return int(desk.held[n[HELD_FROM] - 1])
