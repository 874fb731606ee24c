"""`planner emulate` as a process of its own, for tests: started on a free port, and stopped whatever happens.

with emulator("chat-closed-loop", "--fault", "429:0.1") as server:
    requests.get(f"{server.url}/health")
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_S, STOP_S = 60.0, 20.0
READY = re.compile(r"planner emulate: (http://(\S+):(\d+)) ")

# A small model with a small cache on a fast GPU: steps of about a millisecond and a half, prefix caching on.
FAST = """
version: 1
name: emulated for tests
model: qwen3-0.6b
hardware: h100-sxm-80gb
engine: {max_model_len: 4096, max_num_seqs: 64, num_gpu_blocks_override: 4096}
traffic: {peak_qps: 20}
query:
  stages:
    - {name: answer, prompt_tokens: 200, output_tokens: 20}
"""


@dataclass(frozen=True)
class Emulator:
    """A server that is ready. `ready_line` is the one line that it has printed."""

    url: str
    host: str
    port: int
    ready_line: str
    process: subprocess.Popen[str]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)


def fast_scenario(folder: Path) -> str:
    """The path of a scenario file with `FAST`, written into `folder`."""
    path = folder / "fast.yaml"
    path.write_text(FAST)
    return str(path)


@contextmanager
def emulator(scenario: str, *options: str) -> Iterator[Emulator]:
    """Start `python -m planner emulate SCENARIO --port 0 OPTIONS`; it is ready when this returns."""
    command = [sys.executable, "-m", "planner", "emulate", scenario, "--port", "0", *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        watchdog.cancel()
        found = READY.match(line)
        if found is None:
            process.kill()
            raise AssertionError(f"no server: {line!r} {process.stderr.read()!r}")
        yield Emulator(found[1], found[2], int(found[3]), line.rstrip("\n"), process)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
