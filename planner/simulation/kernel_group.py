"""Data-parallel ranks of one replica that compute a mixture of experts together, up to a given time.

Each rank has a scheduler, a queue and a KV cache of its own, but their experts are one: in every layer all ranks send
tokens to each other and wait for each other. So all begin and end each step together, it takes as long as the slowest
rank's, and a rank without work computes a batch of one token for show as long as any other has work (vLLM 0.32.0,
`DPEngineCoreProc`). Where nothing but decoding happens the group jumps as one replica does: each rank's steps cost a
line over their number, and it goes along the highest of those lines as far as it stays the highest.
"""

from __future__ import annotations

import math

import numpy as np

from planner.simulation.kernel import (
    advance,
    affordable,
    affordable_now,
    before_arrival,
    duration,
    line,
    may_jump,
    pay_first_step,
    steps_until,
    take_steps,
    wake_s,
)
from planner.simulation.kernel_queue import see_arrivals
from planner.simulation.kernel_state import Costs, Gaps, Replicas, Requests, Settings, compiled, inlined
from planner.simulation.kernel_step import decide, take


@compiled
def advance_group(
    p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, first: int, count: int, until: float
) -> None:
    """Run every step of the ranks first … first + count − 1 that starts before `until`; as `advance` does for one."""
    if count == 1:
        advance(p, q, st, c, g, first, until)
        return
    while True:
        now = group_clock(p, q, first, count)
        if now >= until:
            return
        jumps = True
        for r in range(first, first + count):
            join(p, r, now)
            see_arrivals(p, q, st, r)
            jumps = jumps and (is_idle(p, r) or may_jump(p, st, r))
        if jumps:
            group_jump(p, q, st, c, g, first, count, until)
        elif not group_step(p, q, st, c, g, first, count):
            return


@inlined
def is_idle(p: Replicas, r: int) -> bool:
    """Whether rank r has nothing to schedule: it takes part with a token for show."""
    return p.scalars[r].n_running == 0 and p.scalars[r].n_waiting == 0


@inlined
def group_clock(p: Replicas, q: Requests, first: int, count: int) -> float:
    """When the group's next step begins: now if any rank has work, else with the next arrival; inf without one."""
    now = math.inf
    for r in range(first, first + count):
        s = p.scalars[r]
        if not is_idle(p, r):
            return s.now
        if s.unseen >= 0:
            now = min(now, max(s.now, q.rows[s.unseen].ready_s))
    return now


@inlined
def join(p: Replicas, r: int, now: float) -> None:
    """An idle rank keeps the group's time, and sees at once who comes."""
    s = p.scalars[r]
    if not is_idle(p, r):
        return
    if s.now < now:
        s.finished_now = 0
    s.now = now
    s.horizon = now


@inlined
def show_s(c: Costs, of_all_s: float) -> float:
    """Seconds of an idle rank's step: one token, which nobody samples from."""
    return c.tokens_s[1] + (of_all_s - c.ranks_tokens_s[1])


@inlined
def tokens_of_all_s(c: Costs, total: int, count: int) -> float:
    """The part of a step that hangs on the tokens of all ranks, `total`: as where each of `count` has the mean."""
    mean = total // count
    over = total - mean * count
    if over == 0:
        return c.ranks_tokens_s[mean]
    return c.ranks_tokens_s[mean] + (c.ranks_tokens_s[mean + 1] - c.ranks_tokens_s[mean]) * over / count


@compiled
def group_step(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, first: int, count: int) -> bool:
    """Schedule every rank once, let the slowest one's time pass, take all tokens in; False where a rank is stuck."""
    working = 0
    total = 0
    for r in range(first, first + count):
        s = p.scalars[r]
        s.step_requests = 0
        s.step_tokens = 1
        while not is_idle(p, r):
            s.own_s = decide(p, q, st, c, r)
            if s.stuck != 0:
                return False
            if s.step_requests > 0:
                working += 1
                break
            s.step_tokens = 1
            see_arrivals(p, q, st, r)  # an asynchronous scheduler waited for a result alone
        total += s.step_tokens
    if working == 0:
        return True
    of_all_s = tokens_of_all_s(c, total, count)
    seconds = show_s(c, of_all_s) if working < count else 0.0
    for r in range(first, first + count):
        s = p.scalars[r]
        if s.step_requests > 0:
            seconds = max(seconds, s.own_s + (of_all_s - c.ranks_tokens_s[s.step_tokens]))
    for r in range(first, first + count):
        if p.scalars[r].step_requests > 0:
            take(p, q, st, c, g, r, seconds)
        else:
            pass_idle(p, r, seconds)
    return True


@inlined
def pass_idle(p: Replicas, r: int, seconds: float) -> None:
    """An idle rank has kept the others company."""
    s = p.scalars[r]
    s.now += seconds
    s.horizon = s.now
    s.finished_now = 0


@compiled
def highest_line(p: Replicas, c: Costs, first: int, count: int) -> tuple[float, float]:
    """(base, slope) of the group's next step and of those after it, up to where another rank's line crosses it.

    Each rank's own line is left in its `line_base_s` and `line_slope_s`.
    """
    total = 0
    working = 0
    for r in range(first, first + count):
        total += max(p.scalars[r].n_decoding, 1)
        working += 1 if p.scalars[r].n_decoding > 0 else 0
    of_all_s = tokens_of_all_s(c, total, count)
    base = show_s(c, of_all_s) if working < count else 0.0
    slope = 0.0
    for r in range(first, first + count):
        s = p.scalars[r]
        if s.n_decoding == 0:
            continue
        own, s.line_slope_s = line(p, c, r)
        s.line_base_s = own + (of_all_s - c.ranks_tokens_s[s.n_decoding])
        if s.line_base_s > base or (s.line_base_s == base and s.line_slope_s > slope):
            base, slope = s.line_base_s, s.line_slope_s
    return base, slope


@compiled
def group_jump(p: Replicas, q: Requests, st: Settings, c: Costs, g: Gaps, first: int, count: int, until: float) -> None:
    """Take all decode steps up to the next event of any rank at once; each must be idle or allowed to jump."""
    base, slope = highest_line(p, c, first, count)
    k = np.iinfo(np.int64).max
    for r in range(first, first + count):
        if not is_idle(p, r):
            pay_first_step(p, q, st, r)
            k = min(k, p.seats[r, 0].due - p.scalars[r].decode_steps)
    for r in range(first, first + count):
        s = p.scalars[r]
        if is_idle(p, r):
            if s.unseen >= 0:
                k = steps_until(s.now, base, slope, q.rows[s.unseen].ready_s, k)
            continue
        if s.line_slope_s > slope and s.line_base_s + s.line_slope_s * (k - 1) > base + slope * (k - 1):
            k = min(k, int((base - s.line_base_s) / (s.line_slope_s - slope)) + 1)
        k = affordable_now(p, st, r, before_arrival(p, q, st, r, base, slope, k))
    k = steps_until(p.scalars[first].now, base, slope, until, k)
    seconds = duration(base, slope, k)
    for r in range(first, first + count):
        if is_idle(p, r):
            pass_idle(p, r, seconds)
        else:
            take_steps(p, q, st, c, g, r, base, slope, k)


@compiled
def wake_group_s(p: Replicas, q: Requests, st: Settings, c: Costs, first: int, count: int) -> float:
    """A time before which no rank of the group completes anything, if nothing new arrives; as `wake_s` for one."""
    if count == 1:
        return wake_s(p, q, st, c, first)
    k = np.iinfo(np.int64).max
    now = -math.inf
    for r in range(first, first + count):
        s = p.scalars[r]
        if s.n_running == 0 and s.n_waiting == 0 and s.unseen < 0:
            continue
        if s.unseen >= 0 or not may_jump(p, st, r):
            return np.nextafter(s.now, math.inf)
        now = s.now
        k = affordable(p, st, r, min(k, p.seats[r, 0].due - s.decode_steps), s.plain_free + s.cached_free)
    if now == -math.inf:
        return math.inf
    base, slope = highest_line(p, c, first, count)
    return max(np.nextafter(now, math.inf), now + duration(base, slope, k))
