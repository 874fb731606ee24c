"""The document of the draws: what it holds, what it says of what was not given, and the verb that makes it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from click.testing import CliRunner

import planner
from planner import Scenario
from planner.cli.app import cli
from planner.errors import ScenarioError
from planner.planning import Plan
from planner.studies.uncertainty import uncertainty, with_uncertainty
from planner.studies.uncertainty.inputs import provenance_of
from planner.summary.uncertainty import uncertainty_lines
from tests.uncertain_fleets import (
    FEW,
    REQUESTS,
    SMALL,
    VARIED,
    drawn,
    planned,
    scenario,
    small_document,
    small_plan,
)


@pytest.fixture
def plan() -> Plan:
    return small_plan()


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(small_document())


# --- the document ---


def test_the_chances_and_spreads_fit_together(document: dict[str, Any]) -> None:
    found = document["uncertainty"]
    assert 0.2 < found["p_slo_held"] < 0.8  # a plan is as small as it may be: about every other draw is worse
    low, high = found["p_slo_held_within_error"]
    assert low <= found["p_slo_held"] <= high
    least = found["p_slo_held"] + found["p_margin_positive"] - 1
    assert least <= found["p_both"] <= min(found["p_slo_held"], found["p_margin_positive"])
    assert found["gpus"]["p50"] <= found["gpus"]["p90"] <= found["gpus"]["p99"]
    assert found["usd_per_query"]["p10"] < document["cost"]["usd_per_query"] < found["usd_per_query"]["p90"]
    assert found["tornado"][0]["name"] == "revenue"  # 40 % of it is more than all the rest
    assert {row["name"] for row in found["tornado"]} == {"step_time", "peak_qps", "revenue", "price"}


def test_the_same_seed_gives_the_same_bits(plan: Plan, document: dict[str, Any]) -> None:
    again = drawn(plan, VARIED)
    assert json.dumps(again) == json.dumps(document["uncertainty"])


def test_another_seed_draws_otherwise(plan: Plan, document: dict[str, Any]) -> None:
    other = drawn(plan, VARIED, seed=1)
    assert other["margin_usd_per_query"] != document["uncertainty"]["margin_usd_per_query"]
    assert other["p_slo_held"] == pytest.approx(document["uncertainty"]["p_slo_held"], abs=0.15)


def test_what_was_not_given_is_among_the_assumptions(document: dict[str, Any]) -> None:
    rows = {row["what"]: row for row in document["provenance"] if row["what"].startswith("uncertainty: ")}
    assert rows["uncertainty: output tokens"]["kind"] == "assumed"
    assert rows["uncertainty: output tokens"]["value"] == "not varied"
    assert rows["uncertainty: correlations"]["kind"] == "assumed"
    assert rows["uncertainty: KV cache"]["value"] == "noise of the fit"
    assert "uncertainty: subscribers" not in rows  # it is ads that pay here
    assert rows["uncertainty: step time"]["kind"] in ("fitted", "assumed")
    assert "uncertainty: revenue of a query" not in rows
    inputs = {row["name"]: row for row in document["uncertainty"]["inputs"]}
    assert inputs["revenue"] == {
        "name": "revenue", "law": "log-normal, mean 1, cv 0.4", "source": "uncertainty.revenue_cv", "kind": "given"
    }  # fmt: skip


def test_without_prices_the_draws_are_of_fleets_alone() -> None:
    bare = {key: value for key, value in SMALL.items() if key not in ("prices", "revenue")}
    asked = Scenario.from_dict(bare | {"uncertainty": {"samples": 100, "step_time_cv": 0.1}})
    document = with_uncertainty(planner.plan(asked, requests=FEW, worlds=0), asked, requests=FEW).as_dict()
    found = document["uncertainty"]
    for key in ("p_margin_positive", "p_both", "usd_per_query", "margin_usd_per_query"):
        assert found[key] is None
    assert found["gpus"]["p90"] >= found["gpus"]["p50"]
    assert found["tornado"][0]["usd_per_query_low"] is None
    text = "\n".join(uncertainty_lines(document))
    assert "limits hold" in text
    assert "margin" not in text
    assert "as served" not in text
    assert "$" not in text


def test_more_gpus_than_allowed_are_no_fleet() -> None:
    asked = scenario(None)
    planned_gpus = planned(asked).as_dict()["fleet"]["gpus"]
    capped = scenario({"samples": 200, "step_time_cv": 0, "peak_qps_cv": 0.2}, max_gpus=planned_gpus)
    found = uncertainty(planned(capped).as_dict(), capped, requests=REQUESTS)
    assert 0.2 < found["p_no_fleet"] < 0.8
    assert found["gpus"]["p99"] is None
    assert found["p_slo_held"] == pytest.approx(1 - found["p_no_fleet"], abs=0.1)


def test_a_scenario_without_the_key_is_answered_as_before(plan: Plan) -> None:
    assert with_uncertainty(plan, scenario()) is plan
    with pytest.raises(ScenarioError, match=r"^uncertainty: is required"):
        uncertainty(plan.as_dict(), scenario())


def test_what_a_draw_of_the_load_and_of_the_engine_leaves_out_is_among_the_assumptions() -> None:
    inputs: list[dict[str, str]] = []

    def rows(given: dict[str, Any], revenue: str, *, cache_stated: bool = False) -> dict[str, Any]:
        asked = Scenario.from_dict(SMALL | {"uncertainty": given}).uncertainty
        assert asked is not None
        found = provenance_of(inputs, asked, {"model": revenue}, cache_stated)
        return {row.what: (row.kind, row.value, row.errs) for row in found}

    load = {"peak_qps_cv": 0.2}
    assert rows(load, "subscription")["uncertainty: subscribers"] == ("assumed", "", "optimistic")
    assert "uncertainty: subscribers" not in rows({"price_cv": 0.2}, "subscription")
    assert "uncertainty: subscribers" not in rows(load, "ads")
    assert rows(load, "ads")["uncertainty: KV cache"] == ("assumed", "noise of the fit", "unknown")
    assert rows({"step_time_cv": 0.1}, "ads")["uncertainty: KV cache"] == ("assumed", "not varied", "optimistic")
    assert "uncertainty: KV cache" not in rows(load, "ads", cache_stated=True)


# --- the verb ---


def test_the_verb_draws_where_the_scenario_asks_for_it(tmp_path: Any) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(SMALL | {"uncertainty": VARIED}))
    out = tmp_path / "plan.json"
    shown = CliRunner().invoke(cli, ["plan", str(file), "--requests", str(FEW), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "How sure: 300 draws of what is not known" in shown.stdout
    assert json.loads(out.read_text())["uncertainty"]["draws"] == 300
