"""`planner loadtest` against real servers: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from emulator_process import ROOT, emulator
from fault_server import fault_server
from test_live import closed_port

from planner.cli.app import cli
from planner.readers.recordings import read_own

KEY = "sk-0123456789-never-shown"
# This machine may be busy: these tests are about the verb, not about the client's own speed.
EASY = ("--send-lag-limit", "60000", "--cpu-limit", "1")
SHORT = ("--duration", "2", "--warmup", "0.5")
SCENARIO = """
version: 1
name: for the verb
model: qwen3-0.6b
hardware: h100-sxm-80gb
engine: {max_model_len: 4096, max_num_seqs: 64, num_gpu_blocks_override: 4096}
traffic: {peak_qps: 20}
query:
  stages:
    - {name: answer, prompt_tokens: {uniform: [60, 200]}, output_tokens: 8, shared_prefix: {tokens: 48}}
slo: {p99_ttft_ms: "<=20000", p50_tpot_ms: "<=20000"}
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        return json.loads(self.out)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "planner", "loadtest", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PLANNER_API_KEY": KEY, "PYTHONPATH": str(ROOT)}


def loadtest(*arguments: str, folder: Path) -> Answer:
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The verb as a process that the test may stop; it is ended whatever happens."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # which it passes on to the load tester
            process.communicate(timeout=60)


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("server") / "scenario.yaml"
    path.write_text(SCENARIO)
    with emulator(str(path)) as running:
        yield running.url


# --- a run ---


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


# --- what fails ---


def test_a_server_that_is_not_there_is_waited_for_no_longer_than_said(scenario: str, tmp_path: Path):
    url = f"http://127.0.0.1:{closed_port()}"
    answer = loadtest(scenario, "--host", url, "--wait", "1", folder=tmp_path)
    assert answer.code == 3
    assert f"{url}: GET /health: not ready after 1 s: connection refused" in answer.err
    assert answer.out == ""


def test_a_slow_starter_is_waited_for(scenario: str, tmp_path: Path):
    with emulator(scenario, "--fault", "slow-start:2") as starting:
        answer = loadtest(
            scenario, "--host", starting.url, "--json", "--out", "s.jsonl", *SHORT, *EASY, folder=tmp_path
        )
    assert answer.code == 0, answer.err
    assert answer.document["failed"] == 0


def test_a_model_that_is_not_served_is_named_with_those_that_are(server: str, scenario: str, tmp_path: Path):
    answer = loadtest(scenario, "--host", server, "--served-model", "Qwen/Qwen3-0.7B", folder=tmp_path)
    assert answer.code == 3
    assert "no model Qwen/Qwen3-0.7B; it serves: Qwen/Qwen3-0.6B" in answer.err


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((), "--host URL is required"),
        (("--host", "127.0.0.1:8000"), "--host (=127.0.0.1:8000): must be http://HOST:PORT"),
        (("--host", "http://me:hunter2@h:1"), "must hold no user and password"),
        (("--host", "http://h:1", "--requests", "5", "--duration", "5"), "give only one of --requests and --duration"),
        (("--host", "http://h:1", "--out", "no/folder/r.jsonl"), "there is no folder"),
        (("--compare", "a", "b", "--host", "http://h:1"), "--compare stands alone"),
        (("--compare", "gone", "gone"), "cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: tuple[str, ...], rule: str, scenario: str):
    answer = CliRunner().invoke(cli, ["loadtest", scenario, *arguments])
    assert answer.exit_code == 2
    assert rule in answer.stderr
    assert "hunter2" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_server_that_fails_every_request_is_an_endpoint_that_failed(scenario: str, tmp_path: Path):
    with emulator(scenario, "--fault", "500:1.0") as failing:
        answer = loadtest(scenario, "--host", failing.url, "--out", "f.jsonl", *SHORT, *EASY, folder=tmp_path)
    assert answer.code == 3
    assert "NOTHING was answered" in answer.out
    assert read_own(tmp_path / "f.jsonl").answered.sum() == 0


def test_some_failures_are_counted_by_reason_and_miss_the_limits(scenario: str, tmp_path: Path):
    with emulator(scenario, "--fault", "500:0.3") as failing:
        answer = loadtest(scenario, "--host", failing.url, "--json", "--out", "f.jsonl", *SHORT, *EASY, folder=tmp_path)
    assert answer.code == 0, answer.err  # the run is valid; the server is what failed
    document = answer.document
    (reason,) = document["failures"]
    assert "500" in reason
    assert 0 < document["failed"] < document["queries"]
    assert document["goodput_share"] == pytest.approx(1 - document["failed"] / document["queries"])
    assert document["slo_met"] is False  # p99 TTFT: more than one in a hundred never came


def test_a_server_that_dies_meanwhile_is_said_to_be_gone(scenario: str, tmp_path: Path):
    with (
        emulator(scenario) as dying,
        started(
            *(scenario, "--host", dying.url, "--json", "--out", "d.jsonl", "--duration", "8", "--warmup", "0"),
            *EASY,
            folder=tmp_path,
        ) as process,
    ):
        wait_for_rows(tmp_path / "d.jsonl", process)
        dying.process.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    document = json.loads(out)
    assert document["server"]["gone"] == "connection refused"
    assert document["requests"] > 0
    assert document["failures"]
    assert document["slo_met"] is False


def test_a_run_that_cannot_be_believed_ends_with_1_and_so_does_its_comparison(
    server: str, scenario: str, tmp_path: Path
):
    answer = loadtest(
        *(scenario, "--host", server, "--out", "i.jsonl", "--send-lag-limit", "0.000001", *SHORT), folder=tmp_path
    )
    assert answer.code == 1  # as the locustfile's own; 3 is a server that failed
    assert "the run is INVALID, so nothing is judged" in answer.out
    assert "INVALID: send lag p99" in answer.out
    answer = loadtest("--compare", "i.jsonl", "i.jsonl", folder=tmp_path)
    assert answer.code == 1
    assert "INVALID: A: send lag p99" in answer.out


# --- stopped ---


def wait_for_rows(records: Path, process: subprocess.Popen[str], least: int = 30) -> None:
    """Until so many requests are recorded."""
    until = time.monotonic() + 60.0
    while time.monotonic() < until and process.poll() is None:
        if records.is_file() and records.read_bytes().count(b'"record":"request"') >= least:
            return
        time.sleep(0.1)
    raise AssertionError("nothing was recorded")


def test_ctrl_c_shows_what_was_recorded(server: str, scenario: str, tmp_path: Path):
    with started(
        scenario, "--host", server, "--out", "k.jsonl", "--duration", "100", "--warmup", "0", *EASY, folder=tmp_path
    ) as process:
        wait_for_rows(tmp_path / "k.jsonl", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the run was interrupted" in out
    recording = read_own(tmp_path / "k.jsonl")
    assert recording.end is not None
    assert recording.end.reason == "interrupted"
    assert f"{int(recording.answered.sum())} requests" in out
    assert children_of(tmp_path / "k.jsonl") == []


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


def children_of(records: Path) -> list[str]:
    """Processes that still have this file on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(records).encode() in words:
            found.append(words.decode())
    return found


# --- capacity ---


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
