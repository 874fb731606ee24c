"""The emulator's bench: 64 streams at once, each token's arrival held against the time that the scheduler gave it.

The emulator has the first core, the client the last one. The client reads raw sockets, so that its own work is small
beside what it measures; the truth is the emulator's `--record`.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
STREAMS, PROMPT, OUTPUT, SECONDS = 64, 64, 200, 10.0
SCENARIO = f"""
version: 1
name: bench
model: llama-3.1-8b
hardware: h100-sxm-80gb
engine: {{max_model_len: 4096, max_num_seqs: 256}}
traffic: {{peak_qps: 20}}
query: {{stages: [{{name: answer, prompt_tokens: {PROMPT}, output_tokens: {OUTPUT}}}]}}
"""
EVENT, IDENTITY = b"data: {", re.compile(rb'"id":"([^"]+)"')


class Emulated(NamedTuple):
    """What was seen of one run."""

    tokens_per_s: float
    cpu_ms_per_1000_tokens: float
    late_p50_ms: float
    late_p99_ms: float


@dataclass
class _Stream:
    """One connection: the answer that it reads, and when each of its tokens came."""

    sock: socket.socket
    identity: str = ""
    tail: bytes = b""
    came_s: list[float] = field(default_factory=list)

    def ask(self, number: int) -> None:
        """Send the next request."""
        prompt = [1000 + (number * 7 + place) % 1000 for place in range(PROMPT)]
        body = json.dumps({"prompt": prompt, "max_tokens": OUTPUT, "stream": True, "ignore_eos": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
        self.identity, self.tail, self.came_s = "", b"", []
        self.sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)

    def read(self) -> bool:
        """Take in what has come; true at the end of the answer."""
        data, now_s = self.sock.recv(65536), time.time()
        if not data:
            sys.exit("bench: the emulator closed a connection")
        if not self.identity and (found := IDENTITY.search(data)):
            self.identity = found[1].decode()
        joined = self.tail + data
        self.came_s += [now_s] * (joined.count(EVENT) - self.tail.count(EVENT))
        self.tail = joined[-(len(EVENT) - 1) :]
        return joined.endswith(b"0\r\n\r\n")


def measure() -> Emulated:
    """Run it once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.yaml").write_text(SCENARIO)
        command = [sys.executable, "-m", "planner", "emulate", str(folder / "bench.yaml"), "--port", "0"]
        command += ["--record", str(folder / "truth.jsonl")]
        cores = sorted(os.sched_getaffinity(0))
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                os.sched_setaffinity(process.pid, {cores[0]})
                assert process.stdout is not None
                ready = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
                if ready is None:
                    sys.exit("bench: the emulator did not start")
                os.sched_setaffinity(0, {cores[-1]})
                before_s, begun_s = _cpu_s(process.pid), time.time()
                came = dict(_streamed(ready[1], int(ready[2])))
                wall_s, cpu_s = time.time() - begun_s, _cpu_s(process.pid) - before_s
            finally:
                os.sched_setaffinity(0, set(cores))
                process.terminate()
        late_ms, tokens = _late_ms(folder / "truth.jsonl", came), sum(map(len, came.values()))
    p50, p99 = np.percentile(late_ms, (50, 99))
    return Emulated(tokens / wall_s, 1e6 * cpu_s / tokens, float(p50), float(p99))


def _streamed(host: str, port: int) -> Iterator[tuple[str, list[float]]]:
    """The times of every answer's tokens, by its id."""
    stop_s, number = time.time() + SECONDS, 0
    with selectors.DefaultSelector() as selector:
        for number in range(STREAMS):
            stream = _Stream(socket.create_connection((host, port)))
            stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(stream.sock, selectors.EVENT_READ, stream)
            stream.ask(number)
        while selector.get_map():
            for key, _ in selector.select():
                stream = key.data
                if not stream.read():
                    continue
                yield stream.identity, stream.came_s
                if time.time() < stop_s:
                    number += 1
                    stream.ask(number)
                else:
                    selector.unregister(stream.sock)
                    stream.sock.close()


def _late_ms(truth: Path, came: dict[str, list[float]]) -> list[float]:
    """How much later than the scheduler's own time each token was received."""
    late: list[float] = []
    for line in truth.read_text().splitlines():
        row = json.loads(line)
        seen = came.get(row["id"])
        if seen is None or not row["complete"]:
            continue
        if len(seen) != len(row["token_s"]):
            sys.exit(f"bench: {len(seen)} tokens came of {len(row['token_s'])}")
        late += [1e3 * (at - row["received_unix_s"] - due) for at, due in zip(seen, row["token_s"], strict=True)]
    return late


def _cpu_s(process: int) -> float:
    """Seconds of CPU of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(measure())
