"""The processes of one machine's monitoring. Each is a context: what it started is stopped, whatever happens."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_S, START_S = 20.0, 90.0
PLANNER = (sys.executable, "-m", "planner")


class NotStartedError(RuntimeError):
    """A process ended or was not ready in time; its last words are in the message."""


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own (Ctrl-C at the terminal reaches only its parent), stopped by SIGTERM."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not help."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def verb(words: Sequence[str], log: Path) -> Iterator[str]:
    """A verb of the planner that serves until it is stopped; gives the address that it says it listens on."""
    with process([*PLANNER, *words], log) as child:
        yield wait_for(child, log, re.compile(rf"planner {words[0]}: (https?://[^\s/]+)"))


@contextmanager
def prometheus(config: Path, data: Path, port: int, log: Path) -> Iterator[str]:
    """A Prometheus server on loopback, as the system has it installed; gives its address once it is ready."""
    program = shutil.which("prometheus")
    if program is None:
        raise NotStartedError("prometheus is not installed: apt-get install prometheus")
    listen = f"127.0.0.1:{port}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={listen}"]
    with process([*command, "--log.level=warn"], log) as child:
        wait_until_ready(child, f"http://{listen}/-/ready", log)
        yield f"http://{listen}"


def wait_for(child: subprocess.Popen[bytes], log: Path, said: re.Pattern[str]) -> str:
    """Wait until a log has a line; gives its first group."""
    deadline = time.monotonic() + START_S
    while not (found := said.search(log.read_text(errors="replace"))):
        check_alive(child, log, deadline)
        time.sleep(0.1)
    return found[1]


def wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until an address answers 200."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            check_alive(child, log, deadline)
            time.sleep(0.1)


def check_alive(child: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    """Raise NotStartedError for a child that ended, or whose time is over."""
    if child.poll() is not None or time.monotonic() > deadline:
        ended = "was not ready in time" if child.poll() is None else f"ended with {child.returncode}"
        raise NotStartedError(
            f"{Path(str(child.args[0])).name} {ended}: {log.read_text(errors='replace').strip()[-600:]}"
        )


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
