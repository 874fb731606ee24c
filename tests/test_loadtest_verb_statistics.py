"""Measured statistics are the simulator's own: its times, written as records, give its figures back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from simulated_records import SENT_LATE_S, scenario_with, simulated_run, write_records

from planner.deployment import deploy, only_candidate
from planner.deployment.recorded import (
    kept_queries,
    measured_outcome,
    recorded_load,
    recorded_scenario,
    simulated_outcome,
)
from planner.errors import DataFileError
from planner.readers.recordings import read_own
from planner.records import RequestRow, RunEnd
from planner.scenario import Scenario
from planner.simulation.outcome import Outcome
from planner.studies.loadtest import evaluate, flat

STAGES = [
    {"name": "notes", "calls": 2, "prompt_tokens": 120, "output_tokens": 9},
    {"name": "answer", "samples": 2, "prompt_tokens": 200, "output_tokens": {"uniform": [1, 30]}},
]
SCENARIOS = {
    "one stage": scenario_with(),
    "stages, calls and samples": scenario_with(query__stages=STAGES, traffic__peak_qps=10),
    "a closed loop": scenario_with(traffic={"arrivals": {"closed": {"concurrency": 8, "requests": 300}}}),
    "a batch": scenario_with(traffic={"arrivals": {"offline": {"requests": 200}}}),
    "bursts": scenario_with(traffic__arrivals={"gamma": {"burstiness": 0.2}}),
    "too much": scenario_with(traffic__peak_qps=2000, engine__max_num_seqs=4),
}


def outcomes(path: Path, scenario: Scenario, **options: Any) -> tuple[Outcome, Outcome]:
    """Measured from records, and simulated."""
    write_records(path, scenario, **options)
    recording = read_own(path)
    assert recording.header is not None
    load = recorded_load(recording.header, recorded_scenario(recording.header))
    simulated = simulated_outcome(deploy(only_candidate(scenario, "loadtest")), scenario, load, 1, 0)
    return measured_outcome(recording, load, scenario), simulated


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_simulators_own_times_give_its_own_figures(name: str, tmp_path: Path):
    measured, simulated = outcomes(tmp_path / "r.jsonl", SCENARIOS[name])
    one, other = flat(measured.figures), flat(simulated.figures)
    assert one.keys() == other.keys()
    # equal gaps stand in for the true ones, of which the records of this test know only the mean
    for key in one.keys() - {f"itl_ms.{statistic}" for statistic in ("p50", "p90", "p95", "p99")}:
        late_ms = SENT_LATE_S * 1000.0 if key.startswith("ttft_from_send") else 0.0
        assert one[key] == pytest.approx(other[key] - late_ms, rel=1e-9, abs=1e-6), key
    assert measured.saturated == simulated.saturated == (name == "too much")
    assert [check.met for check in measured.checks if "itl" not in check.key] == [
        check.met for check in simulated.checks if "itl" not in check.key
    ]
    for key in ("requests", "queries", "failed", "goodput_share"):
        assert measured.figures[key] == simulated.figures[key], key


def test_the_arrays_of_the_header_are_those_that_were_sent(tmp_path: Path):
    scenario = scenario_with()
    path = write_records(tmp_path / "r.jsonl", scenario, seed=5)
    recording = read_own(path)
    assert recording.header is not None
    again = recorded_load(recording.header, recorded_scenario(recording.header))
    sent, _ = simulated_run(scenario, seed=5)
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(again, column), getattr(sent, column))


def test_a_failed_request_fails_its_query_and_every_limit(tmp_path: Path):
    def lose_some(row: RequestRow) -> RequestRow:
        if row.request % 10:
            return row
        return msgspec.structs.replace(row, error="HTTP 500", first_token_s=None, last_token_s=None, gaps_ms=[])

    measured, simulated = outcomes(tmp_path / "r.jsonl", scenario_with(), change=lose_some)
    assert measured.figures["failed"] == 36  # every tenth of the 360 that count
    assert simulated.figures["failed"] == 0
    assert measured.figures["goodput_share"] == pytest.approx(0.9 * simulated.figures["goodput_share"], abs=0.02)
    # a tenth of the queries stand above every value: p99 is infinite, p90 the largest that ended
    held = {check.key: check for check in measured.checks}
    assert held["p99_ttft_ms"].value_ms == np.inf
    assert not held["p99_ttft_ms"].met
    assert held["p90_tpot_ms"].met


def test_what_the_server_counted_is_what_was_served(tmp_path: Path):
    def count_double(row: RequestRow) -> RequestRow:
        return msgspec.structs.replace(row, output_tokens=2 * row.asked_output_tokens)

    measured, simulated = outcomes(tmp_path / "r.jsonl", scenario_with(), change=count_double)
    assert measured.figures["output_throughput"] == pytest.approx(2 * simulated.figures["output_throughput"])


def test_answers_cut_off_by_an_interruption_are_no_failures(tmp_path: Path):
    def stop_late(row: RequestRow) -> RequestRow | None:
        if row.request < 300:
            return row
        return msgspec.structs.replace(row, error="interrupted") if row.request < 310 else None

    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="interrupted", rows=310, unsent=90)
    write_records(tmp_path / "r.jsonl", scenario_with(), change=stop_late, end=end)
    document = evaluate(read_own(tmp_path / "r.jsonl")).document
    assert (document["queries"], document["failed"]) == (260, 0)  # 300 that ended, less the warm-up of 40
    assert document["ended"] == "interrupted"


OVERTAKEN = range(200, 300, 5)  # long answers: those behind them ended before


def cut_off_some(row: RequestRow) -> RequestRow | None:
    if row.request in OVERTAKEN or row.request in range(300, 310):
        return msgspec.structs.replace(row, error="interrupted")
    return row if row.request < 300 else None


STOPPED = RunEnd(
    finished_at="2026-01-01T00:01:00+00:00", reason="interrupted", rows=310, unsent=90, invalid=["interrupted"]
)


def test_figures_of_other_queries_than_the_simulated_have_no_errors(tmp_path: Path):
    write_records(tmp_path / "r.jsonl", scenario_with(), change=cut_off_some, end=STOPPED)
    test = evaluate(read_own(tmp_path / "r.jsonl"))
    assert test.document["errors"] == {}
    assert test.document["not_compared"].startswith("20 of 260 queries were cut off or lost before they had ended")
    text = " ".join(str(test).split())
    assert "No errors are given: 20 of 260 queries were cut off" in text
    assert "80 % band error" not in text


def test_queries_sent_behind_the_last_that_ended_keep_no_error_away(tmp_path: Path):
    def stop_at_once(row: RequestRow) -> RequestRow | None:
        if row.request < 300:
            return row
        return msgspec.structs.replace(row, error="interrupted") if row.request < 310 else None

    write_records(tmp_path / "r.jsonl", scenario_with(), change=stop_at_once, end=STOPPED)
    document = evaluate(read_own(tmp_path / "r.jsonl")).document
    assert document["not_compared"] == ""
    assert document["errors"]["e2e_ms.p50"] == pytest.approx(0.0, abs=1e-9)  # the records are the simulator's own


@pytest.mark.parametrize(("failed", "compared"), [(1, False), (0, True)], ids=["one of 360", "none"])
def test_failures_of_one_side_alone_have_no_errors(failed: int, compared: bool, tmp_path: Path):
    def lose(row: RequestRow) -> RequestRow:
        if not 100 <= row.request < 100 + failed:
            return row
        return msgspec.structs.replace(row, error="HTTP 500", first_token_s=None, last_token_s=None, gaps_ms=[])

    document = evaluate(read_own(write_records(tmp_path / "r.jsonl", scenario_with(), change=lose))).document
    assert bool(document["errors"]) == compared
    assert ("1 of 360 queries failed on one of the two sides alone" in document["not_compared"]) != compared


def test_an_interrupted_run_judges_nothing_and_says_what_was_cut_off(tmp_path: Path):
    write_records(tmp_path / "r.jsonl", scenario_with(), change=cut_off_some, end=STOPPED)
    test = evaluate(read_own(tmp_path / "r.jsonl"))
    assert test.document["failures"] == {}, "what the user cut off is no failure"
    assert test.document["cut_off"] == 30
    text = " ".join(str(test).split())
    assert "240 requests of 240 queries counted, 30 requests cut off by you and not counted" in text
    assert "Failures" not in text
    assert "Limits (an invalid run judges none)" in text
    assert not any(word in text for word in ("holds", "FAILS", "below the limit", "above the limit"))
    assert "p99 TTFT ≤ 200 ms" in text, "the measured figure still stands beside its limit"


def test_a_server_that_was_gone_is_told_in_both_verdicts(tmp_path: Path):
    path = write_records(tmp_path / "r.jsonl", scenario_with())
    lines = str(evaluate(read_own(path), server={"gone": "connection refused"})).splitlines()
    (headline,) = [line for line in lines if "127.0.0.1:8000 under" in line]
    (verdict,) = [line for line in lines if line.startswith("  verdict")]
    assert "GONE when the run ended" in headline
    assert "the server was GONE when the run ended" in verdict
    assert "GONE" not in str(evaluate(read_own(path)))


def test_a_killed_run_has_the_statistics_of_what_was_recorded_and_is_invalid(tmp_path: Path):
    path = write_records(tmp_path / "r.jsonl", scenario_with(), killed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # within a line
    test = evaluate(read_own(path))
    assert 0 < test.document["queries"] < 360
    assert test.document["valid"] is False
    assert test.document["ended"] == "killed"
    assert not test.usable
    assert "INVALID: the records have no end" in str(test)


def test_queries_without_any_row_are_left_out(tmp_path: Path):
    path = write_records(
        tmp_path / "r.jsonl", scenario_with(), change=lambda row: row if row.request % 2 else None, killed=True
    )
    recording = read_own(path)
    assert recording.header is not None
    load = recorded_load(recording.header, scenario_with())
    assert kept_queries(recording, load).tolist() == list(range(1, 400, 2))


def test_records_of_another_load_are_refused(tmp_path: Path):
    recording = read_own(write_records(tmp_path / "r.jsonl", scenario_with()))
    short, _ = simulated_run(scenario_with(), queries=100, warmup=10)
    with pytest.raises(DataFileError, match="are not of this load: they have request 399"):
        measured_outcome(recording, short, scenario_with())


def test_nothing_beyond_the_warm_up_is_no_answer(tmp_path: Path):
    path = write_records(
        tmp_path / "r.jsonl", scenario_with(), change=lambda row: row if row.request < 40 else None, killed=True
    )
    with pytest.raises(DataFileError, match="hold no query beyond the warm-up"):
        evaluate(read_own(path))


# --- the document and its words ---


def test_the_document_has_simulates_names_and_both_sides(tmp_path: Path):
    test = evaluate(read_own(write_records(tmp_path / "r.jsonl", scenario_with(), slower=1.25)))
    document = test.document
    # every latency is a quarter longer than the simulator says: 1 ÷ 1.25 − 1 = −20 %
    for name in ("ttft_ms.p50", "ttft_ms.p99", "tpot_ms.p50", "e2e_ms.mean"):
        assert document["errors"][name] == pytest.approx(-0.2, abs=1e-6), name
    assert document["send_lag_ms"]["p50"] == pytest.approx(0.5)
    assert document["simulated"]["band80"]["ttft_ms.p50"][0] > 0
    assert document["valid"]
    assert document["slo_met"]
    text = str(test)
    assert "every limit HOLDS, measured" in text
    assert "−20.0 %" in text
    assert max(map(len, (line for line in text.splitlines() if "records:" not in line))) <= 100


def test_what_cannot_be_simulated_is_measured_all_the_same_and_says_why(tmp_path: Path):
    scenario = scenario_with()
    recording = read_own(write_records(tmp_path / "r.jsonl", scenario))
    homeless = scenario.with_values({"hardware": None})
    document = evaluate(recording, homeless).document
    assert document["simulated"] is None
    assert "hardware" in document["not_simulated"]
    assert document["requests"] == 360
    assert "Not simulated: hardware" in str(evaluate(recording, homeless))


def test_an_invalid_run_is_not_judged(tmp_path: Path):
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=400, invalid=["send lag p99 50 ms"])
    test = evaluate(read_own(write_records(tmp_path / "r.jsonl", scenario_with(), end=end)))
    assert not test.usable
    assert "the run is INVALID, so nothing is judged" in str(test)
    assert "INVALID: send lag p99 50 ms" in str(test)


def test_figures_of_the_server_stand_beside(tmp_path: Path):
    server = {"prefix_cache_hit_rate": 0.25, "num_preemptions": 3, "kv_cache_tokens": 65536, "steps": 10}
    document = evaluate(read_own(write_records(tmp_path / "r.jsonl", scenario_with())), server=server).document
    assert (document["prefix_cache_hit_rate"], document["num_preemptions"]) == (0.25, 3)
    assert document["kv_cache_tokens"] == 65536


def test_a_stopped_run_is_simulated_as_far_as_it_was_sent(tmp_path: Path):
    scenario = scenario_with()
    path = write_records(
        tmp_path / "r.jsonl", scenario, change=lambda row: row if row.request < 250 else None, killed=True
    )
    test = evaluate(read_own(path), scenario)
    assert test.document["simulated"]["queries"] == 210  # 250 less the warm-up of 40
    # later queries change nothing that ended before them: the last few aside, the times are the same
    assert abs(test.document["errors"]["ttft_ms.p50"]) < 0.01
    assert abs(test.document["errors"]["e2e_ms.p50"]) < 0.01
