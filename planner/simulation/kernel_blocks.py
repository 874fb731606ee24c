"""KV blocks of one replica: the free queue, the prefix cache, least-recently-used eviction.

vLLM keeps all free blocks in one queue, takes from its front, puts blocks without a hash to the front and hashed ones
to the back, tail of the request first. So the queue is always *all plain blocks, then hashed ones by time of release*,
and two facts make it cheap without making it inexact:

- plain blocks are alike: a count is enough (`plain_free`);
- the blocks that only their own request can ever hit leave the queue tail first, so a whole run of them is one node
  with a length. Blocks that others may hit are nodes of their own, and may exist in several copies.

`content[node]` is >= 0 for a copy of shared content, RUN for the private run of a request that has ended and
OWNED - i for that of preempted request i, which will look for it when it comes back.
"""

from __future__ import annotations

from planner.simulation.kernel_state import (
    ABORTED,
    PENDING,
    SKIPS_CACHE_READ,
    Replicas,
    Requests,
    Settings,
    compiled,
    inlined,
)

RUN, OWNED = -1, -2


# --- the queue of hashed free blocks ---


@inlined
def push_lru(p: Replicas, r: int, node: int) -> None:
    """Append `node` at the back: the last to be evicted."""
    s = p.scalars[r]
    p.nodes[r, node].previous = s.lru_tail
    p.nodes[r, node].following = -1
    if s.lru_tail >= 0:
        p.nodes[r, s.lru_tail].following = node
    else:
        s.lru_head = node
    s.lru_tail = node


@inlined
def unlink_lru(p: Replicas, r: int, node: int) -> None:
    """Take `node` out of the queue wherever it stands."""
    s = p.scalars[r]
    before, after = p.nodes[r, node].previous, p.nodes[r, node].following
    if before >= 0:
        p.nodes[r, before].following = after
    else:
        s.lru_head = after
    if after >= 0:
        p.nodes[r, after].previous = before
    else:
        s.lru_tail = before


@inlined
def new_node(p: Replicas, r: int) -> int:
    """A node off the list of spare ones; there is one for every block."""
    s = p.scalars[r]
    node = s.free_node
    if node >= 0:
        s.free_node = p.nodes[r, node].following
    else:  # memory is touched only as far as nodes were ever needed
        node = s.nodes_used
        s.nodes_used += 1
    return node


@inlined
def drop_node(p: Replicas, r: int, node: int) -> None:
    """Give `node` back to the spare ones."""
    s = p.scalars[r]
    p.nodes[r, node].following = s.free_node
    s.free_node = node


# --- copies of shared content ---


@inlined
def add_copy(p: Replicas, r: int, content: int) -> int:
    """A block that its owner has just filled with shared `content`: found only after the copies hashed before it."""
    node = new_node(p, r)
    p.nodes[r, node].content = content
    p.nodes[r, node].count = 1
    p.nodes[r, node].sibling = -1
    bucket = content & (p.buckets.shape[1] - 1)
    if p.buckets[r, bucket].first < 0:
        p.buckets[r, bucket].first = node
    else:
        p.nodes[r, p.buckets[r, bucket].last].sibling = node
    p.buckets[r, bucket].last = node
    return node


@inlined
def find_copy(p: Replicas, r: int, content: int) -> int:
    """The copy of shared `content` that was hashed first, -1 = none is cached."""
    node = p.buckets[r, content & (p.buckets.shape[1] - 1)].first
    while node >= 0 and p.nodes[r, node].content != content:
        node = p.nodes[r, node].sibling
    return node


@compiled
def unlink_copy(p: Replicas, r: int, node: int) -> None:
    """`node` can be found no more: it loses its hash because it is about to be overwritten, or finds another place."""
    bucket = p.nodes[r, node].content & (p.buckets.shape[1] - 1)
    before = -1
    at = p.buckets[r, bucket].first
    while at != node:
        before = at
        at = p.nodes[r, at].sibling
    if before < 0:
        p.buckets[r, bucket].first = p.nodes[r, node].sibling
    else:
        p.nodes[r, before].sibling = p.nodes[r, node].sibling
    if p.buckets[r, bucket].last == node:
        p.buckets[r, bucket].last = before


# --- taking and giving back ---


@inlined
def take_blocks(p: Replicas, q: Requests, r: int, wanted: int) -> None:
    """Take `wanted` free blocks off the front of the queue, evicting what they held."""
    s = p.scalars[r]
    plain = min(wanted, s.plain_free)
    s.plain_free -= plain
    wanted -= plain
    s.evicted_blocks += wanted
    while wanted > 0:
        node = s.lru_head
        if p.nodes[r, node].content >= 0:
            unlink_copy(p, r, node)
            s.cached_free -= 1
            wanted -= 1
            unlink_lru(p, r, node)
            drop_node(p, r, node)
        else:
            evicted = min(wanted, p.nodes[r, node].count)
            p.nodes[r, node].count -= evicted
            s.cached_free -= evicted
            wanted -= evicted
            if p.nodes[r, node].count == 0:
                if p.nodes[r, node].content <= OWNED:
                    q.rows[OWNED - p.nodes[r, node].content].survivor = -1
                unlink_lru(p, r, node)
                drop_node(p, r, node)


@inlined
def give_back(p: Replicas, q: Requests, st: Settings, r: int, seat: int, computed: int, known: int) -> None:
    """Free all blocks of `seat`; a request that has not ended will look for them.

    They hold `computed` tokens, of which the scheduler knows the first `known`: full blocks of those carry a hash.
    """
    s = p.scalars[r]
    owned = (computed + st.block_size - 1) // st.block_size
    if st.caching == 0:
        s.plain_free += owned
        return
    hashed = known // st.block_size
    held = p.seats[r, seat].held
    s.plain_free += owned - hashed
    if hashed > held:
        i = p.seats[r, seat].request
        node = new_node(p, r)
        p.nodes[r, node].content = RUN
        p.nodes[r, node].count = hashed - held
        s.cached_free += hashed - held
        push_lru(p, r, node)
        if q.rows[i].status == PENDING:
            p.nodes[r, node].content = OWNED - i
            q.rows[i].survivor = node
    row = seat * st.shared_per_seat
    for b in range(held - 1, -1, -1):
        node = p.copies[r, row + b]
        p.nodes[r, node].count -= 1
        if p.nodes[r, node].count == 0:
            s.cached_free += 1
            push_lru(p, r, node)


@inlined
def fill_shared(p: Replicas, q: Requests, st: Settings, r: int, seat: int, computed: int) -> None:
    """Hash the shared blocks of `seat` that `computed` tokens fill: from now on others can hit them."""
    i = p.seats[r, seat].request
    full = min(computed // st.block_size, q.rows[i].shared_count)
    row = seat * st.shared_per_seat
    for b in range(p.seats[r, seat].held, full):
        p.copies[r, row + b] = add_copy(p, r, q.shared_ids[q.rows[i].shared_start + b])
    p.seats[r, seat].held = max(full, p.seats[r, seat].held)


# --- looking up ---


@inlined
def look_up(p: Replicas, q: Requests, st: Settings, r: int, i: int, tokens: int) -> tuple[int, int, int]:
    """(shared blocks hit, own surviving blocks hit, hit blocks that stand in the free queue) for request i.

    The walk stops at the first miss and never covers the last token, which must be computed to be sampled from.
    """
    if st.caching == 0 or (q.rows[i].flags & SKIPS_CACHE_READ) != 0:
        return 0, 0, 0
    limit = (tokens - 1) // st.block_size
    start = q.rows[i].shared_start
    shared = min(limit, q.rows[i].shared_count)
    hit = 0
    free = 0
    while hit < shared:
        node = find_copy(p, r, q.shared_ids[start + hit])
        if node < 0:
            return hit, 0, free
        if p.nodes[r, node].count == 0:
            free += 1
        hit += 1
    # Surviving blocks of its own are older in the queue than the shared ones before them, so those all hit.
    own = 0
    if q.rows[i].survivor >= 0 and hit == q.rows[i].shared_count:
        own = min(p.nodes[r, q.rows[i].survivor].count, limit - hit)
    return hit, own, free + own


@inlined
def take_hits(p: Replicas, q: Requests, st: Settings, r: int, seat: int, shared: int, own: int) -> None:
    """Make request's hit blocks its own: they leave the free queue if nobody else held them."""
    s = p.scalars[r]
    i = p.seats[r, seat].request
    row = seat * st.shared_per_seat
    start = q.rows[i].shared_start
    for b in range(shared):
        node = find_copy(p, r, q.shared_ids[start + b])
        if p.nodes[r, node].count == 0:
            unlink_lru(p, r, node)
            s.cached_free -= 1
        p.nodes[r, node].count += 1
        p.copies[r, row + b] = node
    p.seats[r, seat].held = shared
    node = q.rows[i].survivor
    if node >= 0:
        q.rows[i].survivor = -1
        p.nodes[r, node].count -= own
        s.cached_free -= own
        if p.nodes[r, node].count == 0:
            unlink_lru(p, r, node)
            drop_node(p, r, node)
        else:
            p.nodes[r, node].content = RUN


@compiled
def forget_survivor(p: Replicas, q: Requests, r: int, i: int) -> None:
    """Request i was aborted while it waited to come back: nobody will look for its run any more."""
    if q.rows[i].status == ABORTED and q.rows[i].survivor >= 0:
        p.nodes[r, q.rows[i].survivor].content = RUN
        q.rows[i].survivor = -1
