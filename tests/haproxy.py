"""A real HAProxy with a rendered configuration, in front of servers on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.manifests.facts import Facts
from planner.manifests.haproxy import METRICS_PORT, haproxy_config
from planner.manifests.serve_arguments import PORT

REQUIRED = "TEST_HAPROXY"  # set: a missing program is a failure, not a reason to skip
PROGRAM = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
assert PROGRAM or not os.environ.get(REQUIRED), "no HAProxy: apt-get install haproxy"
needs_haproxy = pytest.mark.skipif(PROGRAM is None, reason="no HAProxy: apt-get install haproxy")
START_S = 10.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def haproxy(facts: Facts, servers: Sequence[str], folder: Path, routers: int = 1) -> Iterator[str]:
    """The URL of a router that is ready, whose servers are at these addresses (host:port) and all up.

    The configuration is the rendered one but for its ports and, before HAProxy 3.0, without `hash-key`, which only
    makes several routers agree.
    """
    assert PROGRAM is not None
    port, status = free_port(), free_port()
    lines = [f"server replica-{place} {address}" for place, address in enumerate(servers)]
    text = haproxy_config(facts, lines, routers)
    text = text.replace(f"bind :{PORT}\n", f"bind 127.0.0.1:{port}\n")
    text = text.replace(f"bind :{METRICS_PORT}\n", f"bind 127.0.0.1:{status}\n")
    version = subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout.split()[2]
    if int(version.partition(".")[0]) < 3:
        text = text.replace("hash-key addr ", "")
    path = folder / "haproxy.cfg"
    path.write_text(text)
    command = [PROGRAM, "-c", "-f", str(path)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert 0 == checked.returncode, checked.stderr
    log = (folder / "haproxy.log").open("w")
    process = subprocess.Popen([PROGRAM, "-db", "-f", str(path)], stdout=log, stderr=log)
    try:
        by = time.monotonic() + START_S
        while time.monotonic() < by:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "haproxy.log").read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        log.close()
