"""A server whose answers a test chooses, and what the tests of its clients share."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = "sk-0123456789-never-shown"
MODELS = '{"object": "list", "data": [{"id": "m", "root": "org/m", "max_model_len": 4096}, {"id": "lora"}]}'


@dataclass
class Fake:
    """A server whose answers are chosen: (status, headers, body) by path. It notes the keys it was sent."""

    url: str
    answers: dict[str, Callable[[], tuple[int, dict[str, str], str]]]
    keys: list[str | None] = field(default_factory=list)

    def say(self, path: str, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.answers[path] = lambda: (status, headers or {}, body)


@contextmanager
def fake_server(certificate: Path | None = None) -> Iterator[Fake]:
    fake = Fake("", {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.keys.append(self.headers.get("Authorization"))
            status, headers, body = fake.answers.get(self.path, lambda: (404, {}, "no"))()
            data = body.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    fake.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def no_environment(name: str) -> str | None:
    return None


def with_key(name: str) -> str | None:
    return KEY if name == "OPENAI_API_KEY" else None
