"""A fleet that follows its load has a rule of its own for missing replicas: which fleets get it, when it fires."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from manifest_plans import facts

from planner.manifests.compose import compose
from planner.manifests.kubernetes import kubernetes, rule_groups
from planner.manifests.settings import Settings
from planner.metrics.alerts import alert_groups, missing_of_load, missing_of_plan
from tests.promtool import PROMTOOL, needs_promtool

SLO = [("p99_ttft_ms", 1000.0), ("p99_tpot_ms", 50.0)]
CASES = Path(__file__).with_name("alerts_following.yaml")


@needs_promtool
def test_promtool_finds_that_replicas_are_missed_by_what_the_load_wants(tmp_path):
    shutil.copy(CASES, tmp_path)
    groups = alert_groups(SLO, spare_replicas=1, missing=missing_of_load)
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": groups}))
    command = [PROMTOOL, "test", "rules", tmp_path / CASES.name]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert 0 == tested.returncode, tested.stdout + tested.stderr
    assert "SUCCESS" in tested.stdout


CLOSED = {"closed": {"clients": 40, "think_s": 5.0}}
FLEETS = [
    # settings, changes of the plan, rule, because
    ({}, {}, missing_of_plan, "held at the plan's size until it is asked for"),
    ({"autoscale": True}, {}, missing_of_load, "KEDA scales it"),
    ({"autoscale": True, "without": frozenset({"autoscaling"})}, {}, missing_of_plan, "nothing that scales is made"),
    ({"autoscale": True}, {"scenario__traffic__arrivals": CLOSED}, missing_of_plan, "there is no load to follow"),
]


@pytest.mark.parametrize(("settings", "changes", "rule", "because"), FLEETS)
def test_a_fleet_is_watched_as_it_is_run(settings, changes, rule, because):
    plan, chosen = facts(**changes), Settings(name="fleet", planner_image="p", **settings)
    made = next(one for one in kubernetes(plan, chosen).standing if one["kind"] == "PrometheusRule")
    rules = {one.get("alert"): one for group in made["spec"]["groups"] for one in group["rules"]}
    labels = {"model_name": "RedHatAI/x", "app_kubernetes_io_instance": "fleet"}
    expected = rule(labels, plan.spare_replicas)
    assert expected["annotations"] == rules["LlmReplicasMissing"]["annotations"], because
    found = {one.get("alert"): one for group in rule_groups(plan, chosen, labels) for one in group["rules"]}
    assert expected == found["LlmReplicasMissing"], because


def test_a_box_runs_what_was_planned():
    project = compose(facts("demo"), Settings(name="fleet", planner_image="p"))
    rules = yaml.safe_load(project["configs"]["rules.yml"]["content"].replace("$$", "$"))
    found = {one.get("alert"): one for group in rules["groups"] for one in group["rules"]}
    assert "wanted" not in found["LlmReplicasMissing"]["expr"]
