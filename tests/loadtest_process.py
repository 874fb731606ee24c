"""The load test as Locust processes, for tests: started on loopback, waited for, and ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from planner.records import RequestRow, RunEnd, RunHeader, decode_line

ROOT = Path(__file__).parents[1]
LOCUSTFILE = str(ROOT / "loadtests" / "locustfile.py")
PATIENCE_S = 90.0

SCENARIO: dict[str, Any] = {
    "version": 1,
    "name": "short answers",
    "model": "qwen3-0.6b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 4096, "max_num_seqs": 64, "num_gpu_blocks_override": 4096},
    "traffic": {"peak_qps": 40},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 40, "output_tokens": 6}]},
}


def write_scenario(folder: Path, **changes: Any) -> str:
    """The path of a scenario file like `SCENARIO`, with other values at its top-level keys."""
    path = folder / "scenario.yaml"
    path.write_text(json.dumps(SCENARIO | changes))
    return str(path)


def stages(*given: dict[str, object]) -> dict[str, object]:
    """A query of such stages, each short where it says nothing else."""
    return {"stages": [{"prompt_tokens": 40, "output_tokens": 6, **stage} for stage in given]}


@dataclass(frozen=True)
class Ended:
    """A load test that is over."""

    code: int
    output: str  # standard error, where Locust logs
    lines: tuple[RunHeader | RequestRow | RunEnd, ...]

    @property
    def header(self) -> RunHeader:
        """The first line of the records."""
        (found,) = [line for line in self.lines if isinstance(line, RunHeader)]
        return found

    @property
    def end(self) -> RunEnd:
        """The last line of the records."""
        (found,) = [line for line in self.lines if isinstance(line, RunEnd)]
        return found

    @property
    def rows(self) -> list[RequestRow]:
        """The requests, by their place in the load."""
        return sorted((line for line in self.lines if isinstance(line, RequestRow)), key=lambda row: row.request)

    def without_worker(self) -> list[tuple[Any, ...]]:
        """What was asked, whoever sent it."""
        fields = ("request", "query_s", "scheduled_s", "asked_prompt_tokens", "asked_output_tokens")
        return [tuple(getattr(row, field) for field in fields) for row in self.rows]


def strict_command(
    scenario: str, url: str, records: Path | None, *options: str, locustfile: str = LOCUSTFILE
) -> list[str]:
    """The command line of a headless run that is judged by the default limits."""
    base = [sys.executable, "-m", "locust", "-f", locustfile, "--scenario", scenario, "--host", url, "--headless"]
    return [*base, "--only-summary", *(() if records is None else ("--records", str(records))), *options]


def command(scenario: str, url: str, records: Path | None, *options: str) -> list[str]:
    """The same, but what a busy machine does to it does not make it invalid."""
    return strict_command(scenario, url, records, "--send-lag-limit-ms", "10000", "--cpu-limit", "1", *options)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without keys, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLANNER_", "OPENAI_"))}
    return kept | more


def loadtest(scenario: str, url: str, records: Path, *options: str, **variables: str) -> Ended:
    """Run one to its end."""
    with started(command(scenario, url, records, *options), **variables) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    return Ended(process.returncode, errors, read_lines(records))


@contextmanager
def started(arguments: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, killed with its children at the end."""
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def read_lines(records: Path) -> tuple[RunHeader | RequestRow | RunEnd, ...]:
    """Every line of the records; none where there is no file."""
    if not records.is_file():
        return ()
    return tuple(decode_line(text, number) for number, text in enumerate(records.read_bytes().splitlines(), 1))


def wait_for_rows(records: Path, least: int) -> None:
    """Return once the file holds so many rows."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if records.is_file() and records.read_bytes().count(b'"record":"request"') >= least:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {least} rows in {records}")


def run_calls(cases: Sequence[dict[str, Any]], **variables: str) -> list[dict[str, Any]]:
    """One query for each case, all at once in one process: {"rows": [...], "detail": str, "took_s": float} each."""
    script = str(ROOT / "tests" / "loadtest_calls.py")
    with started([sys.executable, script, msgspec.json.encode(list(cases)).decode()], **variables) as process:
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    answers: list[dict[str, Any]] = msgspec.json.decode(output)
    return answers
