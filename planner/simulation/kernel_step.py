"""One engine step, compiled: schedule, let its time pass, take its tokens in. A heap orders the ends of decodes."""

from __future__ import annotations

from planner.simulation.kernel_blocks import fill_shared
from planner.simulation.kernel_queue import free_seat, keep_ended, release_ended
from planner.simulation.kernel_running import (
    add_gaps,
    enter_decode,
    pop_due,
    rebuild_heap,
    sort_ended,
)
from planner.simulation.kernel_schedule import schedule_running, schedule_running_at_once, schedule_waiting
from planner.simulation.kernel_state import (
    COUNTED,
    FINISHED,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
    compiled,
    inlined,
)

# --- one step ---


@inlined
def step(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int) -> None:
    """Schedule once at `now`, let the step's time pass, and take its tokens in."""
    seconds = decide(p, q, st, c, r)
    if p.scalars[r].step_requests > 0:
        take(p, q, st, c, g, r, seconds)


@inlined
def decide(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> float:
    """Schedule once at `now`; returns the step's seconds. Where nothing can be scheduled `step_requests` is 0."""
    s = p.scalars[r]
    s.n_batch = 0
    s.step_preemptions = 0
    s.step_over = 0
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
        empty_call(p, q, st, r)
        return 0.0
    s.blocked = 1 if s.n_batch == 0 and s.step_preemptions == 0 and s.n_waiting > 0 and not defer else 0
    # --- its time ---
    seconds = c.tokens_s[s.step_tokens] + c.requests_s[s.step_requests]
    if s.step_decodes > 0:
        seconds += c.decode_attention_s + c.decode_token_s * s.step_context + c.window_token_s * s.step_windowed
    if s.n_batch > 0:
        seconds += s.step_attention_s + c.prefill_step_s
    return seconds


@inlined
def take(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, seconds: float) -> None:
    """The step that `decide` has just decided takes `seconds`; its tokens come in at its end."""
    s = p.scalars[r]
    pass_time(p, st, r, seconds)
    if st.lagged != 0:
        s.n_waiting -= s.step_over
        if s.n_ended > 0:
            release_ended(p, q, st, r)
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
    pop_due(p, c, r)
    for k in range(s.n_batch):
        seat = p.seats[r, k].batch
        i = p.seats[r, seat].request
        if p.seats[r, seat].offset == q.rows[i].prompt + q.rows[i].generated:
            take_first_token(p, q, st, c, g, r, seat)
    finish_ended(p, q, st, c, r)


@inlined
def pass_time(p: Replicas, st: Settings, r: int, seconds: float) -> None:
    """A step that lasts `seconds` has run with the present lists."""
    s = p.scalars[r]
    used = st.usable_blocks - s.plain_free - s.cached_free
    s.kv_block_s += used * seconds
    s.kv_peak_blocks = max(s.kv_peak_blocks, used)
    s.running_s += s.n_running * seconds
    s.waiting_s += s.n_waiting * seconds
    s.busy_s += seconds
    s.steps += 1
    s.started = s.now
    s.now += seconds
    s.horizon = s.started if st.lagged != 0 else s.now
    s.finished_now = 0


@compiled
def empty_call(p: Replicas, q: Requests, st: Settings, r: int) -> None:
    """Nothing could be scheduled: for ever, unless an asynchronous scheduler still waits for a result.

    Then it waits for that alone, so that it schedules again when the step in hand ends, and sees all who came by then.
    """
    s = p.scalars[r]
    if s.n_ended == 0 and s.step_over == 0:
        s.stuck = 1
        return
    s.n_waiting -= s.step_over
    release_ended(p, q, st, r)
    s.horizon = s.now


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
                if st.lagged != 0 and p.seats[r, seat].chained != 0:  # its last token is known by now
                    fill_shared(p, q, st, r, seat, p.seats[r, seat].offset + s.decode_steps)
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
    """Requests with all their tokens leave in list order; seats and blocks are free for the next step.

    Asynchronous: for the one after the next, see `release_ended`; their clients have the tokens all the same.
    """
    s = p.scalars[r]
    if s.n_ended == 0:
        return
    sort_ended(p, r)
    for k in range(s.n_ended):
        seat = p.seats[r, k].ended
        i = p.seats[r, seat].request
        q.rows[i].last_token_s = s.now
        q.rows[i].status = FINISHED
        if st.lagged != 0:
            keep_ended(p, q, st, c, r, seat)
        else:
            free_seat(p, q, st, c, r, seat)
        q.rows[i].link = s.done
        s.done = i
    s.outstanding -= s.n_ended
    s.finished_now = s.n_ended
    if st.lagged == 0:
        s.n_ended = 0
        s.blocked = 0
