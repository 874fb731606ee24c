"""HAProxy's configuration for a plan: how it routes, whom it lets in, what it sends again, how long it waits.

HAProxy's `leastconn` counts the requests in hand at each server, which is the simulator's `least_loaded`; `BALANCE` has
the other ways. A server's `maxconn` is the simulator's room of a replica (`fleet.admission`); what comes while no
server has room is denied. `admission_notes` and `retry_note` say what of the plan HAProxy has no mechanism for.
"""

from __future__ import annotations

import json
import math

from planner.errors import UnsupportedError, nearest_names
from planner.manifests.facts import Facts
from planner.manifests.replicas import drain_s
from planner.manifests.serve_arguments import PORT
from planner.records import SESSION_HEADER

METRICS_PORT = 8404
# Draws and hashes fall on a ring where a server has 16 places for each unit of weight: too few for even shares.
_EVEN = "weight 64"
# `hash-key addr`: the routers find the replicas in DNS, each in an order of its own, and must agree all the same.
BALANCE = {
    "least_loaded": ("balance leastconn",),
    "round_robin": ("balance roundrobin",),
    "random": ("balance random(1)", f"default-server {_EVEN}"),
    "power_of_two": ("balance random(2)", f"default-server {_EVEN}"),
    "session_affinity": (
        f"balance hdr({SESSION_HEADER})",
        "hash-type consistent",
        f"default-server hash-key addr {_EVEN}",
    ),
}
PASSES_FULL_BY = frozenset({"least_loaded", "round_robin"})  # the others choose first, and find it full then
IDLE_S = 75  # a client's connection without a request, and with it the one to a replica; below vLLM's own
QUEUE_S, ROOM_S = 30, 1  # for a free server; with admission, where the simulator has nobody wait at all
LEAST_TIMEOUT_S = 600
TIMEOUT_FACTOR = 5.0  # on the p99 of E2E: an answer that is not streamed is silent for as long
LEAST_CONNECTIONS, CONNECTIONS_FACTOR = 4096, 4.0  # of the requests that the plan has in hand at the peak
ROOM_FACTOR = 2  # connections for each request that admission lets in: who is refused needs one too
# A request is sent again only if the buffer holds all of it: some 9,000 token ids, or 14,000 tokens of text.
BUFFER_KIB, RETRY_BUFFER_KIB = 16, 64
SOCKETS_KIB, OWN_MIB = 32, 128  # of both sides of a request, which a pod's limit counts too; of HAProxy itself
FULL = {
    "message": "No replica has room for this request, or none serves.",
    "type": "Service Unavailable",
    "param": None,
    "code": 503,
}


def timeout_s(facts: Facts) -> int:
    """The longest silence of a server, or of a client, before a request is given up."""
    return max(LEAST_TIMEOUT_S, math.ceil(TIMEOUT_FACTOR * facts.p99_e2e_s), math.ceil(facts.timeout_s or 0))


def balance(routing: str, replicas: int = 2) -> tuple[str, ...]:
    """HAProxy's lines for the plan's routing; a single replica is found by any. Raises UnsupportedError where HAProxy
    cannot route so.
    """
    if replicas == 1:
        return BALANCE["least_loaded"]
    if routing == "prefix_aware":
        rule = (
            "HAProxy does not read prompts, so it cannot send those that begin alike to one replica: plan and render "
            f"with --set fleet.routing=session_affinity (clients send {SESSION_HEADER}), or put vLLM production-stack "
            "in front of the replicas (Helm value routerSpec.routingLogic: prefixaware; its router's flag "
            "--routing-logic prefixaware) or llm-d's scheduler, which has the scores that were simulated"
        )
        raise UnsupportedError("fleet.routing", routing, rule, "session_affinity")
    if routing not in BALANCE:
        rule = f"no router is known for it: one of {', '.join(sorted(BALANCE))}"
        raise UnsupportedError("fleet.routing", routing, rule, nearest_names(routing, BALANCE, count=1))
    return BALANCE[routing]


# --- who is let in ---


def calls_per_server(facts: Facts, routers: int) -> int | None:
    """Calls that one of `routers` lets to a replica at a time, None = any number.

    HAProxy counts calls, the simulator their samples, and no router knows of another's: so that no replica ever has
    more than was planned, each gets its part, rounded down.
    """
    return None if facts.room is None else max(1, facts.room // facts.samples // routers)


def admission_notes(facts: Facts, routers: int) -> list[str]:
    """How far what is rendered for `fleet.admission` is not what was simulated; nothing without it."""
    calls = calls_per_server(facts, routers)
    if calls is None:
        return []
    each = f" of {facts.samples} samples" if facts.samples > 1 else ""
    found = [
        f"fleet.admission.max_requests_per_replica (={facts.room}): {routers} router{'s' * (routers > 1)} of "
        f"maxconn {calls} let at most {routers * calls} calls{each} to a replica; a call that finds none with room is "
        "answered 503"
    ]
    if routers > 1:
        found.append(
            "one router may be full while the other has room, so some calls are refused a little before the fleet is "
            "full; while routers are replaced, what the old ones still have in hand comes on top"
        )
    if facts.most_replicas > 1 and facts.routing not in PASSES_FULL_BY:
        found.append(
            f"under {facts.routing} HAProxy chooses before it looks for room: a call whose replica is full waits up to "
            f"{ROOM_S} s for room and is then refused, where the simulation sends it to another that has room at once"
        )
    found.append("while no replica serves at all, calls are refused at once, where in the simulation they wait")
    return found


def retry_note(facts: Facts) -> str:
    """What the router sends again of what a lost replica had, and what it cannot."""
    if not facts.retry:
        return "fleet.retry is false: a request that reached a replica is never sent twice, one that reached none is"
    return (
        "fleet.retry: a request that a lost replica had not begun to answer is sent again to another at once, if its "
        f"body is below {RETRY_BUFFER_KIB} KiB. A streamed answer has begun as soon as the replica took the request: "
        "it breaks off, and only its client can send it again. The plan counts on all of them being sent again"
    )


def _admitting(facts: Facts, routers: int) -> list[str]:
    """Lines of the backend that turn away whom no server has room for, and their servers' limit."""
    calls = calls_per_server(facts, routers)
    if calls is None:
        return []
    body = json.dumps({"error": FULL}, separators=(",", ":"))
    return [
        "# As simulated: nobody waits for room. Only where another request took the last place at the same instant, or",
        f"# where a draw fell on a full replica, does a request wait, for {ROOM_S} s at most.",
        f"http-error status 503 content-type application/json string '{body}'",
        "http-request deny deny_status 503 if { nbsrv gt 0 } { be_conn_free eq 0 }",
        f"default-server maxconn {calls}",
    ]


# --- how much it holds ---


def connections(facts: Facts) -> int:
    """Requests that one router takes at once: all of the fleet's at its largest, and room for more."""
    in_hand = math.ceil(CONNECTIONS_FACTOR * facts.requests_per_replica * facts.most_replicas)
    return max(LEAST_CONNECTIONS, in_hand, ROOM_FACTOR * (facts.room or 0) * facts.most_replicas)


def buffer_kib(facts: Facts) -> int:
    """`tune.bufsize`: HAProxy's own, or so much that most requests can be kept to be sent again."""
    return RETRY_BUFFER_KIB if facts.retry else BUFFER_KIB


def memory_mib(facts: Facts, count: int) -> int:
    """Memory of a router that holds `count` requests, in MiB: two buffers and the sockets of each, and its own."""
    return OWN_MIB + math.ceil(count * (2 * buffer_kib(facts) + SOCKETS_KIB) / 1024)


# --- the configuration ---


def _retrying(facts: Facts) -> list[str]:
    if not facts.retry:
        return [
            "# A request that reached no replica is tried on another; one that did is never sent twice.",
            "retries 2",
            "retry-on conn-failure",
            "option redispatch 1",
        ]
    return [
        "# A request goes to another replica if it reached none, or if its own was lost before it began to answer. A",
        "# stream that has begun breaks off. Only what is whole in the buffer before it is sent can be sent again.",
        "option http-buffer-request",
        "retries 2",
        "retry-on conn-failure empty-response",
        "option redispatch 1",
    ]


def haproxy_config(facts: Facts, servers: list[str], routers: int) -> str:
    """HAProxy's configuration of one of `routers`, with these `server` lines. Raises UnsupportedError for a routing
    that it has not.
    """
    silent_s = timeout_s(facts)
    tuned = [f"    tune.bufsize {1024 * buffer_kib(facts)}"] if facts.retry else []
    lines = [
        "global",
        "    log stdout format raw local0 notice",
        "    # Left out, HAProxy would size its tables by the node's limit on open files.",
        f"    maxconn {connections(facts)}",
        *tuned,
        f"    hard-stop-after {drain_s(facts)}s",
        "",
        "defaults",
        "    mode http",
        "    log global",
        "    option dontlognull",
        "    # Each token goes on as it comes; left out, they are held back and sent several at a time.",
        "    option http-no-delay",
        "    timeout connect 5s",
        "    timeout http-request 30s",
        f"    timeout http-keep-alive {IDLE_S}s",
        f"    timeout queue {QUEUE_S if facts.room is None else ROOM_S}s",
        "    # Left out, a busy replica must say within the 2 s from one check to the next that it is well.",
        "    timeout check 5s",
        f"    timeout client {silent_s}s",
        f"    timeout server {silent_s}s",
        *(f"    {line}" for line in _retrying(facts)),
        "",
        "resolvers cluster",
        "    parse-resolv-conf",
        "    accepted_payload_size 8192",
        "    hold valid 5s",
        "    hold obsolete 5s",
        "",
        "frontend api",
        f"    bind :{PORT}",
        "    default_backend replicas",
        "",
        "backend replicas",
        *(f"    {line}" for line in balance(facts.routing, facts.most_replicas)),
        *(f"    {line}" for line in _admitting(facts, routers)),
        "    option httpchk GET /health",
        "    http-check expect status 200",
        "    default-server check inter 2s fall 3 rise 1",
        *(f"    {server}" for server in servers),
        "",
        "frontend status",
        f"    bind :{METRICS_PORT}",
        "    monitor-uri /healthz",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    http-request return status 404",
        "",
    ]
    return "\n".join(lines)
