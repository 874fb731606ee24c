"""Queries that a stop takes with it: they end as lost, under the event that took them, and the spare proof has them."""

from __future__ import annotations

import numpy as np
from click.testing import CliRunner

import planner
from planner.cli.app import cli
from planner.coefficients import StepCost
from planner.deployment import deploy, make_load, only_candidate
from planner.deployment.runs import Length
from planner.scenario import Scenario
from planner.simulation.fleet import run_fleet
from planner.simulation.fleet_world import LOST
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.sizing.spare import spare_proof
from planner.specs import SchedulerConfig

SCENARIO = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 12},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 500, "output_tokens": 300}]},
    "slo": {"p99_e2e_ms": "<=60000"},
    "fleet": {"replicas": 3, "spare_replicas": 2, "retry": False},
}


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


def test_the_proof_of_the_spare_counts_those_that_the_stop_lost():
    scenario = Scenario.from_dict(SCENARIO)
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(700, 50, 0))
    lost = spare_proof(deployment, scenario, load, 3, 0)
    assert lost is not None
    assert (False, True) == (lost["slo_met_after"], lost["after"]["failed"] > 0)
    again = spare_proof(deployment, scenario.with_values({"fleet.retry": True}), load, 3, 0)
    assert again is not None
    assert (True, 0) == (again["slo_met_after"], again["after"]["failed"])


def test_files_of_a_run_are_refused_beside_days(tmp_path):
    result = CliRunner().invoke(cli, ["simulate", "demo", "--days", "1", "--timeline", str(tmp_path / "run.png")])
    assert (2, True) == (result.exit_code, "without --days" in result.output)
