"""The scenario's own load, sent from inside the cluster: Locust's master and workers as Jobs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from planner.errors import DataFileError, MisfitError
from planner.manifests.exporter import SCRATCH, USER
from planner.manifests.facts import Facts
from planner.manifests.naming import Object, metadata, selector
from planner.manifests.pods import (
    API_KEY,
    container,
    environment,
    mounted,
    pod,
    pod_security,
    scratch,
    secret_variable,
)
from planner.manifests.scenario_files import MOST_BYTES, those_of
from planner.manifests.serve_arguments import PORT, served_name
from planner.manifests.settings import Settings, planner_image

MASTER, WORKER = "loadtest-master", "loadtest-worker"
LOCUSTFILE = "/opt/planner/locustfile.py"  # deploy/Containerfile puts it there
FOLDER, SCENARIO = "/etc/planner", "scenario.yaml"
RECORDS = "/records"
MASTER_PORT = 5557
DURATION_S, WAIT_S = 300, 600
TOKENS_PER_WORKER = 8000.0  # a second: half of what one core reads, by the bench in README.md
LEAST_WORKERS = 2
RECORDS_SIZE = "5Gi"


def workers(facts: Facts) -> int:
    """Sending processes, so many that none is half busy."""
    return max(LEAST_WORKERS, math.ceil((facts.output_tokens_per_s or 0.0) / TOKENS_PER_WORKER))


def chosen_scenario(facts: Facts) -> dict[str, Any]:
    """The scenario with what the plan chose in place of its lists; a calibration file stays behind: the load tester
    only sends, and what it records is judged where the file is.
    """
    scenario = {key: value for key, value in facts.document["scenario"].items() if key != "calibration"}
    scenario["model"], scenario["hardware"] = _model(facts), facts.hardware
    scenario["engine"] = {key: value for key, value in msgspec.to_builtins(facts.engine).items() if value is not None}
    if scenario["engine"]["quantization"] == "int4":  # a checkpoint's own format, which a scenario calls auto
        scenario["engine"]["quantization"] = "auto"
    # A load test is one moment's load, the peak's: nothing in it follows the hours.
    fleet = {key: value for key, value in scenario.get("fleet", {}).items() if key != "autoscaler"}
    scenario["fleet"] = {**fleet, "routing": facts.routing, "replicas": facts.replicas}
    if facts.peak_qps is not None:
        scenario["traffic"] = {key: value for key, value in scenario["traffic"].items() if key != "rates"}
    return scenario


def _model(facts: Facts) -> str:
    """The chosen model: its file where it is one, else its name in the catalogue."""
    models = those_of({"model": facts.document["scenario"].get("model")}, facts.files)
    return next((file.name for file in models if Path(file.name).stem == facts.model), facts.model)


def master_files(facts: Facts) -> dict[str, str]:
    """{name: text} of what the master reads: the scenario and the files that it names.

    Raises DataFileError for a file that cannot be read, MisfitError where no ConfigMap could hold them.
    """
    scenario = chosen_scenario(facts)
    found = {SCENARIO: json.dumps(scenario, indent=1) + "\n"}
    for file in those_of(scenario, facts.files):
        if file.text is None:
            raise DataFileError(file.key, file.path, file.trouble)
        found[file.name] = file.text
    size = sum(len(text.encode()) for text in found.values())
    if size > MOST_BYTES:
        raise MisfitError("scenario and its files, bytes", size, f"a ConfigMap holds {MOST_BYTES:,}")
    return found


def master_arguments(facts: Facts, url: str, scenario: str, records: str) -> list[str]:
    """Locust's arguments on the master, which alone reads the scenario and writes the records."""
    words = ["--headless", "--master", "--expect-workers", str(workers(facts))]
    words += ["--expect-workers-max-wait", str(WAIT_S), "--host", url, "--scenario", scenario]
    return [*words, "--records", records, "--duration-s", str(DURATION_S), "--served-model", served_name(facts)]


def worker_arguments(master: str) -> list[str]:
    """Locust's arguments on a worker: all else comes from the master."""
    return ["--headless", "--worker", "--master-host", master]


def objects(facts: Facts, name: str, settings: Settings, read: dict[str, str]) -> list[Object]:
    """A load test of the deployed fleet by its own scenario: not for the cluster's standing objects, but for a folder
    of its own. `read` is what `master_files` says. The records stay on a claim.
    """
    files: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, MASTER, suffix="loadtest"),
        "data": read,
    }
    claim: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name, MASTER, suffix="loadtest-records"),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": RECORDS_SIZE}}},
    }
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, MASTER, suffix=MASTER),
        "spec": {
            "clusterIP": "None",
            # The workers connect before the master is ready to serve anything.
            "publishNotReadyAddresses": True,
            "selector": selector(name, MASTER),
            "ports": [{"name": "locust", "port": MASTER_PORT, "targetPort": "locust"}],
        },
    }
    # The pod's name keeps runs apart on the claim: the load tester overwrites no records.
    stamped = f"{RECORDS}/$(POD_NAME).jsonl"
    master = _job(
        facts,
        name,
        MASTER,
        settings,
        master_arguments(facts, f"http://{name}:{PORT}", f"{FOLDER}/{SCENARIO}", stamped),
        {
            "config": (FOLDER, {"configMap": {"name": f"{name}-loadtest"}}),
            "records": (RECORDS, {"persistentVolumeClaim": {"claimName": f"{name}-loadtest-records"}}),
        },
        1,
    )
    sending = _job(facts, name, WORKER, settings, worker_arguments(f"{name}-{MASTER}"), {}, workers(facts))
    return [files, claim, service, master, sending]


def _job(
    facts: Facts,
    name: str,
    component: str,
    settings: Settings,
    arguments: list[str],
    volumes: dict[str, tuple[str, Object]],
    count: int,
) -> Object:
    mounts, sources = mounted({**volumes, "tmp": ("/tmp", scratch("256Mi"))})
    pod_name: Object = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    ports = [{"name": "locust", "containerPort": MASTER_PORT}] if component == MASTER else []
    program = container(
        "locust",
        settings.planner_image or planner_image(),
        command=["locust", "-f", LOCUSTFILE],
        args=arguments,
        env=[pod_name, *environment(SCRATCH), secret_variable("PLANNER_API_KEY", name, API_KEY)],
        resources={"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        volumeMounts=mounts,
        **({"ports": ports} if ports else {}),
    )
    spec: Object = {
        "restartPolicy": "Never",
        "securityContext": pod_security(USER, USER),
        "containers": [program],
        "volumes": sources,
    }
    run_s = max(DURATION_S, math.ceil(facts.trace_s or 0.0))  # a trace is sent whole
    longest_s = WAIT_S + 2 * run_s + math.ceil(2 * facts.p99_e2e_s)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, component, suffix=component),
        "spec": {
            "completions": count,
            "parallelism": count,
            "backoffLimit": 0,  # a run that broke off is made again whole, or not at all
            "activeDeadlineSeconds": longest_s,
            "template": pod(name, component, spec),
        },
    }
