"""What users call: one Service, and behind it HAProxy that routes and lets in as the plan's simulation did.

A Service alone spreads connections by chance, and a client that keeps its connection stays on one replica.
`haproxy` has the configuration.
"""

from __future__ import annotations

import math

from planner.manifests.facts import Facts
from planner.manifests.haproxy import (
    CONNECTIONS_FACTOR,
    METRICS_PORT,
    admission_notes,
    balance,
    connections,
    haproxy_config,
    memory_mib,
    retry_note,
)
from planner.manifests.naming import Object, checksum, metadata, selector
from planner.manifests.pods import container, environment, mounted, pod, pod_security, probe, scratch
from planner.manifests.replicas import COMPONENT as REPLICAS
from planner.manifests.replicas import STOP_S, drain_s
from planner.manifests.serve_arguments import PORT

COMPONENT = "router"
IMAGE = "haproxy:3.2-alpine"  # the long-term release; its image runs without root
USER = 99  # haproxy's own, in its image
ROUTERS = 2
LEAST_MIB = 512
MOST_ADDRESSES = 500  # at 16 bytes each in an answer of 8,192 bytes, HAProxy's most
CONFIG = "/usr/local/etc/haproxy"


def needed(facts: Facts) -> bool:
    """Whether there is anything to route between, or anybody to be turned away."""
    return facts.most_replicas > 1 or facts.room is not None


def routers(facts: Facts) -> int:
    """How many routers there are: two, so that one may be lost, unless admission leaves no call for the second."""
    return ROUTERS if facts.room is None else max(1, min(ROUTERS, facts.room // facts.samples))


def size_notes(facts: Facts) -> list[str]:
    """That a fleet may outgrow the DNS answer by which the router finds it; nothing for one that cannot."""
    if facts.most_replicas < MOST_ADDRESSES:
        return []
    return [
        f"{facts.most_replicas} replicas: the router takes at most {MOST_ADDRESSES} addresses from the cluster's DNS, "
        "so those beyond get no requests: plan several fleets, or route by one that reads the Kubernetes API"
    ]


def cluster_servers(facts: Facts, name: str) -> list[str]:
    """One line that keeps a server for each address of the replicas' headless Service."""
    host = f"{name}-{REPLICAS}.${{POD_NAMESPACE}}.svc.${{CLUSTER_DOMAIN}}"
    places = facts.most_replicas + 1  # one more while an update brings a replica before another goes
    return [f'server-template replica- {places} "{host}:{PORT}" resolvers cluster resolve-prefer ipv4 init-addr none']


def objects(facts: Facts, name: str) -> list[Object]:
    """The Service that users call; where there may be more than one replica also the routers behind it."""
    if not needed(facts):
        return [_service(name, REPLICAS, "http")]
    config = haproxy_config(facts, cluster_servers(facts, name), routers(facts))
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
    planned = memory_mib(facts, math.ceil(most / CONNECTIONS_FACTOR))
    limit = max(LEAST_MIB, memory_mib(facts, most))
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
        "routing": f"{facts.routing}: {', '.join(balance(facts.routing, facts.most_replicas))}",
        "retry": retry_note(facts),
    }
    if routers(facts) > 1:
        told = "each router counts its own requests: with two of them loads differ by about one request more"
        notes["replicas"] = told
    if facts.room is not None:
        notes["admission"] = "; ".join(admission_notes(facts, routers(facts)))
    if size_notes(facts):
        notes["size"] = "; ".join(size_notes(facts))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT, notes=notes),
        "spec": {
            "replicas": routers(facts),
            "selector": chosen,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": pod(name, COMPONENT, spec, {"vllm-capacity-planner/config": config}),
        },
    }
