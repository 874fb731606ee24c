"""Not a test: the dispatcher on calls that end on command or by a clock of their own; prints rows. See `dispatch`."""

from __future__ import annotations

import heapq
import sys
import time
from itertools import count

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
from planner.simulation.load import Load, Prefixes, Stage
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


class Many(Client):
    """Its clock goes from one sleeper's end to the next, a millisecond late; each answer takes `took_s`."""

    def __init__(self, took_s: float) -> None:
        super().__init__(ADDRESS, "completions", "", 0.0)
        self.time_s, self.took_s = -0.5, took_s
        self.made_s: dict[bytes, float] = {}  # when each body was made
        self.asked: dict[int, bytes] = {}
        self._sleepers: list[tuple[float, int, Event]] = []
        self._numbers = count()
        gevent.spawn(self._turn)

    def now(self) -> float:
        """The time of the sleeper that was woken last."""
        return self.time_s

    def sleep(self, seconds: float) -> None:
        """Wait until nobody sleeps that is to wake before."""
        woken = Event()
        wake_s = self.time_s + (seconds + 0.001 if seconds > 0 else 0.00002)
        heapq.heappush(self._sleepers, (wake_s, next(self._numbers), woken))
        woken.wait()

    def _turn(self) -> None:
        while True:
            for _ in range(4):  # all that can go on without time does so
                gevent.sleep(0)
            if self._sleepers:
                wake_s, _, woken = heapq.heappop(self._sleepers)
                self.time_s = max(self.time_s, wake_s)
                woken.set()

    def _exchange(self, call: Call) -> None:
        self.asked[call.requests[0]] = call.body
        if self.took_s:
            self.sleep(self.took_s)
        answer(call, self.time_s)


class Watched(Bodies):
    """Tells its client when each body is made."""

    def __init__(self, client: Many) -> None:
        super().__init__("completions", "tiny", 0, IdRange(100, 1000))
        self._client = client

    def around(self, said: bytes, output_tokens: int, samples: int = 1, wants_ids: bool = False) -> bytes:
        body = super().around(said, output_tokens, samples, wants_ids)
        self._client.made_s[body] = self._client.now()
        return body


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


def sessions(number: int, think_s: float) -> Load:
    """Sessions of two turns, one begun every 50 ms; later turns stand where they would be due at once."""
    begins_s = 0.05 * np.arange(number)
    arrival_s = np.concatenate((begins_s, begins_s + think_s))
    order = np.argsort(arrival_s, kind="stable")
    session, turn = order % number, order // number
    place = np.argsort(order)
    links = 2 * (turn + 1)
    start = np.concatenate(([0], np.cumsum(links)))
    segment = np.concatenate([4 * one + np.arange(many) for one, many in zip(session, links, strict=True)])
    return Load(
        arrival_s[order],
        np.where(turn > 0, 43, 20).astype(np.int32),
        np.full(2 * number, 3, np.int32),
        (Stage("chat", 1),),
        Prefixes(start, segment.astype(np.int32), np.tile(np.array([20, 3], np.int32), 2 * number)),
        think_s=np.where(turn > 0, think_s, 0.0),
        follows=np.where(turn > 0, place[session], -1),
    )


def session_rows(load: Load, took_s: float, max_in_flight: int) -> tuple[list[RequestRow], list[float]]:
    """The rows of sessions, and how long before each was sent its body was made."""
    client = Many(took_s)
    rows = rows_of(load, client, Watched(client), max_in_flight)
    return rows, [(row.sent_s or 0.0) - client.made_s[client.asked[row.request]] for row in rows]


def rows_of(
    load: Load, client: Racing | Turned | Many, given: Bodies | None = None, max_in_flight: int = 0
) -> list[RequestRow]:
    """The rows of a run with this client."""
    rows: list[RequestRow] = []
    bodies = given or Bodies("completions", "tiny", 0, IdRange(100, 1000))
    limits = Limits(max_in_flight, 60.0, STALL_S)
    sleep = gevent.sleep if isinstance(client, Racing) else client.sleep
    part = parts_of(load, [load.clients or 1])[0]
    dispatch = Dispatch(part, client, bodies, limits, lambda row, stage, call: rows.append(row), sleep=sleep)
    gevent.spawn(dispatch.run_client if load.clients else dispatch.run_open)
    dispatch.over.wait()
    return rows


if __name__ == "__main__":
    assert locust.__version__
    one, two = (Stage("answer", 1),), (Stage("read", 1), Stage("answer", 1))
    paused, early_s = session_rows(sessions(40, 1.0), 0.0, 0)
    waiting, waited_s = session_rows(sessions(10, 0.0), 0.5, 2)
    found = {
        "race in a closed loop": rows_of(load_of(3, one, clients=1), Racing()),
        "race between stages": rows_of(load_of(1, two), Racing()),
        "turned clock": rows_of(load_of(400, one), Turned()),
        "sessions": paused,
        "sessions behind a limit": waiting,
    }
    ready_s = {"sessions": early_s, "sessions behind a limit": waited_s}
    sys.stdout.buffer.write(msgspec.json.encode({"rows": found, "ready_s": ready_s}))
