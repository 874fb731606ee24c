"""The autoscaler: how many replicas it asks for at which load, and where it begins."""

from __future__ import annotations

import math

import pytest
from manifest_plans import IMAGE, facts, notes, objects

from planner.manifests.autoscaling import TOLERANCE, least_replicas, rise, scaled_object, spare_requests, threshold
from planner.manifests.settings import Settings

STATIC = Settings(name="fleet", planner_image=IMAGE)
SCALED = Settings(name="fleet", planner_image=IMAGE, autoscale=True)


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


# 48 in hand of each of 10 that serve, 2 spare. Load doubles in an hour, a tenth of which is a start; 10 % tolerance.
TWELVE = {
    "fleet__replicas": 12,
    "fleet__gpus": 24,
    "fleet__spare_replicas": 2,
    "at_peak__ledger": {"running_mean": 47.0, "waiting_mean": 1.0},
    "scenario__traffic__day": [0.5, 1.0],
    "scenario__fleet__startup_s": 360.0,
}
HOURS = [
    # share of the peak's load, requests in hand, (in hand + 88) / 40 rounded up, because
    (1.0, 480, 12, "14.2: never more than were planned"),
    (0.9, 432, 12, "13"),
    (0.7, 336, 11, "10.6: 7 serve, 1.4 for growth and tolerance, 2.2 for the spares"),
    (0.5, 240, 9, "8.2"),
    (0.25, 120, 6, "5.2"),
    (0.1, 48, 4, "3.4: one serves, and the spares are there in the quietest hour too"),
    (0.0, 0, 3, "2.2: the floor, the spares and one"),
]


def wanted(spec: dict, in_hand: float) -> float:
    """The replicas that Kubernetes' autoscaler computes of the rendered trigger: before bounds, not rounded."""
    (trigger,) = spec["triggers"]
    added = trigger["metadata"]["query"].rpartition(" + ")[2] if spec["minReplicaCount"] > 1 else "0"
    return (in_hand + float(added)) / float(trigger["metadata"]["threshold"])


def test_threshold_and_what_is_added_for_the_spares_are_worked_by_hand():
    assert (pytest.approx(48 / 1.2), pytest.approx(2 * 1.1 * 40)) == (
        threshold(facts(**TWELVE)),
        spare_requests(facts(**TWELVE)),
    )


@pytest.mark.parametrize(("share", "in_hand", "replicas", "because"), HOURS)
def test_every_hour_of_the_day_keeps_the_planned_spares(share, in_hand, replicas, because):
    assert in_hand == 10 * 48 * share
    spec = scaled_object(facts(**TWELVE), "fleet", SCALED)["spec"]
    bounded = min(max(math.ceil(wanted(spec, in_hand)), spec["minReplicaCount"]), spec["maxReplicaCount"])
    assert replicas == bounded, because
    assert bounded - 2 >= in_hand / 48


def test_no_size_that_the_autoscaler_leaves_alone_has_lost_a_spare():
    """It does nothing while wanted / running is within a tenth of 1: also then the load fits the fleet less its spares.

    Growth is left out, which only adds room. With one threshold for each spare, 10.1 replicas' load on 12 would do.
    """
    flat = facts(**{**TWELVE, "scenario__traffic__day": [1.0]})
    spec = scaled_object(flat, "fleet", SCALED)["spec"]
    left_alone = 0
    for size in range(3, 13):
        for in_hand in range(0, 481, 4):
            ratio = wanted(spec, in_hand) / size
            if abs(ratio - 1) <= TOLERANCE - 1e-4:  # the trigger's figures have three decimals
                left_alone += 1
                assert in_hand / 48 <= size - 2 + 1e-3, (size, in_hand)
    assert left_alone > 50


def test_at_the_planned_peak_the_autoscaler_wants_the_whole_fleet():
    for name in ("ai-search", "demo"):
        plan = facts(name)
        in_hand = plan.requests_per_replica * (plan.replicas - plan.spare_replicas)
        assert plan.replicas <= wanted(scaled_object(plan, "fleet", SCALED)["spec"], in_hand), name


def test_without_a_spare_nothing_is_added():
    (trigger,) = scaled_object(facts("demo"), "fleet", SCALED)["spec"]["triggers"]
    assert trigger["metadata"]["query"].endswith("})")


def test_a_load_that_is_hardly_there_still_has_a_threshold():
    """KEDA counts in thousandths: 0 would be refused."""
    plan = facts("demo", at_peak__ledger={"running_mean": 1e-5})
    (trigger,) = scaled_object(plan, "fleet", SCALED)["spec"]["triggers"]
    assert "0.001" == trigger["metadata"]["threshold"]


def test_the_autoscaler_is_held_at_the_plan_s_size_until_it_is_asked_for():
    pause = "autoscaling.keda.sh/paused-replicas"
    held, free = (objects(settings=settings) for settings in (STATIC, SCALED))
    assert "21" == held["ScaledObject/fleet-replicas"]["metadata"]["annotations"][pause]
    assert pause not in free["ScaledObject/fleet-replicas"]["metadata"]["annotations"]


def test_applying_the_autoscaler_over_a_fleet_that_was_held_begins_with_the_whole_fleet():
    """A field that its only owner no longer applies falls back to 1: 20 of 21 replicas would be ended at once."""
    held, free = (objects(settings=settings)["Deployment/fleet-replicas"] for settings in (STATIC, SCALED))
    assert (21, 21) == (held["spec"]["replicas"], free["spec"]["replicas"])
    assert "take spec.replicas out by a patch of your own" in notes(free)["replicas"]
    assert "replicas" not in notes(held)


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
