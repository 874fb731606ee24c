"""The poller: readings never wait for comparisons, nothing ends it, figures grow old and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from exporter_fakes import DRIFT, FACTS, MONITOR, OBSERVED, Compared, Reader
from fleet_fakes import Hands

from planner.exporter.poller import COMPARISON, Poller
from planner.exporter.snapshot import HISTORY_S, Moment
from planner.observed import Observed, Trouble
from planner.scenario.monitor import Monitor

DOWN = Trouble("h:1", "down", "connection refused")
BLIND = Observed(1_700_000_000.0, 60.0, troubles=(DOWN,))


class Steps:
    """A poller that is moved by hand: one reading and its comparison at a time."""

    def __init__(self, analyse: Callable[[Observed], Compared] = lambda observed: Compared()) -> None:
        self.hands, self.lines = Hands(), list[str]()
        self.next = OBSERVED
        self.reader = Reader(lambda: self.next)
        self.poller = Poller(self.reader, analyse, FACTS, MONITOR, log=self.lines.append, clock=self.hands.clock)

    def read(self, observed: Observed) -> None:
        self.next = observed
        self.poller.read_once()
        while not self.poller._fresh.empty():
            given = self.poller._fresh.get()
            assert given is not None
            self.poller.compare(*given)


def test_nothing_is_known_before_the_first_reading():
    steps = Steps()
    steps.hands.move(4.0)
    snapshot = steps.poller.snapshot()
    assert (snapshot.ready, snapshot.observed, snapshot.drift, snapshot.age_s) == (False, None, None, 4.0)
    assert (snapshot.asked, snapshot.answered, snapshot.poll_s) == (2, 0, None)


def test_a_reading_and_its_comparison_are_shown_together():
    steps = Steps()
    steps.reader.model_name, steps.reader.namespace = "as/served", "search"
    steps.read(OBSERVED)
    steps.hands.move(2.0)
    snapshot = steps.poller.snapshot()
    assert (snapshot.ready, snapshot.observed, snapshot.drift, snapshot.age_s) == (True, OBSERVED, DRIFT, 2.0)
    assert (snapshot.sources, snapshot.asked, snapshot.answered) == ({"h:1": True, "h:2": True}, 2, 2)
    assert (snapshot.plan.model_name, snapshot.plan.namespace) == ("as/served", "search")
    assert snapshot.history == (Moment(OBSERVED.ended_unix_s, 4.0, 0.002, 0.0016, OBSERVED.window_s),)


def test_figures_of_the_last_good_reading_stay_until_they_are_too_old():
    steps = Steps()
    steps.read(OBSERVED)
    steps.hands.move(50.0)
    steps.read(BLIND)
    snapshot = steps.poller.snapshot()
    assert (snapshot.observed, snapshot.age_s, snapshot.stale) == (OBSERVED, 50.0, False)
    assert (snapshot.sources, snapshot.troubles) == ({"h:1": False, "h:2": True}, (DOWN,))
    steps.hands.move(11.0)
    snapshot = steps.poller.snapshot()
    assert (snapshot.observed, snapshot.drift, snapshot.age_s, snapshot.stale) == (None, None, 61.0, True)
    assert snapshot.ready
    steps.read(OBSERVED)
    assert steps.poller.snapshot().drift == DRIFT


def test_a_comparison_that_fails_is_told_and_leaves_the_reading():
    def fails(observed: Observed) -> Compared:
        if observed.requests_per_s == 4.0:
            raise ZeroDivisionError("by no traffic")
        return Compared()

    steps = Steps(fails)
    steps.read(OBSERVED)
    snapshot = steps.poller.snapshot()
    assert (snapshot.observed, snapshot.drift) == (OBSERVED, None)
    assert [(one.source, one.reason) for one in snapshot.troubles] == [(COMPARISON, "garbage")]
    assert "ZeroDivisionError: by no traffic" in snapshot.troubles[0].text
    assert snapshot.trouble_counts == {"garbage": 1}
    better = replace(OBSERVED, requests_per_s=5.0)
    steps.read(better)
    steps.read(better)
    assert (steps.poller.snapshot().drift, steps.poller.snapshot().troubles) == (DRIFT, ())
    assert len(steps.lines) == 2
    assert steps.lines[0].startswith(f"{COMPARISON}: garbage")
    assert steps.lines[1] == "every source answers well again"


def test_a_reader_that_raises_does_not_end_it():
    steps = Steps()

    def broken() -> Observed:
        raise RuntimeError("a defect")

    steps.reader.answer = broken
    steps.poller.read_once()
    snapshot = steps.poller.snapshot()
    assert [(one.source, one.reason) for one in snapshot.troubles] == [("reader", "garbage")]
    assert snapshot.answered == 0
    assert steps.lines == ["reader: garbage: the reading failed (RuntimeError: a defect)"]


def test_troubles_are_counted_each_time_and_said_once():
    steps = Steps()
    many = tuple(Trouble(f"h:{index}", "slow", "no answer in time") for index in range(7))
    for _ in range(3):
        steps.read(replace(BLIND, troubles=many))
    assert steps.poller.snapshot().trouble_counts == {"slow": 21}
    assert steps.lines == [*(f"h:{index}: slow: no answer in time" for index in range(5)), "and 2 more such troubles"]


def test_what_a_server_says_cannot_write_to_the_terminal():
    steps = Steps()
    steps.read(replace(BLIND, troubles=(Trouble("h:1", "garbage", "it says: \x1b[2J\nplanner: all is well"),)))
    assert steps.lines == ["h:1: garbage: it says: ?[2J planner: all is well"]


@pytest.mark.parametrize(
    ("reason", "well", "because"),
    [
        ("restarted", True, "its counters are seen through"),
        ("clock", True, "its own clock rules"),
        ("slow", False, "nothing came"),
        ("stale", False, "old figures"),
        ("impossible", False, "figures that cannot be"),
    ],
)
def test_a_source_is_up_whose_figures_are_whole(reason: str, well: bool, because: str):
    steps = Steps()
    steps.read(replace(OBSERVED, troubles=(Trouble("h:2", reason, "words"),)))
    snapshot = steps.poller.snapshot()
    assert snapshot.sources == {"h:1": True, "h:2": well}, because
    assert (snapshot.answered, snapshot.trouble_counts) == (1 + well, {reason: 1}), because


def test_what_only_the_comparison_sees_is_said_once_and_goes_with_it():
    """Such as a model that is not the plan's: no reading tells it, no source is down."""
    other = {"source": "monitor.model_name", "reason": "missing", "text": "the fleet serves another model"}
    read = {"source": "h:1", "reason": "restarted", "text": "began anew"}
    told: list[dict[str, str]] = [read, other]
    steps = Steps(lambda observed: Compared({**DRIFT, "troubles": told}))
    again = replace(OBSERVED, troubles=(Trouble(**read),))
    for _ in range(3):
        steps.read(again)
    snapshot = steps.poller.snapshot()
    assert snapshot.troubles == (Trouble(**read), Trouble(**other))
    assert snapshot.trouble_counts == {"restarted": 3, "missing": 3}
    assert snapshot.sources == {"h:1": True, "h:2": True}
    assert steps.lines == [
        "h:1: restarted: began anew",
        "monitor.model_name: missing: the fleet serves another model",
    ]
    told.clear()
    steps.read(OBSERVED)
    assert steps.poller.snapshot().troubles == ()


def test_turns_that_a_slow_reading_took_are_left_out():
    """Every 10 s; the second reading takes 35 s, so the next is at 50 s and no three follow on its heels."""
    steps, begun = Steps(), list[float]()
    first_s = steps.hands.steady_s

    class Stop:
        def is_set(self) -> bool:
            return len(begun) == 5

        def wait(self, seconds: float) -> None:
            steps.hands.move(seconds)

    def answer() -> Observed:
        begun.append(steps.hands.steady_s - first_s)
        steps.hands.move(35.0 if len(begun) == 2 else 1.0)
        return OBSERVED

    steps.reader.answer = answer
    steps.poller._stop = Stop()  # type: ignore[assignment]
    steps.poller._read_on()
    assert begun == [0.0, 10.0, 50.0, 60.0, 70.0]


def test_history_has_one_point_a_minute_and_six_hours():
    steps = Steps()
    for turn in range(3000):
        steps.read(replace(OBSERVED, ended_unix_s=1000.0 + 10.0 * turn))
    history = steps.poller.snapshot().history
    times = [point.unix_s for point in history]
    assert times[-1] == 1000.0 + 29_990.0
    assert times[0] >= times[-1] - HISTORY_S
    assert 350 <= len(history) <= 362
    assert all(after - before >= 60.0 for before, after in pairwise(times[:-1]))
    steps.read(replace(OBSERVED, ended_unix_s=times[-1] - 600.0))
    stepped = steps.poller.snapshot().history
    assert stepped[-1].unix_s == times[-1] - 600.0
    assert [point.unix_s for point in stepped] == sorted({point.unix_s for point in stepped})


def test_many_sources_are_counted_and_not_told_one_by_one():
    steps = Steps()
    steps.reader.sources = tuple(f"h:{index}" for index in range(257))
    steps.read(replace(OBSERVED, troubles=(DOWN,)))
    snapshot = steps.poller.snapshot()
    assert (snapshot.sources, snapshot.asked, snapshot.answered) == ({}, 257, 256)


# --- on its own threads ---


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    def wait(true: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 10.0
        while not true():
            assert time.monotonic() < end_s, "it never came true"
            time.sleep(0.01)

    return wait


def test_readings_and_scrapes_go_on_while_a_comparison_takes_its_time(until: Callable[[Callable[[], bool]], None]):
    let_go, compared = threading.Event(), list[float]()
    turns = iter(range(1, 1000))
    quick = Monitor(endpoints=("http://h:1",), interval_s=1.0, window_s=10.0).model_copy(update={"interval_s": 0.02})

    def slow(observed: Observed) -> Compared:
        compared.append(observed.requests_per_s or 0.0)
        assert let_go.wait(10.0)
        return Compared()

    reader = Reader(lambda: replace(OBSERVED, requests_per_s=float(next(turns))), sources=("h:1",))
    poller = Poller(reader, slow, FACTS, quick, log=lambda line: None)
    poller.start()
    until(lambda: next(turns) > 20)
    assert compared == [1.0]
    assert poller.snapshot().answered == 1  # the sources are told while the figures wait
    assert not poller.snapshot().ready
    let_go.set()
    until(lambda: len(compared) > 1)
    assert compared[1] > 15.0  # the newest, not the second
    until(lambda: poller.snapshot().ready)
    poller.stop()
    until(lambda: not any(thread.is_alive() for thread in poller._threads))
    assert reader.closed
