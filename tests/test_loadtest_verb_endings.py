"""`planner loadtest` that does not end well: bad input, a server that fails, a run that is stopped."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from emulator_process import emulator
from live_server import closed_port
from loadtest_verb import EASY, SHORT, children_of, loadtest, started, wait_for_rows, write_scenario

from planner.cli.app import cli
from planner.cli.loadtest_process import Order, make_run
from planner.errors import DataFileError
from planner.live import connect
from planner.readers.recordings import read_own


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    return write_scenario(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emulator(write_scenario(tmp_path_factory.mktemp("server"))) as running:
        yield running.url


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
        (("--host", "127.0.0.1:8123"), "--host (=127.0.0.1:8123): must be http://HOST:PORT"),
        (("--host", "127.0.0.1:8123"), "nearest: http://127.0.0.1:8123"),
        (("--host", "ftp://gpu-7/v1"), "nearest: http://gpu-7"),
        (("--host", "me:hunter2@h:1"), "without user and password"),
        (("--host", "http://h:1", "--wait", "nan"), "'--wait': nan must be at least 0 and finite"),
        (("--host", "http://h:1", "--wait", "inf"), "'--wait': inf must be at least 0 and finite"),
        (("--host", "http://h:1", "--warmup", "nan"), "'--warmup': nan must be at least 0 and finite"),
        (("--host", "http://h:1", "--warmup", "1e9"), "'--warmup': 1e9 must be at most 10000000 seconds"),
        (("--host", "http://h:1", "--duration", "nan"), "'--duration': nan must be above 0 and finite"),
        (("--host", "http://h:1", "--tolerance", "nan"), "'--tolerance': nan must be at least 0.005 and finite"),
        (("--host", "http://h:1", "--cpu-limit", "nan"), "'--cpu-limit': nan must be above 0 and finite"),
        (("--host", "http://h:1", "--cpu-limit", "0"), "'--cpu-limit': 0 must be above 0 and finite"),
        (("--host", "http://h:1", "--send-lag-limit", "inf"), "'--send-lag-limit': inf must be above 0 and finite"),
        (("--host", "http://h:1", "--seed", f"{2**62 + 1}"), f"--seed {2**62 + 1}: must be at most {2**62}"),
        (("--host", "http://h:1", "--out", f"{'r' * 300}.jsonl"), "rr.jsonl: File name too long"),
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


def test_what_the_load_tester_refuses_is_named_as_this_verb_names_it(server: str, scenario: str, tmp_path: Path):
    spoiled = Order(Path(scenario), (), tmp_path / "r.jsonl", 0, duration_s=1.0, warmup_s=1e9)
    with pytest.raises(DataFileError, match=r"nothing was recorded: argument --warmup: ") as caught:
        make_run(spoiled, connect(server), None)
    assert "--warmup-s" not in str(caught.value)


def test_several_processes_meet_on_this_machine_alone():
    order = Order(Path("s.yaml"), (), Path("r.jsonl"), 0, processes=4)
    words = order.command("http://h:1")
    assert words[words.index("--master-bind-host") + 1] == "127.0.0.1"
    assert "--master-bind-host" not in replace(order, processes=1).command("http://h:1")


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
    assert f"{int(recording.answered.sum())} requests of" in out
    assert ("cut off by you and not counted" in out) == ("interrupted" in recording.errors)
    assert children_of(tmp_path / "k.jsonl") == []


def test_ctrl_c_before_any_request_was_recorded_leaves_a_line_and_no_file(server: str, scenario: str, tmp_path: Path):
    with started(
        # the first query is due long after the interruption
        *(scenario, "--host", server, "--out", "n.jsonl", "--requests", "1", "--warmup", "0", *EASY),
        *("--set", "traffic.peak_qps=0.001"),
        folder=tmp_path,
    ) as process:
        until = time.monotonic() + 60.0
        while time.monotonic() < until and not (tmp_path / "n.jsonl").is_file():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "stopped before any request was recorded; " in err
    assert "n.jsonl held none and was removed" in err
    assert not (tmp_path / "n.jsonl").exists()


def test_a_run_that_is_too_short_for_a_session_names_the_seconds(server: str, scenario: str, tmp_path: Path):
    stage = "query.stages=[{name: chat, prompt_tokens: 60, output_tokens: 8, turns: 4, think_s: 5}]"
    answer = loadtest(
        *(scenario, "--host", server, "--out", "t.jsonl", "--duration", "2", "--warmup", "0", "--set", stage),
        *("--set", "traffic.peak_qps=0.05"),
        folder=tmp_path,
    )
    assert answer.code == 2
    assert "--duration (=2 s): no query arrives in it at 0.05 queries/s" in answer.err
    assert "begin at peak_qps / turns = 0.0125 per second; --duration 400 holds some 5" in answer.err
    assert "records" not in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_an_overload_is_warned_of_and_stopped_in_its_warm_up_tells_what_was_sent(scenario: str, tmp_path: Path):
    one_seat = ("--set", "engine.max_num_seqs=1", "--set", "engine.max_num_batched_tokens=2048")
    with (
        emulator(scenario, *one_seat) as slow,
        started(
            *(scenario, "--host", slow.url, "--json", "--out", "o.jsonl", *one_seat, *EASY),
            *("--set", "traffic.peak_qps=300", "--duration", "30", "--warmup", "60"),
            folder=tmp_path,
        ) as process,
    ):
        wait_for_rows(tmp_path / "o.jsonl", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "planner: warning: by the simulator 1 replica does not carry 300 queries/s" in err
    assert "--set traffic.peak_qps=" in err
    document = json.loads(out)
    recording = read_own(tmp_path / "o.jsonl")
    assert document["sent"] == np.isfinite(recording.sent_s).sum() > 30
    assert document["answered"] == document["ended_requests"] == recording.answered.sum() >= 30
    assert document["cut_off"] == len(recording.request) - document["ended_requests"] > 0
    assert document["records"] == str(tmp_path / "o.jsonl")
    assert (document["ended"], document["requests"]) == ("interrupted", 0)
    assert children_of(tmp_path / "o.jsonl") == []
