"""A heap of events in one array, compiled: the first to happen in front, at one instant the first that came up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from planner.simulation.kernel_state import Array, compiled

F = TypeVar("F", bound=Callable[..., Any])

NUMBER, EVENTS = 0, 1  # places in `counters`: events that there were; that are on the heap
EVENT = np.dtype([("t", "f8"), ("number", "i8"), ("kind", "i8"), ("subject", "i8")], align=True)


def within(function: F) -> F:
    """Compile a function that only compiled ones call and that allocates nothing."""
    options: dict[str, Any] = {"nogil": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, njit(**options)(function))


@compiled
def push(events: Array, counters: Array, t: float, kind: int, subject: int) -> None:
    """Put an event on the heap."""
    counters[NUMBER] += 1
    number = counters[NUMBER]
    at = counters[EVENTS]
    counters[EVENTS] += 1
    while at > 0:
        above = (at - 1) // 2
        if events[above].t < t or (events[above].t == t and events[above].number < number):
            break
        events[at] = events[above]
        at = above
    events[at].t = t
    events[at].number = number
    events[at].kind = kind
    events[at].subject = subject


@within
def remove_first(events: Array, counters: Array) -> None:
    """Take the first event off the heap."""
    counters[EVENTS] -= 1
    last = counters[EVENTS]
    t, number = events[last].t, events[last].number
    at = 0
    while True:
        below = 2 * at + 1
        if below >= last:
            break
        right = below + 1
        if right < last and (
            events[right].t < events[below].t
            or (events[right].t == events[below].t and events[right].number < events[below].number)
        ):
            below = right
        if t < events[below].t or (t == events[below].t and number < events[below].number):
            break
        events[at] = events[below]
        at = below
    events[at] = events[last]
