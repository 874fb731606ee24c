"""The router of a fleet that is scaled: a place for each replica that may run, however few were planned."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from manifest_plans import container, document, facts, notes, objects

from planner.errors import UnsupportedError
from planner.manifests.compose import compose
from planner.manifests.facts import Facts
from planner.manifests.haproxy import METRICS_PORT, admission_notes, connections, haproxy_config
from planner.manifests.kubernetes import kubernetes
from planner.manifests.router import cluster_servers
from planner.manifests.serve_arguments import PORT
from planner.manifests.settings import Settings
from tests.haproxy import PROGRAM, free_port, needs_haproxy

NAME = Settings(name="fleet")
KEY = "scenario__fleet__autoscaler"
DEMO: dict[str, Any] = {"name": "demo"}
ONE: dict[str, Any] = {"name": "demo", "fleet__replicas": 1, "fleet__gpus": 1, "fleet__spare_replicas": 0}
ROOM: dict[str, Any] = {"scenario__fleet__admission": {"max_requests_per_replica": 1000}}


def to(most: int) -> dict[str, Any]:
    return {KEY: {"target": {"requests": 15.0}, "max_replicas": most}}


def config(**changes: Any) -> str:
    text: str = objects(**changes)["ConfigMap/fleet-router"]["data"]["haproxy.cfg"]
    return text


PLACES = [
    (DEMO, 6, "5 planned, and one while an update brings another"),
    (DEMO | to(14), 15, "the autoscaler may have 14"),
    (ONE | to(40), 41, "one planned, 40 when the load comes"),
    (DEMO | to(3), 6, "an apply begins with the 5 that were planned"),
    (ONE | {KEY: {"schedule": [1] * 12 + [9] * 12}}, 10, "a schedule's largest hour"),
    (ONE | {KEY: {"schedule": [1] * 12 + [9] * 12, "max_replicas": 12}}, 13, "what is stated as the most"),
]


@pytest.mark.parametrize(("changes", "places", "because"), PLACES)
def test_the_router_has_a_place_for_each_replica_that_may_run(
    changes: dict[str, Any], places: int, because: str
) -> None:
    (line,) = [line.strip() for line in config(**changes).splitlines() if "server-template" in line]
    assert line.startswith(f"server-template replica- {places} "), because


def test_one_replica_that_may_become_many_has_a_router_from_the_first_day() -> None:
    component = "app.kubernetes.io/component"
    assert "replicas" == objects(**ONE)["Service/fleet"]["spec"]["selector"][component]
    made = objects(**ONE, **to(40))
    assert "router" == made["Service/fleet"]["spec"]["selector"][component]
    assert {"Deployment/fleet-router", "PodMonitor/fleet-router", "PodDisruptionBudget/fleet-router"} <= made.keys()


def test_a_scaled_fleet_of_one_is_routed_as_was_asked_or_refused() -> None:
    assert "balance random(1)" in config(**ONE, **to(40), fleet__routing="random")
    shown = notes(objects(**ONE, **to(40), fleet__routing="random")["Deployment/fleet-router"])
    assert shown["routing"].startswith("random: balance random(1)")
    with pytest.raises(UnsupportedError, match="session_affinity"):
        objects(**ONE, **to(40), fleet__routing="prefix_aware")
    told = admission_notes(facts(**ONE, **to(40), **ROOM, fleet__routing="random"), 2)
    assert any("under random HAProxy chooses before" in note for note in told)


def test_connections_and_memory_are_for_the_largest_fleet() -> None:
    """5 replicas of 1,000 requests in hand are 20,000 connections, 14 are 56,000: of 160 KiB each, and 128 MiB."""
    peak = {"at_peak__ledger": document("demo")["at_peak"]["ledger"] | {"running_mean": 1000.0, "waiting_mean": 0.0}}
    assert [20_000, 56_000] == [connections(facts("demo", **peak, **more)) for more in ({}, to(14))]
    assert 28_000 == connections(facts("demo", **ROOM, **to(14))), "twice those whom admission lets in"
    memory = [
        container(objects("demo", **peak, **more)["Deployment/fleet-router"])["resources"]["limits"]["memory"]
        for more in ({}, to(14))
    ]
    assert ["3253Mi", "8878Mi"] == memory


def test_one_box_has_no_autoscaler_and_what_was_planned() -> None:
    project = compose(facts(**ONE, **to(40), fleet__routing="prefix_aware"), NAME)
    assert "router" not in project["services"]
    rules = project["configs"]["rules.yml"]["content"]
    assert rules == compose(facts(**ONE), NAME)["configs"]["rules.yml"]["content"], "alerts are of a fleet of one size"
    many = compose(facts("demo", **to(40)), NAME)
    assert many["configs"]["haproxy.cfg"] == compose(facts("demo"), NAME)["configs"]["haproxy.cfg"]


@pytest.mark.parametrize(("most", "said"), [(499, False), (500, True), (4000, True)])
def test_a_fleet_that_outgrows_an_answer_of_the_dns_is_warned_of(most: int, said: bool) -> None:
    changed = facts("demo", **to(most))
    told = [note for note in kubernetes(changed, NAME).notes if "addresses from the cluster's DNS" in note]
    assert said == bool(told)
    shown = notes(objects("demo", **to(most))["Deployment/fleet-router"])
    assert told == ([shown["size"]] if said else [])


# --- as HAProxy runs it ---


@contextmanager
def serving(host: str, port: int, served: set[str]) -> Iterator[None]:
    """A replica at that address, which notes itself when it gets a call."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            served.add(host)
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(hosts: list[str]) -> Iterator[int]:
    """The port of a DNS that has these addresses for whatever name it is asked for (RFC 1035, section 4)."""
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                query, sender = asked.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            end = query.index(b"\0", 12) + 5  # of the question: a name, its type, its class
            found = hosts if query[end - 4 : end - 2] == b"\0\1" else []
            head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
            records = (struct.pack(">HHHIH", 0xC00C, 1, 1, 5, 4) + socket.inet_aton(host) for host in found)
            asked.sendto(head + query[12:end] + b"".join(records), sender)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield asked.getsockname()[1]
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", asked.getsockname())
        thread.join(5)
        asked.close()


@contextmanager
def clustered(changed: Facts, dns: int, port: int, folder: Path) -> Iterator[str]:
    """The URL of the router as a cluster has it: its replicas found in the DNS, at `port`."""
    assert PROGRAM is not None
    front, status = free_port(), free_port()
    (line,) = cluster_servers(changed, "fleet")
    text = haproxy_config(changed, [line.replace(f':{PORT}"', f':{port}"')], 1)
    text = text.replace(f"bind :{PORT}\n", f"bind 127.0.0.1:{front}\n")
    text = text.replace(f"bind :{METRICS_PORT}\n", f"bind 127.0.0.1:{status}\n")
    path = folder / "haproxy.cfg"
    path.write_text(text.replace("    parse-resolv-conf\n", f"    nameserver test 127.0.0.1:{dns}\n"))
    named = {**os.environ, "POD_NAMESPACE": "search", "CLUSTER_DOMAIN": "cluster.local"}
    checked = subprocess.run(
        [PROGRAM, "-c", "-f", str(path)], check=False, capture_output=True, text=True, timeout=20, env=named
    )
    assert 0 == checked.returncode, checked.stderr
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen([PROGRAM, "-db", "-f", str(path)], stdout=log, stderr=log, env=named)
        try:
            yield f"http://127.0.0.1:{front}"
        finally:
            process.kill()
            process.wait()


@needs_haproxy
def test_every_replica_that_the_autoscaler_started_gets_calls(tmp_path: Path) -> None:
    """One was planned, fourteen run: HAProxy finds all of them by the name of their Service."""
    hosts, port, served = [f"127.0.0.{k}" for k in range(2, 16)], free_port(), set[str]()
    changed = facts(**ONE, **to(14))
    with ExitStack() as stack:
        for host in hosts:
            stack.enter_context(serving(host, port, served))
        dns = stack.enter_context(answering(hosts))
        url = stack.enter_context(clustered(changed, dns, port, tmp_path))
        by = time.monotonic() + 20
        while served != set(hosts) and time.monotonic() < by:
            try:
                requests.post(f"{url}/v1/completions", b"x", timeout=5)
            except requests.RequestException:  # it does not listen yet
                time.sleep(0.1)
        assert set(hosts) == served
