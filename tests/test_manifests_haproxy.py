"""The rendered router as HAProxy runs it, in front of servers whose every request is on record."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from manifest_plans import facts

from planner.manifests.facts import Facts
from tests.haproxy import haproxy, needs_haproxy

pytestmark = needs_haproxy


class Replica:
    """A server that answers when it is told to, and counts what it has in hand."""

    def __init__(self, streams: bool) -> None:
        self.go = threading.Event()
        self.in_hand = self.most = 0
        self.sessions: list[str] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.dead = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(b"")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with outer._lock:
                    outer.in_hand += 1
                    outer.most = max(outer.most, outer.in_hand)
                    outer.sessions.append(self.headers.get("x-session-id", ""))
                    outer._open.add(self.connection)
                if streams:
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.flush()
                outer.go.wait(20)
                with outer._lock:
                    outer.in_hand -= 1
                    outer._open.discard(self.connection)
                if outer.dead:
                    self.close_connection = True
                elif streams:
                    self.wfile.write(b"2\r\nok\r\n0\r\n\r\n")
                else:
                    self.answer(b"ok")

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        """As a killed process: it listens no more, and what it has in hand is closed unanswered."""
        self.dead = True
        self.server.shutdown()
        self.server.server_close()
        for one in tuple(self._open):
            one.shutdown(socket.SHUT_RDWR)
        self.go.set()


@contextmanager
def fleet(count: int, streams: bool = False) -> Iterator[list[Replica]]:
    replicas = [Replica(streams) for _ in range(count)]
    try:
        yield replicas
    finally:
        for one in replicas:
            one.go.set()
            if not one.dead:
                one.server.shutdown()
                one.server.server_close()


def changed(**changes: Any) -> Facts:
    return facts("demo", **changes)


def admitting(room: int, routing: str) -> Facts:
    return changed(scenario__fleet__admission={"max_requests_per_replica": room}, fleet__routing=routing)


def ask(url: str, session: str = "", body: bytes = b"x") -> tuple[int, str]:
    """Status and text; status 0 where the answer broke off."""
    headers = {"x-session-id": session} if session else {}
    try:
        answer = requests.post(f"{url}/v1/completions", body, headers=headers, timeout=30)
        return answer.status_code, answer.text
    except requests.RequestException:
        return 0, ""


def until(true: Any) -> None:
    by = time.monotonic() + 10
    while not true() and time.monotonic() < by:
        time.sleep(0.01)
    assert true()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as made:
        yield made


@pytest.mark.parametrize("routing", ["least_loaded", "round_robin"])
def test_a_request_that_finds_no_room_at_any_replica_is_refused_at_once(routing, pool, tmp_path: Path):
    """Three replicas with room for two: six are let in, all others are told 503 while those six still run."""
    with fleet(3) as replicas, haproxy(admitting(2, routing), [one.address for one in replicas], tmp_path) as url:
        first = []
        for count in range(1, 7):  # one after the other: at one instant three may choose the same replica
            first.append(pool.submit(ask, url))
            until(lambda count=count: count == sum(one.in_hand for one in replicas))
        assert [2, 2, 2] == [one.in_hand for one in replicas]
        refused = [future.result() for future in [pool.submit(ask, url) for _ in range(10)]]
        assert {503} == {status for status, _ in refused}
        assert "No replica has room" in refused[0][1]
        for one in replicas:
            one.go.set()
        assert [(200, "ok")] * 6 == [future.result() for future in first]
        assert (200, "ok") == ask(url), "there is room again"
        assert 7 == sum(len(one.sessions) for one in replicas), "none that was refused has reached a replica"


@pytest.mark.parametrize("routing", ["random", "power_of_two", "session_affinity"])
def test_no_replica_has_more_in_hand_than_it_may_under_any_routing(routing, pool, tmp_path: Path):
    with fleet(3) as replicas, haproxy(admitting(2, routing), [one.address for one in replicas], tmp_path) as url:
        asked = [pool.submit(ask, url, f"session {k}") for k in range(40)]
        until(lambda: sum(future.done() for future in asked) >= 34)
        assert {503} == {future.result()[0] for future in asked if future.done()}
        assert max(one.most for one in replicas) <= 2
        for one in replicas:
            one.go.set()
        assert 1 <= sum((200, "ok") == future.result() for future in asked) <= 6


@pytest.mark.parametrize("routing", ["least_loaded", "random", "session_affinity"])
def test_what_a_lost_replica_had_not_begun_to_answer_is_answered_by_another(routing, pool, tmp_path: Path):
    with (
        fleet(3) as replicas,
        haproxy(changed(fleet__routing=routing), [one.address for one in replicas], tmp_path) as url,
    ):
        asked = [pool.submit(ask, url, f"session {k}", b"x" * 40_000) for k in range(24)]
        until(lambda: 24 == sum(one.in_hand for one in replicas))
        assert replicas[0].in_hand > 0
        replicas[0].die()
        until(lambda: 24 == sum(one.in_hand for one in replicas[1:]))
        for one in replicas:
            one.go.set()
        assert [(200, "ok")] * 24 == [future.result() for future in asked]


def test_what_is_larger_than_the_buffer_or_a_stream_that_has_begun_is_lost(pool, tmp_path: Path):
    for streams, body in ((False, b"x" * 100_000), (True, b"x")):
        with fleet(2, streams) as replicas, ExitStack() as stack:
            url = stack.enter_context(haproxy(changed(), [one.address for one in replicas], tmp_path))
            lost = lose_one(replicas, [pool.submit(ask, url, "", body) for _ in range(8)])
            assert {0 if streams else 502} == lost


def test_without_retry_what_has_reached_a_replica_is_never_sent_twice(pool, tmp_path: Path):
    plain = changed(scenario__fleet__retry=False)
    with fleet(2) as replicas, haproxy(plain, [one.address for one in replicas], tmp_path) as url:
        assert {502} == lose_one(replicas, [pool.submit(ask, url) for _ in range(8)])
        assert 8 == sum(len(one.sessions) for one in replicas)


def lose_one(replicas: list[Replica], asked: list[Future[tuple[int, str]]]) -> set[int]:
    """The first replica dies with what it has in hand: the statuses of that. All others are answered."""
    until(lambda: len(asked) == sum(one.in_hand for one in replicas))
    had = replicas[0].in_hand
    assert 0 < had < len(asked)
    replicas[0].die()
    until(lambda: had == sum(future.done() for future in asked))
    lost = [future.result()[0] for future in asked if future.done()]
    replicas[1].go.set()
    assert len(asked) - had == sum((200, "ok") == future.result() for future in asked)
    return set(lost)


def test_a_session_stays_with_its_replica(pool, tmp_path: Path):
    with fleet(4) as replicas:
        for one in replicas:
            one.go.set()
        affine = changed(fleet__routing="session_affinity")
        with haproxy(affine, [one.address for one in replicas], tmp_path) as url:
            asked = [pool.submit(ask, url, f"session {k % 50}") for k in range(200)]
            assert [(200, "ok")] * 200 == [future.result() for future in asked]
        served = [set(one.sessions) for one in replicas]
        assert 50 == len(set().union(*served)) == sum(map(len, served))
        assert min(map(len, served)) > 0, "and they are spread"
