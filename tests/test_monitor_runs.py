"""`make monitor`: what it refuses, and what is left when it is interrupted."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_taken_port_is_said_before_anything_is_started():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "tools.monitor", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    said = f"monitor: FAILED, port {port} is taken, by another make monitor? "
    assert (1, "", True) == (done.returncode, done.stdout, done.stderr.startswith(said))


def test_an_interrupted_run_leaves_no_process_and_no_traceback():
    command = [sys.executable, "-m", "tools.monitor", "--port", "0"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    assert "planning …\n" == child.stdout.readline()
    time.sleep(1.0)  # the plan is under way
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert (130, "\nmonitor: stopped\n") == (child.returncode, said)
    assert not (ROOT / "build" / "monitor" / str(child.pid)).exists()
