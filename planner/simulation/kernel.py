"""One replica up to a given time: the compiled twin of `reference`.

Where nothing but decoding happens it does not walk but *jumps*: step j of k costs base + slope·j, because the context
grows by one token a request, so k steps cost k·base + slope·k(k−1)/2 and it goes straight to the next finish,
admissible arrival, filled attention window or KV exhaustion.

Reading guide: `kernel_state` has the columns, `kernel_blocks` the KV cache, `kernel_running` seats and decode events,
`kernel_queue` who waits and how a seat is left, `kernel_schedule` what a step holds, `kernel_step` one step,
`kernel_group` several ranks in step. Arrivals, routing and timeouts are `fleet`'s business.

Asynchronous scheduling (`Settings.lagged`): a step is decided when the one before it begins. So arrivals are admitted
up to `horizon` only, who ends keeps seat and blocks through one more step (`kernel_queue.keep_ended`), and generated
tokens are hashed a step later (`kernel_queue.known_tokens`).
"""

from __future__ import annotations

import math

import numpy as np

from planner.simulation.kernel_blocks import take_blocks
from planner.simulation.kernel_queue import release_ended, see_arrivals
from planner.simulation.kernel_running import add_gaps, pop_due
from planner.simulation.kernel_schedule import fill_chained
from planner.simulation.kernel_state import Costs, Gaps, Replicas, Requests, Settings, compiled, inlined
from planner.simulation.kernel_step import finish_ended, step


@compiled
def advance(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, until: float) -> None:
    """Run every step of replica r that starts before `until`; all arrivals before `until` must be enqueued.

    The last step may end after `until`: what it holds was decided when it began.
    """
    s = p.scalars[r]
    while s.now < until and s.stuck == 0:
        see_arrivals(p, q, st, r)
        if s.n_running == 0 and s.n_waiting == 0:
            if s.unseen < 0 or q.rows[s.unseen].ready_s >= until:
                return
            s.now = max(s.now, q.rows[s.unseen].ready_s)
            s.horizon = s.now
            s.finished_now = 0
        elif may_jump(p, st, r):
            jump(p, q, st, c, g, r, until)
        else:
            step(p, q, st, c, g, r)


@inlined
def may_jump(p: Replicas, st: Settings, r: int) -> bool:
    """Whether the next steps only decode: no prompt is under way and none can be admitted before somebody leaves.

    Nor is anybody preempted: the blocks for one step at least are free.
    """
    s = p.scalars[r]
    if s.n_decoding == 0 or s.n_prefilling > 0 or s.n_stalled > 0 or st.defer_prefills != 0:
        return False
    if p.phase[r, (-s.decode_steps) % st.block_size] > s.plain_free + s.cached_free:
        return False
    if s.n_waiting == 0:
        return True
    # Blocks only get fewer while all decode, so who did not fit does not fit; but a new shared block may be hit.
    return (s.blocked != 0 or s.n_running == st.seats) and s.n_chained == 0 and s.n_ended == 0


@inlined
def duration(base: float, slope: float, steps: int) -> float:
    """Seconds of `steps` decode steps."""
    return steps * base + slope * (steps * (steps - 1) // 2)


@inlined
def steps_until(now: float, base: float, slope: float, target: float, limit: int) -> int:
    """The fewest steps, from 1 to `limit`, after which the clock has reached `target`."""
    if now + duration(base, slope, limit) < target:
        return limit
    if target <= now:
        return 1
    # The root of duration(k) = target - now, in the form that cancels nothing; rounding is put right below.
    b = base - 0.5 * slope
    x = target - now
    k = min(max(math.ceil(2.0 * x / (b + math.sqrt(b * b + 2.0 * slope * x))), 1), limit)
    while k > 1 and now + duration(base, slope, k - 1) >= target:
        k -= 1
    while k < limit and now + duration(base, slope, k) < target:
        k += 1
    return k


@inlined
def blocks_in(p: Replicas, st: Settings, r: int, steps: int) -> int:
    """New blocks that the decodes take in `steps` steps: one each time a computed token is the first of a block."""
    s = p.scalars[r]
    whole = steps // st.block_size
    total = whole * s.n_decoding
    at = (-s.decode_steps) % st.block_size
    for _ in range(steps - whole * st.block_size):
        total += p.phase[r, at]
        at = at - 1 if at > 0 else st.block_size - 1
    return total


@inlined
def affordable(p: Replicas, st: Settings, r: int, steps: int, free: int) -> int:
    """The most steps, at most `steps`, whose new blocks are no more than `free`."""
    s = p.scalars[r]
    if (steps // st.block_size + 1) * s.n_decoding <= free or blocks_in(p, st, r, steps) <= free:
        return steps
    k = free // s.n_decoding * st.block_size
    left = free - free // s.n_decoding * s.n_decoding
    while k < steps:
        left -= p.phase[r, (-(s.decode_steps + k)) % st.block_size]
        if left < 0:
            break
        k += 1
    return k


@inlined
def line(p: Replicas, c: Costs, r: int) -> tuple[float, float]:
    """(base, slope) of the decode steps to come: step j of them, counted from 0, takes base + slope·j seconds."""
    s = p.scalars[r]
    n = s.n_decoding
    base = c.tokens_s[n] + c.requests_s[n]
    base += c.decode_attention_s + c.decode_token_s * s.context + c.window_token_s * s.windowed
    return base, c.decode_token_s * n + c.window_token_s * s.growing


@inlined
def jump(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, until: float) -> None:
    """Take all decode steps up to the next event at once; `may_jump` must hold."""
    base, slope = line(p, c, r)
    pay_first_step(p, q, st, r)
    k = p.seats[r, 0].due - p.scalars[r].decode_steps
    k = affordable_now(
        p, st, r, steps_until(p.scalars[r].now, base, slope, until, before_arrival(p, q, st, r, base, slope, k))
    )
    take_steps(p, q, st, c, g, r, base, slope, k)


@inlined
def pay_first_step(p: Replicas, q: Requests, st: Settings, r: int) -> None:
    """Who ended leaves after the jump's first step, so that one takes its blocks before theirs are free."""
    s = p.scalars[r]
    s.paid_blocks = 0
    s.leaving_blocks = 0
    s.leaving_seats = 0
    if s.n_ended == 0:
        return
    s.paid_blocks = p.phase[r, (-s.decode_steps) % st.block_size]
    take_blocks(p, q, r, s.paid_blocks)
    if s.n_chained > 0:
        fill_chained(p, q, st, r, s.decode_steps)
    s.leaving_seats = s.n_ended
    before = s.plain_free + s.cached_free
    release_ended(p, q, st, r)
    s.leaving_blocks = s.plain_free + s.cached_free - before


@inlined
def before_arrival(p: Replicas, q: Requests, st: Settings, r: int, base: float, slope: float, limit: int) -> int:
    """The most steps, at most `limit`, after which nobody who could be admitted has been overlooked."""
    s = p.scalars[r]
    if s.unseen < 0 or s.n_running == st.seats or (s.n_waiting > 0 and st.adaptive == 0):
        return limit
    ready = q.rows[s.unseen].ready_s
    missed = 1 if st.lagged != 0 and ready > s.now else 0
    return min(limit, steps_until(s.now, base, slope, ready, limit) + missed)


@inlined
def affordable_now(p: Replicas, st: Settings, r: int, steps: int) -> int:
    """`affordable` of a jump whose first step is paid."""
    s = p.scalars[r]
    return affordable(p, st, r, steps, s.plain_free + s.cached_free + s.paid_blocks)


@inlined
def take_steps(
    p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, r: int, base: float, slope: float, k: int
) -> None:
    """Take the next `k` decode steps, which last base, base + slope, … seconds, and the finishes at their end."""
    s = p.scalars[r]
    n = s.n_decoding
    start = s.now
    seconds = duration(base, slope, k)
    used = st.usable_blocks - s.plain_free - s.cached_free - s.paid_blocks
    new = blocks_in(p, st, r, k)
    take_blocks(p, q, r, new - s.paid_blocks)
    # --- ledger ---
    s.kv_block_s += (used + 0.5 * new * (k + 1) / k) * seconds  # as if they came evenly, each at the start of a step
    s.kv_block_s += s.leaving_blocks * base
    s.kv_peak_blocks = max(s.kv_peak_blocks, used + max(new, s.paid_blocks + s.leaving_blocks))
    s.running_s += s.n_running * seconds + s.leaving_seats * base
    s.waiting_s += s.n_waiting * seconds
    s.busy_s += seconds
    s.steps += k
    pairs = k * (k - 1) // 2
    s.decode_tokens += n * k
    s.context_tokens += k * s.context + n * pairs
    # --- clock and contexts ---
    s.now = start + seconds
    s.horizon = start + duration(base, slope, k - 1) if st.lagged != 0 else s.now
    s.context += n * k
    s.windowed += s.growing * k
    s.decode_steps += k
    if s.n_counted > 0:
        add_gaps(g, s.now, base, slope, k, s.n_counted)
    if s.n_chained > 0:
        fill_chained(p, q, st, r, s.decode_steps - st.lagged)
    s.finished_now = 0
    pop_due(p, c, r)
    finish_ended(p, q, st, c, r)


@inlined
def wake_s(p: Replicas, q: Requests, st: Settings, c: Costs, r: int) -> float:
    """A time before which replica r completes nothing, if nothing new arrives; inf where it is idle.

    Only where the next steps are known to decode is it the next finish; otherwise it is just after the clock, since
    a step has yet to begin there.
    """
    s = p.scalars[r]
    if s.n_running == 0 and s.n_waiting == 0 and s.unseen < 0:
        return math.inf
    soon = np.nextafter(s.now, math.inf)
    if s.unseen >= 0 or not may_jump(p, st, r):
        return soon
    base, slope = line(p, c, r)
    k = affordable(p, st, r, p.seats[r, 0].due - s.decode_steps, s.plain_free + s.cached_free)
    return max(soon, s.now + duration(base, slope, k))
