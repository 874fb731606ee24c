"""One engine step, compiled: the twin of `reference`, with the same rules under the same banners.

Running decodes are not visited one by one where that can be helped: a heap orders their ends, and counts by the fill
of their last block tell how many of them take a new block in a step.
"""

from __future__ import annotations

from planner.simulation.kernel_blocks import (
    fill_shared,
    forget_survivor,
    give_back,
    look_up,
    take_blocks,
    take_hits,
)
from planner.simulation.kernel_running import (
    add_gaps,
    append_running,
    enter_decode,
    leave_decode,
    pop_due,
    rebuild_heap,
    remove_running,
    sort_ended,
)
from planner.simulation.kernel_state import (
    ABORTED,
    COUNTED,
    FINISHED,
    PENDING,
    SKIPS_CACHE_READ,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
    compiled,
    inlined,
)

# --- the waiting queue ---


@compiled
def enqueue(p: Replicas, q: Requests, r: int, i: int) -> None:
    """Hand request i to replica r; requests must come in the order of their `ready_s`."""
    s = p.scalars[r]
    if s.n_running == 0 and s.n_waiting == 0 and s.unseen < 0 and s.now < q.rows[i].ready_s:
        s.now = q.rows[i].ready_s  # it idles until then
        s.horizon = s.now
        s.finished_now = 0
    q.rows[i].link = -1
    if s.queue_head >= 0:
        q.rows[s.queue_tail].link = i
    else:
        s.queue_head = i
    s.queue_tail = i
    if s.unseen < 0:
        s.unseen = i
    s.outstanding += 1


@inlined
def see_arrivals(p: Replicas, q: Requests, st: Settings, r: int) -> None:
    """Requests that were ready by the horizon join the waiting queue."""
    s = p.scalars[r]
    while s.unseen >= 0 and q.rows[s.unseen].ready_s <= s.horizon:
        if q.rows[s.unseen].status != ABORTED:
            s.waiting_s += s.now - q.rows[s.unseen].ready_s
            s.n_waiting += 1
            if st.adaptive != 0:  # the longer the queue the shorter the chunks, and a shorter one may fit
                s.blocked = 0
        s.unseen = q.rows[s.unseen].link


@inlined
def head_of_queue(p: Replicas, q: Requests, r: int) -> int:
    """The request that is next to be admitted: preempted ones first, -1 = nobody waits."""
    s = p.scalars[r]
    if s.n_preempted > 0:
        return p.seats[r, s.n_preempted - 1].preempted
    while s.queue_head >= 0 and s.queue_head != s.unseen and q.rows[s.queue_head].status == ABORTED:
        s.queue_head = q.rows[s.queue_head].link
    if s.queue_head == s.unseen:
        return -1
    return s.queue_head


@compiled
def abort(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, i: int) -> None:
    """The client gives request i up: at a boundary between steps its seat and blocks are free at once."""
    s = p.scalars[r]
    if q.rows[i].status == FINISHED:
        return
    see_arrivals(p, q, st, r)  # who came by this boundary came before the client gave up
    q.rows[i].status = ABORTED
    s.outstanding -= 1
    s.blocked = 0
    seat = s.first
    while seat >= 0 and p.seats[r, seat].request != i:
        seat = p.seats[r, seat].following
    if seat >= 0:
        free_seat(p, q, st, c, r, seat)
        rebuild_heap(p, r)
        return
    for k in range(s.n_preempted):
        if p.seats[r, k].preempted == i:
            for m in range(k, s.n_preempted - 1):
                p.seats[r, m].preempted = p.seats[r, m + 1].preempted
            s.n_preempted -= 1
            s.n_waiting -= 1
            forget_survivor(p, q, r, i)
            return
    ahead = s.unseen
    while ahead >= 0 and ahead != i:
        ahead = q.rows[ahead].link
    if ahead < 0:
        s.n_waiting -= 1


# --- preemption ---


@inlined
def computed_tokens(p: Replicas, r: int, seat: int) -> int:
    """Tokens of the request in `seat` whose KV is written."""
    if p.seats[r, seat].decoding != 0:
        return p.seats[r, seat].offset + p.scalars[r].decode_steps
    return p.seats[r, seat].offset


@inlined
def free_seat(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int) -> None:
    """Take the request out of the running list and give its blocks back; the heap is left to the caller.

    A request that is still pending has been preempted and will return.
    """
    s = p.scalars[r]
    i = p.seats[r, seat].request
    give_back(p, q, st, r, seat, computed_tokens(p, r, seat))
    if p.seats[r, seat].decoding != 0:
        if q.rows[i].status == PENDING:
            q.rows[i].generated = q.rows[i].output - (p.seats[r, seat].finish_at - s.decode_steps)
            if p.seats[r, seat].stalled == 0:
                q.rows[i].last_token_s = s.now
        leave_decode(p, q, st, c, r, seat)
    else:
        s.n_prefilling -= 1
    remove_running(p, r, seat)


@inlined
def preempt_last(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> int:
    """First come, first served: the victim is the last of the running list. It returns to the head of the queue."""
    s = p.scalars[r]
    victim = s.last
    i = p.seats[r, victim].request
    free_seat(p, q, st, c, r, victim)
    p.seats[r, s.n_preempted].preempted = i
    s.n_preempted += 1
    s.n_waiting += 1
    s.preemptions += 1
    s.step_preemptions += 1
    return victim


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
        fill_chained(p, q, st, r, s.decode_steps + 1)
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
        if defer and not decoding:
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
                fill_shared(p, q, st, r, seat, before + 1)
        else:
            add_prefill(p, q, st, c, r, seat, want)
        seat = p.seats[r, seat].following
    if s.step_preemptions > 0:
        rebuild_heap(p, r)


@compiled
def fill_chained(p: Replicas, q: Requests, st: Settings, r: int, decode_steps: int) -> None:
    """Hash the blocks that decodes fill by `decode_steps` with tokens which other prompts repeat."""
    s = p.scalars[r]
    seat = s.first
    while seat >= 0:
        if p.seats[r, seat].chained != 0:
            fill_shared(p, q, st, r, seat, p.seats[r, seat].offset + decode_steps)
            if p.seats[r, seat].held == q.rows[p.seats[r, seat].request].shared_count:
                p.seats[r, seat].chained = 0
                s.n_chained -= 1
        seat = p.seats[r, seat].following


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


# --- one step ---


@inlined
def step(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int) -> None:
    """Schedule once at `now`, let the step's time pass, and take its tokens in."""
    s = p.scalars[r]
    s.n_batch = 0
    s.step_preemptions = 0
    s.step_tokens = 0
    s.step_requests = 0
    s.step_decodes = 0
    s.step_context = 0
    s.step_windowed = 0
    s.step_attention_s = 0.0
    threshold = 0
    if st.threshold > 0 and s.n_running + s.n_waiting > 1:
        threshold = st.threshold
        if st.adaptive != 0:
            threshold = max(threshold, st.budget // (s.n_running + s.n_waiting))
    defer = st.defer_prefills != 0 and s.n_decoding > 0 and s.left_waiting == 0
    if not schedule_running_at_once(p, q, st, c, r):
        schedule_running(p, q, st, c, r, threshold, defer)
    if s.step_preemptions == 0:
        schedule_waiting(p, q, st, c, r, threshold, defer)
        if not defer:
            s.left_waiting = 1 if s.n_waiting > 0 else 0
    if s.step_requests == 0:
        s.stuck = 1
        return
    s.blocked = 1 if s.n_batch == 0 and s.step_preemptions == 0 and s.n_waiting > 0 and not defer else 0
    # --- its time ---
    seconds = c.tokens_s[s.step_tokens] + c.requests_s[s.step_requests]
    if s.step_decodes > 0:
        seconds += c.decode_attention_s + c.decode_token_s * s.step_context + c.window_token_s * s.step_windowed
    if s.n_batch > 0:
        seconds += s.step_attention_s + c.prefill_step_s
    pass_time(p, st, r, seconds, 1)
    s.decode_tokens += s.step_decodes
    s.context_tokens += s.step_context
    # --- its tokens: decodes first, as one, then prompts that are complete ---
    counted = s.n_counted
    if s.walked != 0 or s.n_stalled > 0:
        counted = settle_stalled(p, q, st, c, g, r)
    else:
        s.context += s.n_decoding
        s.windowed += s.growing
    s.decode_steps += 1
    if counted > 0:
        add_gaps(g, s.now, seconds, 0.0, 1, counted)
    s.n_ended = 0
    pop_due(p, c, r)
    for k in range(s.n_batch):
        seat = p.seats[r, k].batch
        i = p.seats[r, seat].request
        if p.seats[r, seat].offset == q.rows[i].prompt + q.rows[i].generated:
            take_first_token(p, q, st, c, g, r, seat)
    finish_ended(p, q, st, c, r)


@inlined
def pass_time(p: Replicas, st: Settings, r: int, seconds: float, steps: int) -> None:
    """`steps` steps that last `seconds` in all have run with the present lists."""
    s = p.scalars[r]
    used = st.usable_blocks - s.plain_free - s.cached_free
    s.kv_block_s += used * seconds
    s.kv_peak_blocks = max(s.kv_peak_blocks, used)
    s.running_s += s.n_running * seconds
    s.waiting_s += s.n_waiting * seconds
    s.busy_s += seconds
    s.steps += steps
    s.started = s.now
    s.now += seconds
    s.horizon = s.started if st.lagged != 0 else s.now
    s.finished_now = 0


@compiled
def settle_stalled(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int) -> int:
    """After a step that may have left decodes out: who moved, whose gap grew. Returns whose gap was this step."""
    s = p.scalars[r]
    counted = s.n_counted
    skipped = False
    seat = s.first
    while seat >= 0:
        if p.seats[r, seat].decoding != 0:
            i = p.seats[r, seat].request
            weight = q.rows[i].flags & COUNTED
            if s.walked != 0 and p.seats[r, seat].scheduled == 0:
                skipped = True
                p.phase[r, p.seats[r, seat].offset % st.block_size] -= 1
                p.seats[r, seat].offset -= 1
                p.phase[r, p.seats[r, seat].offset % st.block_size] += 1
                p.seats[r, seat].finish_at += 1
                p.seats[r, seat].event_at += 1
                if p.seats[r, seat].stalled == 0:
                    p.seats[r, seat].stalled = 1
                    s.n_stalled += 1
                    s.n_counted -= weight
                    counted -= weight
                    q.rows[i].last_token_s = s.started
            else:
                if p.seats[r, seat].offset + s.decode_steps < c.window:
                    s.windowed += 1
                s.context += 1
                if p.seats[r, seat].stalled != 0:
                    p.seats[r, seat].stalled = 0
                    s.n_stalled -= 1
                    s.n_counted += weight
                    if weight != 0:
                        add_gaps(g, s.now, s.now - q.rows[i].last_token_s, 0.0, 1, 1)
        seat = p.seats[r, seat].following
    if skipped:
        rebuild_heap(p, r)
    return counted


@inlined
def take_first_token(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, seat: int) -> None:
    """The step computed the last of this request's prompt (after a preemption: of all it had) and sampled a token."""
    s = p.scalars[r]
    i = p.seats[r, seat].request
    if q.rows[i].generated == 0:
        q.rows[i].first_token_s = s.now
    elif (q.rows[i].flags & COUNTED) != 0:
        add_gaps(g, s.now, s.now - q.rows[i].last_token_s, 0.0, 1, 1)
    remaining = q.rows[i].output - q.rows[i].generated - 1
    if remaining > 0:
        enter_decode(p, q, st, c, r, seat, remaining)
    else:
        p.seats[r, s.n_ended].ended = seat
        s.n_ended += 1


@inlined
def finish_ended(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> None:
    """Requests with all their tokens leave in list order; seats and blocks are free for the next step."""
    s = p.scalars[r]
    if s.n_ended == 0:
        return
    sort_ended(p, r)
    for k in range(s.n_ended):
        seat = p.seats[r, k].ended
        i = p.seats[r, seat].request
        q.rows[i].last_token_s = s.now
        q.rows[i].status = FINISHED
        free_seat(p, q, st, c, r, seat)
        q.rows[i].link = s.done
        s.done = i
    s.outstanding -= s.n_ended
    s.finished_now = s.n_ended
    s.blocked = 0
