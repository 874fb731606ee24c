"""What a load test warns of: other clients' traffic, another server's calibration, a load that is not carried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from simulated_records import scenario_with, write_records

from planner.deployment import Deployment, deploy, only_candidate, simulate
from planner.deployment.calibrated import identity
from planner.readers.recordings import Recording, read_own
from planner.records import RequestRow
from planner.studies.compare import compare
from planner.studies.loadtest import evaluate
from planner.studies.loadtest_overload import overload_warning
from planner.studies.loadtest_stopped import stopped_test
from planner.studies.loadtest_warnings import server_warnings, traffic_warning
from planner.workload import turns_due


def some_fail(row: RequestRow) -> RequestRow | None:
    """Of 400 requests 100 are answered with 500 and 50 never leave."""
    if row.request < 300:
        return row
    lost = {"error": "HTTP 500", "first_token_s": None, "last_token_s": None, "gaps_ms": []}
    return msgspec.structs.replace(row, **lost, **({"sent_s": None} if row.request >= 350 else {}))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """350 requests were sent, 300 of them answered."""
    return read_own(write_records(tmp_path_factory.mktemp("run") / "r.jsonl", scenario_with(), change=some_fail))


# --- other clients ---

TRAFFIC: list[tuple[dict[str, Any], list[str], str]] = [
    ({"requests_finished": 300}, [], "every answer was finished"),
    ({"requests_finished": 350}, [], "those that failed may have been finished too"),
    ({"requests_finished": 353}, [], "a handful more is a probe, or the edge of a scrape"),
    ({"requests_finished": 297}, [], "a handful less is one too"),
    ({"requests_finished": 360}, ["finished 360", "this run sent 350"], "ten of another client"),
    ({"requests_finished": 290}, ["finished 290", "300 of this run were answered"], "ten were finished elsewhere"),
    ({"requests_finished": 0}, ["finished 0", "300 of this run"], "zero is told, not absent"),
    ({}, [], "the server tells no counter"),
    ({"requests_finished": 900, "restarted": True}, [], "counters that fell say nothing"),
]


@pytest.mark.parametrize(("facts", "said", "because"), TRAFFIC, ids=[row[2] for row in TRAFFIC])
def test_the_servers_own_counters_tell_of_traffic_that_is_not_ours(
    recording: Recording, facts: dict[str, Any], said: list[str], because: str
):
    warning = traffic_warning(recording, facts)
    assert bool(warning) == bool(said), because
    assert all(part in warning for part in said), warning


def test_other_traffic_stands_near_the_headline_and_in_a_comparison(tmp_path: Path):
    path = write_records(tmp_path / "r.jsonl", scenario_with())
    test = evaluate(read_own(path), server={"requests_finished": 900})
    (warning,) = test.document["warnings"]
    lines = str(test).splitlines()
    assert lines[3].startswith("WARNING: the server served others too"), lines[:4]
    assert warning in " ".join(str(test).split())
    assert evaluate(read_own(path), server={"requests_finished": 400}).document["warnings"] == []
    told = compare(path, path).document
    assert told["a"]["warnings"] == []


# --- a calibration of another server ---


@pytest.fixture(scope="module")
def calibrated() -> Deployment:
    deployment = deploy(only_candidate(scenario_with(), "loadtest"))
    stand_in = SimpleNamespace(deployment=identity(deployment.candidate), kv_cache_tokens=65_536)
    return replace(deployment, calibrated=SimpleNamespace(calibration=stand_in, same_memory=True))  # type: ignore[arg-type]


def release_of(deployment: Deployment) -> str:
    return ".".join(map(str, deployment.candidate.options.release))


def test_a_server_that_is_not_the_calibrated_one_is_told_by_what_it_says(calibrated: Deployment):
    alike = {"version": f"{release_of(calibrated)}.9+cu129", "model_root": "Qwen/Qwen3-0.6B", "kv_cache_tokens": 65_536}
    for facts, said, because in [
        (alike, None, "the same release, model and cache"),
        ({}, None, "a server that says nothing is believed"),
        (alike | {"version": "0.1.2"}, f"of vLLM {release_of(calibrated)}, this one says 0.1", "another release"),
        (alike | {"model_root": "Qwen/Qwen3-8B"}, "of model qwen3-0.6b, this one says qwen3-8b", "another model"),
        (alike | {"model_root": "me/tuned"}, None, "a checkpoint that nobody knows may be of this model"),
        (alike | {"kv_cache_tokens": 32_768}, "of KV tokens 65536, this one says 32768", "another cache"),
        (alike | {"kv_cache_tokens": 65_600}, None, "the same cache, rounded"),
    ]:
        found = server_warnings(calibrated, facts)
        assert len(found) == (said is not None), because
        assert said is None or said in found[0], because
    assert server_warnings(replace(calibrated, calibrated=None), alike | {"version": "0.1.2"}) == []


# --- before anything is sent ---

OVERLOADED = scenario_with(traffic__peak_qps=2000, engine__max_num_seqs=4)


def test_a_load_that_is_not_carried_is_told_with_one_that_is():
    warning = overload_warning(OVERLOADED, 0, None, 20.0)
    assert "by the simulator 1 replica does not carry 2000 queries/s" in warning
    rate = float(warning.partition("--set traffic.peak_qps=")[2].split()[0])
    served = float(warning.partition("about ")[2].split()[0])
    assert 0.3 * served < rate < served
    assert overload_warning(OVERLOADED.with_values({"traffic.peak_qps": rate}), 0, None, 20.0) == ""
    assert "does not carry" in overload_warning(OVERLOADED, 0, 5000, 60.0), "a number of queries is a length too"


def test_a_rate_is_that_of_the_users_queries_where_a_cache_answers_some():
    plain = overload_warning(OVERLOADED, 0, None, 20.0)
    cached = overload_warning(OVERLOADED.with_values({"query.response_cache": {"hit_rate": 0.5}}), 0, None, 20.0)
    one, other = (float(text.partition("about ")[2].split()[0]) for text in (plain, cached))
    assert other == pytest.approx(2 * one, rel=0.1)  # two significant digits of each


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"traffic.peak_qps": 5}, "it is carried"),
        ({"fleet.replicas": 64}, "the fleet is large enough"),
        ({"hardware": None}, "nothing can be simulated without hardware"),
        ({"traffic": {"arrivals": {"closed": {"concurrency": 900}}}}, "a closed loop waits"),
    ],
)
def test_what_is_carried_or_cannot_be_told_warns_of_nothing(changes: dict[str, Any], because: str):
    assert overload_warning(OVERLOADED.with_values(changes), 0, None, 20.0) == "", because


def test_where_nothing_is_answered_in_time_no_lower_rate_is_named():
    hasty = OVERLOADED.with_values({"traffic.timeout_s": 0.001, "traffic.max_in_flight": 1})
    warning = overload_warning(hasty, 0, None, 20.0)
    assert warning == (
        "by the simulator 1 replica does not carry 2000 queries/s: nothing of it is answered in time; "
        "fleet.replicas says how many the server has"
    )


TALKING = scenario_with(
    engine__max_num_seqs=8,
    query__stages=[{"name": "chat", "prompt_tokens": 100, "output_tokens": 200, "turns": 10, "think_s": 20.0}],
)


def test_of_sessions_the_full_rate_is_judged_though_it_comes_only_after_all_pauses():
    """In 20 s from an empty start first turns alone are due, a tenth of the rate."""
    warning = overload_warning(TALKING.with_values({"traffic.peak_qps": 30}), 0, None, 20.0)
    assert "does not carry 30 queries/s" in warning
    served = float(warning.partition("about ")[2].split()[0])
    rate = float(warning.partition("--set traffic.peak_qps=")[2].split()[0])
    assert 0.3 * served < rate < served < 30
    carried = TALKING.with_values({"traffic.peak_qps": rate})
    assert overload_warning(carried, 0, None, 20.0) == ""
    assert simulate(carried, requests=5000).as_dict()["saturated"] is False, "by a run of its own too"


# --- sessions that the run is too short for ---


def talk(path: Path, think_s: float, **length: Any) -> dict[str, Any]:
    """The answer to a run of sessions of four turns of about 0.1 s each, 40 turns a second."""
    stage = {"name": "chat", "prompt_tokens": 100, "output_tokens": 24, "turns": 4, "think_s": think_s}
    return evaluate(read_own(write_records(path, scenario_with(query__stages=[stage]), **length))).as_dict()


def test_a_warm_up_that_is_shorter_than_a_session_is_told_with_one_that_is_not(tmp_path: Path):
    (warning,) = talk(tmp_path / "short.jsonl", 3.0, queries=1200, warmup=40)["warnings"]
    told = "a session of 4 turns takes at least 13 s (by the simulator, without load), and the warm-up ends before that"
    assert warning.startswith(told)
    needed_s = float(warning.partition("--warmup ")[2].split()[0])
    assert 12.0 < needed_s < 16.0
    turns = turns_due(40, 4, 3.0, needed_s)
    assert talk(tmp_path / "long.jsonl", 3.0, queries=1200 + round(turns), warmup=round(turns))["warnings"] == []


def test_answers_count_where_there_is_no_pause(tmp_path: Path):
    """With no pause between turns a session lasts as long as its answers."""
    (warning,) = talk(tmp_path / "none.jsonl", 0.0, queries=400, warmup=0)["warnings"]
    assert "and the warm-up ends before that" in warning
    assert talk(tmp_path / "some.jsonl", 0.0, queries=400, warmup=100)["warnings"] == []


def test_a_run_that_counts_less_than_a_session_says_so(tmp_path: Path):
    (warning,) = talk(tmp_path / "brief.jsonl", 3.0, queries=900, warmup=700)["warnings"]
    assert "and 5 s are counted" in warning
    assert warning.endswith("--duration 13 is the least")


# --- stopped before anything counted ---


def test_a_run_stopped_in_its_warm_up_tells_what_was_sent(tmp_path: Path):
    def stop_early(row: RequestRow) -> RequestRow | None:
        if row.request >= 30:
            return None
        if row.request < 20:
            return row
        return msgspec.structs.replace(row, error="interrupted" if row.request < 28 else "HTTP 500")

    path = write_records(tmp_path / "r.jsonl", scenario_with(), change=stop_early, killed=True)
    stopped = stopped_test(read_own(path), {"requests_finished": 500}, "nothing beyond the warm-up")
    document = stopped.as_dict()
    counts = {key: document[key] for key in ("sent", "ended_requests", "answered", "failed_requests", "cut_off")}
    assert counts == {"sent": 30, "ended_requests": 22, "answered": 20, "failed_requests": 2, "cut_off": 8}
    assert (document["requests"], document["failures"]) == (0, {"HTTP 500": 2})
    text = " ".join(str(stopped).split())
    assert "INTERRUPTED before anything could be judged: nothing beyond the warm-up." in text
    assert "sent 30 requests ended 22, 2 failed cut off 8" in text
    assert "WARNING: the server served others too" in text
    assert text.endswith(f"records: {path}")
