"""Queries that a stop takes with it: they begin again or are lost, under the event that took them and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner.cli.app import cli
from planner.coefficients import StepCost
from planner.deployment.service_levels import met_by
from planner.scenario import Scenario
from planner.simulation.fleet import run_fleet, without_cooldown
from planner.simulation.fleet_world import LOST
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.specs import SchedulerConfig
from planner.summary.failures import failure_sentence
from tests.failing_fleets import LONG_ANSWERS

SCENARIO = LONG_ANSWERS | {"fleet": {"replicas": 3, "spare_replicas": 2, "retry": False}}


def test_whoever_waits_when_nobody_is_left_is_lost():
    """One replica comes back from its first stop; then both stop for good, and the last query finds nobody."""
    changes = (Change(1, 0, "stop"), Change(3, 0, "start"), Change(6, 0, "stop"), Change(6, 1, "stop"))
    load = Load(np.array([0.0, 4.0, 8.0]), np.full(3, 4, np.int32), np.full(3, 1, np.int32))
    config, cost = SchedulerConfig(200, 4, 4, 64, 64), StepCost(np.ones(65), np.zeros(5))
    run = run_fleet(load, config, cost, 2, "least_loaded", np.random.default_rng(0), control=Control(changes))
    assert [0, 0, LOST] == run.why_failed.tolist()
    assert np.isfinite(run.ended_s).all()


def test_a_lost_query_belongs_to_the_event_that_took_it():
    failures = [{"stop": {"replicas": 2, "at_s": 30, "back_after_s": 20}}]
    document = planner.simulate(
        Scenario.from_dict(SCENARIO).with_values({"fleet.failures": failures, "fleet.spare_replicas": 0}), requests=1200
    ).as_dict()
    told = document["failures"]
    (event,) = told["events"]
    assert told["lost"] > 0
    assert (0, told["lost"]) == (event["before"]["failed"], event["during"]["failed"])


STOPS_AND_SLOW = [
    {"stop": {"replicas": 1, "at_s": 40, "back_after_s": 60}},
    {"slow": {"replicas": 1, "at_s": 42, "for_s": 10, "factor": 1.01}},
    {"stop": {"replicas": 1, "at_s": 44, "back_after_s": 60}},
]


@pytest.mark.parametrize(("retry", "told_as", "counted_as"), [(True, "retried", "retried"), (False, "lost", "failed")])
def test_in_hand_of_an_event_are_those_that_it_met_itself(retry: bool, told_as: str, counted_as: str):
    """Two stops and a slow replica, two seconds apart while answers take ten: each has its own, all are somebody's.

    Sent again by the first stop, some are met by the second one too.
    """
    changes = {"fleet.failures": STOPS_AND_SLOW, "fleet.spare_replicas": 0, "fleet.replicas": 4, "fleet.retry": retry}
    changes["query.stages[0].output_tokens"] = 1000
    told = planner.simulate(Scenario.from_dict(SCENARIO).with_values(changes), requests=1500).as_dict()["failures"]
    first, slow, second = (event["in_hand"] for event in told["events"])
    assert slow is None
    assert told[told_as] == first[counted_as] + second[counted_as]
    assert min(first[counted_as], second[counted_as]) > 0
    assert 0 == told["lost" if retry else "retried"]


def test_a_rolling_restart_cuts_nobody_off():
    changes = {"fleet.failures": [{"rolling_restart": {"at_s": 20, "wait_s": 1}}], "fleet.spare_replicas": 0}
    scenario = Scenario.from_dict(SCENARIO).with_values(changes | {"fleet.startup_s": 5})
    (event,) = planner.simulate(scenario, requests=1500).as_dict()["failures"]["events"]
    assert event["in_hand"] is None
    assert event["under_way"]["queries"] > 0


def test_what_a_stop_met_is_kept_by_query_and_change():
    """Steps of a second, one token each: query 1 stands at replica 1 when that stops, and then at the other."""
    changes = (Change(2.5, 1, "stop"), Change(4.5, 0, "stop"), Change(6, 0, "start"))
    load = Load(np.array([0.0, 0.5]), np.full(2, 4, np.int32), np.array([1, 20], np.int32))
    config, cost = SchedulerConfig(200, 4, 4, 64, 64), StepCost(np.ones(65), np.zeros(5))
    run = run_fleet(load, config, cost, 2, "round_robin", np.random.default_rng(0), control=Control(changes))
    assert [[1, 0], [1, 1]] == run.met.tolist()
    assert [0, 2] == run.retried.tolist()
    assert [] == without_cooldown(replace(run, load=replace(load, cooldown=1))).met.tolist()
    assert [[0, 1], [0, 1], [0, 2]] == [met_by(run, *some).tolist() for some in ((0, 0), (1, 2), (0, 2))]


DOUBTS = [
    (True, True, False, "chance does not do that"),
    (None, True, True, "it may be chance: said, with the doubt"),
    (False, False, False, "one of many stretches is bad by chance"),
]


@pytest.mark.parametrize(("beyond", "told", "doubted", "because"), DOUBTS, ids=[row[-1] for row in DOUBTS])
def test_a_broken_stretch_is_told_unless_chance_would_do_it(beyond, told, doubted, because):
    """The limit holds over all who came then."""
    worst = {"key": "p95_ttft_ms", "limit_ms": 100.0, "value_ms": 150.0, "judged_by": "own statistic", "met": False}
    event = {"key": "fleet.failures[0]", "what": "stop", "replicas": 1, "at_s": 9.0, "during": {"limits": []}}
    event |= {"worst": {"queries": 200, "limits": [worst], "beyond_chance": beyond}, "recovered_s": 8.0}
    sentence = failure_sentence({"events": [event]})
    assert (told, doubted) == ("p95 TTFT 150 ms over 100 ms" in sentence, "too few came before" in sentence), because


def test_files_of_a_run_are_refused_beside_days(tmp_path):
    result = CliRunner().invoke(cli, ["simulate", "demo", "--days", "1", "--timeline", str(tmp_path / "run.png")])
    assert (2, True) == (result.exit_code, "without --days" in result.output)
