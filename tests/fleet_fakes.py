"""A fleet whose truth is known: an exposition made of numbers, servers that misbehave, a clock that a test moves."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from planner import vllm_metrics as names
from planner.live.fleet import Clock

MODEL = "org/m"
BUCKETS = {names.TTFT: (0.1, 1.0), names.ITL: (0.01, 0.1), names.E2E: (1.0, 10.0)}


def exposition(done: float = 0.0, *, running: float = 1.0, model: str = MODEL, engines: int = 1, text: str = "") -> str:
    """vLLM's metrics after `done` requests on each engine, each of 100 prompt tokens (a quarter cached), 20 generated,
    0.5 s to its first token, 0.05 s from token to token, 2 s in all. `text` is appended.
    """
    lines = []
    for engine in range(engines):
        at = f'engine="{engine}",model_name="{model}"'
        plain = {
            names.RUNNING: running,
            names.WAITING: 2.0,
            names.KV_USAGE: 0.5,
            names.PREFIX_QUERIES_TOTAL: 100 * done,
            names.PREFIX_HITS_TOTAL: 25 * done,
            names.GENERATION_TOKENS_TOTAL: 20 * done,
            names.PREEMPTIONS_TOTAL: 0.1 * done,
        }
        lines += [f"{name}{{{at}}} {value}" for name, value in plain.items()]
        ended = {"stop": 0.75 * done, "length": 0.25 * done, "abort": 3 * done}
        lines += [f'{names.SUCCESS_TOTAL}{{{at},finished_reason="{why}"}} {count}' for why, count in ended.items()]
        for name, size, count in (
            (names.TTFT, 0.5, done),
            (names.ITL, 0.05, 19 * done),
            (names.E2E, 2.0, done),
            (names.REQUEST_PROMPT, 100, done),
            (names.REQUEST_GENERATION, 20, done),
        ):
            for bound in BUCKETS.get(name, ()):
                lines.append(f'{name}_bucket{{{at},le="{bound}"}} {count if bound >= size else 0.0}')
            lines.append(f'{name}_bucket{{{at},le="+Inf"}} {count}')
            lines += [f"{name}_sum{{{at}}} {size * count}", f"{name}_count{{{at}}} {count}"]
    return "\n".join(lines) + "\n" + text


@dataclass
class Hands:
    """Clocks that stand still until they are moved; sleeping moves them."""

    steady_s: float = 1000.0
    unix_s: float = 1_700_000_000.0

    def move(self, seconds: float) -> None:
        self.steady_s += seconds
        self.unix_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.steady_s, lambda: self.unix_s, self.move)


# --- servers ---


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and does with the connection what it is told; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    behave(connection)
                except OSError:
                    pass

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass
class FakePrometheus:
    """An API that answers `answers[query]`, or the answer to everything else. It notes what it was asked and shown."""

    url: str
    everything: tuple[int, str]
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (method, query)
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def fake_prometheus(status: int, text: str) -> Iterator[FakePrometheus]:
    fake = FakePrometheus("", (status, text))

    class Handler(BaseHTTPRequestHandler):
        def answer(self, form: Mapping[str, list[str]]) -> None:
            query = form["query"][0]
            fake.asked.append((self.command, query))
            fake.tokens.append(self.headers.get("Authorization"))
            code, body = fake.answers.get(query, fake.everything)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            self.answer(parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            self.answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def vector(*rows: tuple[Mapping[str, str], float | str], at_unix_s: float = 1_700_000_000.0) -> str:
    """An answer of the API: one sample for each row of labels and value."""
    result = [{"metric": dict(labels), "value": [at_unix_s, str(value)]} for labels, value in rows]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def figures(at_unix_s: float, **changed: Any) -> str:
    """The answer to the question for all figures: two replicas at work, one of them changed; None leaves one out."""
    told: dict[str, Any] = {
        "now": at_unix_s,
        "newest_age_s": 1.0,
        "oldest_age_s": 2.0,
        "covered_s": 300.0,
        "samples": 20,
        "engines": 2,
        "jobs": 1,
        "running": 6,
        "requests_per_s": 4.5,
        "prompt_tokens": 100,
        "restarts": 0,
        "ttft_ms.p99": 0.25,
    }
    told |= changed
    models, namespaces = told.pop("models", (MODEL,)), told.pop("namespaces", ("prod",))
    down: tuple[dict[str, str], ...] = told.pop("down", ())
    rows: list[tuple[Mapping[str, str], float | str]] = [
        ({"figure": name}, value) for name, value in told.items() if value is not None
    ]
    rows += [
        ({"figure": "models", "model_name": name, "namespace": space}, 1) for name in models for space in namespaces
    ]
    rows += [({"figure": "down", **labels}, 1) for labels in down]
    return vector(*rows, at_unix_s=at_unix_s)
