"""The planner's own exporter beside the fleet: cost, margin, plan against actual, from the plan it was deployed by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import DataFileError, MisfitError
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
from planner.manifests.scenario_files import MOST_BYTES, those_of
from planner.manifests.settings import Settings, planner_image
from planner.manifests.watching import fleet_labels, prometheus_url, watched_document

COMPONENT = "exporter"
PORT = 9595
USER = 10001  # of the planner's own image
FOLDER, FILE = "/etc/planner", "plan.json"
_WITHOUT = "leave the exporter out with --without exporter"
ALIVE, READY = "/-/healthy", "/-/ready"
SCRATCH = {"HOME": "/tmp", "MPLCONFIGDIR": "/tmp/matplotlib", "NUMBA_CACHE_DIR": "/tmp/numba"}


def plan_text(document: Mapping[str, Any]) -> str:
    """A plan's document as the exporter reads it, a line for each of its parts, so that two of them can be compared."""
    parts = (f"{json.dumps(key)}: {json.dumps(part, sort_keys=True)}" for key, part in sorted(document.items()))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def plan_files(facts: Facts, document: Mapping[str, Any]) -> dict[str, str]:
    """{name: text} of a plan's document and of the files that its scenario names: one folder, which the exporter reads.

    Its capacity model simulates the plan again, but for a trace, which has no rate that it could vary: that stays
    behind. Raises DataFileError for a file that cannot be read, MisfitError where no ConfigMap could hold the folder.
    """
    found = {FILE: plan_text(document)}
    read = {key: part for key, part in facts.document["scenario"].items() if key != "traffic"}
    for file in those_of(read, facts.files):
        if file.text is None:
            raise DataFileError(file.key, file.path, f"{file.trouble}; the exporter needs it, or {_WITHOUT}")
        found[file.name] = file.text
    sizes = {name: len(text.encode()) for name, text in found.items()}
    if sum(sizes.values()) > MOST_BYTES:
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        rule = (
            f"a ConfigMap holds {MOST_BYTES:,} ({told}): plan without the waterfall, on a shorter file, or {_WITHOUT}"
        )
        raise MisfitError("plan and its files, bytes", sum(sizes.values()), rule)
    return found


def export_arguments(plan: str, hosts: Sequence[str] = ()) -> list[str]:
    """`planner export` in a container: reachable from outside it, which on a host it is not by default.

    `hosts` are the names, beside loopback's, under which alone it answers; without them it answers any. Where it reads
    the fleet stands in the plan's own scenario.
    """
    allowed = [word for host in hosts for word in ("--allow-host", host)]
    return ["export", plan, "--host", "0.0.0.0", "--port", str(PORT), *allowed]


def objects(facts: Facts, name: str, settings: Settings) -> list[Object]:
    """The plan and its scenario's files as a ConfigMap, the exporter that reads it, and its Service."""
    watched = watched_document(facts, prometheus_url(facts, settings), fleet_labels(facts, settings))
    folder = plan_files(facts, watched)
    files: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, COMPONENT, suffix="plan"),
        "data": folder,
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
        resources={"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
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
            "template": pod(name, COMPONENT, spec, {"vllm-capacity-planner/plan": checksum(json.dumps(folder))}),
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
