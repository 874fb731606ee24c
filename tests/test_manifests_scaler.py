"""A plan with `fleet.autoscaler` renders that one: its target, bounds and delay, and a word on what cannot be told."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from manifest_plans import IMAGE, document, facts, notes, objects

from planner.cli.app import cli
from planner.errors import DataFileError
from planner.manifests.autoscaling import LEFT_OUT, scaled_object
from planner.manifests.kubernetes import kubernetes
from planner.manifests.loadtest import chosen_scenario
from planner.manifests.plan_shape import ScalerFacts, TargetFacts
from planner.manifests.planned_scaler import _cron, unsaid
from planner.manifests.settings import Settings

SETTINGS = Settings(name="fleet", planner_image=IMAGE)
KEY = "scenario__fleet__autoscaler"
REQUESTS = {"target": {"requests": 15.0}, "max_replicas": 14, "scale_down_delay_s": 420.0}
PLAN_OF_ONE = {"name": "demo", "fleet__replicas": 1, "fleet__gpus": 1, "fleet__spare_replicas": 0}
NIGHT = [2] * 7 + [6] * 14 + [2] * 3
LATE = [6] * 3 + [2] * 17 + [6] * 4


def rendered(scaler: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = scaled_object(facts(**{KEY: scaler, **changes}), "fleet", SETTINGS)
    return found


def test_bounds_delay_and_target_are_the_scenarios() -> None:
    made = rendered(REQUESTS, scenario__fleet__min_replicas=3)
    spec = made["spec"]
    assert (3, 14) == (spec["minReplicaCount"], spec["maxReplicaCount"])
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert 420 == behavior["scaleDown"]["stabilizationWindowSeconds"]
    assert [{"type": "Pods", "value": 14, "periodSeconds": 15}] == behavior["scaleUp"]["policies"], "all at once"
    (trigger,) = spec["triggers"]
    assert "15.000" == trigger["metadata"]["threshold"]
    assert "paused-replicas" not in json.dumps(made), "the plan's cost is of a fleet that follows"


@pytest.mark.parametrize(
    ("target", "running", "waiting", "threshold", "because"),
    [
        ({"requests": 15}, True, True, "15.000", "whatever is in hand"),
        ({"queue": 0.5}, False, True, "0.500", "who waits"),
        ({"utilisation": 0.5}, True, True, "24.000", "half of the 48 that a replica has at the peak"),
    ],
)
def test_each_target_is_a_query_and_what_a_replica_is_wanted_for(
    target: dict[str, float], running: bool, waiting: bool, threshold: str, because: str
) -> None:
    scaler = {"target": target, "max_replicas": 14}
    made = rendered(scaler, at_peak__ledger={"running_mean": 47.0, "waiting_mean": 1.0})
    (trigger,) = made["spec"]["triggers"]
    assert running == ("num_requests_running" in trigger["metadata"]["query"]), because
    assert waiting == ("num_requests_waiting" in trigger["metadata"]["query"]), because
    assert threshold == trigger["metadata"]["threshold"], because


@pytest.mark.parametrize(
    ("schedule", "expected", "because"),
    [
        (NIGHT, [("0 7 * * *", "0 21 * * *", "6")], "one stretch by day"),
        (LATE, [("0 20 * * *", "0 3 * * *", "6")], "one stretch across midnight"),
        ([4] * 24, [("0 0 * * *", "59 23 * * *", "4")], "all day alike"),
        ([1] * 8 + [3] * 4 + [5] * 4 + [1] * 8, [("0 8 * * *", "0 12 * * *", "3"), ("0 12 * * *", "0 16 * * *", "5")],
         "two stretches, one after the other"),
    ],
)  # fmt: skip
def test_a_schedule_is_a_trigger_for_each_stretch(
    schedule: list[int], expected: list[tuple[str, str, str]], because: str
) -> None:
    made = [trigger["metadata"] for trigger in _cron(tuple(schedule))]
    assert expected == [(one["start"], one["end"], one["desiredReplicas"]) for one in made], because


@pytest.mark.parametrize("schedule", [NIGHT, LATE, list(range(1, 25)), [1, 2] * 12], ids=str)
def test_triggers_and_the_least_number_make_the_schedule_again(schedule: list[int]) -> None:
    """Of the triggers on in an hour Kubernetes takes the largest, and the least number where none is."""
    hours = [min(schedule)] * 24
    for trigger in _cron(tuple(schedule)):
        begin, end = (int(trigger["metadata"][key].split()[1]) for key in ("start", "end"))
        for hour in range(begin, end if end > begin else end + 24):
            hours[hour % 24] = max(hours[hour % 24], int(trigger["metadata"]["desiredReplicas"]))
    assert schedule == hours


def test_a_schedule_needs_no_figures() -> None:
    spec = rendered({"schedule": NIGHT})["spec"]
    assert "fallback" not in spec, "KEDA refuses one beside a clock"
    assert (2, 6) == (spec["minReplicaCount"], spec["maxReplicaCount"])


@pytest.mark.parametrize(
    ("scaler", "said", "because"),
    [
        (ScalerFacts(TargetFacts(requests=15)), [], "Kubernetes' own settings"),
        (ScalerFacts(TargetFacts(requests=15), tolerance=0.2), ["tolerance (=0.2)"], "a cluster's setting"),
        (ScalerFacts(TargetFacts(requests=15), interval_s=60), ["interval_s (=60)"], "a cluster's setting"),
        (ScalerFacts(TargetFacts(requests=15), scale_down_delay_s=7200), ["scale_down_delay_s (=7200)"], "too long"),
        (ScalerFacts(TargetFacts(utilisation=0.5)), ["utilisation (=0.5)"], "no series"),
        (ScalerFacts(schedule=tuple(NIGHT)), ["schedule: its hours"], "whose midnight"),
        (ScalerFacts(schedule=(10,) * 12 + (11,) * 12), ["schedule: its hours", "(10 to 11, 11 to 10)"], "small steps"),
        (ScalerFacts(schedule=tuple(NIGHT), tolerance=0.2), ["schedule: its hours"], "a schedule has no tolerance"),
    ],
)
def test_what_kubernetes_does_otherwise_is_said(scaler: ScalerFacts, said: list[str], because: str) -> None:
    found = unsaid(scaler)
    assert len(said) == len(found), (because, found)
    assert all(words in text for words, text in zip(said, found, strict=True)), (because, found)


def test_without_autoscaling_the_cost_is_said_to_be_another() -> None:
    bare = Settings(name="fleet", planner_image=IMAGE, without=frozenset({"autoscaling"}))
    assert LEFT_OUT in kubernetes(facts(**{KEY: REQUESTS}), bare).notes
    assert LEFT_OUT not in kubernetes(facts(**{KEY: REQUESTS}), SETTINGS).notes
    assert LEFT_OUT not in kubernetes(facts(), bare).notes


def test_alerts_and_deployment_know_that_the_number_moves() -> None:
    made = objects(**{KEY: REQUESTS})
    assert "the autoscaler takes it from there" in json.dumps(made["Deployment/fleet-replicas"])
    assert "wanted" in json.dumps(made["PrometheusRule/fleet-rules"])


@pytest.mark.parametrize(
    ("scaler", "because"),
    [
        ({"max_replicas": 3}, "neither target nor schedule"),
        ({"schedule": [1, 2]}, "two hours"),
        ({"target": {"requests": -1}, "max_replicas": 3}, "below zero"),
        ({"target": {"requests": 1}, "schedule": [1] * 24}, "both"),
        ({"target": {"requests": 1}}, "no bound"),
    ],
)
def test_a_damaged_autoscaler_is_refused_by_name(scaler: dict[str, Any], because: str) -> None:
    with pytest.raises(DataFileError, match=r"scenario\.fleet\.autoscaler"):
        facts(**{KEY: scaler})


def test_compose_says_that_the_fleet_is_on_all_day(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(document("demo", **{KEY: REQUESTS})))
    made = CliRunner().invoke(cli, ["manifests", str(plan), "--compose"])
    assert 0 == made.exit_code
    assert LEFT_OUT in made.stderr


def test_hours_of_a_schedule_follow_each_other_without_a_gap() -> None:
    made = [trigger["metadata"] for trigger in _cron(tuple(range(1, 25)))]
    assert all(earlier["end"] == later["start"] for earlier, later in pairwise(made))


def test_the_load_test_is_of_the_peak_and_needs_no_file_of_rates() -> None:
    rates = {**document()["scenario"]["traffic"], "rates": {"file": "not-there.csv"}}
    sent = chosen_scenario(facts(scenario__traffic=rates, **{KEY: REQUESTS}))
    assert "rates" not in sent["traffic"]
    assert "autoscaler" not in sent["fleet"]
    assert rates["peak_qps"] == sent["traffic"]["peak_qps"]


@pytest.mark.parametrize(
    ("schedule", "least", "most", "hours", "bounds", "because"),
    [
        (NIGHT, 4, None, [("7", "6")], (4, 6), "the simulator never has fewer than min_replicas"),
        ([1] * 8 + [3] * 4 + [5] * 4 + [1] * 8, 3, None, [("12", "5")], (3, 5), "an hour raised to the floor is none"),
        (NIGHT, 6, None, [("0", "6")], (6, 6), "all day alike"),
        (NIGHT, 2, 9, [("7", "6")], (2, 9), "nothing to raise; max_replicas is a bound, not a wish"),
    ],
)  # fmt: skip
def test_no_hour_of_a_schedule_is_below_the_floor_that_was_simulated(
    schedule: list[int],
    least: int,
    most: int | None,
    hours: list[tuple[str, str]],
    bounds: tuple[int, int],
    because: str,
) -> None:
    spec = rendered({"schedule": schedule, "max_replicas": most}, scenario__fleet__min_replicas=least)["spec"]
    assert bounds == (spec["minReplicaCount"], spec["maxReplicaCount"]), because
    triggers = [trigger["metadata"] for trigger in spec["triggers"]]
    assert hours == [(one["start"].split()[1], one["desiredReplicas"]) for one in triggers], because


def test_a_step_that_the_floor_takes_away_is_not_told_of() -> None:
    steps = {"schedule": [10] * 12 + [11] * 12}
    assert "(10 to 11, 11 to 10)" in json.dumps(rendered(steps))
    assert "a step of a tenth" not in json.dumps(rendered(steps, scenario__fleet__min_replicas=11))


def test_a_floor_beyond_the_most_is_the_most_as_simulated() -> None:
    spec = rendered(REQUESTS, scenario__fleet__min_replicas=20)["spec"]
    assert (14, 14) == (spec["minReplicaCount"], spec["maxReplicaCount"])


def test_the_objects_say_how_far_the_fleet_may_grow_and_ask_for_no_spare_that_a_scenario_may_not_have() -> None:
    made = objects(**PLAN_OF_ONE, **{KEY: REQUESTS})
    assert 1 == made["Deployment/fleet-replicas"]["spec"]["replicas"], "an apply begins with what was planned"
    assert "to 14 replicas (14 GPUs) at most" in notes(made["Deployment/fleet-replicas"])["replicas"]
    scaled, still = (one["PodDisruptionBudget/fleet-replicas"] for one in (made, objects(**PLAN_OF_ONE)))
    assert "fleet.spare_replicas" not in notes(scaled)["no-spare"]
    assert "fleet.spare_replicas of 1" in notes(still)["no-spare"]
