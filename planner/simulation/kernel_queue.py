"""Who waits in one replica, and how a seat is left: by ending, by the client giving up, by preemption."""

from __future__ import annotations

from planner.simulation.kernel_blocks import (
    fill_shared,
    forget_survivor,
    give_back,
)
from planner.simulation.kernel_running import (
    leave_decode,
    rebuild_heap,
    remove_running,
)
from planner.simulation.kernel_state import (
    ABORTED,
    FINISHED,
    PENDING,
    Costs,
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
def known_tokens(p: Replicas, q: Requests, st: Settings, r: int, seat: int) -> int:
    """Computed tokens of the request in `seat` whose values the scheduler had when it last scheduled them.

    vLLM hashes blocks of known tokens only. Asynchronous: the token that a decode computes was sampled by the step
    before, whose result comes when this one has been decided. Prompts are known, and so is what waited for a step.
    """
    computed = computed_tokens(p, r, seat)
    if st.lagged == 0 or p.seats[r, seat].stalled != 0:
        return computed
    i = p.seats[r, seat].request
    if p.seats[r, seat].over != 0:
        decoded = q.rows[i].output - q.rows[i].generated > 1
    else:
        left = p.seats[r, seat].finish_at - p.scalars[r].decode_steps
        decoded = p.seats[r, seat].decoding != 0 and left < q.rows[i].output - q.rows[i].generated - 1
    return computed - 1 if decoded else computed


@inlined
def free_seat(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int) -> None:
    """Take the request out of the running list and give its blocks back; the heap is left to the caller.

    A request that is still pending has been preempted and will return.
    """
    s = p.scalars[r]
    i = p.seats[r, seat].request
    give_back(p, q, st, r, seat, computed_tokens(p, r, seat), known_tokens(p, q, st, r, seat))
    if p.seats[r, seat].decoding != 0:
        if q.rows[i].status == PENDING:
            q.rows[i].generated = q.rows[i].output - (p.seats[r, seat].finish_at - s.decode_steps)
            if p.seats[r, seat].stalled == 0:
                q.rows[i].last_token_s = s.now
        leave_decode(p, q, st, c, r, seat)
    else:
        s.n_prefilling -= 1
    remove_running(p, r, seat)


# --- the end, as an asynchronous scheduler learns of it ---


@inlined
def keep_ended(p: Replicas, q: Requests, st: Settings, c: Costs, r: int, seat: int) -> None:
    """The request in `seat` has its last token, but the next step is already decided: seat and blocks stay in it."""
    s = p.scalars[r]
    if p.seats[r, seat].decoding != 0:
        leave_decode(p, q, st, c, r, seat)
        p.seats[r, seat].offset += s.decode_steps
        p.seats[r, seat].decoding = 0
        p.seats[r, seat].chained = 0
    else:
        s.n_prefilling -= 1
    p.seats[r, seat].over = 1


@inlined
def release_ended(p: Replicas, q: Requests, st: Settings, r: int) -> None:
    """Who ended in the step before the one that was just decided leaves; all that it computed is hashed."""
    s = p.scalars[r]
    for k in range(s.n_ended):
        seat = p.seats[r, k].ended
        computed = p.seats[r, seat].offset
        if st.caching != 0 and p.seats[r, seat].held < q.rows[p.seats[r, seat].request].shared_count:
            fill_shared(p, q, st, r, seat, computed)
        give_back(p, q, st, r, seat, computed, computed)
        remove_running(p, r, seat)
    s.n_ended = 0
    s.blocked = 0


@compiled
def preempt_ended(p: Replicas, q: Requests, st: Settings, r: int, victim: int) -> None:
    """The victim's last token is under way: it loses its blocks, waits until the token is there, and is over."""
    s = p.scalars[r]
    give_back(p, q, st, r, victim, p.seats[r, victim].offset, known_tokens(p, q, st, r, victim))
    remove_running(p, r, victim)
    at = 0
    while p.seats[r, at].ended != victim:
        at += 1
    for k in range(at, s.n_ended - 1):
        p.seats[r, k].ended = p.seats[r, k + 1].ended
    s.n_ended -= 1
    s.step_over += 1


@inlined
def preempt_last(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> int:
    """First come, first served: the victim is the last of the running list. It returns to the head of the queue."""
    s = p.scalars[r]
    victim = s.last
    s.n_waiting += 1
    s.preemptions += 1
    s.step_preemptions += 1
    if p.seats[r, victim].over != 0:
        preempt_ended(p, q, st, r, victim)
        return victim
    i = p.seats[r, victim].request
    free_seat(p, q, st, c, r, victim)
    p.seats[r, s.n_preempted].preempted = i
    s.n_preempted += 1
    return victim
