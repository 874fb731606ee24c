"""Which data-parallel rank of a replica serves a request: vLLM's own balancing, behind the one endpoint of its ranks.

vLLM 0.32.0's API server sends a request to the rank with the least

    max(requests sent there and unfinished, waiting + running) + 6 · waiting · max(0, KV cache usage − 0.5)

and begins its search at another rank each time, so that equal ranks take turns. It knows `waiting`, `running` and the
usage from reports; here they are those of the last step boundary.
"""

from __future__ import annotations

from planner.simulation.kernel_state import Replicas, Settings, inlined
from planner.simulation.routing import unfinished

WAITING_WEIGHT, HALF_FULL = 6.0, 0.5  # vLLM's


@inlined
def choose_rank(p: Replicas, st: Settings, t: float, first: int, count: int, turn: int) -> int:
    """The rank, of first … first + count − 1, that gets a request at time t; ties go round, from first + `turn` on."""
    best, least = -1, 0.0
    for k in range(count):
        r = first + (turn + k) % count
        s = p.scalars[r]
        used = st.usable_blocks - s.plain_free - s.cached_free
        pressure = max(0.0, used / st.usable_blocks - HALF_FULL)
        load = max(unfinished(p.scalars, r, t), s.n_waiting + s.n_running) + WAITING_WEIGHT * s.n_waiting * pressure
        if best < 0 or load < least:
            best, least = r, load
    return best
