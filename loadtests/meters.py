"""How busy the client is, and how late: two measures, since a process that does not get its core uses little of it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import gevent

from planner.units import MS_PER_S

CPU_WINDOW = 5  # seconds over which a process's share of a core is taken
LOOP_TIMER_S = 0.02


class BusyMeter:
    """The largest share of a core that this process used over any `CPU_WINDOW` samples, a second apart."""

    def __init__(
        self, cpu: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._cpu, self._clock = cpu, clock
        self._samples = deque([(clock(), cpu())], maxlen=CPU_WINDOW + 1)
        self._first = self._samples[0]
        self._judged = False
        self.most = 0.0

    def sample(self) -> None:
        """Take a sample; call it about once a second."""
        self._samples.append((self._clock(), self._cpu()))
        # A shorter window than the full one would judge a single burst.
        if len(self._samples) > CPU_WINDOW:
            self._judge()

    def finish(self) -> None:
        """The run is over: one shorter than the window is judged on its whole length."""
        if not self._judged:
            self._samples.append((self._clock(), self._cpu()))
            self._judge()

    def _judge(self) -> None:
        (begun, before), (now, cpu) = self._samples[0], self._samples[-1]
        if now > begun:
            self._judged = True
            self.most = max(self.most, (cpu - before) / (now - begun))

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time since the meter was made."""
        return self._cpu() - self._first[1]


class LoopMeter:
    """How late this process's event loop is, by a timer: for how long what comes at an instant lies unread, at most.

    Of every millisecond, not of every timer: one that goes off 200 ms late speaks for all of these 200 ms.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = gevent.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._armed_s = clock()
        self._late: Counter[int] = Counter()  # milliseconds of the run by how late they were, in whole ms

    def run(self) -> None:
        """Measure until killed."""
        while True:
            self._armed_s = self._clock()
            self._sleep(LOOP_TIMER_S)
            self._note()

    def finish(self) -> None:
        """The run is over: a timer that should have gone off by now counts as well."""
        self._note()

    def _note(self) -> None:
        elapsed_ms = round((self._clock() - self._armed_s) * MS_PER_S)
        late_ms = max(0, elapsed_ms - round(LOOP_TIMER_S * MS_PER_S))
        self._late[0] += elapsed_ms - late_ms
        for ms in range(1, late_ms + 1):
            self._late[ms] += 1

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the lateness; 0 of nothing."""
        left = self._late.total() * percent / 100.0
        for ms in sorted(self._late):
            left -= self._late[ms]
            if left <= 0:
                return float(ms)
        return 0.0
