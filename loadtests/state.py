"""What the master keeps of a run and of its workers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from loadtests.meters import BusyMeter
from loadtests.options import Options
from loadtests.schedule import Schedule
from loadtests.verdict import Findings
from loadtests.writer import Writer
from planner.live import ServerFacts
from planner.records import RunHeader
from planner.units import MS_PER_S
from planner.workload.token_ids import IdRange


@dataclass
class WorkerState:
    """What the master knows of one worker, or of itself where there are none."""

    number: int
    requests: int = 0
    unsent: int = 0
    skipped: int = 0
    made_up: int = 0  # answers of sessions that could not be re-sent as they were given
    broken_off: int = 0  # likewise, because they did not come whole
    cpu_s: float = 0.0
    done: bool = False
    lost: bool = False


@dataclass
class RunState:
    """A run from its preparation to its end."""

    id: str
    options: Options
    schedule: Schedule
    model: str
    facts: ServerFacts | None
    ids: IdRange
    writer: Writer
    findings: Findings
    header: RunHeader | None = None
    meter: BusyMeter | None = None  # of a master, which has workers of its own
    workers: dict[str, WorkerState] = field(default_factory=dict)
    sent_at: float = 0.0
    rows: int = 0
    over: bool = False

    def compare_clocks(self, worker: WorkerState, received_at: float) -> None:
        """The worker got its part after it was sent and before its rows came: by its clock too?"""
        apart_ms = max(self.sent_at - received_at, received_at - time.time(), 0.0) * MS_PER_S
        reason = f"the clock of worker {worker.number} differs"
        known = any(text.startswith(reason) for text in self.findings.other)
        if apart_ms > self.options.send_lag_limit_ms and not known:
            self.findings.other.append(f"{reason} from the master's by at least {apart_ms:.0f} ms")
