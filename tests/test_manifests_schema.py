"""Everything rendered is what a cluster takes, and what is broken is refused by the same check.

Kubernetes' own kinds are judged by the strict schemas that the package kubernetes-validate brings; custom resources by
`crd_schemas`, and with TEST_CRDS=FOLDER by the definitions in that folder.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from crd_schemas import SMALL, whole_schemas
from manifest_plans import IMAGE, document, objects

from planner.manifests.settings import Settings

KUBERNETES = "1.32"
FOLDER = os.environ.get("TEST_CRDS")
SCHEMAS = [SMALL, *([whole_schemas(Path(FOLDER))] if FOLDER else [])]

SCALER = "scenario__fleet__autoscaler"
CASES = [
    # name of the plan, settings, changes, because
    ("ai-search", {}, {}, "the large example"),
    ("demo", {}, {}, "one GPU a replica, no spare, no response cache"),
    ("ai-search", {"namespace": "search", "autoscale": True}, {}, "the autoscaler set free"),
    ("ai-search", {}, {SCALER: {"target": {"queue": 0.5}, "max_replicas": 30}}, "the plan's own autoscaler"),
    ("ai-search", {}, {SCALER: {"schedule": [4] * 12 + [20] * 12}}, "its schedule"),
    ("ai-search", {"model_cache": "weights", "vllm_args": ("--trust-remote-code",)}, {}, "weights on a claim"),
    ("ai-search", {"labels": (("release", "kps"),), "cpu": 3}, {"scenario__monitor": {"namespace": "a"}}, "labels"),
    ("ai-search", {"without": frozenset({"exporter"})}, {}, "no exporter"),
    ("demo", {}, {"fleet__replicas": 1, "fleet__gpus": 1}, "nothing to route between"),
    ("ai-search", {"checkpoint": "/models/llama"}, {"fleet__hardware": "mi300x-192gb"}, "AMD"),
    ("ai-search", {}, {"fleet__hardware": "gb200"}, "no well-known label"),
    ("ai-search", {}, {"scenario__traffic__arrivals": {"closed": {"concurrency": 8}}}, "no autoscaler"),
    ("ai-search", {}, {"scenario__fleet__startup_s": 0.0, "cost": None}, "no time to start, no price"),
    ("ai-search", {}, {"scenario__fleet__startup_s": 1e7}, "Kubernetes' own upper ends hold"),
    ("ai-search", {"autoscale": True}, {"fleet__routing": "session_affinity"}, "sessions that stay"),
]


def check(made: dict) -> None:
    """Raise jsonschema.ValidationError where a cluster would refuse, or silently drop, something."""
    if made["kind"] in SMALL:
        for schemas in SCHEMAS:
            jsonschema.validate(made, schemas[made["kind"]])
    else:
        kubernetes_validate.validate(made, KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "settings", "changes", "because"), CASES)
def test_every_object_is_valid(name, settings, changes, because):
    made = objects(name, Settings(name="fleet", planner_image=IMAGE, **settings), **changes)
    assert len(made) >= 10, because
    for key, one in made.items():
        try:
            check(one)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{because}: {key}: {error.message} at {list(error.absolute_path)}")


def test_the_definitions_are_at_hand_where_they_are_asked_for():
    """With TEST_CRDS the three kinds are judged by their whole definitions, or this fails."""
    if FOLDER:
        assert set(SMALL) <= set(SCHEMAS[1])
    assert {"ScaledObject", "PodMonitor", "PrometheusRule"} == set(SMALL)


BROKEN = [
    ("Deployment/fleet-replicas", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "8000"),
    ("Deployment/fleet-replicas", ("spec", "template", "spec", "terminationGracePeriod"), 60),
    ("Deployment/fleet-replicas", ("spec", "replicas"), "21"),
    ("Service/fleet", ("spec", "port"), 8000),
    ("PodDisruptionBudget/fleet-replicas", ("spec", "maxUnavailable"), {"replicas": 1}),
    ("Job/fleet-loadtest-master", ("spec", "retries"), 1),
    ("ConfigMap/fleet-plan", ("data", "plan.json"), {"not": "text"}),
    ("ScaledObject/fleet-replicas", ("spec", "minReplicas"), 1),
    ("ScaledObject/fleet-replicas", ("spec", "triggers", 0, "metadata", "threshold"), 36.8),
    ("PodMonitor/fleet-replicas", ("spec", "endpoints"), []),
    ("PrometheusRule/fleet-rules", ("spec", "groups", 0, "rules", 0, "expression"), "up"),
]


@pytest.mark.parametrize(("key", "path", "value"), BROKEN)
def test_a_broken_object_is_refused_by_the_same_check(key, path, value):
    broken = copy.deepcopy(objects()[key])
    check(broken)
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(broken)


def test_every_selector_and_reference_meets_its_object():
    """Services, budgets, monitors and the autoscaler select pods that are there; mounts name volumes that are there."""
    made = objects()
    pods = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for name, one in made.items()
        if one["kind"] in ("Deployment", "Job")
    }
    for key, one in made.items():
        kind = one["kind"]
        if kind in ("Service", "PodDisruptionBudget", "PodMonitor", "Deployment"):
            chosen = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
            selected = [name for name, labels in pods.items() if chosen.items() <= labels.items()]
            assert 1 == len(selected), f"{key} selects {selected}"
        if kind == "ScaledObject":
            assert f"Deployment/{one['spec']['scaleTargetRef']['name']}" in made
        if kind in ("Deployment", "Job"):
            spec = one["spec"]["template"]["spec"]
            mounts = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
            assert mounts == {volume["name"] for volume in spec["volumes"]}, key
            for volume in spec["volumes"]:
                if "configMap" in volume:
                    assert f"ConfigMap/{volume['configMap']['name']}" in made, key


def test_every_pod_passes_the_restricted_standard():
    """What the pod security standard *restricted* asks of pods and containers, and no service account's token."""
    made = objects()
    for key, one in made.items():
        if one["kind"] not in ("Deployment", "Job"):
            continue
        pod = one["spec"]["template"]["spec"]
        security = pod["securityContext"]
        assert (True, "RuntimeDefault") == (security["runAsNonRoot"], security["seccompProfile"]["type"]), key
        assert security["runAsUser"] > 0, key
        assert pod["automountServiceAccountToken"] is False, key
        (only,) = pod["containers"]
        inside = only["securityContext"]
        assert (False, True, ["ALL"]) == (
            inside["allowPrivilegeEscalation"],
            inside["readOnlyRootFilesystem"],
            inside["capabilities"]["drop"],
        ), key
        assert {"cpu", "memory"} <= only["resources"]["requests"].keys(), key


def test_rendering_twice_gives_the_same():
    assert objects() == objects(**{"at_peak": document()["at_peak"] | {"wall_s": 9.0}})
