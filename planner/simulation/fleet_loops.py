"""How arrivals that are known beforehand reach replicas, compiled: two loops over the kernel.

- `run_alone`: one replica whose requests are all known.
- `run_routed`: who serves a request depends on what the replicas have finished.

Arrivals that depend on what happens (stages, sessions, closed loops, client limits, failures) are `fleet_events`'.
A replica is advanced only when somebody must know its state: `wake[r]` is a time before which it completes nothing.
"""

from __future__ import annotations

import math

from planner.simulation.kernel import advance, wake_s
from planner.simulation.kernel_queue import enqueue
from planner.simulation.kernel_state import Array, Costs, Gaps, Replicas, Requests, Settings, compiled, released
from planner.simulation.prefix_index import remember
from planner.simulation.routing import PREFIX_AWARE, Router, choose


@released
def run_alone(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, order: Array, until: float) -> None:
    """Hand replica r the requests `order` (by `ready_s`) and run it up to `until`."""
    for k in range(len(order)):
        enqueue(p, q, r, order[k])
    advance(p, q, st, c, g, r, until)


@compiled
def run_routed(
    p: Replicas,
    q: Requests,
    st: Settings,
    c: Costs,
    g: Gaps,
    router: Router,
    order: Array,
    leader: Array,
    replica: Array,
    wake: Array,
) -> None:
    """Route the requests `order` (by `ready_s`) one after the other; samples of a call follow their `leader`.

    All replicas serve and have room for any number. `wake` [R] is inf in the beginning. Afterwards every replica stands
    at the last arrival; what is left in them is `run_alone`'s to finish.
    """
    count = len(p.scalars)
    sees_all = router.policy == PREFIX_AWARE  # its score needs every replica at the present
    turn = 0
    for k in range(len(order)):
        i = order[k]
        t = q.rows[i].ready_s
        for r in range(count):
            if wake[r] <= t or (sees_all and wake[r] < math.inf):
                advance(p, q, st, c, g, r, t)
                wake[r] = wake_s(p, q, st, c, r)
        if leader[i] == i:
            replica[i] = choose(p, q, st, router, i, t, turn, 1)
            turn = replica[i] + 1 if replica[i] + 1 < count else 0
            if sees_all:
                remember(router.prefixes, q, st.block_size, replica[i], i)
        else:
            replica[i] = replica[leader[i]]
        r = replica[i]
        advance(p, q, st, c, g, r, t)
        enqueue(p, q, r, i)
        wake[r] = wake_s(p, q, st, c, r)
    if len(order) > 0:
        for r in range(count):
            advance(p, q, st, c, g, r, q.rows[order[-1]].ready_s)
