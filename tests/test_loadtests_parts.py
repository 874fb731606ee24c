"""The load test's parts one by one: shares of the schedule, verdict, file, export."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.meters import BusyMeter, LoopMeter
from loadtests.schedule import Part, parts_of
from loadtests.verdict import Findings, exit_code
from loadtests.writer import Writer, free_path
from planner.errors import DataFileError
from planner.readers import report_rows
from planner.readers.recording_files import read_recordings
from planner.readers.recordings import read_own
from planner.readers.vllm_bench_export import vllm_bench_document
from planner.records import RequestRow, RunEnd, RunHeader, encode_line
from planner.simulation.load import Load, Prefixes, Stage

# --- shares of the schedule ---


@st.composite
def loads(draw: st.DrawFn) -> Load:
    queries, clients = draw(st.integers(1, 30)), draw(st.integers(0, 6))
    stages = (Stage("a", draw(st.integers(1, 2))), Stage("b", 1, draw(st.integers(1, 2))))
    requests = queries * sum(stage.requests for stage in stages)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    lengths = rng.integers(0, 3, requests)
    start = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    prefixes = Prefixes(start, rng.integers(0, 4, start[-1]).astype(np.int32), np.array([5, 6, 7, 8], np.int32))
    return Load(
        np.sort(rng.random(queries)),
        rng.integers(1, 50, requests).astype(np.int32),
        rng.integers(1, 9, requests).astype(np.int32),
        stages,
        prefixes if draw(st.booleans()) else None,
        clients=min(clients, queries),
        per_client=draw(st.booleans()),
        think_s=rng.random(queries) if draw(st.booleans()) else None,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_session_is_whole_on_one_worker(begins: list[bool], workers: int, chance: Any) -> None:
    open_ends: list[int] = []
    follows: list[int] = []
    for query, begin in enumerate(begins):
        before = -1 if begin or not open_ends else open_ends.pop(chance.randrange(len(open_ends)))
        follows.append(before)
        open_ends.append(query)
    ones, queries = np.ones(len(follows), np.int32), len(follows)
    load = Load(np.arange(queries) / 8, ones, ones, think_s=np.arange(queries) / 4, follows=np.array(follows))
    parts = [Part.decode(json_roundtrip(part.encode())) for part in parts_of(load, [1] * workers)]
    assert sorted(np.concatenate([part.query for part in parts]).tolist()) == list(range(queries))
    for part in parts:
        known = part.query.tolist()
        before = [known[place] if place >= 0 else -1 for place in part.follows.tolist()]
        assert before == [follows[query] for query in known]
        assert part.think_s.tolist() == [query / 4 for query in known]
    sessions = sum(before < 0 for before in follows)
    shares = sorted(int(np.count_nonzero(part.follows < 0)) for part in parts)
    assert (sum(shares), shares[-1] - shares[0] <= 1) == (sessions, True), "shared out evenly"


@settings(max_examples=150, deadline=None)
@given(loads(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_workers_share_a_load_without_overlap_and_without_loss(load: Load, workers: int, chance: Any) -> None:
    users = [0] * workers
    for _ in range(load.clients):
        users[chance.randrange(workers)] += 1
    parts = [Part.decode(json_roundtrip(part.encode())) for part in parts_of(load, users)]
    assert sorted(np.concatenate([part.query for part in parts]).tolist()) == list(range(load.queries))
    for part in parts:
        assert (np.diff(part.query) > 0).all()
        for place, query in enumerate(part.query.tolist()):
            assert part.arrival_s[place] == load.arrival_s[query]
            assert part.think_s[place] == (0.0 if load.think_s is None else load.think_s[query])
            if load.clients:
                assert part.first_client <= query % load.clients < part.first_client + part.clients
            for call in range(load.width):
                row, request = place * load.width + call, query * load.width + call
                assert part.prompt_tokens[row] == load.prompt_tokens[request]
                assert part.output_tokens[row] == load.output_tokens[request]
                assert part.chain(row) == chain_of(load, request)


def json_roundtrip(message: dict[str, Any]) -> dict[str, Any]:
    """As a message travels: bytes stay bytes, tuples become lists."""
    import msgpack

    sent: dict[str, Any] = msgpack.loads(msgpack.dumps(message))
    return sent


def chain_of(load: Load, request: int) -> list[tuple[int, int]]:
    if load.prefixes is None:
        return []
    links = slice(load.prefixes.chain_start[request], load.prefixes.chain_start[request + 1])
    segments = load.prefixes.chain_segment[links].tolist()
    return [(segment, int(load.prefixes.segment_tokens[segment])) for segment in segments]


# --- verdict ---

GOOD: dict[str, Any] = {"open_loop": True, "send_lag_limit_ms": 10.0, "cpu_limit": 0.9, "loop_lag_limit_ms": 20.0}
# what is known, the beginning of the reason or nothing, because
VERDICTS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "", "nothing speaks against it"),
    ({"lags_s": [0.001] * 99 + [0.5]}, "", "p99 is judged, one late request in a hundred is below it"),
    ({"lags_s": [0.001] * 19 + [0.5]}, "", "nor does a single late request of twenty make a verdict"),
    ({"lags_s": [0.001] * 90 + [0.05] * 10}, "send lag p99 50.0 ms", "a tenth of the requests went late"),
    ({"lags_s": [0.05] * 10, "open_loop": False}, "", "a closed loop has no arrivals to be late for"),
    ({"busy": {"worker 0": 0.95}}, "client busy: worker 0 used 0.95", "a client that is busy is late in reading too"),
    ({"busy": {"worker 0": 0.89}}, "", "busy, but below the limit"),
    ({"busy": {"master": 0.95}}, "client busy: master", "a master writes what its workers record"),
    ({"loop_lag_ms": {"worker 0": 3.0, "worker 1": 34.0}}, "client starved: the event loop of worker 1", "read late"),
    ({"loop_lag_ms": {"worker 0": 34.0}, "open_loop": False}, "client starved", "a closed loop reads late as well"),
    ({"loop_lag_ms": {"worker 0": 20.0}}, "", "late, but not beyond the limit"),
    ({"locust_cpu_warning": True}, "client busy: Locust warned", "Locust's own measure"),
    ({"lost_workers": ["worker 1 (host)"]}, "worker lost: worker 1", "its share was not sent"),
    ({"left_out": 3}, "3 requests of the schedule were not sent", "another load than asked for"),
    ({"write_error": "No space left"}, "records could not be written: No space", "rows are missing"),
]


@pytest.mark.parametrize(("known", "reason", "because"), VERDICTS, ids=[row[2] for row in VERDICTS])
def test_a_run_is_invalid_for_a_reason(known: dict[str, Any], reason: str, because: str) -> None:
    reasons = Findings(**(GOOD | known)).invalid()
    assert len(reasons) == bool(reason), because
    assert all(text.startswith(reason) for text in reasons)


@pytest.mark.parametrize(
    ("interrupted", "invalid", "errors", "answered", "code", "because"),
    [
        (False, [], {}, 10, 0, "all answered"),
        (False, [], {"HTTP 429": 3}, 7, 0, "misses are an answer too"),
        (False, [], {"HTTP 500": 10}, 0, 3, "the endpoint answered nothing"),
        (False, ["send lag"], {}, 10, 1, "must not be used"),
        (True, ["interrupted"], {}, 10, 130, "Ctrl-C"),
    ],
)
def test_exit_codes(
    interrupted: bool, invalid: list[str], errors: dict[str, int], answered: int, code: int, because: str
) -> None:
    assert exit_code(interrupted, invalid, errors, answered) == code, because


def test_the_busiest_five_seconds_count() -> None:
    """Ten idle seconds, five at 0.8 of a core, ten idle ones: neither the mean nor a single burst."""
    shares = [0.0] * 10 + [0.8] * 5 + [0.0] * 10
    clock, cpu = (iter(np.cumsum([0.0, *steps])) for steps in ([1.0] * 25, shares))
    meter = BusyMeter(lambda: float(next(cpu)), lambda: float(next(clock)))
    for _ in shares:
        meter.sample()
    assert meter.most == pytest.approx(0.8)


def test_a_run_shorter_than_the_window_is_judged_on_its_whole_length() -> None:
    """Three seconds, of which the processor was used in two: no second of it alone."""
    clock, cpu = (iter(np.cumsum([0.0, *steps])) for steps in ([1.0] * 3, [1.0, 0.0, 1.0]))
    meter = BusyMeter(lambda: float(next(cpu)), lambda: float(next(clock)))
    meter.sample()
    meter.sample()
    assert meter.most == 0.0
    meter.finish()
    assert meter.most == pytest.approx(2 / 3)


def test_a_run_longer_than_the_window_is_not_judged_on_its_rest() -> None:
    clock, cpu = (iter(np.cumsum([0.0, *steps])) for steps in ([1.0] * 6, [0.5] * 5 + [1.0]))
    meter = BusyMeter(lambda: float(next(cpu)), lambda: float(next(clock)))
    for _ in range(5):
        meter.sample()
    meter.finish()
    assert meter.most == pytest.approx(0.5)


# seconds that the timers of 20 ms took, p50 and p99 of the lateness in ms, because
TIMERS: list[tuple[list[float], float, float, str]] = [
    ([0.020] * 100, 0, 0, "each went off on its time"),
    ([0.001] * 5, 0, 0, "one that went off early is not late"),
    ([0.021] * 100, 0, 1, "a twenty-first of the time was a millisecond late"),
    ([0.020] * 40 + [0.200], 0, 170, "of 1 s the last 180 ms were late, and 10 ms are a hundredth"),
    ([0.020] * 990 + [0.220], 0, 0, "200 ms of 20 s are a hundredth"),
    ([0.020, 0.980] * 3, 460, 950, "a process that gets its core once a second: 960 ms of it are late"),
]


@pytest.mark.parametrize(("timers", "half", "most", "because"), TIMERS, ids=[row[3] for row in TIMERS])
def test_lateness_is_that_of_each_instant(timers: list[float], half: float, most: float, because: str) -> None:
    now, steps = [0.0], iter(timers)

    def sleep(seconds: float) -> None:
        assert seconds == 0.02
        now[0] += next(steps)

    meter = LoopMeter(lambda: now[0], sleep)
    with pytest.raises(StopIteration):
        meter.run()
    assert meter.percentile_ms(50) == pytest.approx(half, abs=1), because
    assert meter.percentile_ms(99) == pytest.approx(most, abs=2), because


def test_a_timer_that_never_went_off_counts_at_the_end() -> None:
    now = [0.0]
    meter = LoopMeter(lambda: now[0], lambda _: None)
    assert meter.percentile_ms(99) == 0.0
    now[0] = 1.0
    meter.finish()
    assert meter.percentile_ms(99) == pytest.approx(970, abs=2)


# --- the file ---


def test_lines_are_written_whole(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r")
    assert writer.append(b"one\n")
    assert writer.append(b"two\nthree\n")
    assert (tmp_path / "r").read_bytes() == b"one\ntwo\nthree\n"  # before it is closed
    writer.close()
    with pytest.raises(DataFileError, match="exists"):
        Writer(tmp_path / "r")
    assert free_path(tmp_path / "r").name == "r-2"


def test_a_torn_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes ten bytes of the second batch and then no more."""
    writer = Writer(tmp_path / "r")
    writer.append(b"first\n")
    answers: Iterator[int | OSError] = iter([10, OSError(28, "No space left on device")])
    write = os.write

    def full(file: int, data: memoryview) -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return write(file, data[:answer])

    monkeypatch.setattr(os, "write", full)
    assert not writer.append(b"second\nthird\n")
    assert writer.error == "No space left on device"
    assert not writer.append(b"fourth\n")
    assert (tmp_path / "r").read_bytes() == b"first\nsecond\n"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="No such file"):
        Writer(tmp_path / "none" / "r")


# --- export ---


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Four queries of which the first is warm-up and the last missed."""
    header = RunHeader(
        name="n", scenario={"traffic": {"peak_qps": 2.0}, "query": {}}, seed=0, queries=4, warmup=1, width=1,
        max_model_len=100, demand="open", api="completions", host="http://h:1", model="m",
        started_at="2026-11-22T10:11:12.000+00:00",
    )  # fmt: skip
    rows = [
        RequestRow(
            request=i, query_s=i * 0.5, scheduled_s=i * 0.5, sent_s=i * 0.5 + 0.1, ended_s=i * 0.5 + 0.4,
            first_token_s=None if i == 3 else i * 0.5 + 0.2, last_token_s=None if i == 3 else i * 0.5 + 0.4,
            gaps_ms=[] if i == 3 else [150.0, 50.0], asked_prompt_tokens=10, asked_output_tokens=3,
            events=0 if i == 3 else 3, error="HTTP 500" if i == 3 else "", status=200,
        )
        for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "r.jsonl"
    end = RunEnd(finished_at="2026-11-22T10:11:20.000+00:00", reason="complete", rows=4)
    path.write_bytes(b"".join(encode_line(line) for line in (header, *rows, end)))
    return path


def test_the_export_has_vllm_benchs_names_and_clock(records: Path) -> None:
    document = vllm_bench_document(read_own(records))
    assert document["date"] == "20261122-101112"
    assert (document["num_prompts"], document["completed"], document["failed"]) == (3, 2, 1)
    assert document["input_lens"] == [10, 10, 10]
    assert document["output_lens"] == [3, 3, 0]  # theirs of a failed request
    assert document["ttfts"] == pytest.approx([0.1, 0.1, 0.0])  # from sending, 0.1 s after the schedule
    assert document["itls"] == [pytest.approx([0.15, 0.05]), pytest.approx([0.15, 0.05]), []]
    assert document["mean_e2el_ms"] == pytest.approx(300.0)
    assert document["median_tpot_ms"] == pytest.approx(100.0)
    assert document["p99_itl_ms"] == pytest.approx(150.0)
    assert document["request_rate"] == 2.0
    assert document["errors"] == ["", "", "HTTP 500"]
    # From the first request sent at 0.6 s to the last that was sent, and failed, at 1.6 s.
    assert document["duration"] == pytest.approx(1.0)
    assert document["output_throughput"] == pytest.approx(6.0)


def test_the_export_is_read_back_as_a_recording_and_as_a_measured_row(records: Path, tmp_path: Path) -> None:
    ours = read_own(records)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(vllm_bench_document(ours), allow_nan=False))
    (back,) = read_recordings(path)
    assert back.source == "vllm bench"
    assert back.first_token_s[:2] - back.sent_s[:2] == pytest.approx(ours.first_token_s[1:3] - ours.sent_s[1:3])
    assert back.errors == ours.errors[1:]
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(vllm_bench_document(ours) | {"failed": 0}))
    (row,) = report_rows(whole)
    assert row["traffic.peak_qps"] == "2"
    assert row["ttft_ms.mean"] == "100"
