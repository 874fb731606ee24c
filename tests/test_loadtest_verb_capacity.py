"""`planner loadtest --find-capacity` against real servers: its steps, and how a search ends."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from emulator_process import emulator
from loadtest_verb import EASY, loadtest, started, wait_for_rows, write_scenario


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    return write_scenario(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emulator(write_scenario(tmp_path_factory.mktemp("server"))) as running:
        yield running.url


def test_the_rate_is_stepped_to_where_the_limits_break(scenario: str, tmp_path: Path):
    # one seat: a query takes about ten milliseconds, so a hundred a second are the most
    one_seat = ("--set", "engine.max_num_seqs=1", "--set", "engine.max_num_batched_tokens=2048")
    limits = ("--set", 'slo={p50_ttft_ms: "<=150"}')
    with emulator(scenario, *one_seat) as slow:
        answer = loadtest(
            *(scenario, "--host", slow.url, "--json", "--out", "cap.jsonl", "--find-capacity", *one_seat, *limits),
            *("--set", "traffic.peak_qps=30", "--tolerance", "1.0", "--duration", "4", "--warmup", "1", *EASY),
            folder=tmp_path,
        )
    assert answer.code == 0, answer.err
    document = answer.document
    probes = document["probes"]
    assert [probe["rate_qps"] for probe in probes] == sorted(probe["rate_qps"] for probe in probes)
    assert 0 < document["max_rate_qps"] < document["first_broken_qps"] <= 2.0 * document["max_rate_qps"]
    assert document["limited_by"]
    assert document["at_max"]["slo_met"]
    assert document["simulated"]["max_rate_qps"] > 0
    assert all(Path(probe["records"]).is_file() for probe in probes)


def test_limits_that_no_rate_holds_are_answered_with_1_and_every_step(server: str, scenario: str, tmp_path: Path):
    # in four seconds no rate below 5 queries/s has the 20 queries that a step needs
    answer = loadtest(
        *(scenario, "--host", server, "--json", "--out", "none.jsonl", "--find-capacity"),
        *("--set", 'slo={p99_ttft_ms: "<=0.001"}', "--set", "traffic.peak_qps=8", "--duration", "4", "--warmup", "0"),
        *EASY,
        folder=tmp_path,
    )
    assert answer.code == 1, answer.err
    document = answer.document
    assert document["max_rate_qps"] == 0
    assert [round(probe["rate_qps"], 6) for probe in document["probes"]] == [5.0, 5.333333, 8.0]
    assert "even 5 queries/s, the lowest rate that can be tested, did not hold" in document["ended"]


def test_a_server_that_dies_in_a_search_leaves_the_steps_before(scenario: str, tmp_path: Path):
    with (
        emulator(scenario) as dying,
        started(
            *(scenario, "--host", dying.url, "--json", "--find-capacity", "--out", "x.jsonl"),
            *("--duration", "4", "--warmup", "0", *EASY),
            folder=tmp_path,
        ) as process,
    ):
        wait_for_rows(tmp_path / "x-02-30qps.jsonl", process, least=1)
        dying.process.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    document = json.loads(out)
    assert document["max_rate_qps"] == 20
    assert document["ended"].startswith("at 30 queries/s: the server is gone")


def test_capacity_needs_limits_and_a_rate(server: str, scenario: str, tmp_path: Path):
    answer = loadtest(scenario, "--host", server, "--find-capacity", "--set", "slo=null", folder=tmp_path)
    assert answer.code == 2
    assert "slo: is required" in answer.err


# --- stopped ---


def test_ctrl_c_in_the_first_step_measured_nothing(server: str, scenario: str, tmp_path: Path):
    with started(
        *(scenario, "--host", server, "--find-capacity", "--out", "f.jsonl", "--duration", "60", *EASY),
        folder=tmp_path,
    ) as process:
        wait_for_rows(tmp_path / "f-01-20qps.jsonl", process, least=1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "NOTHING WAS MEASURED YET: stopped by the user before a step was complete." in out
    assert "NO RATE HELD" not in out
    assert "step 1: 20 queries/s stopped: " in err
    assert str(tmp_path / "f-01-20qps.jsonl") in err or "f-01-20qps.jsonl" in err


def test_ctrl_c_keeps_the_steps_of_a_search(server: str, scenario: str, tmp_path: Path):
    with started(
        *(scenario, "--host", server, "--json", "--find-capacity", "--out", "s.jsonl"),
        *("--set", "traffic.peak_qps=20", "--duration", "3", "--warmup", "0", *EASY),
        folder=tmp_path,
    ) as process:
        wait_for_rows(tmp_path / "s-02-30qps.jsonl", process, least=1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    document = json.loads(out)
    assert document["max_rate_qps"] == 20
    assert document["ended"] == "stopped by the user"
    assert document["probes"][0]["valid"]


def test_ctrl_c_while_the_server_is_let_come_to_rest_ends_a_search(server: str, scenario: str, tmp_path: Path):
    with (
        never_at_rest(server),
        started(
            *(scenario, "--host", server, "--json", "--find-capacity", "--out", "w.jsonl"),
            *("--duration", "2", "--warmup", "0", *EASY),
            folder=tmp_path,
        ) as process,
    ):
        assert process.stderr is not None
        assert any(line.startswith("step 1:") for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)  # it would wait 120 s for rest
    assert process.returncode == 130
    assert [probe["valid"] for probe in json.loads(out)["probes"]] == [True]
    assert not list(tmp_path.glob("w-02-*"))  # no second step was begun


@contextmanager
def never_at_rest(url: str) -> Iterator[None]:
    """Keep an emulated server busy with long answers, of several lengths so that they do not end together."""
    over = threading.Event()

    def ask(tokens: int) -> None:
        while not over.is_set():
            requests.post(f"{url}/v1/completions", json={"prompt": [1], "max_tokens": tokens}, timeout=60)

    threads = [threading.Thread(target=ask, args=(tokens,)) for tokens in (4000, 3300, 2700)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
