"""Replicas on a common clock, compiled: run up to a time at their own pace, their completions turned into events."""

from __future__ import annotations

from planner.simulation.fleet_heap import push, within
from planner.simulation.fleet_world import END, Desk, Paces, costs_at
from planner.simulation.kernel import advance, wake_s
from planner.simulation.kernel_state import Array, Costs, Gaps, Replicas, Requests, Settings, compiled, inlined


@within
def collect(scalars: Array, rows: Array, events: Array, counters: Array, r: int) -> None:
    """Turn the completions that replica r has chained up into events."""
    s = scalars[r]
    while s.done >= 0:
        push(events, counters, rows[s.done].last_token_s, END, s.done)
        s.done = rows[s.done].link


@within
def advance_paced(p: Replicas, q: Requests, st: Settings, paces: Paces, g: Gaps, r: int, k: int, until: float) -> None:
    """`advance` with row k of the paces."""
    advance(p, q, st, costs_at(paces, k), g, r, until)


@inlined
def bring(
    p: Replicas, q: Requests, st: Settings, c: Costs, paces: Paces, g: Gaps, desk: Desk, r: int, t: float
) -> None:
    """Run replica r up to time t."""
    if desk.pace[r] < 0:
        advance(p, q, st, c, g, r, t)
    else:
        advance_paced(p, q, st, paces, g, r, desk.pace[r], t)
    collect(p.scalars, q.rows, desk.events, desk.counters, r)


@within
def wake_paced(p: Replicas, q: Requests, st: Settings, paces: Paces, r: int, k: int) -> float:
    """`wake_s` with row k of the paces."""
    return wake_s(p, q, st, costs_at(paces, k), r)


@within
def reckon(p: Replicas, q: Requests, st: Settings, c: Costs, paces: Paces, wake: Array, pace: Array, r: int) -> None:
    """Reckon anew up to when replica r completes nothing."""
    if pace[r] < 0:
        wake[r] = wake_s(p, q, st, c, r)
    else:
        wake[r] = wake_paced(p, q, st, paces, r, pace[r])


@within
def bring_and_reckon(
    p: Replicas, q: Requests, st: Settings, c: Costs, paces: Paces, g: Gaps, desk: Desk, r: int, t: float
) -> None:
    """Run replica r up to time t, and reckon from there."""
    bring(p, q, st, c, paces, g, desk, r, t)
    reckon(p, q, st, c, paces, desk.wake, desk.pace, r)


@within
def first_to_wake(wake: Array) -> int:
    """The replica that may be the first to complete something."""
    first = 0
    for r in range(1, len(wake)):
        if wake[r] < wake[first]:
            first = r
    return first


@compiled
def bring_one(
    p: Replicas, q: Requests, st: Settings, c: Costs, paces: Paces, g: Gaps, desk: Desk, r: int, t: float
) -> None:
    """`bring` for whoever is not compiled."""
    bring(p, q, st, c, paces, g, desk, r, t)
