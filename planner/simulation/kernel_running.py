"""Who runs in one replica: seats, the running list in admission order, and the heap of decode events."""

from __future__ import annotations

import math

from planner.simulation.kernel_state import (
    COUNTED,
    GAP_BINS,
    GAP_EDGES_S,
    GAP_FLOOR_S,
    GAP_WIDTH,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
    compiled,
    inlined,
)

# --- the running list ---


@inlined
def append_running(p: Replicas, r: int, i: int) -> int:
    """Seat request i at the end of the running list, as a prefill with nothing computed."""
    s = p.scalars[r]
    s.n_free_seats -= 1
    seat = p.seats[r, s.n_free_seats].free_seat
    p.seats[r, seat].request = i
    p.seats[r, seat].previous = s.last
    p.seats[r, seat].following = -1
    if s.last >= 0:
        p.seats[r, s.last].following = seat
    else:
        s.first = seat
    s.last = seat
    p.seats[r, seat].order = s.admissions
    s.admissions += 1
    p.seats[r, seat].decoding = 0
    p.seats[r, seat].offset = 0
    p.seats[r, seat].held = 0
    p.seats[r, seat].chained = 0
    p.seats[r, seat].stalled = 0
    p.seats[r, seat].over = 0
    s.n_running += 1
    s.n_prefilling += 1
    return seat


@inlined
def remove_running(p: Replicas, r: int, seat: int) -> None:
    """Take `seat` out of the list, wherever it stands."""
    s = p.scalars[r]
    before, after = p.seats[r, seat].previous, p.seats[r, seat].following
    if before >= 0:
        p.seats[r, before].following = after
    else:
        s.first = after
    if after >= 0:
        p.seats[r, after].previous = before
    else:
        s.last = before
    p.seats[r, s.n_free_seats].free_seat = seat
    s.n_free_seats += 1
    s.n_running -= 1


# --- the heap: seats by the decode step of their next event; `due` repeats it beside them, to be read in one go ---


@inlined
def replace_first(p: Replicas, r: int, seat: int) -> None:
    """Put `seat` with its `event_at` where the first of the heap was."""
    size = p.scalars[r].heap_size
    due = p.seats[r, seat].event_at
    at = 0
    child = 1
    while child < size:
        if child + 1 < size and p.seats[r, child + 1].due < p.seats[r, child].due:
            child += 1
        if p.seats[r, child].due >= due:
            break
        p.seats[r, at].due = p.seats[r, child].due
        p.seats[r, at].heap = p.seats[r, child].heap
        at = child
        child = 2 * at + 1
    p.seats[r, at].due = due
    p.seats[r, at].heap = seat


@inlined
def push_event(p: Replicas, r: int, seat: int) -> None:
    """Enter `seat` with its `event_at`."""
    s = p.scalars[r]
    due = p.seats[r, seat].event_at
    at = s.heap_size
    s.heap_size += 1
    while at > 0:
        parent = (at - 1) >> 1
        if p.seats[r, parent].due <= due:
            break
        p.seats[r, at].due = p.seats[r, parent].due
        p.seats[r, at].heap = p.seats[r, parent].heap
        at = parent
    p.seats[r, at].due = due
    p.seats[r, at].heap = seat


@compiled
def rebuild_heap(p: Replicas, r: int) -> None:
    """Make the heap afresh from the running list: after preemptions, aborts and stalls, which are rare."""
    s = p.scalars[r]
    s.heap_size = 0
    seat = s.first
    while seat >= 0:
        if p.seats[r, seat].decoding != 0:
            push_event(p, r, seat)
        seat = p.seats[r, seat].following


# --- decoding: all sequences advance by one token a step, so one counter moves them all ---


@inlined
def enter_decode(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int, remaining: int) -> None:
    """The prompt in `seat` is computed and its first token is out; `remaining` > 0 tokens follow."""
    s = p.scalars[r]
    i = p.seats[r, seat].request
    computed = p.seats[r, seat].offset
    s.n_prefilling -= 1
    s.n_decoding += 1
    s.n_counted += q.rows[i].flags & COUNTED
    s.context += computed
    s.windowed += min(computed, c.window)
    p.seats[r, seat].decoding = 1
    p.seats[r, seat].offset = computed - s.decode_steps
    p.phase[r, p.seats[r, seat].offset % st.block_size] += 1
    p.seats[r, seat].finish_at = s.decode_steps + remaining
    p.seats[r, seat].event_at = p.seats[r, seat].finish_at
    if computed < c.window:
        s.growing += 1
        p.seats[r, seat].event_at = min(p.seats[r, seat].finish_at, c.window - p.seats[r, seat].offset)
    if st.caching != 0 and p.seats[r, seat].held < q.rows[i].shared_count:
        p.seats[r, seat].chained = 1
        s.n_chained += 1
    push_event(p, r, seat)


@inlined
def leave_decode(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int) -> None:
    """Undo `enter_decode`'s counts; the caller sees to the heap."""
    s = p.scalars[r]
    computed = p.seats[r, seat].offset + s.decode_steps
    s.n_decoding -= 1
    s.context -= computed
    s.windowed -= min(computed, c.window)
    if computed < c.window:
        s.growing -= 1
    p.phase[r, p.seats[r, seat].offset % st.block_size] -= 1
    if p.seats[r, seat].stalled != 0:
        s.n_stalled -= 1
    else:
        s.n_counted -= q.rows[p.seats[r, seat].request].flags & COUNTED
    s.n_chained -= p.seats[r, seat].chained


@inlined
def pop_due(p: Replicas, c: Costs, r: int) -> None:
    """Events of the present decode step: full attention windows stop growing, finished seats go to `ended`."""
    s = p.scalars[r]
    while s.heap_size > 0 and p.seats[r, 0].due == s.decode_steps:
        seat = p.seats[r, 0].heap
        if c.window > 0 and p.seats[r, seat].offset + s.decode_steps == c.window:
            s.growing -= 1
        if p.seats[r, seat].finish_at == s.decode_steps:
            p.seats[r, s.n_ended].ended = seat
            s.n_ended += 1
            s.heap_size -= 1
            seat = p.seats[r, s.heap_size].heap
        else:
            p.seats[r, seat].event_at = p.seats[r, seat].finish_at
        replace_first(p, r, seat)


@inlined
def sort_ended(p: Replicas, r: int) -> None:
    """Put the seats that end in this step into list order (few)."""
    for k in range(1, p.scalars[r].n_ended):
        seat = p.seats[r, k].ended
        m = k
        while m > 0 and p.seats[r, p.seats[r, m - 1].ended].order > p.seats[r, seat].order:
            p.seats[r, m].ended = p.seats[r, m - 1].ended
            m -= 1
        p.seats[r, m].ended = seat


# --- gaps between tokens ---


@inlined
def gap_bin(gap_s: float) -> int:
    """The histogram's bin of a gap."""
    if gap_s <= GAP_FLOOR_S:
        return 0
    # The cut comes first, because a float beyond the integers has none.
    return int(min(math.log(gap_s * (1.0 / GAP_FLOOR_S)) * (1.0 / GAP_WIDTH), GAP_BINS - 1.0))


@inlined
def add_gaps(g: Gaps, now: float, base: float, slope: float, steps: int, weight: int) -> None:
    """`weight` requests have seen gaps base, base + slope, … over `steps` steps that end at `now`."""
    row = 0
    if g.count.shape[0] > 1:
        row = int(min(max(0.0, (now - g.start_s) / g.window_s), g.count.shape[0] - 1.0))
    g.total_s[row] += weight * (steps * base + slope * (steps * (steps - 1) // 2))
    longest = base + slope * (steps - 1)
    done = 0
    at = gap_bin(base)
    while slope > 0.0 and at < GAP_BINS - 1 and longest >= GAP_EDGES_S[at + 1]:
        upto = min(max(math.ceil((GAP_EDGES_S[at + 1] - base) / slope), done), steps)
        g.count[row, at] += weight * (upto - done)
        done = upto
        at += 1
    g.count[row, at] += weight * (steps - done)
