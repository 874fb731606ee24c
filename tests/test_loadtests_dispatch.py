"""When queries go and how calls are given up, by a clock and by answers that the test itself turns."""

from __future__ import annotations

import sys

import msgspec
import pytest

from planner.records import RequestRow
from tests.loadtest_process import PATIENCE_S, ROOT, started


@pytest.fixture(scope="module")
def rows() -> dict[str, list[RequestRow]]:
    with started([sys.executable, str(ROOT / "tests" / "loadtest_dispatch.py")], PYTHONPATH=str(ROOT)) as process:
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    return msgspec.json.decode(output, type=dict[str, list[RequestRow]])


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
