"""Around the replicas: budgets, monitoring, exporter."""

from __future__ import annotations

import json
import re

import pytest
from manifest_plans import IMAGE, container, facts, notes, objects

from planner.cli.app import cli
from planner.errors import MisfitError
from planner.manifests.monitoring import prometheus_config, prometheus_rule
from planner.manifests.settings import Settings
from planner.metrics.alerts import BLIND_S

STATIC = Settings(name="fleet", planner_image=IMAGE)


def test_spares_may_be_missing_and_no_more():
    made = objects()
    assert 1 == made["PodDisruptionBudget/fleet-replicas"]["spec"]["maxUnavailable"]
    assert {"maxUnavailable": 1, "maxSurge": 0} == _update(made)


def test_without_a_spare_nothing_is_evicted_and_an_update_brings_the_new_replica_first():
    made = objects("demo")
    budget = made["PodDisruptionBudget/fleet-replicas"]
    assert 0 == budget["spec"]["maxUnavailable"]
    assert "fleet.spare_replicas" in notes(budget)["no-spare"]
    assert {"maxUnavailable": 0, "maxSurge": 1} == _update(made)
    assert "needs 1 more GPUs" in notes(made["Deployment/fleet-replicas"])["rolling-update"]


def _update(made: dict) -> dict:
    return made["Deployment/fleet-replicas"]["spec"]["strategy"]["rollingUpdate"]


def test_a_changed_router_or_plan_rolls_its_pods():
    def marks(**changes) -> list[dict]:
        made = objects(**changes)
        names = ("router", "exporter")
        return [made[f"Deployment/fleet-{name}"]["spec"]["template"]["metadata"]["annotations"] for name in names]

    router, exporter = marks()
    assert router != marks(fleet__routing="random")[0]
    assert exporter != marks(seed=1)[1]
    assert [router, exporter] == marks()


PARTS = [
    ("monitoring", {"PodMonitor", "PrometheusRule"}),
    ("autoscaling", {"ScaledObject"}),
]


@pytest.mark.parametrize(("part", "kinds"), PARTS)
def test_a_part_that_is_left_out_leaves_no_kind_of_its_own(part, kinds):
    every, left = (
        {key.partition("/")[0] for key in objects(settings=settings)}
        for settings in (STATIC, Settings(name="fleet", planner_image="p", without=frozenset({part})))
    )
    assert kinds == every - left


def test_the_rules_are_of_this_plan_s_limits_and_model():
    groups = objects()["PrometheusRule/fleet-rules"]["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {"p99_ttft_ms", "p99_tpot_ms"} <= {rule.get("labels", {}).get("slo") for rule in rules}
    assert all('model_name="meta-llama/Llama-3.3-70B-Instruct"' in rule["expr"] for rule in rules)


def test_rule_groups_are_handed_on_as_they_are():
    groups = [{"name": "own", "rules": [{"alert": "Down", "expr": "up == 0", "for": "5m"}]}]
    assert groups == prometheus_rule("fleet", groups)["spec"]["groups"]


def test_a_prometheus_without_an_operator_reads_the_same_targets():
    made = prometheus_config({"vllm": ["127.0.0.1:8000"], "exporter": ["127.0.0.1:9595"]}, ["rules.yml"])
    assert [("vllm", ["127.0.0.1:8000"]), ("exporter", ["127.0.0.1:9595"])] == [
        (job["job_name"], job["static_configs"][0]["targets"]) for job in made["scrape_configs"]
    ]
    assert ["rules.yml"] == made["rule_files"]


def test_the_exporter_is_started_with_arguments_that_its_verb_takes():
    made = objects()
    verb, *words = container(made["Deployment/fleet-exporter"])["args"]
    read = cli.commands[verb].make_context(verb, words).params
    assert ("/etc/planner/plan.json", "0.0.0.0", 9595) == (read["source"], read["host"], read["port"])
    plan = json.loads(made["ConfigMap/fleet-plan"]["data"]["plan.json"])
    assert plan["scenario"].pop("monitor"), "and where the fleet is read"
    assert facts().document == plan


def test_a_plan_too_large_for_a_config_map_is_refused_with_a_way_out():
    with pytest.raises(MisfitError, match="--without exporter"):
        objects(waterfall=["x" * 1_000_000])


def test_two_plans_of_one_model_in_one_namespace_have_alerts_and_autoscalers_of_their_own():
    """By the label of the pods that every rendered PodMonitor puts on their series, the exporter's too."""
    for name in ("fleet", "other"):
        made = objects(settings=Settings(name=name, planner_image=IMAGE, namespace="search"))
        mine = f'app_kubernetes_io_instance="{name}"'
        rules = [rule for group in made[f"PrometheusRule/{name}-rules"]["spec"]["groups"] for rule in group["rules"]]
        for rule in rules:
            assert re.findall(r"\{(?=[a-z])", rule["expr"]), rule
            assert rule["expr"].count(mine) == len(re.findall(r"\{(?=[a-z])", rule["expr"])), rule["expr"]
        (trigger,) = made[f"ScaledObject/{name}-replicas"]["spec"]["triggers"]
        assert 2 == trigger["metadata"]["query"].count(mine)
        monitors = [one for key, one in made.items() if key.startswith("PodMonitor/")]
        assert 3 == len(monitors)
        for one in monitors:
            assert "app.kubernetes.io/instance" in one["spec"]["podTargetLabels"]
            assert name == one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"]


INTERVALS = [
    (None, BLIND_S, "the rules' own default"),
    (15.0, BLIND_S, "3 x 15 s are less"),
    (120.0, 360.0, "3 x 120 s"),
]


@pytest.mark.parametrize(("interval_s", "blind_s", "because"), INTERVALS)
def test_an_exporter_counts_as_blind_after_three_of_its_own_intervals(interval_s, blind_s, because):
    monitor = None if interval_s is None else {"interval_s": interval_s, "window_s": 600.0}
    groups = objects(scenario__monitor=monitor)["PrometheusRule/fleet-rules"]["spec"]["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == "LlmExporterBlind"]
    assert f"> {blind_s:g}" in rule["expr"], because


def test_the_exporter_speaks_of_other_namespaces_than_its_own_and_is_believed():
    """Its series carry the fleet's namespace: without honorLabels Prometheus would call that exported_namespace."""
    honoured = {
        key.partition("/")[2]: one["spec"]["podMetricsEndpoints"][0].get("honorLabels", False)
        for key, one in objects().items()
        if key.startswith("PodMonitor/")
    }
    assert {"fleet-replicas": False, "fleet-router": False, "fleet-exporter": True} == honoured


def test_of_two_exporters_one_ends_before_the_other_begins():
    """Side by side they would tell every cost twice; one is enough, as its page says when it last read."""
    spec = objects()["Deployment/fleet-exporter"]["spec"]
    assert (1, {"type": "Recreate"}) == (spec["replicas"], spec["strategy"])


def test_the_exporter_asks_for_the_memory_that_it_was_seen_to_take():
    """385 MB with a model of the fleet in memory: a node that has less free would evict it first."""
    resources = container(objects()["Deployment/fleet-exporter"])["resources"]
    assert ("512Mi", "1Gi") == (resources["requests"]["memory"], resources["limits"]["memory"])


def test_no_pod_gets_a_key_to_the_cluster():
    """None of them asks Kubernetes for anything; a token in a pod that answers the public is a way in."""
    pods = [one["spec"]["template"]["spec"] for one in objects().values() if one["kind"] in ("Deployment", "Job")]
    assert 5 == len(pods)
    assert [False] * 5 == [pod["automountServiceAccountToken"] for pod in pods]
