"""Waiting until something is due, finer than the event loop's own timers."""

from __future__ import annotations

import math
from collections.abc import Callable

LATEST_TIMER_S = 0.002  # the event loop's timers go off late, by about a millisecond
LEAST_GAP_S = 0.005  # between sends that are timed finer than the timer: waiting the rest out costs processor time


class Timer:
    """`now` tells the time of the run, `sleep` lets it pass; both in seconds."""

    def __init__(self, now: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._now, self._sleep = now, sleep
        self._last_due_s = -math.inf
        self._late_s = LATEST_TIMER_S / 2

    def spaced(self, due_s: float) -> bool:
        """Whether what is due then comes well behind what was asked about before it: one order of due times."""
        spaced = due_s - self._last_due_s >= LEAST_GAP_S
        self._last_due_s = due_s
        return spaced

    def wait(self, due_s: float, stopped: Callable[[], bool], spaced: bool = True) -> None:
        """Return at `due_s`, a fraction of a millisecond late at most where the processor is free; or once `stopped`.

        What is not `spaced` follows closely on others, and is timed less finely.
        """
        now_s = self._now()
        early_s = 0.0001 + 1.3 * self._late_s if spaced else 0.9 * self._late_s
        asked_s = due_s - now_s - early_s
        if asked_s > 0:
            self._sleep(asked_s)
            late_s = min(self._now() - now_s - asked_s, LATEST_TIMER_S)
            self._late_s += 0.1 * (late_s - self._late_s)
        while self._now() < due_s and not stopped():
            self._sleep(0)
