"""Whether a run may be used: what makes it invalid, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.units import MS_PER_S

VALID, INVALID, ENDPOINT_FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass
class Findings:
    """What is known of a run besides its rows."""

    open_loop: bool
    send_lag_limit_ms: float
    cpu_limit: float
    loop_lag_limit_ms: float
    lags_s: list[float] = field(default_factory=list)  # of the requests that were sent
    busy: dict[str, float] = field(default_factory=dict)  # largest share of a core, by process
    loop_lag_ms: dict[str, float] = field(default_factory=dict)  # p99 of the event loop's lateness, by worker
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
        for name, late_ms in self.loop_lag_ms.items():
            if late_ms > self.loop_lag_limit_ms:
                limit = f"limit {self.loop_lag_limit_ms:g} ms"
                reasons.append(f"client starved: the event loop of {name} was {late_ms:.0f} ms late (p99), {limit}")
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
    """0 for a valid run, with or without misses; 1 for one that cannot be used; 3 only where nothing was answered."""
    if interrupted:
        return INTERRUPTED
    if errors and not answered:
        return ENDPOINT_FAILED
    return INVALID if invalid else VALID
