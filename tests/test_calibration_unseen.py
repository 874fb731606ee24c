"""Requests that failed: what the engine may have done for them, unseen, is in no equation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import World, scenario_of, write_run

from planner.calibration import calibrate, recorded_runs
from planner.calibration.rows import LONE, make_rows
from planner.calibration.unseen import Unseen
from planner.errors import InputError
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import Recording

DATE = "2026-11-22"
FACTORS = {"sequences": 6.0, "tokens": 2.0, "prefill_step": 3.0}
QUIET = World(jitter_s=0.0001)


def lost(path: Path, every: int) -> Recording:
    """The run with every so many requests given up by their clients without a token, though the engine served them."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines[1:-1]:
        if line["request"] % every == 0:
            line.update(error="no token in time", events=0, gaps_ms=[])
            line.update(dict.fromkeys(("first_token_s", "last_token_s", "output_tokens", "status")))
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    (recording,) = read_recordings(path)
    return recording


def busy(folder: Path, every: int, rate: float = 3.0) -> Recording:
    load = scenario_of(rate, {"uniform": [100, 3000]}, 60)
    return lost(write_run(folder / "run.jsonl", load, FACTORS, 150, 3, QUIET), every)


def test_spans_overlap_whatever_their_order() -> None:
    spans = Unseen(np.array([1.0, 2.0, 6.0]), np.array([5.0, 5.0, 7.0]))
    begin, end = np.array([0.0, 0.5, 3.0, 5.0, 5.5, 7.0]), np.array([1.0, 1.5, 4.0, 6.0, 6.5, 9.0])
    assert spans.touches(begin, end).tolist() == [False, True, True, False, True, False]
    assert not Unseen(np.zeros(0), np.zeros(0)).touches(begin, end).any()


def test_no_equation_is_made_of_a_time_in_which_a_failed_request_may_have_run(tmp_path: Path) -> None:
    recording = busy(tmp_path, 12)
    (run,) = recorded_runs([recording], None)
    rows, _ = make_rows([run])
    failed = np.flatnonzero(~recording.answered)
    assert len(failed) == 13
    assert recording.ended_s is not None
    for place in failed:
        # a row's own moment is the end of its first gap, or its first token
        inside = (rows.at_s > recording.sent_s[place] + 0.05) & (rows.at_s < recording.ended_s[place])
        assert not inside.any()
    cost = np.array([FACTORS.get(part, 1.0) for part in rows.parts])
    error = np.abs(rows.share @ cost / rows.measured_s - 1.0)
    assert np.quantile(error, 0.95) < 0.03  # with rows beside failed requests a tenth is off by more
    assert (rows.kind == LONE).any()


def test_broken_answers_hide_what_came_after_their_last_token(tmp_path: Path) -> None:
    load = scenario_of(3.0, 500, 60)
    (recording,) = read_recordings(write_run(tmp_path / "run.jsonl", load, FACTORS, 60, 3, QUIET))
    assert recording.ended_s is not None
    errors = tuple("stalled" if place == 5 else "" for place in range(60))
    ended_s = recording.ended_s.copy()
    ended_s[5] += 2.0
    (run,) = recorded_runs([replace(recording, errors=errors, ended_s=ended_s)], None)
    assert run.unseen.begin_s.tolist() == [recording.last_token_s[5]]
    assert run.unseen.latest_s.tolist() == [ended_s[5]]


def test_a_recorder_without_ends_is_taken_to_have_waited_as_for_its_longest_answer(tmp_path: Path) -> None:
    recording = replace(busy(tmp_path, 50), ended_s=None)
    longest = float(np.nanmax(recording.last_token_s - recording.sent_s))
    (run,) = recorded_runs([recording], None)
    np.testing.assert_allclose(run.unseen.latest_s - run.unseen.begin_s, longest)


def test_what_was_in_flight_when_a_run_was_killed_is_unseen_from_when_it_was_due(tmp_path: Path) -> None:
    """A killed run has no line of the requests that had not ended: they ran beside the last ones that did."""
    load = scenario_of(6.0, 500, 200)
    path = write_run(tmp_path / "run.jsonl", load, FACTORS, 120, 3, QUIET)
    (whole,) = read_recordings(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:80]))  # header and 79 that ended
    (killed,) = read_recordings(path)
    assert killed.ended_s is not None
    until_s = float(killed.ended_s.max())
    in_flight = np.setdiff1d(whole.request[whole.scheduled_s <= until_s], killed.request)
    assert len(in_flight) > 1
    (run,) = recorded_runs([killed], None)
    assert run.unseen.begin_s.tolist() == pytest.approx(sorted(whole.scheduled_s[in_flight]))
    assert np.isinf(run.unseen.latest_s).all()
    rows, _ = make_rows([run])
    assert rows.at_s.max() <= whole.scheduled_s[in_flight].min() + 1.0
    (complete,) = recorded_runs([whole], None)
    assert len(complete.unseen.begin_s) == 0


def test_records_that_failures_leave_nothing_of_are_refused(tmp_path: Path) -> None:
    recording = busy(tmp_path, 12)
    ended: Any = np.full(len(recording.request), 1e6)
    early = replace(recording, ended_s=ended)
    with pytest.raises(InputError, match=r"records \(=\d+\): spans of tokens beside which no failed request"):
        calibrate([early], date=DATE)
