"""When queries go and how calls are given up, by a clock and by answers that the test itself turns."""

from __future__ import annotations

import sys

import msgspec
import pytest

from planner.records import RequestRow
from tests.loadtest_process import PATIENCE_S, ROOT, started


class Found(msgspec.Struct):
    """Rows of each run, and of some how long before each send its body was made."""

    rows: dict[str, list[RequestRow]]
    ready_s: dict[str, list[float]]


@pytest.fixture(scope="module")
def found() -> Found:
    with started([sys.executable, str(ROOT / "tests" / "loadtest_dispatch.py")], PYTHONPATH=str(ROOT)) as process:
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    return msgspec.json.decode(output, type=Found)


@pytest.fixture(scope="module")
def rows(found: Found) -> dict[str, list[RequestRow]]:
    return found.rows


def test_a_call_that_ended_before_it_could_be_given_up_leaves_its_client_alone(
    rows: dict[str, list[RequestRow]],
) -> None:
    """Its client is thinking by then: what was meant for the call would end it, and the rest would never be sent."""
    found = rows["race in a closed loop"]
    assert [(row.request, row.error, row.events) for row in found] == [(0, "", 3), (1, "", 3), (2, "", 3)]


def test_nor_does_it_end_the_call_of_the_next_stage(rows: dict[str, list[RequestRow]]) -> None:
    found = rows["race between stages"]
    assert [(row.request, row.error, row.events) for row in found] == [(0, "", 3), (1, "", 3)]


def test_every_query_goes_when_it_is_due(rows: dict[str, list[RequestRow]]) -> None:
    """By a clock that stands still unless somebody sleeps: what is late here no busy machine has made late."""
    found = rows["turned clock"]
    assert len(found) == 400
    lags_s = [row.sent_s - row.scheduled_s for row in found if row.sent_s is not None]
    assert len(lags_s) == 400
    assert min(lags_s) >= -1e-6  # rounded to a microsecond
    assert max(lags_s) < 0.001


def test_a_session_that_pauses_makes_no_other_late(rows: dict[str, list[RequestRow]]) -> None:
    """Every second turn is due a second ahead of the first turns that come before it: those still have their 50 ms."""
    sent = rows["sessions"]
    assert len(sent) == 80
    assert [row.error for row in sent] == [""] * 80
    lags_s = [row.sent_s - row.scheduled_s for row in sent if row.sent_s is not None]
    assert len(lags_s) == 80
    assert max(lags_s) < 5e-5, "waited out, not left to a timer that is a tenth of a millisecond late"


def test_a_turn_is_written_down_shortly_before_it_is_due(found: Found) -> None:
    """Made before the pause, the bodies of all sessions that think would fill the memory."""
    sent = zip(found.rows["sessions"], found.ready_s["sessions"], strict=True)
    later = [ready_s for row, ready_s in sent if row.request > 0]  # the very first is made before the run begins
    assert len(later) == 79
    assert max(later) < 0.06
    assert min(later) > 0.0, "not when it is due already"


def test_behind_a_limit_a_turn_is_written_down_when_it_may_go(found: Found) -> None:
    waiting = found.rows["sessions behind a limit"]
    assert len(waiting) == 20
    assert sum((row.held_s or 0.0) > 0.1 for row in waiting) > 10, "most of them waited"
    assert max(found.ready_s["sessions behind a limit"]) < 1e-6
