"""HTTP on gevent: geventhttpclient's connection pool (DNS, TLS, keep-alive) and its parser, llhttp.

Its HTTPClient is not used: it hands a body out only in pieces of a given size or with a timer for every read, and a
token must be stamped as soon as its bytes are there. Nothing here waits with a timeout of its own but connecting;
`dispatch` watches over streams that stall.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent.socket
import gevent.ssl
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPResponse

from planner.live import ca_bundle, checked_url
from planner.records import SESSION_HEADER

logger = logging.getLogger(__name__)

READ_BYTES = 65536
CONNECT_TIMEOUT_S = 10.0
REUSE_WITHIN_S = 3.0  # servers close idle connections, uvicorn after 5 s: a request must not meet the closing
MOST_CONNECTIONS = 1_000_000  # no limit of our own: an open loop must not wait for a connection


class Address(NamedTuple):
    """Where requests go. `path` is what stands before /v1."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The address without user, password and query."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{self.port}{self.path}"


def parse_address(url: str) -> Address:
    """An address from a URL such as http://127.0.0.1:8000. Raises InputError for what is none."""
    parts = urlsplit(checked_url(url))
    return Address(
        parts.scheme, str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80), parts.path
    )


class Reply(HTTPResponse):
    """A reply as far as it has come; `body` collects what the next reader takes."""

    def __init__(self) -> None:
        super().__init__("POST")
        self.body = b""

    def _on_body(self, buf: bytearray) -> None:
        self.body += buf

    def take(self) -> bytes:
        """The body's bytes since the last call."""
        taken, self.body = self.body, b""
        return taken


class _Fresh:
    """Connections are used again only soon after their last use, and only if nothing has come in on them since."""

    def __init__(self) -> None:
        self.parked: dict[int, float] = {}

    def usable(self, sock: gevent.socket.socket) -> bool:
        """Whether a parked connection may carry another request."""
        parked_at = self.parked.pop(sock.fileno(), 0.0)
        if time.monotonic() - parked_at > REUSE_WITHIN_S:
            return False
        sock.settimeout(0.0)
        try:
            sock.recv(1)  # the end of the connection, or bytes that nobody asked for
        except OSError as error:
            # Nothing there: it is idle, as it should be. ssl has errors of its own for that.
            idle = isinstance(error, BlockingIOError) or type(error).__name__ == "SSLWantReadError"
        else:
            idle = False
        sock.settimeout(None)
        return idle


class _Reuse:
    """Over the library's pools: which parked connections are taken, and no limit on how many there are."""

    def __init__(self, address: Address, **more: object) -> None:
        self._fresh = _Fresh()
        host, port = address.host, address.port
        settings = {"size": MOST_CONNECTIONS, "connection_timeout": CONNECT_TIMEOUT_S, "network_timeout": None}
        super().__init__(host, port, host, port, **settings, **more)  # type: ignore[call-arg]

    def _is_socket_alive(self, sock: gevent.socket.socket | None) -> bool:
        return sock is not None and sock.fileno() >= 0 and self._fresh.usable(sock)

    def return_socket(self, sock: gevent.socket.socket) -> None:
        """Take back a connection that may be used again."""
        self._fresh.parked[sock.fileno()] = time.monotonic()
        super().return_socket(sock)  # type: ignore[misc]

    def after_connect(self, sock: gevent.socket.socket) -> None:
        """Send at once: a request is written in one piece."""
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)


class _Plain(_Reuse, ConnectionPool):
    """Connections in the clear."""


class _Secure(_Reuse, SSLConnectionPool):
    """Connections over TLS, certificate and name checked."""


def connections(address: Address) -> ConnectionPool:
    """A pool of connections to one address; the authorities it trusts are those that /health is asked with."""
    if address.scheme != "https":
        return _Plain(address)
    bundle = ca_bundle()
    return _Secure(address, ssl_context_factory=_context, ssl_options={"ca_certs": bundle} if bundle else None)


def _context(cafile: str) -> gevent.ssl.SSLContext:
    """What a file or a folder of authorities vouches for. Where it cannot be read that is nothing."""
    try:
        if Path(cafile).is_dir():
            return gevent.ssl.create_default_context(capath=cafile)
        return gevent.ssl.create_default_context(cafile=cafile)
    except OSError as error:
        logger.warning("certificate authorities %s: %s", cafile, error.strerror or error)
        return gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)


def request_head(address: Address, path: str, key: str) -> bytes:
    """A POST's request line and the headers that all requests have."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [
        f"POST {address.path}{path} HTTP/1.1",
        f"Host: {host}:{address.port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        "User-Agent: vllm-capacity-planner",
    ]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def request_tail(body: bytes, session: str) -> bytes:
    """What follows: the session, where the request is of one, the content length, and the body."""
    named = b"%b: %b\r\n" % (SESSION_HEADER.encode(), session.encode()) if session else b""
    return b"%bContent-Length: %d\r\n\r\n%b" % (named, len(body), body)
