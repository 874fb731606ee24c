"""How long a client waits for a server: until it is ready, and until it is idle."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from live_server import KEY, Fake, closed_port, with_key

from planner.errors import EndpointError
from planner.live import connect, idle, wait_ready
from planner.live.idle import wait_idle

# --- until it is ready ---


def test_a_server_that_is_starting_is_waited_for(fake: Fake):
    asked = [0]

    def starting() -> tuple[int, dict[str, str], str]:
        asked[0] += 1
        return (503 if asked[0] < 4 else 200, {}, "")

    fake.answers["/health"] = starting
    waited: list[float] = []
    wait_ready(connect(fake.url), 30.0, waited.append)
    assert asked[0] == 4
    assert len(waited) == 3


def test_a_server_that_comes_up_late_is_waited_for():
    port = closed_port()
    late: list[ThreadingHTTPServer] = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    def start() -> None:
        late.append(ThreadingHTTPServer(("127.0.0.1", port), Ready))
        late[0].serve_forever()

    timer = threading.Timer(0.5, start)
    timer.start()
    try:
        wait_ready(connect(f"http://127.0.0.1:{port}"), 20.0)
    finally:
        late[0].shutdown()
        late[0].server_close()
        timer.join()


def test_waiting_ends_when_its_time_is_over():
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(EndpointError) as caught:
        wait_ready(connect(url), 0.5)
    assert str(caught.value).startswith(f"{url}: GET /health: not ready after 0.5 s: connection refused")
    assert caught.value.exit_code == 3


def test_a_server_that_never_gets_ready_says_with_what_it_answered(fake: Fake):
    fake.say("/health", 503)
    with pytest.raises(EndpointError, match=r"not ready after 0\.3 s: HTTP 503"):
        wait_ready(connect(fake.url), 0.3)


def test_a_server_without_health_is_ready_once_it_lists_models(fake: Fake):
    del fake.answers["/health"]
    wait_ready(connect(fake.url), 5.0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_not_waited_for(fake: Fake, status: int):
    fake.say("/health", status, f"who is {KEY}?")
    begun = time.monotonic()
    with pytest.raises(EndpointError, match=f"HTTP {status}; put the key into the environment") as caught:
        wait_ready(connect(fake.url, environment=with_key), 60.0)
    assert time.monotonic() - begun < 30.0  # it has not waited its 60 s
    assert KEY not in str(caught.value)


# --- until it is idle ---

BUSY = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0\n"


@pytest.mark.parametrize(("metrics", "because"), [(BUSY, "it never comes to rest"), (None, "it does not tell")])
def test_waiting_for_rest_ends_when_it_is_asked_to(
    fake: Fake, metrics: str | None, because: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(idle, "UNKNOWN_S", 1e6)
    if metrics is not None:
        fake.say("/metrics", 200, metrics)
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(len(asked) >= 2)
        return asked[-1]

    assert not wait_idle(connect(fake.url), 1e6, stopped), because
    assert asked == [False, False, True]
