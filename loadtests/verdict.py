"""Whether a run may be used: what makes it invalid, and the exit code."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.units import MS_PER_S

VALID, INVALID, ENDPOINT_FAILED, INTERRUPTED = 0, 1, 3, 130
CPU_WINDOW = 5  # seconds over which a process's share of a core is taken


class BusyMeter:
    """The largest share of a core that this process used over any `CPU_WINDOW` samples, a second apart."""

    def __init__(
        self, cpu: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._cpu, self._clock = cpu, clock
        self._samples = deque([(clock(), cpu())], maxlen=CPU_WINDOW + 1)
        self._first = self._samples[0]
        self.most = 0.0

    def sample(self) -> None:
        """Take a sample; call it about once a second."""
        now, cpu = self._clock(), self._cpu()
        self._samples.append((now, cpu))
        begun, before = self._samples[0]
        # A shorter window than the full one would judge a single burst.
        if len(self._samples) > CPU_WINDOW and now > begun:
            self.most = max(self.most, (cpu - before) / (now - begun))

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time since the meter was made."""
        return self._cpu() - self._first[1]


@dataclass
class Findings:
    """What is known of a run besides its rows."""

    open_loop: bool
    send_lag_limit_ms: float
    cpu_limit: float
    lags_s: list[float] = field(default_factory=list)  # of the requests that were sent
    busy: dict[str, float] = field(default_factory=dict)  # largest share of a core, by process
    left_out: int = 0  # requests that should have been sent and were not
    lost_workers: list[str] = field(default_factory=list)
    locust_cpu_warning: bool = False
    write_error: str = ""
    other: list[str] = field(default_factory=list)

    def invalid(self) -> list[str]:
        """The reasons why the run's figures must not be used."""
        reasons = list(self.other)
        # The lower of the two requests that p99 falls between: a single late one of a short run is no verdict.
        lag_ms = float(np.percentile(self.lags_s, 99, method="lower")) * MS_PER_S if self.lags_s else 0.0
        if self.open_loop and lag_ms > self.send_lag_limit_ms:
            reasons.append(f"send lag p99 {lag_ms:.1f} ms is over the limit of {self.send_lag_limit_ms:g} ms")
        for name, share in self.busy.items():
            if share > self.cpu_limit:
                reasons.append(f"client busy: {name} used {share:.2f} of a core, limit {self.cpu_limit:g}")
        if self.locust_cpu_warning and not any(share > self.cpu_limit for share in self.busy.values()):
            reasons.append("client busy: Locust warned of its CPU usage")
        reasons += [f"worker lost: {name}" for name in self.lost_workers]
        if self.write_error:
            reasons.append(f"records could not be written: {self.write_error}")
        if self.left_out:
            reasons.append(f"{self.left_out} requests of the schedule were not sent")
        return reasons


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile; 0 of nothing."""
    return float(np.percentile(np.asarray(values), percent)) if len(values) else 0.0


def exit_code(interrupted: bool, invalid: Sequence[str], errors: Mapping[str, int], answered: int) -> int:
    """0 for a valid run, with or without misses; 3 where nothing at all was answered."""
    if interrupted:
        return INTERRUPTED
    if errors and not answered:
        return ENDPOINT_FAILED
    return INVALID if invalid else VALID
