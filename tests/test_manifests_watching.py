"""Exporter, alerts and autoscaler read one fleet: the rendered one, told apart by the same labels, at one address."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from manifest_plans import IMAGE, container, facts, objects

from planner.cli.app import cli
from planner.cli.monitored import monitor_of
from planner.errors import DataFileError, InputError
from planner.manifests.compose import compose
from planner.manifests.kubernetes import kubernetes
from planner.manifests.settings import PROMETHEUS_URL, Settings, checked_settings
from planner.manifests.text import one_document
from planner.planned import planned

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
OWN = {"prometheus_url": "http://thanos:9090", "namespace": "prod", "model_name": "llama", "utc_offset_h": 2.0}


def settings(**given) -> Settings:
    return Settings(name="fleet", planner_image=IMAGE, **given)


def watched(made: dict) -> dict:
    """`monitor` of the plan that the exporter reads."""
    return json.loads(made["ConfigMap/fleet-plan"]["data"]["plan.json"])["scenario"]["monitor"]


def query(made: dict) -> dict:
    (trigger,) = made["ScaledObject/fleet-replicas"]["spec"]["triggers"]
    return trigger["metadata"]


MONITORS = [
    # monitor of the scenario, settings, what the exporter reads, because
    (None, {}, {"prometheus_url": PROMETHEUS_URL, "model_name": MODEL}, "no namespace is known"),
    (
        None,
        {"namespace": "search", "prometheus_url": "http://p:1"},
        {"prometheus_url": "http://p:1", "model_name": MODEL, "namespace": "search"},
        "both given on the command line",
    ),
    (OWN, {}, OWN, "the scenario's own stays"),
    (
        OWN,
        {"namespace": "search", "prometheus_url": "http://p:1"},
        OWN | {"prometheus_url": "http://p:1", "namespace": "search"},
        "the command line is nearer",
    ),
    (
        {"endpoints": ["http://10.0.0.1:8000"], "interval_s": 30.0},
        {},
        {"prometheus_url": PROMETHEUS_URL, "model_name": MODEL, "interval_s": 30.0},
        "addresses from before the deployment are none of its pods'",
    ),
    (
        {"prometheus_url": "http://localhost.example:9090"},
        {},
        {"prometheus_url": "http://localhost.example:9090", "model_name": MODEL},
        "a host that begins like this one is another",
    ),
    (
        {"prometheus_url": "http://[::1]:9090"},
        {},
        {"prometheus_url": PROMETHEUS_URL, "model_name": MODEL},
        "loopback by its other name",
    ),
    (
        {"prometheus_url": "http://127.0.0.1:9090"},
        {},
        {"prometheus_url": PROMETHEUS_URL, "model_name": MODEL},
        "a pod's own address has no Prometheus",
    ),
]


@pytest.mark.parametrize(("own", "given", "expected", "because"), MONITORS)
def test_exporter_alerts_and_autoscaler_read_the_same_series_at_the_same_address(own, given, expected, because):
    made = objects(settings=settings(**given), scenario__monitor=own)
    assert expected == watched(made), because
    assert expected["prometheus_url"] == query(made)["serverAddress"], because
    labels = [f'{label}="{expected[label]}"' for label in ("model_name", "namespace") if label in expected]
    groups = made["PrometheusRule/fleet-rules"]["spec"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert re.findall(r"\{(?=[a-z])[^}]*", rule["expr"]), rule
        assert rule["expr"].count("{" + ", ".join(labels)) == len(re.findall(r"\{(?=[a-z])", rule["expr"])), because
    assert (2 if "namespace" in expected else 0) == query(made)["query"].count("namespace="), because


def test_the_exporter_s_verb_takes_the_rendered_plan_and_is_told_where_to_read():
    made = objects(settings=settings(namespace="search"))
    read = planned(json.loads(made["ConfigMap/fleet-plan"]["data"]["plan.json"]))
    monitor = monitor_of(read.scenario, None, ())
    assert (PROMETHEUS_URL, MODEL, "search") == (monitor.prometheus_url, monitor.model_name, monitor.namespace)
    verb, *words = container(made["Deployment/fleet-exporter"])["args"]
    taken = cli.commands[verb].make_context(verb, words).params
    assert (None, ()) == (taken["prometheus"], taken["endpoints"]), "the plan says it, in one place"


NOTES = [
    ({"prometheus_url": "http://localhost:9090"}, {}, "is a pod's own address inside a cluster"),
    ({}, {"prometheus_url": "http://127.0.0.1:9090"}, "--prometheus-url http://127.0.0.1:9090 is a pod's own address"),
    ({}, {"prometheus_url": "http://[::1]:9090/p"}, "--prometheus-url http://[::1]:9090/p is a pod's own address"),
    ({"namespace": "prod"}, {"namespace": "search"}, "monitor.namespace (=prod) gave way to --namespace search"),
    ({"model_name": "llama"}, {}, f"monitor.model_name (=llama), and the replicas call theirs {MODEL}"),
]


@pytest.mark.parametrize(("own", "given", "words"), NOTES)
def test_what_of_the_scenario_s_monitor_was_not_taken_or_finds_nothing_is_said(own, given, words):
    (note,) = kubernetes(facts(scenario__monitor=own), settings(**given)).notes
    assert words in note


def test_nothing_is_said_where_the_scenario_s_monitor_fits():
    own = {"prometheus_url": "http://thanos:9090", "namespace": "search", "model_name": MODEL}
    assert () == kubernetes(facts(scenario__monitor=own), settings(namespace="search")).notes


def test_a_damaged_monitor_is_refused_and_a_password_in_it_is_not_shown():
    with pytest.raises(DataFileError, match=r"scenario\.monitor\.model_name: Expected `str \| null`, got `int`"):
        facts(scenario__monitor={"model_name": 7})
    with pytest.raises(InputError, match="no user and no password") as caught:
        objects(settings=settings(), scenario__monitor={"prometheus_url": "http://me:hunter2@thanos:9090"})
    assert "hunter2" not in str(caught.value)


def test_the_exporter_is_alive_while_its_process_is_and_ready_with_its_first_reading():
    made = objects()
    program = container(made["Deployment/fleet-exporter"])
    paths = {name: program[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert {"startup": "/-/healthy", "liveness": "/-/healthy", "readiness": "/-/ready"} == paths
    assert made["Service/fleet-exporter"]["spec"]["publishNotReadyAddresses"], "the page says why it is not ready"


def test_the_token_of_prometheus_comes_from_a_secret_that_may_be_missing():
    env = {one["name"]: one for one in container(objects()["Deployment/fleet-exporter"])["env"]}
    source = {"name": "fleet-secrets", "key": "prometheus-token", "optional": True}
    assert {"name": "PROMETHEUS_TOKEN", "valueFrom": {"secretKeyRef": source}} == env["PROMETHEUS_TOKEN"]


def test_labels_that_are_given_stand_on_what_the_operator_selects_and_nowhere_else():
    plain = objects()
    made = objects(settings=settings(labels=checked_settings(labels=["release=kps", "team.io/on-call="]).labels))
    added = {"release": "kps", "team.io/on-call": ""}
    for key, one in made.items():
        more = added if key.startswith(("PodMonitor", "PrometheusRule")) else {}
        assert plain[key]["metadata"]["labels"] | more == one["metadata"]["labels"], key
        assert plain[key].get("spec") == one.get("spec"), key


BAD_LABELS = [
    (["release"], "must be KEY=VALUE", "no value"),
    (["=kps"], "must be KEY=VALUE", "no key"),
    (["re lease=kps"], "must be KEY=VALUE", "a space"),
    (["größe=l"], "must be KEY=VALUE", "letters of Kubernetes' are ASCII"),
    ([f"{'k' * 64}=v"], "must be KEY=VALUE", "64 characters"),
    (["Team/x=v"], "must be KEY=VALUE", "a prefix is a DNS name"),
    (["/x=v"], "must be KEY=VALUE", "an empty prefix"),
    ([f"a={'v' * 64}"], "has a value that is none", "64 characters"),
    (["a=-v"], "has a value that is none", "begins with a dash"),
    (["a=v\n"], "has a value that is none", "a line's end"),
    (["app.kubernetes.io/name=x"], "planner's own", "it ties the objects together"),
    (["a=1", "a=2"], "given twice", "which one is meant"),
]


@pytest.mark.parametrize(("given", "words", "because"), BAD_LABELS)
def test_what_kubernetes_takes_for_no_label_is_refused(given, words, because):
    with pytest.raises(InputError, match=words) as caught:
        checked_settings(labels=given)
    assert "--label" == caught.value.key, because


def test_the_longest_label_and_a_repeated_one_are_taken():
    longest = f"{'a' * 63}.io/{'k' * 63}={'v' * 63}"
    assert (tuple(longest.split("=")),) == checked_settings(labels=[longest, longest]).labels


def test_a_box_reads_its_own_prometheus_whatever_the_scenario_says():
    made = yaml.safe_load(one_document(compose(facts("demo", scenario__monitor=OWN), settings())))
    monitor = json.loads(made["configs"]["plan.json"]["content"].replace("$$", "$"))["scenario"]["monitor"]
    expected = {"prometheus_url": "http://prometheus:9090", "model_name": "meta-llama/Llama-3.1-8B"}
    assert expected | {"utc_offset_h": 2.0} == monitor
    assert "/-/healthy" in made["services"]["exporter"]["healthcheck"]["test"][-1]
