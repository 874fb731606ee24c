"""The exporter's port answers to its own names alone where it is bound to loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from exporter_fakes import FACTS

from planner.exporter.hosts import allowed_hosts, is_allowed
from planner.exporter.server import build_app
from planner.exporter.snapshot import Snapshot

ASKED = [  # (bound to, --host, --allow-host, Host, answered, because)
    ("127.0.0.1", "127.0.0.1", (), "127.0.0.1:9595", True, "its address"),
    ("127.0.0.1", "127.0.0.1", (), "localhost:9595", True, "the name that everybody types"),
    ("127.0.0.1", "127.0.0.1", (), "LOCALHOST", True, "in any case, without a port"),
    ("::1", "::1", (), "[::1]:9595", True, "of version 6"),
    ("127.0.0.1", "127.0.0.1", (), "localhost.:9595", True, "a name written to its end, as DNS has it"),
    ("127.0.0.1", "127.0.0.1", ("costs.example.",), "costs.example", True, "or told so"),
    ("127.0.0.1", "127.0.0.1", (), "evil.example:9595", False, "a name that somebody points at 127.0.0.1"),
    ("127.0.0.1", "127.0.0.1", (), "localhost.evil.example", False, "that only begins like it"),
    ("127.0.0.1", "127.0.0.1", (), "", False, "an empty one"),
    ("127.0.0.1", "127.0.0.1", (), None, True, "HTTP/1.0 of a probe: no browser leaves it out"),
    ("127.0.0.1", "127.0.0.1", ("costs.example",), "costs.example", True, "a proxy's name, as told"),
    ("127.0.0.1", "127.0.0.1", ("costs.example:443",), "costs.example", True, "its port does not matter"),
    ("127.0.1.1", "myhost", (), "myhost:9595", True, "the name that it was started with"),
    ("127.0.1.1", "myhost", (), "127.0.1.1:9595", True, "and what that stands for"),
    ("0.0.0.0", "0.0.0.0", (), "10.2.3.4:9595", True, "in a cluster: the pod's address"),
    ("0.0.0.0", "0.0.0.0", (), "exporter.monitoring.svc", True, "or its service's name"),
    ("::", "::", (), "[fd00::7]:9595", True, "or its address of version 6"),
    ("fe80::1%eth0", "fe80::1%eth0", (), "[fe80::1]:9595", True, "of one link: beyond this machine too"),
    ("0.0.0.0", "0.0.0.0", ("exporter",), "evil.example", False, "names were told: those alone"),
    ("0.0.0.0", "0.0.0.0", ("exporter",), "exporter:9595", True, "as here"),
]


@pytest.mark.parametrize(("bound", "host", "more", "header", "answered", "because"), ASKED)
def test_a_name_is_answered_or_not(
    bound: str, host: str, more: tuple[str, ...], header: str | None, answered: bool, because: str
):
    assert is_allowed(header, allowed_hosts(bound, host, more)) is answered, because


def asked(path: str, host: str | None, hosts: frozenset[str] | None) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of GET path."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    app = build_app(lambda: Snapshot(FACTS, 15.0, 300.0, 300.0), lambda: 0.0, hosts)
    headers = [] if host is None else [(b"host", host.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode(), told


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/snapshot", "/-/healthy", "/-/ready", "/nothing"])
def test_no_page_is_given_to_a_foreign_name(path: str):
    status, body, headers = asked(path, "evil.example", allowed_hosts("127.0.0.1", "127.0.0.1"))
    assert (status, body) == (
        421,
        "this port is not asked for by that name (Host): use its address, or start it with --allow-host NAME\n",
    )
    assert headers["cache-control"] == "no-store"


def test_metrics_are_given_to_its_own_names_and_to_any_where_it_is_open():
    for host, hosts in (("localhost:9595", allowed_hosts("127.0.0.1", "127.0.0.1")), ("10.2.3.4:9595", None)):
        status, body, _ = asked("/metrics", host, hosts)
        assert (status, "llm_plan_info" in body) == (200, True)
