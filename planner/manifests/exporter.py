"""The planner's own exporter beside the fleet: cost, margin, plan against actual, from the plan it was deployed by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from planner.errors import MisfitError
from planner.manifests.facts import Facts
from planner.manifests.naming import Object, checksum, metadata, selector
from planner.manifests.pods import (
    PROMETHEUS_TOKEN,
    container,
    environment,
    mounted,
    pod,
    pod_security,
    probe,
    scratch,
    secret_variable,
)
from planner.manifests.settings import Settings, planner_image
from planner.manifests.watching import fleet_labels, prometheus_url, watched_document

COMPONENT = "exporter"
PORT = 9595
USER = 10001  # of the planner's own image
FOLDER, FILE = "/etc/planner", "plan.json"
MOST_BYTES = 1_000_000  # a ConfigMap may hold 1 MiB, its other fields included
ALIVE, READY = "/-/healthy", "/-/ready"
SCRATCH = {"HOME": "/tmp", "MPLCONFIGDIR": "/tmp/matplotlib", "NUMBA_CACHE_DIR": "/tmp/numba"}


def plan_text(document: Mapping[str, Any]) -> str:
    """A plan's document as the exporter reads it, a line for each of its parts, so that two of them can be compared.

    Raises MisfitError where no ConfigMap could hold it.
    """
    parts = (f"{json.dumps(key)}: {json.dumps(part, sort_keys=True)}" for key, part in sorted(document.items()))
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    size = len(text.encode())
    if size > MOST_BYTES:
        rule = f"a ConfigMap holds {MOST_BYTES:,}: plan without the waterfall, or leave it out with --without exporter"
        raise MisfitError("plan document, bytes", size, rule)
    return text


def export_arguments(plan: str) -> list[str]:
    """`planner export` in a container: reachable from outside it, which on a host it is not by default.

    Where it reads the fleet stands in the plan's own scenario.
    """
    return ["export", plan, "--host", "0.0.0.0", "--port", str(PORT)]


def objects(facts: Facts, name: str, settings: Settings) -> list[Object]:
    """The plan as a ConfigMap, the exporter that reads it, and its Service."""
    text = plan_text(watched_document(facts, prometheus_url(facts, settings), fleet_labels(facts, settings)))
    files: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, COMPONENT, suffix="plan"),
        "data": {FILE: text},
    }
    mounts, volumes = mounted(
        {"plan": (FOLDER, {"configMap": {"name": f"{name}-plan"}}), "tmp": ("/tmp", scratch("64Mi"))}
    )
    program = container(
        COMPONENT,
        settings.planner_image or planner_image(),
        args=export_arguments(f"{FOLDER}/{FILE}"),
        ports=[{"name": "metrics", "containerPort": PORT}],
        env=[*environment(SCRATCH), secret_variable("PROMETHEUS_TOKEN", name, PROMETHEUS_TOKEN)],
        resources={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        startupProbe=probe(ALIVE, "metrics", 5, 24),
        readinessProbe=probe(READY, "metrics", 15, 3),
        livenessProbe=probe(ALIVE, "metrics", 30, 3),
        volumeMounts=mounts,
    )
    spec: Object = {"securityContext": pod_security(USER, USER), "containers": [program], "volumes": volumes}
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector(name, COMPONENT)},
            "strategy": {"type": "Recreate"},  # two would report the same cost twice
            "template": pod(name, COMPONENT, spec, {"vllm-capacity-planner/plan": checksum(text)}),
        },
    }
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, COMPONENT, suffix=COMPONENT),
        "spec": {
            "type": "ClusterIP",
            # Until a first reading the page is what says why there is none.
            "publishNotReadyAddresses": True,
            "selector": selector(name, COMPONENT),
            "ports": [{"name": "metrics", "port": PORT, "targetPort": "metrics"}],
        },
    }
    return [files, deployment, service]
