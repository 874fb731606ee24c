"""Replicas asked over HTTP: what each fault does to its own figures, and that it does nothing to those of others."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from fleet_fakes import MODEL, Hands, exposition, raw_server
from live_server import KEY, Fake, closed_port, fake_server, with_key

from planner import vllm_metrics as names
from planner.errors import EndpointError, InputError
from planner.live import connect
from planner.live.fleet import read_fleet
from planner.live.fleet.endpoints import Endpoints
from planner.observed import Observed
from planner.scenario.monitor import Monitor


def says(text: str) -> Callable[[socket.socket], None]:
    """A raw answer with this body, and the connection closed."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text.encode())}\r\n\r\n"
    return lambda connection: connection.sendall((head + text).encode())


def half(connection: socket.socket) -> None:
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{exposition(5.0)}".encode())


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"#")
        time.sleep(0.05)


def trickle_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(50):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)


def head_only(status: str, more: str = "") -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(f"HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n".encode())


QUEUE = f'{names.WAITING}{{engine="0",model_name="{MODEL}"}}'
HITS = f'vllm:prefix_cache_hits_total{{engine="0",model_name="{MODEL}"}} 750\n'  # of 500 looked up
FAULTS = [  # (what it does, reason, words)
    (lambda connection: time.sleep(5.0), "slow", "no answer in time"),
    (trickle, "slow", "no answer in time"),
    (trickle_head, "slow", "no answer in time"),
    (half, "garbage", "half an answer"),
    (says(exposition(5.0)[:-40]), "garbage", "ends within a line"),
    (says("<!doctype html><p>vllm:num_requests_running 3\n"), "garbage", "a web page"),
    (says("vllm:num_requests_running{engine= 3\n"), "garbage", "no Prometheus text"),
    (says(exposition(float("nan"))), "impossible", "is nan"),
    (says(exposition(-5.0)), "impossible", "is -"),
    (says(exposition(5.0).replace("prefix_cache_hits_total", "x_total") + HITS), "impossible", "grows by more than"),
    (says(""), "missing", "is this vLLM's own port?"),
    (says("process_cpu_seconds_total 3\n"), "missing", "no vllm:num_requests_running"),
    (says("#" * 10_000_000 + "\n"), "garbage", "more than 8000000 bytes"),
    (lambda connection: connection.sendall(b"hello\r\n\r\n"), "down", "connection closed"),
    (lambda connection: None, "down", "connection closed"),
    (head_only("401 Unauthorized"), "down", "HTTP 401 to GET /metrics; does a gateway want a key?"),
    (head_only("404 Not Found"), "down", "HTTP 404 to GET /metrics; is this vLLM?"),
    (head_only("500 Internal Server Error"), "down", "HTTP 500"),
    (head_only("307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n"), "garbage", "a redirect (HTTP 307)"),
]


@pytest.fixture
def replica() -> Iterator[Fake]:
    with fake_server() as server:
        server.say("/metrics", 200, exposition(0.0))
        yield server


def monitor(*urls: str, interval_s: float = 1.0, window_s: float = 60.0, **more: str) -> Monitor:
    return Monitor.model_validate({"endpoints": list(urls), "interval_s": interval_s, "window_s": window_s, **more})


def name(url: str) -> str:
    return url.removeprefix("http://")


def test_every_fault_costs_the_figures_of_its_own_replica_alone(replica: Fake):
    hands = Hands()
    with ExitStack() as stack:
        urls = [stack.enter_context(raw_server(behave)) for behave, _, _ in FAULTS]
        fleet = Endpoints(monitor(replica.url, *urls), hands.clock)
        fleet.read()
        replica.say("/metrics", 200, exposition(20.0))
        hands.move(10.0)
        seen = fleet.read()
        fleet.close()
    assert (seen.replicas, seen.asked, seen.complete) == (1.0, len(FAULTS) + 1, False)
    assert (seen.requests_per_s, seen.failed_per_s) == (2.0, 6.0)  # three aborts beside each answer
    assert seen.prompt_tokens == 100.0
    told = {trouble.source: trouble for trouble in seen.troubles}
    assert set(told) == {name(url) for url in urls}
    for url, (_, reason, words) in zip(urls, FAULTS, strict=True):
        trouble = told[name(url)]
        assert (trouble.reason, words in trouble.text) == (reason, True), f"{reason} {words!r}: {trouble}"


def test_a_server_that_trickles_is_given_up_by_its_whole_answer():
    """A socket's own timeout begins anew with every byte: such a server would hold a reader as long as it likes."""
    with raw_server(trickle) as url, pytest.raises(EndpointError, match="GET /metrics: no answer in time"):
        connect(url).get("/metrics", 0.3)


def test_a_replica_that_nobody_listens_for_is_down_and_one_alone_is_blind():
    fleet = Endpoints(monitor(f"http://127.0.0.1:{closed_port()}"), Hands().clock)
    seen = fleet.read()
    assert seen.blind
    assert (seen.replicas, seen.requests_per_s, seen.running) == (0.0, None, None)
    assert [trouble.reason for trouble in seen.troubles] == ["down"]


def test_rates_need_two_readings_and_begin_with_the_first(replica: Fake):
    hands = Hands()
    fleet = Endpoints(monitor(replica.url), hands.clock)
    first = fleet.read()
    assert (first.replicas, first.running, first.requests_per_s, first.window_s) == (1.0, 1.0, None, 0.0)
    assert fleet.model_name == MODEL
    hands.move(4.0)
    replica.say("/metrics", 200, exposition(8.0))
    second = fleet.read()
    assert (second.requests_per_s, second.window_s, second.ended_unix_s) == (2.0, 4.0, hands.unix_s)
    assert (second.model_name, second.waiting, second.waiting_growth_per_s) == (MODEL, 2.0, 0.0)
    hands.move(6.0)
    replica.say("/metrics", 200, exposition(8.0).replace(f"{QUEUE} 2.0", f"{QUEUE} 32.0"))
    assert fleet.read().waiting_growth_per_s == 3.0  # from 2 to 32 in ten seconds


def test_a_step_of_the_days_clock_does_not_bend_rates(replica: Fake):
    hands = Hands()
    fleet = Endpoints(monitor(replica.url), hands.clock)
    fleet.read()
    hands.move(10.0)
    hands.unix_s -= 7200.0
    replica.say("/metrics", 200, exposition(10.0))
    seen = fleet.read()
    assert (seen.requests_per_s, seen.ended_unix_s) == (1.0, hands.unix_s)


def test_a_replica_that_goes_drops_out_and_one_that_comes_back_counts_from_then_on(replica: Fake):
    hands = Hands()
    with fake_server() as other:
        fleet = Endpoints(monitor(replica.url, other.url), hands.clock)

        def seen_after(done: float, others: float | None) -> Observed:
            hands.move(10.0)
            replica.say("/metrics", 200, exposition(done))
            other.say("/metrics", 200 if others is not None else 503, exposition(others or 0.0))
            return fleet.read()

        seen_after(0.0, 100.0)
        both = seen_after(10.0, 130.0)
        assert (both.replicas, both.requests_per_s) == (2.0, 4.0)
        gone = seen_after(20.0, None)
        assert (gone.replicas, gone.requests_per_s, gone.complete) == (1.0, 1.0, False)
        assert [(trouble.source, trouble.reason) for trouble in gone.troubles] == [(name(other.url), "down")]
        back = seen_after(30.0, 10.0)
        assert (back.replicas, back.complete, back.restarts) == (2.0, True, 1)
        assert back.requests_per_s == pytest.approx(1.0 + 40.0 / 30.0)  # 30 before it fell, 10 since, in half a minute
        assert [trouble.reason for trouble in back.troubles] == ["restarted"]
        assert seen_after(40.0, 20.0).troubles == ()


def test_a_balancer_before_several_replicas_is_not_taken_for_one(replica: Fake):
    """Each reading is of another of two servers: sums of such falls would be many times what was done."""
    hands = Hands()
    fleet = Endpoints(monitor(replica.url), hands.clock)
    for turn in range(8):
        replica.say("/metrics", 200, exposition(1000.0 + turn if turn % 2 else 10.0 + turn))
        seen = fleet.read()
        hands.move(1.0)
    assert seen.blind
    assert [(trouble.source, trouble.reason) for trouble in seen.troubles] == [(name(replica.url), "impossible")]
    assert "fell at 3 of 7 readings; is it a balancer?" in seen.troubles[0].text


@pytest.mark.parametrize(
    ("engines_each", "replicas", "because"),
    [(1, 4.0, "four engines behind a balancing port"), (4, 1.0, "four data-parallel ranks of one replica")],
)
def test_engines_behind_one_address_are_counted_by_how_many_a_replica_has(
    replica: Fake, engines_each: int, replicas: float, because: str
):
    replica.say("/metrics", 200, exposition(1.0, engines=4))
    seen = Endpoints(monitor(replica.url), Hands().clock, engines_each=engines_each).read()
    assert (seen.replicas, seen.running, seen.asked, seen.answered) == (replicas, 4.0, 1, 1), because


def test_replicas_of_two_models_are_no_fleet_until_one_is_named(replica: Fake):
    with fake_server() as other:
        other.say("/metrics", 200, exposition(0.0, model="org/other"))
        seen = Endpoints(monitor(replica.url, other.url), Hands().clock).read()
        assert seen.blind
        assert [(trouble.source, trouble.reason) for trouble in seen.troubles] == [("monitor.model_name", "impossible")]
        assert f"{MODEL}, org/other" in seen.troubles[0].text
        with pytest.raises(InputError, match=r"monitor.model_name: several models answer: org/m, org/other"):
            read_fleet(monitor(replica.url, other.url, window_s=10.0), clock=Hands().clock)
        named = Endpoints(monitor(replica.url, other.url, model_name=MODEL), Hands().clock).read()
    assert named.replicas == 1.0
    assert [(trouble.source, trouble.reason) for trouble in named.troubles] == [(name(other.url), "missing")]


def test_the_key_goes_to_every_replica_and_into_no_text(replica: Fake):
    fleet = Endpoints(monitor(replica.url, "http://127.0.0.1:1"), Hands().clock, environment=with_key)
    seen = fleet.read()
    assert replica.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(seen)


REFUSED = [
    (("http://h:1", "http://h:1/"), r"monitor.endpoints\[1\] \(=http://h:1/\): stands there twice"),
    (("http://h:1", "http://h:1/metrics"), r"monitor.endpoints\[1\].*stands there twice"),
    (("h",), r"monitor.endpoints\[0\].*must be http://HOST:PORT"),
    (("http://u:secret@h:1",), r"monitor.endpoints\[0\]: must hold no user and password"),
    ((), r"monitor.endpoints: names nobody"),
]


@pytest.mark.parametrize(("urls", "message"), REFUSED)
def test_addresses_that_are_refused(urls: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message) as caught:
        Endpoints(monitor(*urls), Hands().clock)
    assert "secret" not in str(caught.value)


def test_one_window_is_watched_to_its_end_with_many_readings(replica: Fake):
    hands, told = Hands(), []

    def answer() -> tuple[int, dict[str, str], str]:
        return 200, {}, exposition(2.0 * (hands.steady_s - 1000.0), running=float(hands.steady_s < 1010.0))

    replica.answers["/metrics"] = answer
    seen = read_fleet(
        monitor(replica.url, interval_s=15.0, window_s=300.0),
        window_s=20.0,
        clock=hands.clock,
        progress=lambda *at: told.append(at),
    )
    assert (hands.steady_s, seen.window_s) == (1020.0, 20.0)
    assert seen.requests_per_s == pytest.approx(2.0)
    assert seen.busy_share == pytest.approx(9 / 20)  # readings 1 to 9 of 20 saw work
    assert told == [(float(second), 20.0) for second in range(20)]


def test_a_monitor_without_a_source_is_refused_with_what_to_write():
    with pytest.raises(InputError, match=r"monitor: names no source.*prometheus_url, or endpoints.*--endpoint"):
        read_fleet(Monitor())
