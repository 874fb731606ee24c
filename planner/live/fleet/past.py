"""One replica's readings over the last window, and what it did between the oldest and the newest of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.live.fleet.reading import Key, Reading

MOST_RESTARTS, MOST_RESTARTED = 2, 0.2  # of a window, and as a share of its readings
MARKS = 60  # kept of a window, however often it is read


class Span(NamedTuple):
    """What happened in `seconds`: increases of counters, readings and those with work, restarts, and how many requests
    more wait (None where the queue is not told throughout).
    """

    seconds: float
    increases: Mapping[Key, float]
    readings: int
    busy: int
    restarts: int
    queued: float | None = None

    @property
    def several(self) -> bool:
        """Whether counters fall so often that readings must be of several servers in turn."""
        return self.restarts >= MOST_RESTARTS and self.restarts > self.readings * MOST_RESTARTED


class _Mark(NamedTuple):
    """Counters as if the server had never been restarted, from the first reading on."""

    at_s: float
    counts: NDArray[np.float64]
    readings: int
    busy: int
    restarts: int
    queued: float  # NaN where the queue was not told


class Past:
    """Readings of one replica, oldest first.

    A counter that falls means a restart: as in Prometheus' `increase`, what it shows then came since. A restart makes
    all of a server's counters begin anew, so one that fell tells for all. Metrics that come or go (another version of
    vLLM) begin a new past, and so does a silence longer than the window.
    """

    def __init__(self, window_s: float, slack_s: float) -> None:
        self._window_s, self._slack_s = window_s, slack_s
        self._keys: tuple[Key, ...] = ()
        self._last: NDArray[np.float64] = np.empty(0)
        self._marks: deque[_Mark] = deque()
        self._newest: _Mark | None = None
        self._waiting = math.nan

    def add(self, reading: Reading) -> bool:
        """Take in a reading; whether the server was restarted since the one before."""
        keys = tuple(reading.counts)
        values = np.fromiter(reading.counts.values(), np.float64, len(keys))
        before = self._newest
        waited, self._waiting = self._waiting, math.nan if reading.waiting is None else reading.waiting
        most_s = self._window_s + self._slack_s
        unlike = keys != self._keys or math.isnan(waited) != math.isnan(self._waiting)
        if before is None or unlike or reading.at_s - before.at_s > most_s:
            self._keys, self._last = keys, values
            self._newest = _Mark(reading.at_s, values, 0, 0, 0, 0.0 * self._waiting)
            self._marks = deque([self._newest])
            return False
        moved = values - self._last
        restarted = bool((moved < 0).any())
        self._last = values
        self._newest = _Mark(
            reading.at_s,
            before.counts + (values if restarted else moved),
            before.readings + 1,
            before.busy + (reading.running > 0),
            before.restarts + restarted,
            before.queued + self._waiting - (0.0 if restarted else waited),  # what waited at a restart is lost
        )
        self._forget(reading.at_s)
        if reading.at_s - self._marks[-1].at_s >= self._window_s / MARKS:
            self._marks.append(self._newest)
        return restarted

    def _forget(self, now_s: float) -> None:
        while len(self._marks) > 1 and self._marks[0].at_s < now_s - self._window_s - self._slack_s:
            self._marks.popleft()

    def span(self) -> Span | None:
        """From the oldest reading of the window to the newest; None before there are two."""
        oldest, newest = (self._marks[0] if self._marks else None), self._newest
        if oldest is None or newest is None or newest.at_s <= oldest.at_s:
            return None
        return Span(
            newest.at_s - oldest.at_s,
            dict(zip(self._keys, (newest.counts - oldest.counts).tolist(), strict=True)),
            newest.readings - oldest.readings,
            newest.busy - oldest.busy,
            newest.restarts - oldest.restarts,
            None if math.isnan(newest.queued) else newest.queued - oldest.queued,
        )
