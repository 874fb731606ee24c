"""Which replica a call goes to, compiled: one rule for each name of `fleet.routing`, over the replicas that serve.

- random, round_robin: nobody's state is asked.
- least_loaded: the fewest unfinished requests. power_of_two: the fewer of two drawn at random.
- session_affinity: the first that serves of an endless row of replicas drawn for the session. That is consistent
  hashing: when a replica goes, its sessions alone move, to all others evenly; when it is back, they return.
- prefix_aware: the highest score of what the router believes is cached there, and of how busy it is.

`draws` has a number for each request that all its chance comes from, so that an answer does not depend on the order in
which numbers are asked for.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from planner.simulation.fleet_heap import within
from planner.simulation.fleet_world import SERVING
from planner.simulation.kernel_state import Array, Replicas, Requests, Settings, inlined
from planner.simulation.prefix_index import Index, match

RANDOM, ROUND_ROBIN, LEAST_LOADED, POWER_OF_TWO, SESSION_AFFINITY, PREFIX_AWARE = 0, 1, 2, 3, 4, 5
Routing = Literal["random", "round_robin", "least_loaded", "power_of_two", "session_affinity", "prefix_aware"]
CODES: dict[Routing, int] = {
    "random": RANDOM,
    "round_robin": ROUND_ROBIN,
    "least_loaded": LEAST_LOADED,
    "power_of_two": POWER_OF_TWO,
    "session_affinity": SESSION_AFFINITY,
    "prefix_aware": PREFIX_AWARE,
}
BLIND = {"random", "round_robin", "session_affinity"}  # they ask nobody's state
NOBODY_CAN = -1
TRIES = 16  # times the number of replicas: then whoever is next in line
# Prefix 3 and queue 2 are the default profile of the llm-d scheduler as Red Hat OpenShift AI 3.4 documents it; other
# published profiles have 3 : 1 : 1. What KV usage weighs is taken to be what the queue weighs.
PREFIX_WEIGHT, QUEUE_WEIGHT, KV_WEIGHT = 3.0, 2.0, 2.0


class Router(NamedTuple):
    """The rule, and what it needs to know."""

    policy: int
    member: Array  # [R] of `fleet_world`: only those that serve are given anything
    draws: Array  # [N] under random, power_of_two and session_affinity
    room: int  # unfinished requests that a replica may have, 0 = any number
    prefixes: Index  # of prefix_aware


@inlined
def unfinished(scalars: Array, r: int, t: float) -> int:
    """Requests that replica r has in hand or in its queue at time t."""
    s = scalars[r]
    if s.now > t:  # the step in hand ends later: its requests are still outstanding
        return s.outstanding + s.finished_now
    return s.outstanding


@inlined
def waiting(scalars: Array, r: int) -> int:
    """Unfinished requests of replica r that have no seat; who has ended may keep its own through one more step."""
    s = scalars[r]
    return s.outstanding - (s.n_running - s.n_ended)


@inlined
def may_take(scalars: Array, member: Array, room: int, r: int, t: float, requests: int) -> bool:
    """Whether replica r serves and has room for so many more requests."""
    if member[r] != SERVING:
        return False
    return room == 0 or unfinished(scalars, r, t) + requests <= room


@within
def in_turn(scalars: Array, member: Array, room: int, t: float, turn: int, requests: int) -> int:
    """The next replica from `turn` on that may take it."""
    count = len(member)
    for k in range(count):
        r = turn + k
        if r >= count:
            r -= count
        if may_take(scalars, member, room, r, t, requests):
            return r
    return NOBODY_CAN


@within
def least_loaded(scalars: Array, member: Array, room: int, t: float, turn: int, requests: int) -> int:
    """The replica with the fewest unfinished requests at time t; ties go round, beginning at `turn`."""
    count = len(member)
    best, fewest = NOBODY_CAN, 0
    for k in range(count):
        r = turn + k
        if r >= count:
            r -= count
        if member[r] != SERVING:
            continue
        load = unfinished(scalars, r, t)
        if best < 0 or load < fewest:
            best, fewest = r, load
    if best >= 0 and room > 0 and fewest + requests > room:
        return NOBODY_CAN
    return best


@inlined
def drawn(number: int, k: int, count: int) -> int:
    """The k-th replica of the row that belongs to `number`: the first is its remainder, each other a hash of both.

    The hash is SplitMix64's (Steele, Lea, Flood 2014).
    """
    if k == 0:
        return number % count
    z = np.uint64(number) + np.uint64(k) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return int(np.int64(z >> np.uint64(1)) % count)


@within
def first_drawn(scalars: Array, member: Array, room: int, number: int, t: float, requests: int, other_than: int) -> int:
    """The first of the row of replicas that belongs to `number` that may take it, `other_than` left out."""
    count = len(member)
    for k in range(TRIES * count):
        r = drawn(number, k, count)
        if r != other_than and may_take(scalars, member, room, r, t, requests):
            return r
    for r in range(count):
        if r != other_than and may_take(scalars, member, room, r, t, requests):
            return r
    return NOBODY_CAN


@within
def power_of_two(scalars: Array, member: Array, room: int, number: int, t: float, requests: int) -> int:
    """Of two replicas drawn at random the one with fewer unfinished requests, the first if they have as many."""
    one = first_drawn(scalars, member, room, number, t, requests, NOBODY_CAN)
    if one < 0 or len(member) == 1:
        return one
    two = first_drawn(scalars, member, room, number, t, requests, one)
    if two >= 0 and unfinished(scalars, two, t) < unfinished(scalars, one, t):
        return two
    return one


@within
def prefix_aware(
    scalars: Array,
    q: Requests,
    member: Array,
    room: int,
    prefixes: Index,
    block_size: int,
    usable_blocks: int,
    i: int,
    t: float,
    turn: int,
    requests: int,
) -> int:
    """The replica with the highest score; ties go round, beginning at `turn`. All must stand at time t.

    3 · share of the prompt's blocks that it was sent before + 2 · (most waiting − its waiting) / (most − fewest)
    + 2 · (1 − share of its KV cache in use).
    """
    count = len(member)
    most, fewest = -1, -1
    for r in range(count):
        if may_take(scalars, member, room, r, t, requests):
            queued = waiting(scalars, r)
            most = max(most, queued)
            fewest = queued if fewest < 0 else min(fewest, queued)
    match(prefixes, q, block_size, i)
    blocks = max(q.rows[i].prompt // block_size, 1)
    best, highest = NOBODY_CAN, 0.0
    for k in range(count):
        r = turn + k
        if r >= count:
            r -= count
        if not may_take(scalars, member, room, r, t, requests):
            continue
        s = scalars[r]
        score = PREFIX_WEIGHT * prefixes.matched[r] / blocks
        score += QUEUE_WEIGHT * ((most - waiting(scalars, r)) / (most - fewest) if most > fewest else 1.0)
        score += KV_WEIGHT * (s.plain_free + s.cached_free) / usable_blocks
        if best < 0 or score > highest:
            best, highest = r, score
    return best


@inlined
def choose(p: Replicas, q: Requests, st: Settings, router: Router, i: int, t: float, turn: int, requests: int) -> int:
    """The replica for the call that begins with request i and has so many `requests`; NOBODY_CAN where none may."""
    if router.policy == LEAST_LOADED:
        return least_loaded(p.scalars, router.member, router.room, t, turn, requests)
    if router.policy == ROUND_ROBIN:
        return in_turn(p.scalars, router.member, router.room, t, turn, requests)
    if router.policy == PREFIX_AWARE:
        return prefix_aware(
            p.scalars,
            q,
            router.member,
            router.room,
            router.prefixes,
            st.block_size,
            st.usable_blocks,
            i,
            t,
            turn,
            requests,
        )
    number = router.draws[i]
    if router.policy == POWER_OF_TWO:
        return power_of_two(p.scalars, router.member, router.room, number, t, requests)
    return first_drawn(p.scalars, router.member, router.room, number, t, requests, NOBODY_CAN)
