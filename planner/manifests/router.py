"""What users call: one Service, and behind it HAProxy that routes as the plan's simulation did.

A Service alone spreads connections by chance, and a client that keeps its connection stays on one replica. HAProxy's
`leastconn` counts the requests in hand at each server, which is the simulator's `least_loaded`; `BALANCE` has the
other ways.
"""

from __future__ import annotations

import math

from planner.errors import UnsupportedError, nearest_names
from planner.manifests.facts import Facts
from planner.manifests.naming import Object, checksum, metadata, selector
from planner.manifests.pods import container, environment, mounted, pod, pod_security, probe, scratch
from planner.manifests.replicas import COMPONENT as REPLICAS
from planner.manifests.replicas import STOP_S, drain_s
from planner.manifests.serve_arguments import PORT

COMPONENT = "router"
IMAGE = "haproxy:3.2-alpine"  # the long-term release; its image runs without root
USER = 99  # haproxy's own, in its image
ROUTERS = 2
METRICS_PORT = 8404
SESSION_HEADER = "x-session-id"  # what clients say which session a request is of by
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
IDLE_S = 75  # a client's connection without a request, and with it the one to a replica; below vLLM's own
LEAST_TIMEOUT_S = 600
TIMEOUT_FACTOR = 5.0  # on the p99 of E2E: an answer that is not streamed is silent for as long
LEAST_CONNECTIONS, CONNECTIONS_FACTOR = 4096, 4.0  # of the requests that the plan has in hand at the peak
# Two buffers of 16 KiB (tune.bufsize), and as much again for the sockets of both sides, which a pod's limit counts too.
CONNECTION_KIB, OWN_MIB, LEAST_MIB = 64, 128, 512
CONFIG = "/usr/local/etc/haproxy"


def needed(facts: Facts) -> bool:
    """Whether there is anything to route between."""
    return facts.replicas > 1


def timeout_s(facts: Facts) -> int:
    """The longest silence of a server, or of a client, before a request is given up."""
    return max(LEAST_TIMEOUT_S, math.ceil(TIMEOUT_FACTOR * facts.p99_e2e_s), math.ceil(facts.timeout_s or 0))


def balance(routing: str) -> tuple[str, ...]:
    """HAProxy's lines for the plan's routing. Raises UnsupportedError where HAProxy cannot route so."""
    if routing == "prefix_aware":
        rule = (
            "HAProxy does not read prompts, so it cannot send those that begin alike to one replica: render with "
            "fleet.routing session_affinity, or route with vLLM production-stack (Helm value routerSpec.routingLogic: "
            "prefixaware; its router's flag --routing-logic prefixaware) or llm-d"
        )
        raise UnsupportedError("fleet.routing", routing, rule, "session_affinity")
    if routing not in BALANCE:
        rule = f"no router is known for it: one of {', '.join(sorted(BALANCE))}"
        raise UnsupportedError("fleet.routing", routing, rule, nearest_names(routing, BALANCE, count=1))
    return BALANCE[routing]


def connections(facts: Facts) -> int:
    """Requests that one router takes at once: all of the fleet's, and room for more."""
    return max(LEAST_CONNECTIONS, math.ceil(CONNECTIONS_FACTOR * facts.requests_per_replica * facts.replicas))


def memory_mib(count: int) -> int:
    """Memory of a router that holds `count` requests, in MiB."""
    return OWN_MIB + math.ceil(count * CONNECTION_KIB / 1024)


def haproxy_config(facts: Facts, servers: list[str]) -> str:
    """HAProxy's configuration with these `server` lines. Raises UnsupportedError for a routing that it has not."""
    silent_s = timeout_s(facts)
    lines = [
        "global",
        "    log stdout format raw local0 notice",
        "    # Left out, HAProxy would size its tables by the node's limit on open files.",
        f"    maxconn {connections(facts)}",
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
        "    timeout queue 30s",
        "    # Left out, a busy replica must say within the 2 s from one check to the next that it is well.",
        "    timeout check 5s",
        f"    timeout client {silent_s}s",
        f"    timeout server {silent_s}s",
        "    # A request that reached no replica is tried on another; one that did is never sent twice.",
        "    retries 2",
        "    retry-on conn-failure",
        "    option redispatch 1",
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
        *(f"    {line}" for line in balance(facts.routing)),
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


def cluster_servers(facts: Facts, name: str) -> list[str]:
    """One line that keeps a server for each address of the replicas' headless Service."""
    host = f"{name}-{REPLICAS}.${{POD_NAMESPACE}}.svc.${{CLUSTER_DOMAIN}}"
    places = facts.replicas + 1  # one more while an update brings a replica before another goes
    return [f'server-template replica- {places} "{host}:{PORT}" resolvers cluster resolve-prefer ipv4 init-addr none']


def objects(facts: Facts, name: str) -> list[Object]:
    """The Service that users call; where there is more than one replica also the routers behind it."""
    if not needed(facts):
        return [_service(name, REPLICAS, "http")]
    config = haproxy_config(facts, cluster_servers(facts, name))
    chosen = {"matchLabels": selector(name, COMPONENT)}
    files: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT),
        "data": {"haproxy.cfg": config},
    }
    budget: Object = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT),
        "spec": {"maxUnavailable": 1, "selector": chosen, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
    }
    return [files, _deployment(facts, name, checksum(config)), _service(name, COMPONENT, "http"), budget]


def _service(name: str, component: str, port: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, component),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(name, component),
            "ports": [{"name": "http", "port": PORT, "targetPort": port}],
        },
    }


def _resources(facts: Facts) -> Object:
    """Requests for what the plan has in hand at its peak, a limit for as many requests as HAProxy lets in."""
    most = connections(facts)
    planned = memory_mib(math.ceil(most / CONNECTIONS_FACTOR))
    limit = max(LEAST_MIB, memory_mib(most))
    requests = {"cpu": "500m", "memory": f"{max(LEAST_MIB // 2, planned)}Mi"}
    return {"requests": requests, "limits": {"memory": f"{limit}Mi"}}


def _deployment(facts: Facts, name: str, config: str) -> Object:
    chosen = {"matchLabels": selector(name, COMPONENT)}
    source: Object = {"configMap": {"name": f"{name}-{COMPONENT}"}}
    mounts, volumes = mounted({"config": (CONFIG, source), "tmp": ("/tmp", scratch("16Mi"))})
    namespace: Object = {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    proxy = container(
        "haproxy",
        IMAGE,
        args=["haproxy", "-f", f"{CONFIG}/haproxy.cfg"],
        ports=[{"name": "http", "containerPort": PORT}, {"name": "metrics", "containerPort": METRICS_PORT}],
        env=[namespace, *environment({"CLUSTER_DOMAIN": "cluster.local"})],
        resources=_resources(facts),
        readinessProbe=probe("/healthz", "metrics", 5, 2),
        livenessProbe=probe("/healthz", "metrics", 10, 3),
        # Out of the Service first, then a soft stop: no new connections, those in hand go on.
        lifecycle={"preStop": {"exec": {"command": ["sleep", "5"]}}},
        volumeMounts=mounts,
    )
    spread = {"labelSelector": chosen, "topologyKey": "kubernetes.io/hostname"}
    spec: Object = {
        "terminationGracePeriodSeconds": 5 + drain_s(facts) + STOP_S,
        "securityContext": pod_security(USER, USER),
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": spread}]
            }
        },
        "containers": [proxy],
        "volumes": volumes,
    }
    notes = {
        "routing": f"{facts.routing}: {', '.join(balance(facts.routing))}",
        "replicas": "each router counts its own requests: with two of them loads differ by about one request more",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT, notes=notes),
        "spec": {
            "replicas": ROUTERS,
            "selector": chosen,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pod(name, COMPONENT, spec, {"vllm-capacity-planner/config": config}),
        },
    }
