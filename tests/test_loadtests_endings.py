"""How runs end: misses, dying servers, interrupts, kills, full disks, bad input. Nothing that was recorded is lost."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from planner.records import RequestRow, RunHeader
from tests.fault_server import FAST, fault_server
from tests.loadtest_process import (
    ROOT,
    SCENARIO,
    Ended,
    command,
    loadtest,
    read_lines,
    started,
    strict_command,
    wait_for_rows,
    write_scenario,
)

# --- endings ---


def test_some_misses_leave_the_run_valid_and_are_counted(tmp_path: Path) -> None:
    with fault_server(*FAST, "--fault", "429", "--every", "4") as server:
        options = ("--requests", "40", "--warmup-s", "0")
        run = loadtest(write_scenario(tmp_path), server.url, tmp_path / "r.jsonl", *options)
    assert run.code == 0, run.output
    missed = [row for row in run.rows if row.error]
    assert len(missed) == 10
    assert {(row.error, row.status, row.retry_after_s) for row in missed} == {("HTTP 429", 429, 7.0)}
    assert "10: HTTP 429" in run.output
    assert re.search(r"POST +answer +40 +10\(25.00%\)", run.output), "Locust counts them as failures"


def test_a_server_that_dies_leaves_rows_for_everything(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    with fault_server(*FAST) as server:
        arguments = command(write_scenario(tmp_path), server.url, records, "--requests", "120", "--warmup-s", "0")
        with started(arguments) as process:
            wait_for_rows(records, 30)
            server.kill()
            _, errors = process.communicate(timeout=90)
    run = Ended(process.returncode, errors, read_lines(records))
    assert (run.code, len(run.rows)) == (0, 120), errors
    reasons = {row.error for row in run.rows}
    assert "connection refused" in reasons
    assert reasons <= {"", "connection refused", "connection reset", "connection closed", "stream cut off"}


def test_a_server_that_never_was_is_an_endpoint_error(tmp_path: Path) -> None:
    """Asked for its model it does not answer; with the model given every request says so. Exit 3 both times."""
    with fault_server() as gone:
        url = gone.url
    scenario = write_scenario(tmp_path)
    asked = loadtest(scenario, url, tmp_path / "a.jsonl", "--requests", "20")
    given = loadtest(scenario, url, tmp_path / "b.jsonl", "--requests", "20", "--served-model", "tiny")
    assert (asked.code, asked.lines) == (3, ())
    assert "connection refused" in asked.output
    assert "Traceback" not in asked.output
    assert given.code == 3, given.output
    assert {row.error for row in given.rows} == {"connection refused"}


def test_a_late_client_makes_the_run_invalid(tmp_path: Path) -> None:
    """A limit that no client can hold shows that the verdict is taken from what was measured."""
    with fault_server(*FAST) as server:
        options = ("--requests", "30", "--send-lag-limit-ms", "0.000001")
        run = loadtest(write_scenario(tmp_path), server.url, tmp_path / "r.jsonl", *options)
    assert run.code == 1
    assert any(reason.startswith("send lag p99 ") for reason in run.end.invalid)
    assert "INVALID: send lag p99" in run.output


@pytest.mark.parametrize(
    ("traffic", "options"),
    [
        (SCENARIO["traffic"], ("--duration-s", "4", "--warmup-s", "0")),
        ({"arrivals": {"closed": {"concurrency": 2, "requests_per_client": 100, "think_s": 0.02}}}, ()),
    ],
    ids=["open", "closed"],
)
def test_a_client_that_is_kept_from_reading_makes_the_run_invalid(
    tmp_path: Path, traffic: dict[str, object], options: tuple[str, ...]
) -> None:
    """Its loop stands still for a fifth of the time, far from a whole core, and less than six seconds in all.

    The limits are the default ones. A closed loop has no send lag that would tell.
    """
    records, burner = tmp_path / "r.jsonl", str(ROOT / "tests" / "loadtest_burner.py")
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, traffic=traffic)
        with started(strict_command(scenario, server.url, records, *options, locustfile=burner)) as process:
            _, errors = process.communicate(timeout=90)
    run = Ended(process.returncode, errors, read_lines(records))
    assert run.code == 1, errors
    assert len(run.rows) == run.header.queries
    assert run.header.limits["send_lag_p99_ms"] == 10.0
    assert run.header.limits["loop_lag_p99_ms"] == 20.0
    assert any(reason.startswith("client starved: the event loop of worker 0") for reason in run.end.invalid), errors
    # A run of a few seconds has a share of a core too: what was burnt is in it.
    assert run.end.client_cpu["busy_max"] > 0.05
    if run.header.demand == "open":
        assert any(reason.startswith("send lag p99 ") for reason in run.end.invalid)


def test_a_client_without_its_core_makes_the_run_invalid(tmp_path: Path) -> None:
    """Stopped for 70 ms of every 100, as a quota does it: it uses next to no processor time, and reads late."""
    records = tmp_path / "r.jsonl"
    traffic = {"arrivals": {"closed": {"concurrency": 3, "requests_per_client": 60}}}
    with fault_server("--first-s", "0.02", "--gap-s", "0.005") as server:
        arguments = strict_command(write_scenario(tmp_path, traffic=traffic), server.url, records)
        with started(arguments) as process:
            wait_for_rows(records, 1)
            while process.poll() is None:
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.07)
                process.send_signal(signal.SIGCONT)
                time.sleep(0.03)
            _, errors = process.communicate(timeout=60)
    run = Ended(process.returncode, errors, read_lines(records))
    assert (run.code, {row.error for row in run.rows}) == (1, {""}), errors
    assert any(reason.startswith("client starved") for reason in run.end.invalid), errors
    assert run.end.client_cpu["busy_max"] < run.header.limits["cpu_share"]


CLOSED = {"arrivals": {"closed": {"concurrency": 4, "requests_per_client": 5000}}}


@pytest.mark.parametrize(
    ("stop", "traffic", "processes"),
    [
        (signal.SIGINT, SCENARIO["traffic"], ()),
        (signal.SIGTERM, SCENARIO["traffic"], ()),
        (signal.SIGINT, CLOSED, ()),
        (signal.SIGINT, SCENARIO["traffic"], ("--processes", "2")),
    ],
    ids=["open", "terminated", "closed", "workers"],
)
def test_an_interrupted_run_ends_with_a_summary_of_what_was_recorded(
    tmp_path: Path, stop: signal.Signals, traffic: dict[str, object], processes: tuple[str, ...]
) -> None:
    """Each query that was sent has its row, those in flight as interrupted, and the rest is counted as not sent."""
    records = tmp_path / "r.jsonl"
    with fault_server("--first-s", "0.1", "--gap-s", "0.002") as server:
        length = () if traffic is CLOSED else ("--duration-s", "600", "--warmup-s", "0")
        arguments = command(write_scenario(tmp_path, traffic=traffic), server.url, records, *length, *processes)
        with started(arguments) as process:
            wait_for_rows(records, 40)
            os.killpg(process.pid, stop)  # as a terminal does
            _, errors = process.communicate(timeout=60)
        sent = len(server.log())
    run = Ended(process.returncode, errors, read_lines(records))
    assert run.code == 130, errors
    assert run.end.reason == "interrupted"
    assert run.end.rows == len(run.rows) >= 40
    assert abs(len(run.rows) - sent) <= 1  # one may have been on its way to the server
    assert {row.error for row in run.rows} == {"", "interrupted"}
    assert run.end.rows + run.end.unsent == run.header.queries
    assert f"requests  {len(run.rows)}" in errors


def test_a_killed_run_leaves_whole_rows(tmp_path: Path) -> None:
    """Rows are the system's within half a second: what the server had answered a second before the end is there."""
    records = tmp_path / "r.jsonl"
    with fault_server(*FAST) as server:
        arguments = command(write_scenario(tmp_path), server.url, records, "--duration-s", "600", "--warmup-s", "0")
        with started(arguments) as process:
            wait_for_rows(records, 60)
            process.kill()
            process.wait()
        answered = len(server.log())
    lines = read_lines(records)
    rows = [line for line in lines if isinstance(line, RequestRow)]
    assert isinstance(lines[0], RunHeader)
    assert len(rows) == len(lines) - 1
    assert answered - len(rows) < 80  # at 40 a second: less than two seconds' worth


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails in place of killing
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    with fault_server(*FAST) as server:
        arguments = command(write_scenario(tmp_path), server.url, records, "--duration-s", "600", "--warmup-s", "0")
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=90, preexec_fn=small_files, check=False
        )
    assert done.returncode == 1, done.stderr
    assert "records could not be written" in done.stderr
    lines = read_lines(records)  # each of them whole
    assert len(lines) > 10
    assert "Traceback" not in done.stderr


def test_a_device_that_is_always_full_is_no_traceback(tmp_path: Path) -> None:
    with fault_server(*FAST) as server:
        run = loadtest(write_scenario(tmp_path), server.url, Path("/dev/full"), "--requests", "20")
    assert run.code == 1, run.output
    assert "records could not be written: No space left on device" in run.output
    assert "Traceback" not in run.output


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "traffic.peak_qps"), "must be KEY=VALUE"),
        (("--set", "traffic.peek_qps=3"), "peak_qps"),
        (("--requests", "9", "--duration-s", "9"), "give only one"),
        (("--requests", "0"), "not a whole number"),
        (("--warmup-s", "nan"), "not a number"),
        (("--set", "engine.quantization=[bf16, fp8]"), "takes one value"),
        (("--host", "http://user:secret@127.0.0.1:1"), "no user and password"),
        (("--host", "ftp://127.0.0.1"), "must be http"),
        (("--scenario", "no-such-scenario"), "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    run = loadtest(write_scenario(tmp_path), "http://127.0.0.1:1", tmp_path / "r.jsonl", *options)
    assert run.code == 2, run.output
    assert says in run.output
    assert "Traceback" not in run.output
    assert "secret" not in run.output
    assert not (tmp_path / "r.jsonl").exists()


def test_records_are_never_overwritten(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text("kept")
    arguments = command(write_scenario(tmp_path), "http://127.0.0.1:1", records, "--served-model", "tiny")
    with started(arguments) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "exists: records are not overwritten" in errors
    assert records.read_text() == "kept"


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    variables = {"PLANNER_SCENARIO": write_scenario(tmp_path), "PLANNER_REQUESTS": "12", "PLANNER_SEED": "9"}
    with fault_server(*FAST) as server:
        arguments = command("unused", server.url, records, "--warmup-s", "0")
        place = arguments.index("--scenario")
        with started(arguments[:place] + arguments[place + 2 :], PLANNER_API_KEY="sk-secret", **variables) as process:
            _, errors = process.communicate(timeout=90)
        log = server.log()
    run = Ended(process.returncode, errors, read_lines(records))
    assert (run.code, run.header.seed, len(run.rows)) == (0, 9, 12), errors
    assert run.header.limits["loop_lag_p99_ms"] == 2 * run.header.limits["send_lag_p99_ms"] == 20_000
    assert log[-1]["authorization"] == "bearer sk-secret"
    assert "sk-secret" not in errors + records.read_text()


def test_the_scenario_is_kept_whole(tmp_path: Path) -> None:
    assert SCENARIO["traffic"] == {"peak_qps": 40}
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "5", "--set", "peak_qps=80")
    assert run.header.scenario["traffic"]["peak_qps"] == 80
    assert run.header.model == "tiny"
    assert run.header.server["version"] == "0.0.0+fault"
