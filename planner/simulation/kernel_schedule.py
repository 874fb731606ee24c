"""What a step holds: vLLM's two passes, compiled, with the same rules under the same banners as `reference`.

Running decodes are not visited one by one where that can be helped: counts by the fill of their last block tell how
many of them take a new block.
"""

from __future__ import annotations

from planner.simulation.kernel_blocks import (
    fill_shared,
    find_copy,
    look_up,
    take_blocks,
    take_hits,
    unlink_copy,
)
from planner.simulation.kernel_queue import computed_tokens, head_of_queue, preempt_last
from planner.simulation.kernel_running import (
    append_running,
    rebuild_heap,
)
from planner.simulation.kernel_state import (
    SKIPS_CACHE_READ,
    Costs,
    Replicas,
    Requests,
    Settings,
    compiled,
    inlined,
)

# --- pass 1: running requests, in list order ---


@inlined
def blocks_between(st: Settings, before: int, after: int) -> int:
    """Blocks that a request takes to go from `before` to `after` tokens."""
    size = st.block_size
    return (after + size - 1) // size - (before + size - 1) // size


@inlined
def add_prefill(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int, chunk: int) -> None:
    """Count a prefill chunk into the step in hand and hash the blocks that it fills."""
    s = p.scalars[r]
    before = p.seats[r, seat].offset
    after = before + chunk
    p.seats[r, seat].offset = after
    p.seats[r, seat].scheduled = chunk
    p.seats[r, s.n_batch].batch = seat
    s.n_batch += 1
    s.step_tokens += chunk
    s.step_requests += 1
    s.prefill_tokens += chunk
    s.step_attention_s += c.prefill_token2_s * float(after * after - before * before)
    s.step_attention_s += c.prefill_window_s * (attended(c, after) - attended(c, before))
    if p.seats[r, seat].held < q.rows[p.seats[r, seat].request].shared_count and st.caching != 0:
        fill_shared(p, q, st, r, seat, after)


@inlined
def attended(c: Costs, length: int) -> float:
    """∫₀^length min(t, window) dt, as `coefficients.StepCost.attended`."""
    if length <= c.window:
        return 0.5 * length * length
    return 0.5 * c.window * c.window + c.window * (length - c.window)


@inlined
def prefill_want(p: Replicas, q: Requests, r: int, seat: int, threshold: int, budget: int) -> int:
    """Tokens that a partly prefilled request asks for."""
    i = p.seats[r, seat].request
    want = q.rows[i].prompt + q.rows[i].generated - p.seats[r, seat].offset
    if threshold > 0:
        want = min(want, threshold)
    return min(want, budget)


@inlined
def schedule_running_at_once(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> bool:
    """Pass 1 where the list is decodes and at most one prompt after them, and blocks suffice; else False, untouched."""
    s = p.scalars[r]
    if st.threshold != 0 or st.defer_prefills != 0 or s.n_prefilling > 1:
        return False
    seat = s.last
    while seat >= 0 and p.seats[r, seat].over != 0:
        seat = p.seats[r, seat].previous
    if s.n_prefilling == 1 and p.seats[r, seat].decoding != 0:
        return False
    taking = p.phase[r, (-s.decode_steps) % st.block_size]
    chunk = 0
    if s.n_prefilling == 1:
        chunk = prefill_want(p, q, r, seat, st.threshold, st.budget - s.n_decoding)
    before = p.seats[r, seat].offset if chunk > 0 else 0
    more = blocks_between(st, before, before + chunk)
    if taking + more > s.plain_free + s.cached_free:
        return False
    take_blocks(p, q, r, taking + more)
    s.walked = 0
    s.step_tokens = s.n_decoding
    s.step_requests = s.n_decoding
    s.step_decodes = s.n_decoding
    s.step_context = s.context
    s.step_windowed = s.windowed
    if s.n_chained > 0:
        fill_chained(p, q, st, r, s.decode_steps + 1 - st.lagged)
    if chunk > 0:
        add_prefill(p, q, st, c, r, seat, chunk)
    return True


@compiled
def schedule_running(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, threshold: int, defer: bool) -> None:
    """Pass 1, one request after the other."""
    s = p.scalars[r]
    s.walked = 1
    budget = st.budget
    seat = s.first
    while seat >= 0:
        p.seats[r, seat].scheduled = 0
        seat = p.seats[r, seat].following
    seat = s.first
    while seat >= 0 and budget > 0:
        decoding = p.seats[r, seat].decoding != 0
        if p.seats[r, seat].over != 0 or (defer and not decoding):
            seat = p.seats[r, seat].following
            continue
        before = computed_tokens(p, r, seat)
        want = 1 if decoding else prefill_want(p, q, r, seat, threshold, budget)
        need = blocks_between(st, before, before + want)
        gone = False
        while need > s.plain_free + s.cached_free and not gone:
            gone = preempt_last(p, q, st, c, r) == seat
        if gone:
            break
        take_blocks(p, q, r, need)
        budget -= want
        if decoding:
            p.seats[r, seat].scheduled = 1
            s.step_tokens += 1
            s.step_requests += 1
            s.step_decodes += 1
            s.step_context += before
            s.step_windowed += min(before, c.window)
            if p.seats[r, seat].chained != 0:
                fill_shared(p, q, st, r, seat, before + 1 - st.lagged)
        else:
            add_prefill(p, q, st, c, r, seat, want)
        seat = p.seats[r, seat].following
    if s.step_preemptions > 0:
        rebuild_heap(p, r)


@compiled
def fill_chained(p: Replicas, q: Requests, st: Settings, r: int, decode_steps: int) -> None:
    """Hash the blocks that decodes fill by `decode_steps` with tokens which other prompts repeat.

    Asynchronous: by the step before the last, as the last one's token is not known when it is scheduled.
    """
    s = p.scalars[r]
    seat = s.first
    while seat >= 0:
        if p.seats[r, seat].chained != 0:
            held = p.seats[r, seat].held
            fill_shared(p, q, st, r, seat, p.seats[r, seat].offset + decode_steps)
            for b in range(held, p.seats[r, seat].held):
                node = p.copies[r, seat * st.shared_per_seat + b]
                if find_copy(p, r, p.nodes[r, node].content) != node:
                    put_in_order(p, st, r, seat, b)
            if p.seats[r, seat].held == q.rows[p.seats[r, seat].request].shared_count:
                p.seats[r, seat].chained = 0
                s.n_chained -= 1
        seat = p.seats[r, seat].following


@compiled
def put_in_order(p: Replicas, st: Settings, r: int, seat: int, b: int) -> None:
    """Others have a copy of the block b that `seat` has just filled: the first to be filled must be found first.

    After a jump the seats are visited in list order, whichever filled the block first: the longer context did.
    """
    node = p.copies[r, seat * st.shared_per_seat + b]
    bucket = p.nodes[r, node].content & (p.buckets.shape[1] - 1)
    before = -1
    at = p.buckets[r, bucket].first
    while at != node and not (p.nodes[r, at].content == p.nodes[r, node].content and later(p, st, r, at, seat, b)):
        before = at
        at = p.nodes[r, at].sibling
    if at == node:
        return
    unlink_copy(p, r, node)
    p.nodes[r, node].sibling = at
    if before < 0:
        p.buckets[r, bucket].first = node
    else:
        p.nodes[r, before].sibling = node


@inlined
def later(p: Replicas, st: Settings, r: int, copy: int, seat: int, b: int) -> bool:
    """Whether a decode with a shorter context than `seat` has filled `copy`, its block b."""
    other = p.scalars[r].first
    while other >= 0:
        if (
            p.seats[r, other].decoding != 0
            and p.seats[r, other].held > b
            and p.copies[r, other * st.shared_per_seat + b] == copy
        ):
            return p.seats[r, other].offset < p.seats[r, seat].offset
        other = p.seats[r, other].following
    return False


# --- pass 2: waiting requests, first come first served, no overtaking ---


@inlined
def schedule_waiting(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, threshold: int, defer: bool) -> None:
    """Admit from the head of the queue until it does not fit."""
    s = p.scalars[r]
    size = st.block_size
    while s.step_tokens < st.budget and s.n_running < st.seats:
        i = head_of_queue(p, q, r)
        if i < 0:
            return
        budget = st.budget - s.step_tokens
        tokens = q.rows[i].prompt + q.rows[i].generated
        shared, own, hits_free = look_up(p, q, st, r, i, tokens)
        hit = (shared + own) * size
        want = tokens - hit
        if defer and want > 1:
            return
        if threshold > 0:
            want = min(want, threshold)
        if st.chunked == 0 and want > budget:
            return
        want = min(want, budget)
        # The whole prompt must fit now, not only this chunk; what admitted prompts still lack is not kept back.
        free = s.plain_free + s.cached_free
        watermark = st.watermark if s.n_running > 0 else 0
        whole = (tokens + size - 1) // size - shared - own
        now = (hit + want + size - 1) // size - shared - own
        if st.reserve != 0 and whole + hits_free + watermark > free:
            return
        if now + hits_free + watermark > free:
            return
        # --- counters: look-ups of readmissions are kept apart; where the cache is not asked nothing is counted ---
        asked = st.caching != 0 and (q.rows[i].flags & SKIPS_CACHE_READ) == 0
        if s.n_preempted > 0:
            s.n_preempted -= 1
            s.requeried_tokens += tokens if asked else 0
            s.rehit_tokens += hit
        else:
            s.queue_head = q.rows[i].link
            s.queried_tokens += tokens if asked else 0
            s.hit_tokens += hit
        s.n_waiting -= 1
        seat = append_running(p, r, i)
        take_hits(p, q, st, r, seat, shared, own)
        take_blocks(p, q, r, now)
        p.seats[r, seat].offset = hit
        add_prefill(p, q, st, c, r, seat, want)
