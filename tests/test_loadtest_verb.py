"""`planner loadtest` against real servers: what a run prints and what it leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from emulator_process import emulator
from fault_server import fault_server
from loadtest_verb import EASY, KEY, SHORT, loadtest, write_scenario

from planner.readers.recordings import read_own


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    return write_scenario(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emulator(write_scenario(tmp_path_factory.mktemp("server"))) as running:
        yield running.url


def test_a_run_is_measured_beside_the_same_arrays_simulated(server: str, scenario: str, tmp_path: Path):
    answer = loadtest(
        *(scenario, "--host", server, "--json", "--out", "run.jsonl", "--plots", "pictures", *SHORT, *EASY),
        *("--export-vllm-bench", "bench.json"),
        folder=tmp_path,
    )
    assert answer.code == 0, answer.err
    document = answer.document  # standard output holds the document and nothing else
    recording = read_own(tmp_path / "run.jsonl")
    assert recording.header is not None
    assert recording.end is not None
    counted = recording.header.queries - recording.header.warmup
    assert document["requests"] == document["queries"] == counted
    assert document["simulated"]["requests"] == counted
    assert document["failed"] == 0
    assert document["failures"] == {}
    assert document["valid"]
    assert document["slo_met"]
    assert document["warnings"] == []
    assert "warning" not in answer.err
    # the emulator serves the scenario that is simulated: what it reports of itself is the same
    assert document["kv_cache_tokens"] == document["simulated"]["kv_cache_tokens"] == 65536
    assert document["server"]["requests_finished"] == recording.header.queries
    assert document["prefix_cache_hit_rate"] == pytest.approx(document["simulated"]["prefix_cache_hit_rate"], abs=0.02)
    assert set(document["errors"]) >= {"ttft_ms.p50", "tpot_ms.p50", "e2e_ms.p50", "query_throughput"}
    # the server's own figures are in the records too, so that a calibration needs nothing else
    assert recording.end.server["kv_cache_tokens"] == 65536
    assert recording.end.server["steps"] > 0
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "distributions.png",
        "distributions.svg",
        "timeline.png",
    }
    everything = [
        answer.out,
        answer.err,
        *(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert not any(KEY in text for text in everything)


def test_the_same_seed_sends_the_same_requests(server: str, scenario: str, tmp_path: Path):
    for name in ("a", "b"):
        answer = loadtest(
            *(scenario, "--host", server, "--out", f"{name}.jsonl", "--requests", "30", "--warmup", "0", "--seed", "7"),
            *EASY,
            folder=tmp_path,
        )
        assert answer.code == 0, answer.err
    answer = loadtest("--compare", "a.jsonl", "b.jsonl", "--json", folder=tmp_path)
    assert answer.code == 0, answer.err
    assert answer.document["paired"]
    assert answer.document["settings"] == []


def test_a_closed_loop_is_labelled_as_such(server: str, scenario: str, tmp_path: Path):
    closed = "traffic={arrivals: {closed: {concurrency: 4, requests_per_client: 5}}}"
    answer = loadtest(
        *(scenario, "--host", server, "--set", closed, "--json", "--out", "c.jsonl", *EASY), folder=tmp_path
    )
    assert answer.code == 0, answer.err
    assert answer.document["demand"] == "closed"
    assert answer.document["requests"] == 20


def test_a_server_without_metrics_is_measured_and_a_scenario_without_hardware_too(scenario: str, tmp_path: Path):
    with fault_server() as found:
        answer = loadtest(
            *(scenario, "--host", found.url, "--set", "hardware=null", "--out", "n.jsonl", *SHORT, *EASY),
            folder=tmp_path,
        )
    assert answer.code == 0, answer.err
    assert "Not simulated: hardware: is required" in answer.out
    assert "every limit HOLDS, measured" in answer.out


def test_records_are_never_overwritten(server: str, scenario: str, tmp_path: Path):
    (tmp_path / "old.jsonl").write_text("precious")
    answer = loadtest(scenario, "--host", server, "--out", "old.jsonl", folder=tmp_path)
    assert answer.code == 2
    assert "exists already" in answer.err
    assert (tmp_path / "old.jsonl").read_text() == "precious"


def test_records_have_a_name_of_their_own_by_default(server: str, scenario: str, tmp_path: Path):
    answer = loadtest(scenario, "--host", server, "--json", *SHORT, *EASY, folder=tmp_path)
    (made,) = tmp_path.glob("loadtest-for-the-verb-*.jsonl")
    assert answer.document["records"] == str(made)


@contextmanager
def another_client(url: str) -> Iterator[None]:
    """Some twenty short requests a second of somebody else."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            requests.post(f"{url}/v1/completions", json={"prompt": [1], "max_tokens": 1}, timeout=60)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_requests_of_another_client_are_noticed_and_both_numbers_named(server: str, scenario: str, tmp_path: Path):
    with another_client(server):
        answer = loadtest(
            *(scenario, "--host", server, "--json", "--out", "o.jsonl", "--set", "traffic.peak_qps=10", *SHORT, *EASY),
            folder=tmp_path,
        )
    assert answer.code == 0, answer.err
    (warning,) = answer.document["warnings"]
    finished, sent = answer.document["server"]["requests_finished"], len(read_own(tmp_path / "o.jsonl").request)
    assert finished > sent
    assert f"its counters finished {finished} requests meanwhile, this run sent {sent}" in warning
    assert f"planner: warning: {warning}" in answer.err
