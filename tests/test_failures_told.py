"""Queries that a stop takes with it: they end as lost, under the event that took them, and the spare proof has them."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner.cli.app import cli
from planner.coefficients import StepCost
from planner.deployment import deploy, make_load, only_candidate
from planner.deployment.runs import Length
from planner.scenario import Scenario
from planner.simulation.fleet import run_fleet
from planner.simulation.fleet_world import LOST
from planner.simulation.limits import Check
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.sizing.spare import shortened, spare_proof, verdict_of
from planner.specs import SchedulerConfig
from planner.summary.failures import spare_lines

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


def test_the_proof_shows_what_each_limit_judges():
    """p95 TTFT and the mean of ITL by TPOT, before and after, each with the end of its interval; half of the load."""
    scenario = Scenario.from_dict(SCENARIO | {"slo": {"p95_ttft_ms": "<=300", "mean_itl_ms": "<=60"}})
    scenario = scenario.with_values({"fleet.retry": True, "fleet.spare_replicas": 1})
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(8000, 500, 60))
    proof = spare_proof(deployment, scenario, load, 3, 0)
    assert proof is not None
    assert ("holds", True, False) == tuple(proof[key] for key in ("verdict", "slo_met_after", "saturated_after"))
    assert ["p95_ttft_ms", "mean_itl_ms"] == [limit["key"] for limit in proof["before"]["limits"]]
    for limit in proof["after"]["limits"]:
        assert limit["value_ms"] < limit["upper_ms"] <= limit["limit_ms"]
    assert proof["before"]["queries"] + proof["after"]["queries"] == 4000
    said = " ".join(" ".join(spare_lines(proof)).split())
    assert f"Over the {proof['after']['queries']:,} queries that came afterwards" in said
    assert "p95 TTFT ≤ 300 ms" in said


def test_a_limit_within_the_error_of_its_figure_is_undecided():
    """The same run, its limit put at the judged value: neither side of the interval clears it."""
    scenario = Scenario.from_dict(SCENARIO).with_values({"fleet.retry": True, "fleet.spare_replicas": 1})
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(4000, 500, 60))
    whole = shortened(load, 4000)
    assert whole is load
    proof = spare_proof(deployment, scenario.with_values({"slo.p99_e2e_ms": "<=1"}), load, 3, 0)
    assert proof is not None
    assert ("fails", False) == (proof["verdict"], proof["slo_met_after"])
    first = spare_proof(deployment, scenario, load, 3, 0)
    assert first is not None
    (judged,) = first["after"]["limits"]
    near = scenario.with_values({"slo.p99_e2e_ms": f"<={judged['value_ms']:.3f}"})
    proof = spare_proof(deployment, near, load, 3, 0)
    assert proof is not None
    assert ("undecided", None) == (proof["verdict"], proof["slo_met_after"])
    assert proof["after"]["queries"] > 3000  # all of the load, since half of it did not decide
    assert "undecided" in " ".join(spare_lines(proof))


def test_a_fleet_that_is_too_small_after_the_stop_is_said_to_be():
    """Two of three gone under a load that one cannot carry: the backlog grows, whatever the limit allows."""
    scenario = Scenario.from_dict(SCENARIO | {"traffic": {"peak_qps": 60}, "slo": {"p50_e2e_ms": "<=1e7"}})
    scenario = scenario.with_values({"fleet.retry": True})
    deployment = deploy(only_candidate(scenario, "simulate"))
    proof = spare_proof(deployment, scenario, make_load(scenario, 8192, 0, Length(8000, 500, 100)), 3, 0)
    assert proof is not None
    assert ("fails", True) == (proof["verdict"], proof["saturated_after"])
    assert "the backlog grows" in " ".join(" ".join(spare_lines(proof)).split())


@pytest.mark.parametrize(
    ("value_ms", "upper_ms", "verdict"),
    [(90, 99, "holds"), (90, 101, "undecided"), (110, 125, "undecided"), (110, 115, "fails"), (90, inf, "undecided"),
     (inf, inf, "fails")],
)  # fmt: skip
def test_a_verdict_is_as_wide_as_the_interval(value_ms: float, upper_ms: float, verdict: str):
    assert verdict == verdict_of(Check("k", 100.0, value_ms, upper_ms, "interval", upper_ms <= 100.0))


def test_a_load_is_shortened_with_its_prefixes():
    scenario = Scenario.from_dict(SCENARIO).with_values(
        {"query.stages[0].shared_prefix": {"tokens": 64, "groups": 8}, "query.stages[0].samples": 2}
    )
    load = make_load(scenario, 8192, 0, Length(1000, 100, 50))
    part = shortened(load, 400)
    assert (550, 1100, 50) == (part.queries, part.requests, part.cooldown)
    assert part.prefixes is not None
    assert load.prefixes is not None
    assert part.prefixes.chain_start.tolist() == load.prefixes.chain_start[:1101].tolist()
    assert len(part.prefixes.chain_segment) == part.prefixes.chain_start[-1]


def test_files_of_a_run_are_refused_beside_days(tmp_path):
    result = CliRunner().invoke(cli, ["simulate", "demo", "--days", "1", "--timeline", str(tmp_path / "run.png")])
    assert (2, True) == (result.exit_code, "without --days" in result.output)
