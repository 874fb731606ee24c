"""The load tester as a process of its own: started, watched, interrupted, its records read."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click
import msgspec

from planner.cli.loadtest_watch import Rows, Watch
from planner.cli.output import Progress
from planner.errors import DataFileError, EndpointError, InputError, PlannerError
from planner.live import Endpoint, Scrape, changes, scrape, server_facts
from planner.live.endpoint import KEY_VARIABLES
from planner.readers.recordings import Recording, read_own
from planner.records import RunEnd, encode_line

POLL_S = 0.25
STOP_S = 30.0  # for the load tester to write its end after an interruption
OPTION_PREFIXES = ("PLANNER_", "LOCUST_")  # of variables that stand for the load tester's options
TAIL_BYTES = 4000
NO_QUERY = "no query arrives in it"  # of a run that is too short
# What the load tester calls its options, and what this verb does, where the two differ.
OWN_NAMES = {
    "--records": "--out",
    "--duration-s": "--duration",
    "--warmup-s": "--warmup",
    "--send-lag-limit-ms": "--send-lag-limit",
}


@dataclass(frozen=True)
class Order:
    """One run to make: the scenario's file and changes, its length, and where the records go."""

    scenario: Path
    settings: tuple[str, ...]
    records: Path
    seed: int
    requests: int | None = None
    duration_s: float | None = None
    warmup_s: float | None = None
    processes: int = 1
    api: str = "completions"
    served_model: str | None = None
    send_lag_limit_ms: float | None = None
    cpu_limit: float | None = None

    def command(self, url: str) -> list[str]:
        """The load tester's command line; nothing in it is secret."""
        spec = importlib.util.find_spec("loadtests")
        if spec is None or spec.origin is None:
            raise DataFileError("loadtests", None, "is not installed beside planner")
        words = [sys.executable, "-m", "locust", "-f", str(Path(spec.origin).parent / "locustfile.py"), "--headless"]
        words += ["--host", url, "--scenario", str(self.scenario), "--records", str(self.records)]
        words += ["--seed", str(self.seed), "--api", self.api]
        for option, value in (
            ("--requests", self.requests),
            ("--duration-s", self.duration_s),
            ("--warmup-s", self.warmup_s),
            ("--served-model", self.served_model),
            ("--send-lag-limit-ms", self.send_lag_limit_ms),
            ("--cpu-limit", self.cpu_limit),
        ):
            if value is not None:
                words += [option, str(value)]
        if self.processes > 1:
            words += ["--processes", str(self.processes), "--master-bind-host", "127.0.0.1"]
        for setting in self.settings:
            words += ["--set", setting]
        return words


@dataclass(frozen=True)
class Done:
    """A run that has ended: its records, what the server said, and whether the user stopped it."""

    recording: Recording
    server: dict[str, Any]
    interrupted: bool


def make_run(order: Order, endpoint: Endpoint, progress: Progress | None) -> Done:
    """Run the load tester to its end and read its records, the server watched meanwhile.

    Ctrl-C is passed on to it: it writes what it has and ends; a second one kills it. Raises EndpointError where the
    server had gone before anything was recorded, DataFileError where the load tester could not begin.
    """
    facts, before = server_facts(endpoint)
    watch = Watch(endpoint)
    with tempfile.TemporaryFile() as log, interruptible() as interruption:
        process = subprocess.Popen(
            order.command(endpoint.url),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        try:
            with watch.running(before is not None):
                _follow(process, order.records, watch, interruption, progress)
        finally:
            _end(process)
        said = _tail(log)
    server = facts.as_dict() | _after(endpoint, before) | watch.figures() | _gone(endpoint)
    try:
        recording = read_own(order.records)
    except DataFileError as error:
        if interruption.count:
            click.echo(_nothing_recorded(order.records, error), err=True)
            raise KeyboardInterrupt from None
        raise _failed(process.returncode, said, order, endpoint) from None
    _append_end(order.records, recording.end, server)
    return Done(recording, server, interruption.count > 0)


def _environment() -> dict[str, str]:
    """This process's own, without the variables that would set options beside those of the command line."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OPTION_PREFIXES) or name in KEY_VARIABLES
    }


# --- while it runs ---


@dataclass
class Interruption:
    """How often the user has asked to stop."""

    count: int = 0


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Count SIGINT and SIGTERM instead of dying of them, up to a third; outside the main thread count nothing."""
    asked = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        asked.count += 1
        if asked.count > 2:
            raise KeyboardInterrupt

    wakeup = signal.set_wakeup_fd(-1)  # the command line's own watch would leave within a second
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _follow(
    process: subprocess.Popen[bytes],
    records: Path,
    watch: Watch,
    interruption: Interruption,
    progress: Progress | None,
) -> None:
    """Until it has ended: tell how far it is, pass interruptions on."""
    rows, passed_on, give_up_at = Rows(records), 0, float("inf")
    while process.poll() is None:
        if interruption.count > passed_on:
            passed_on = interruption.count
            if passed_on > 1:
                return
            process.send_signal(signal.SIGINT)
            give_up_at = time.monotonic() + STOP_S
        if time.monotonic() > give_up_at:
            return
        rows.read()
        if progress is not None:
            progress(rows.words(watch.latest), rows.ended, rows.total)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)


# --- when it has ended ---


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, its workers included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _gone(endpoint: Endpoint) -> dict[str, Any]:
    """Whether the server is there no longer, and how that shows."""
    try:
        endpoint.get("/health")
    except EndpointError as error:
        return {"gone": error.came}
    return {}


def _after(endpoint: Endpoint, before: Scrape | None) -> dict[str, Any]:
    """What the server's counters say of the run; nothing where they cannot be read."""
    if before is None:
        return {}
    try:
        return changes(before, scrape(endpoint))
    except EndpointError:
        return {}


def _append_end(records: Path, end: RunEnd | None, server: dict[str, Any]) -> None:
    """Write the server's figures into the records: a second end, which readers take in place of the first."""
    if end is None:
        return
    with contextlib.suppress(OSError), records.open("ab") as file:
        file.write(encode_line(msgspec.structs.replace(end, server=end.server | server)))


def _nothing_recorded(records: Path, error: DataFileError) -> str:
    """What is said of a run that was stopped before anything of it can be read; a file without requests is removed."""
    try:
        if b'"record":"request"' in records.read_bytes():
            return f"stopped; {records} {error.rule}"
        records.unlink()
    except FileNotFoundError:
        return "stopped before anything was sent; no records were written"
    except OSError as trouble:
        return f"stopped; {records} is not to be used: {trouble.strerror or trouble}"
    return f"stopped before any request was recorded; {records} held none and was removed"


def _tail(log: IO[bytes]) -> list[str]:
    """The last lines that the load tester said."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - TAIL_BYTES))
    return [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]


def _failed(code: int, said: list[str], order: Order, endpoint: Endpoint) -> PlannerError:
    """Why nothing was recorded, in the load tester's own words."""
    own = [line.partition("error: ")[2] for line in said if "error: " in line]
    last = own[-1] if own else said[-1] if said else f"exit code {code}"
    if NO_QUERY in last and order.duration_s is not None:
        return InputError("--duration", f"{order.duration_s:g} s", last.partition(": ")[2])
    for theirs, ours in OWN_NAMES.items():
        last = last.replace(theirs, ours)
    if code == EndpointError.exit_code:
        return EndpointError(endpoint.url, "load test", last)
    return DataFileError("records", order.records, f"nothing was recorded: {last}")
