"""`planner loadtest` as a process, for tests: its answer, or the process itself where the test is to stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emulator_process import ROOT

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
    """What a run that is over left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


def command(*arguments: str) -> list[str]:
    """The verb's command line."""
    return [sys.executable, "-m", "planner", "loadtest", *arguments]


def environment() -> dict[str, str]:
    """This process's own, with a key."""
    return {**os.environ, "PLANNER_API_KEY": KEY, "PYTHONPATH": str(ROOT)}


def loadtest(*arguments: str, folder: Path) -> Answer:
    """Run the verb to its end, in `folder`."""
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


def write_scenario(folder: Path) -> str:
    """The path of a file with `SCENARIO`."""
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO)
    return str(path)


def wait_for_rows(records: Path, process: subprocess.Popen[str], least: int = 30) -> None:
    """Until so many requests are recorded."""
    until = time.monotonic() + 60.0
    while time.monotonic() < until and process.poll() is None:
        if records.is_file() and records.read_bytes().count(b'"record":"request"') >= least:
            return
        time.sleep(0.1)
    raise AssertionError("nothing was recorded")


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
