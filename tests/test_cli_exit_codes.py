"""What becomes of errors: one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import planner
from planner.cli.app import cli
from planner.errors import MisfitError

REFUSED = [
    (["plan"], "Missing argument 'SCENARIO'", "no scenario"),
    (["plna", "ai-search"], "No such command 'plna'", "no such verb"),
    (["plan", "ai-search", "--sed", "3"], "No such option", "no such option"),
    (["plan", "ai-serch"], "nor a shipped example (ai-search, ai-search-h100, ", "shipped names are listed"),
    (["plan", "ai-serch"], "nearest: ai-search", "with the nearest one"),
    (["plan", "folder/ai-search"], "no such file", "a path elsewhere is not an example's name"),
    (["plan", "."], "is a folder", "a folder is no scenario"),
    (["plan", "ai-search", "--set", "peak_qps"], "must be KEY=VALUE", "no equals sign"),
    (["plan", "ai-search", "--set", "=3"], "must be KEY=VALUE", "no key"),
    (["plan", "ai-search", "--set", "peak_qsp=3"], "unknown key", "no such key"),
    (["plan", "ai-search", "--set", "peak_qps=-3"], "traffic.peak_qps (=-3): must be > 0", "the scenario's own rule"),
    (["plan", "ai-search", "--set", "prices.gpu_hour_usd=.nan"], "must be finite", "NaN"),
    (["plan", "ai-search", "--requests", "0"], "--requests", "at least one"),
    (["plan", "ai-search", "--requests", "many"], "--requests", "a number"),
    (["plan", "ai-search", "--requests", "999"], "at least 1000: fewer give no confidence interval", "too short"),
    (["capacity", "ai-search", "--requests", "999"], "at least 1000: fewer give no confidence interval", "too short"),
    (["sweep", "ai-search", "--vary", "peak_qps=2", "--requests", "9"], "at least 1000", "a sweep is made of plans"),
    (["simulate", "ai-search", "--requests", "50000001"], "--requests", "beyond all memory"),
    (["simulate", "ai-search", "--duration", "1e300"], "must be at most 10000000 seconds", "beyond all memory"),
    (["simulate", "ai-search", "--set", "peak_qps=1e300"], "traffic.peak_qps (=1e+300): must be <=", "overflow"),
    (["sweep", "ai-search", "--vary", "hardware=h100,h1000"], "hardware (=h1000): is not in the", "before any plan"),
    (["plan", "ai-search", "--seed", "-1"], "--seed", "numpy's seeds are not negative"),
    (["plan", "ai-search", "--out", "nowhere/plan.json"], "there is no folder", "before the work begins"),
    (["simulate", "ai-search", "--duration", "nan"], "must be above 0 and finite", "NaN is no length"),
    (["simulate", "ai-search", "--duration", "-1"], "must be above 0 and finite", "nor is less than nothing"),
    (["simulate", "two-stage-search", "--duration", "9", "--requests", "9"], "give only one of", "two lengths"),
    (["simulate", "ai-search"], "hardware", "a list to choose from"),
    (["simulate", "trace-azure"], "traffic.arrivals.trace.file", "the trace is still to be named"),
    (["capacity", "ai-search", "--vary", "replicas"], "'rate', 'concurrency'", "what can be raised"),
    (["sweep", "ai-search"], "Missing option '--vary'", "nothing to vary"),
    (["sweep", "ai-search", "--vary", "peak_qps"], "must be KEY=VALUE", "no values"),
    (["sweep", "ai-search", "--vary", "peak_qps=20,"], "a value is empty", "a trailing comma"),
    (["sweep", "ai-search", "--vary", "peak_qps=20,-3"], "traffic.peak_qps (=-3): must be > 0", "before any plan"),
    (["sweep", "ai-search", "--vary", "peak_qps=1", "--vary", "traffic.peak_qps=2"], "given twice", "one key"),
    (["sweep", "ai-search", *["--vary", "a=1", "--vary", "b=1", "--vary", "c=1"]], "one or two keys", "three keys"),
    (["sweep", "ai-search", "--vary", "peak_qps=20", "--plot", "a.pdf"], ".png or .svg", "what can be drawn"),
    (["sweep", "ai-search", "--vary", "peak_qps=20", "--csv", "nowhere/a.csv"], "there is no folder", "at once"),
    (["catalogue"], "models, hardware, prices", "what there is"),
    (["catalogue", "gpus"], "'models', 'hardware', 'prices'", "what there is"),
]


@pytest.mark.parametrize(("arguments", "says", "because"), REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, because):
    result = CliRunner().invoke(cli, arguments)
    assert (2, "") == (result.exit_code, result.stdout), because
    assert says in result.stderr, because
    assert result.stderr.startswith("planner: error: ")
    assert 1 == result.stderr.count("\n")


def _raises(error: BaseException):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            MisfitError("engine.tensor_parallel_size", 3, "must\ndivide"),
            2,
            "planner: error: engine.tensor_parallel_size (=3): must divide\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_is_raised_on_purpose_has_its_own_exit_code(monkeypatch, error, code, message):
    monkeypatch.setattr(planner, "plan", _raises(error), raising=False)
    result = CliRunner().invoke(cli, ["plan", "ai-search"])
    assert (code, message, "") == (result.exit_code, result.stderr.lstrip("\n"), result.stdout)


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(planner, "plan", _raises(ZeroDivisionError()), raising=False)
    assert isinstance(CliRunner().invoke(cli, ["plan", "ai-search"]).exception, ZeroDivisionError)


def test_a_full_disk_is_one_line_beside_the_answer(monkeypatch, tmp_path):
    answer = type("Answer", (), {"as_dict": dict, "feasible": True})()
    monkeypatch.setattr(planner, "plan", lambda *_, **__: answer, raising=False)
    monkeypatch.setattr(Path, "write_bytes", _raises(OSError(errno.ENOSPC, "No space left on device")))
    result = CliRunner().invoke(cli, ["plan", "ai-search", "--out", str(tmp_path / "plan.json")])
    assert (2, f"{answer}\n") == (result.exit_code, result.stdout)
    assert result.stderr.endswith("No space left on device\n")
    assert 1 == result.stderr.count("\n")


# --- real processes ---

COMMAND = [sys.executable, "-m", "planner"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [(["--version"], 0, ""), (["plan", "nowhere"], 2, "planner: error: scenario file (=nowhere)"), (["schema"], 0, "")],
)
def test_the_process_ends_with_the_verbs_code(arguments, code, says):
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert code == done.returncode
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_reader_that_goes_away_is_no_error():
    with _start("catalogue", "prices", "--json") as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        assert ("", 141) == (writer.stderr.read(), writer.wait(timeout=60))


def test_ctrl_c_says_interrupted_and_leaves_no_file(tmp_path):
    """The scenario is a pipe: once it is open for reading, the verb is at work and waits."""
    scenario, out = tmp_path / "scenario.yaml", tmp_path / "plan.json"
    os.mkfifo(scenario)
    with _start("plan", str(scenario), "--out", str(out)) as process:
        pipe = _open_once_read(scenario)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        os.close(pipe)
    assert (130, "", "interrupted") == (process.returncode, output, errors.strip())
    assert not out.exists()


IMPORTING = """
import sys
from importlib.abc import MetaPathFinder

class Interrupted(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "planner.cli.plan":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
sys.argv = ["planner", "--version"]
"""
ENTRIES = [
    "import runpy; runpy.run_module('planner', run_name='__main__')",  # python -m planner
    "from planner.cli import main; main()",  # the installed command
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_while_the_command_is_imported_is_no_traceback(entry):
    command = [sys.executable, "-c", IMPORTING + entry]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (130, "", "interrupted\n") == (done.returncode, done.stdout, done.stderr)


BUSY = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import planner
from planner.cli.app import main

def plan(*_, **__):
    with ThreadPoolExecutor() as pool:  # joined at its end, whatever ends it
        pool.submit(time.sleep, 30)
        print("at work", flush=True)
        return pool.submit(time.sleep, 30).result()

planner.plan = plan
sys.argv = ["planner", "plan", "ai-search"]
main()
"""


def test_ctrl_c_does_not_wait_for_the_threads_of_a_search():
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "at work\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        output, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 2
    assert (130, "", "interrupted") == (process.returncode, output, errors.strip())


def _open_once_read(pipe: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it yet
            time.sleep(0.05)
    raise AssertionError("the scenario was never read")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_one_line_and_not_the_code_for_no_fleet():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "planner", "schema"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "planner: error: cannot write the answer: No space left on device\n"
