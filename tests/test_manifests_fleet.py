"""Around the replicas: routing, budgets, autoscaler, monitoring."""

from __future__ import annotations

import json
import math

import pytest
from manifest_plans import IMAGE, container, document, facts, notes, objects

from planner.cli.app import cli
from planner.errors import MisfitError
from planner.manifests.autoscaling import least_replicas, rise, scaled_object, threshold
from planner.manifests.monitoring import prometheus_config, prometheus_rule
from planner.manifests.router import BALANCE, haproxy_config, timeout_s
from planner.manifests.settings import Settings
from planner.scenario.sections import Fleet

STATIC = Settings(name="fleet", planner_image=IMAGE)
SCALED = Settings(name="fleet", planner_image=IMAGE, autoscale=True)


def config(**changes) -> list[str]:
    return [line.strip() for line in objects(**changes)["ConfigMap/fleet-router"]["data"]["haproxy.cfg"].splitlines()]


ROUTING = [
    ("least_loaded", "balance leastconn", "fewest requests in hand, as the simulator routes"),
    ("round_robin", "balance roundrobin", "one after the other"),
    ("random", "balance random(1)", "one draw: two would already prefer the less loaded"),
]


@pytest.mark.parametrize(("routing", "line", "because"), ROUTING)
def test_the_router_routes_as_the_plan_was_simulated(routing, line, because):
    assert line in config(fleet__routing=routing), because


def test_every_routing_that_a_scenario_may_name_has_its_balance():
    assert set(BALANCE) == set(_words(Fleet.model_json_schema()["properties"]["routing"]))


def _words(schema: dict) -> list[str]:
    """Every word that a JSON Schema lists."""
    found: list[str] = []
    todo: list = [schema]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            found += one.get("enum", [])
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return found


def test_tokens_pass_the_router_one_by_one_and_silence_is_borne():
    lines = config()
    assert "option http-no-delay" in lines
    assert "timeout server 600s" in lines
    assert "retry-on conn-failure" in lines


TIMEOUTS = [
    ({}, 600, "never below ten minutes"),
    ({"at_peak__e2e_ms": {"p99": 200_000.0}}, 1000, "five times the p99 of E2E"),
    ({"scenario__traffic__timeout_s": 7200.5}, 7201, "as long as the clients themselves wait"),
]


@pytest.mark.parametrize(("changes", "seconds", "because"), TIMEOUTS)
def test_the_router_waits_longer_than_any_answer_takes(changes, seconds, because):
    assert seconds == timeout_s(facts(**changes)), because


def test_the_router_finds_each_replica_by_the_headless_service_and_has_room_for_an_update():
    (line,) = [line for line in config() if line.startswith("server-template")]
    assert 'replica- 22 "fleet-replicas.${POD_NAMESPACE}.svc.${CLUSTER_DOMAIN}:8000"' in line
    assert "None" == objects()["Service/fleet-replicas"]["spec"]["clusterIP"]


def test_users_call_the_router_and_a_single_replica_directly():
    component = "app.kubernetes.io/component"
    assert "router" == objects()["Service/fleet"]["spec"]["selector"][component]
    alone = objects("demo", fleet__replicas=1, fleet__gpus=1)
    assert "replicas" == alone["Service/fleet"]["spec"]["selector"][component]
    assert not [key for key in alone if "router" in key]


def test_the_router_s_tables_hold_four_times_the_planned_requests():
    peak = document()["at_peak"]["ledger"] | {"running_mean": 1000.0, "waiting_mean": 0.0}
    assert "maxconn 84000" in haproxy_config(facts(at_peak__ledger=peak), [])
    assert "maxconn 4096" in haproxy_config(facts("demo"), [])


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


RISES = [
    ((0.5, 1.0), 1800.0, 0.5, "doubles in an hour, half of that in half an hour; 1 to 0.5 is a fall"),
    ((1.0, 0.5), 1800.0, 0.5, "the day goes round: its last hour is before its first"),
    ((1.0,) * 24, 300.0, 0.0, "flat"),
    ((0.0, 1.0), 300.0, 0.0, "from nothing there is no share to grow by"),
    ((), 300.0, 0.0, "no day given"),
]


@pytest.mark.parametrize(("day", "startup_s", "share", "because"), RISES)
def test_the_load_that_arrives_while_a_replica_starts(day, startup_s, share, because):
    assert share == pytest.approx(rise(day, startup_s)), because


def test_at_the_planned_peak_the_autoscaler_wants_the_whole_fleet():
    """Requests in hand at the peak ÷ threshold, rounded up, is no less than the plan's replicas, spares included."""
    for name in ("ai-search", "demo"):
        plan = facts(name)
        in_hand = plan.requests_per_replica * (plan.replicas - plan.spare_replicas)
        assert plan.replicas <= math.ceil(in_hand / threshold(plan)), name


def test_the_threshold_is_worked_by_hand():
    """20 serving of 21 hold 42 each: 40 over all; load doubles in an hour and 300 s are a twelfth; 10 % tolerance."""
    plan = facts(
        at_peak__ledger={"running_mean": 41.0, "waiting_mean": 1.0},
        scenario__traffic__day=[0.5, 1.0],
        scenario__fleet__startup_s=300.0,
    )
    assert 40 / (1 + 1 / 12 + 0.1) == pytest.approx(threshold(plan))


def test_the_autoscaler_is_held_at_the_plan_s_size_until_it_is_asked_for():
    pause = "autoscaling.keda.sh/paused-replicas"
    held, free = (objects(settings=settings) for settings in (STATIC, SCALED))
    assert "21" == held["ScaledObject/fleet-replicas"]["metadata"]["annotations"][pause]
    assert pause not in free["ScaledObject/fleet-replicas"]["metadata"]["annotations"]
    assert 21 == held["Deployment/fleet-replicas"]["spec"]["replicas"]
    assert "replicas" not in free["Deployment/fleet-replicas"]["spec"]


def test_the_fleet_stays_whole_where_the_autoscaler_is_left_out_or_the_demand_gives_it_nothing_to_follow():
    without = objects(
        settings=Settings(name="fleet", planner_image="p", autoscale=True, without=frozenset({"autoscaling"}))
    )
    closed = objects(settings=SCALED, scenario__traffic__arrivals={"closed": {"concurrency": 8}})
    for made in (without, closed):
        assert 21 == made["Deployment/fleet-replicas"]["spec"]["replicas"]
        assert "ScaledObject/fleet-replicas" not in made


LEAST = [
    ({}, 2, "one that serves, and the spare"),
    ({"scenario__fleet__min_replicas": 5}, 5, "the scenario's own floor"),
    ({"scenario__fleet__min_replicas": 50}, 21, "never more than were planned"),
]


@pytest.mark.parametrize(("changes", "count", "because"), LEAST)
def test_the_autoscaler_s_floor(changes, count, because):
    spec = scaled_object(facts(**changes), "fleet", STATIC)["spec"]
    assert count == spec["minReplicaCount"] == least_replicas(facts(**changes)), because
    assert (21, 21) == (spec["maxReplicaCount"], spec["fallback"]["replicas"]), "without figures: the whole fleet"


WINDOWS = [(300.0, 600, 300), (10.0, 300, 60), (1e6, 3600, 1800)]


@pytest.mark.parametrize(("startup_s", "window_s", "period_s"), WINDOWS)
def test_scaling_down_waits_for_twice_the_start_within_kubernetes_bounds(startup_s, window_s, period_s):
    spec = scaled_object(facts(scenario__fleet__startup_s=startup_s), "fleet", STATIC)["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert (window_s, period_s) == (down["stabilizationWindowSeconds"], down["policies"][0]["periodSeconds"])


def test_the_autoscaler_asks_for_the_series_that_the_pod_monitor_labels():
    made = objects()
    (trigger,) = made["ScaledObject/fleet-replicas"]["spec"]["triggers"]
    kept = made["PodMonitor/fleet-replicas"]["spec"]["podTargetLabels"]
    pods = made["Deployment/fleet-replicas"]["spec"]["template"]["metadata"]["labels"]
    for label in kept:
        matcher = f'{label.replace(".", "_").replace("/", "_")}="{pods[label]}"'
        assert 2 == trigger["metadata"]["query"].count(matcher)
    assert "AverageValue" == trigger["metricType"]


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
