"""Not a test: the dispatcher on calls that end on command or by a clock of their own; prints rows. See `dispatch`."""

from __future__ import annotations

import sys
import time

import locust  # first of all: it makes sockets cooperative

# isort: split
import gevent
import msgspec
import numpy as np
from gevent.event import Event

from loadtests.client import Call, Client
from loadtests.dispatch import Dispatch, Limits
from loadtests.prompts import Bodies
from loadtests.schedule import parts_of
from loadtests.wire import parse_address
from planner.records import RequestRow
from planner.simulation.load import Load, Stage
from planner.workload.token_ids import IdRange

ADDRESS = parse_address("http://127.0.0.1:1")  # nobody is asked
STALL_S = 0.1


class Racing(Client):
    """The answer to its first call comes in the very round of the event loop in which the call is given up."""

    def __init__(self) -> None:
        super().__init__(ADDRESS, "completions", "", time.perf_counter())
        self.calls = 0
        self.silent_since_s: float | None = None
        self.go = Event()

    def now(self) -> float:
        """While the first call waits it is the watcher that asks: before it judges, the answer is there."""
        if self.silent_since_s is not None and super().now() - self.silent_since_s > STALL_S:
            self.go.set()
        return super().now()

    def _exchange(self, call: Call) -> None:
        self.calls += 1
        if self.calls == 1:
            call.heard_s = self.silent_since_s = super().now()
            self.go.wait()
            self.silent_since_s = None
        else:
            gevent.sleep(0.02)
        answer(call, super().now())


class Turned(Client):
    """Its clock moves only where somebody sleeps, and then by a millisecond more, as the event loop's timers do."""

    def __init__(self) -> None:
        super().__init__(ADDRESS, "completions", "", 0.0)
        self.time_s = -0.5

    def now(self) -> float:
        """The time that has been slept."""
        return self.time_s

    def sleep(self, seconds: float) -> None:
        """Let the others run, and the time pass."""
        self.time_s += seconds + 0.001 if seconds > 0 else 0.00002
        gevent.sleep(0)

    def _exchange(self, call: Call) -> None:
        answer(call, self.time_s)


def answer(call: Call, at_s: float) -> None:
    """All of its tokens at once."""
    call.token_s = [[at_s] * call.output_tokens for _ in call.requests]
    call.ended_s = at_s


def load_of(queries: int, stages: tuple[Stage, ...], clients: int = 0) -> Load:
    """Queries at random times, 50 a second."""
    requests = queries * len(stages)
    arrival_s = np.cumsum(np.random.default_rng(1).exponential(0.02, queries))
    prompt, output = np.full(requests, 20, np.int32), np.full(requests, 3, np.int32)
    think_s = np.full(queries, 0.3) if clients else None
    return Load(arrival_s, prompt, output, stages, clients=clients, think_s=think_s)


def rows_of(load: Load, client: Racing | Turned) -> list[RequestRow]:
    """The rows of a run with this client."""
    rows: list[RequestRow] = []
    bodies, limits = Bodies("completions", "tiny", 0, IdRange(100, 1000)), Limits(0, 60.0, STALL_S)
    sleep = client.sleep if isinstance(client, Turned) else gevent.sleep
    part = parts_of(load, [load.clients or 1])[0]
    dispatch = Dispatch(part, client, bodies, limits, lambda row, stage, call: rows.append(row), sleep=sleep)
    gevent.spawn(dispatch.run_client if load.clients else dispatch.run_open)
    dispatch.over.wait()
    return rows


if __name__ == "__main__":
    assert locust.__version__
    one, two = (Stage("answer", 1),), (Stage("read", 1), Stage("answer", 1))
    found = {
        "race in a closed loop": rows_of(load_of(3, one, clients=1), Racing()),
        "race between stages": rows_of(load_of(1, two), Racing()),
        "turned clock": rows_of(load_of(400, one), Turned()),
    }
    sys.stdout.buffer.write(msgspec.json.encode(found))
