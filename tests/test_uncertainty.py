"""How sure a plan is: what real plans of a small scenario say, held against closed forms and against other plans."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import norm

import planner
from planner import Scenario
from planner.cli.app import cli
from planner.deployment import Deployment
from planner.errors import ScenarioError
from planner.planning import Plan
from planner.sizing import search
from planner.studies import uncertainty_design
from planner.studies.uncertainty import uncertainty, with_uncertainty
from planner.studies.uncertainty_inputs import provenance_of
from planner.studies.uncertainty_worlds import StepTimes, in_draws
from planner.summary.uncertainty import uncertainty_lines

REQUESTS = 3000
SMALL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": ["h100-sxm-80gb", "a100-sxm-80gb"],
    "engine": {"max_model_len": 4096, "max_num_seqs": 64},
    "traffic": {"peak_qps": 600.0},
    "query": {
        "stages": [{"name": "answer", "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}}, "output_tokens": 120}]
    },
    "slo": {"p90_ttft_ms": "<=400", "mean_tpot_ms": "<=20"},
    "fleet": {"spare_replicas": 1},
    "prices": {"gpu_hour_usd": 3.0, "retrieval_usd_per_query": 0.00001},
    "revenue": {"ads": {"usd_per_query": 0.00006}},
}
VARIED = {"samples": 400, "peak_qps_cv": 0.2, "revenue_cv": 0.4, "price_cv": 0.1}


def scenario(given: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    return Scenario.from_dict(SMALL | ({} if given is None else {"uncertainty": given})).with_values(changes)


def planned(asked: Scenario) -> Plan:
    return planner.plan(asked, requests=REQUESTS, worlds=0)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(scenario())


@pytest.fixture(scope="module")
def document(plan: Plan) -> dict[str, Any]:
    """A plan with its uncertainty: step time from its worlds, load, revenue and price drawn."""
    return with_uncertainty(plan, scenario(VARIED), requests=REQUESTS).as_dict()


def drawn(plan: Plan, given: dict[str, Any], seed: int = 0, **changes: Any) -> dict[str, Any]:
    return uncertainty(plan.as_dict(), scenario(given, **changes), seed=seed, requests=REQUESTS)


# --- closed forms ---


def test_inputs_known_almost_exactly_give_the_plan_back(plan: Plan) -> None:
    tiny = 1e-6
    given = {"samples": 100} | dict.fromkeys(("step_time_cv", "peak_qps_cv", "revenue_cv", "price_cv"), tiny)
    found, answer = drawn(plan, given | {"output_tokens_cv": tiny}), plan.as_dict()
    gpus = float(answer["fleet"]["gpus"])
    assert found["gpus"] == {"p50": gpus, "p90": gpus, "p99": gpus}
    assert found["p_slo_held"] == 1.0
    for key, value in (
        ("usd_per_query", answer["cost"]["usd_per_query"]),
        ("margin_usd_per_query", answer["margin"]["usd_per_query"]),
    ):
        for spread in (found[key], found["resized"][key]):
            assert list(spread.values()) == pytest.approx([value] * 3, rel=1e-4)  # some four standard deviations
    assert all(row["surface"]["gpus"] == row["plan"]["gpus"] == gpus for row in found["checked"])


@pytest.mark.parametrize("cv", [0.3, 0.8])
def test_with_revenue_alone_the_chance_of_a_margin_is_that_of_a_lognormal(plan: Plan, cv: float) -> None:
    """P(R·exp(σz − σ²/2) > c) = Φ((ln(R/c) − σ²/2)/σ); equal layers of 2,000 draws are off by at most one draw."""
    found, answer = drawn(plan, {"step_time_cv": 0, "revenue_cv": cv}), plan.as_dict()
    sigma = math.sqrt(math.log1p(cv**2))
    ratio = answer["revenue"]["usd_per_query"] / answer["cost"]["usd_per_query"]
    assert 1.0 < ratio < 3.0  # else the chance is nearly 0 or 1, and this proves little
    expected = norm.cdf((math.log(ratio) - sigma**2 / 2) / sigma)
    assert found["p_margin_positive"] == pytest.approx(expected, abs=1 / 2000)
    assert found["p_slo_held"] == 1.0
    assert found["p_both"] == found["p_margin_positive"]
    assert found["usd_per_query"]["p10"] == found["usd_per_query"]["p90"] == answer["cost"]["usd_per_query"]


def test_a_price_moves_what_the_gpus_cost_and_leaves_retrieval_alone(plan: Plan) -> None:
    """The 90 % quantile of the cost of a query is (its GPU part) × the price's 90 % quantile + retrieval."""
    cv = 0.4
    found, answer = drawn(plan, {"step_time_cv": 0, "price_cv": cv}), plan.as_dict()
    sigma = math.sqrt(math.log1p(cv**2))
    compute = answer["cost"]["usd_per_query"] - 0.00001
    expected = compute * math.exp(sigma * norm.ppf(0.9) - sigma**2 / 2) + 0.00001
    assert found["usd_per_query"]["p90"] == pytest.approx(expected, rel=1e-3)
    (row,) = found["tornado"]
    assert (row["usd_per_query_low"] < answer["cost"]["usd_per_query"] < row["usd_per_query_high"]) is True
    assert row["gpus_low"] == row["gpus_high"] == answer["fleet"]["gpus"]


def test_twice_the_load_needs_about_twice_the_gpus(plan: Plan) -> None:
    """Of the serving replicas; the spare one stays one. Small fleets carry a little less a replica: 15 % is allowed."""
    found = drawn(plan, {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 400})
    row = next(row for row in found["tornado"] if row["name"] == "peak_qps")
    assert (row["gpus_high"] - 1) / (row["gpus_low"] - 1) == pytest.approx(row["high"] / row["low"], rel=0.15)


def test_load_and_revenue_that_move_against_each_other_hold_both_less_often(plan: Plan) -> None:
    """Little load holds the limits but costs more a query; revenue that falls with the load makes both hold oftener."""

    def both(rho: float) -> float:
        pair = [{"between": ["peak_qps", "revenue"], "rho": rho}]
        given = {"step_time_cv": 0, "peak_qps_cv": 0.2, "revenue_cv": 0.4, "correlations": pair}
        return float(drawn(plan, given)["p_both"])

    assert both(-0.9) > both(0.9) + 0.05


def test_the_margin_of_a_draw_bears_its_queries_part_of_the_training_bill(plan: Plan) -> None:
    """Fleet F and bill T are fixed: at x times the load a query bears (F + T)/x and retrieval r, and earns R.

    It pays where x > (F + T)/(R − r): a chance of Φ(−(ln of that + σ²/2)/σ), to one draw of 400.
    """
    month = 24 * 3600 * 600.0 * 365 / 12  # queries; the day is flat
    bill = {"prices.training": {"usd": 5e-5 * month * 12, "months": 12}}
    given = {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 400}
    trained = planned(scenario(**bill))
    without = drawn(plan, given)
    found = uncertainty(trained.as_dict(), scenario(given, **bill), requests=REQUESTS)
    assert without["p_margin_positive"] > 0.5
    sigma, retrieval = math.sqrt(math.log1p(0.3**2)), 0.00001
    fixed = trained.as_dict()["cost"]["usd_per_query"] - retrieval + 5e-5
    enough = math.log(fixed / (trained.as_dict()["revenue"]["usd_per_query"] - retrieval))
    assert found["p_margin_positive"] == pytest.approx(norm.cdf(-(enough + sigma**2 / 2) / sigma), abs=1 / 400)
    (row,), (before,) = found["tornado"], without["tornado"]
    for end in ("low", "high"):
        assert row[f"margin_{end}"] == pytest.approx(before[f"margin_{end}"] - 5e-5 / row[end])
    text = " ".join(" ".join(uncertainty_lines(trained.as_dict() | {"uncertainty": found})).split())
    assert "% of the draws, every query taken as served, after its share of the training both" in text
    assert "% of the draws, this fleet, after its share of the training" in text


def test_the_step_time_alone_moves_the_ends_of_the_tornado_to_those_of_the_draws(plan: Plan) -> None:
    """With one input the 10 % and the 90 % world are the draws' own quantiles, exactly.

    One candidate, so that what costs more is also larger.
    """
    alone = {"hardware": "h100-sxm-80gb", "slo": {"p90_ttft_ms": "<=60", "mean_tpot_ms": "<=20"}}
    asked = Scenario.from_dict(SMALL | alone | {"uncertainty": {"samples": 400}})
    found = uncertainty(planned(asked).as_dict(), asked, requests=REQUESTS)
    (row,) = found["tornado"]
    assert row["name"] == "step_time"
    cost = found["resized"]["usd_per_query"]
    assert (row["usd_per_query_low"], row["usd_per_query_high"]) == (cost["p10"], cost["p90"])
    assert row["margin_high"] == pytest.approx(0.00006 - cost["p90"])
    assert row["gpus_high"] == found["gpus"]["p90"]
    assert row["gpus_low"] < row["gpus_high"]


# --- the surface against plans ---


def test_ten_whole_plans_agree_with_the_surface_to_within_its_error(document: dict[str, Any]) -> None:
    found = document["uncertainty"]
    assert len(found["checked"]) == 10
    assert len({row["plan"]["gpus"] for row in found["checked"]}) > 3  # the draws differ
    error = found["surface"]["checked"]
    assert error["gpus"]["mean"] <= 1.0
    assert error["only_one_finds_a_fleet"] == 0
    off = [abs(row["surface"]["gpus"] - row["plan"]["gpus"]) for row in found["checked"]]
    assert error["gpus"] == {"mean": pytest.approx(np.mean(off)), "most": max(off)}


def test_a_checked_plan_is_that_of_the_perturbed_scenario(plan: Plan) -> None:
    """With a step time known exactly a checked draw is a plan that anyone can make."""
    found = drawn(plan, {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 200})
    row = found["checked"][-1]
    assert row["factors"]["peak_qps"] > 1.3
    again = planned(scenario(peak_qps=600.0 * row["factors"]["peak_qps"])).as_dict()
    assert row["plan"]["gpus"] == again["fleet"]["gpus"]
    assert row["plan"]["usd_per_query"] == pytest.approx(again["cost"]["usd_per_query"])


def test_few_simulations_are_spent_and_their_error_is_told(document: dict[str, Any]) -> None:
    surface = document["uncertainty"]["surface"]
    assert 20 < surface["simulations"] <= 200
    assert surface["simulations"] == sum(row["simulations"] for row in surface["candidates"])
    for row in surface["candidates"]:
        assert row["points"] >= 10
        assert 0.0 < row["typical_error_share"] <= row["error_share"] < 0.1
    assert sum(row["share_of_draws"] for row in surface["candidates"]) + document["uncertainty"]["p_no_fleet"] == 1.0
    serving = document["fleet"]["replicas"] - 1
    assert surface["error"]["gpus"] == pytest.approx(surface["candidates"][0]["error_share"] * serving)


def test_a_search_in_a_slow_world_needs_more_than_in_the_nominal_one(plan: Plan) -> None:
    def gpus(factor: float) -> int:
        slowed = in_draws(StepTimes(np.array([factor])), [0])

        def world(deployment: Deployment) -> Deployment:
            return slowed(0, deployment)

        chosen = search(scenario(), 0, REQUESTS, lambda what, done, total: None, world).chosen
        assert chosen is not None
        return chosen.gpus

    assert gpus(1.0) == plan.as_dict()["fleet"]["gpus"]
    assert gpus(1.2) > gpus(1.0) > gpus(0.8)


SPARSE: dict[str, Any] = {"traffic.peak_qps": 0.05, "fleet.spare_replicas": 0, "hardware": "h100-sxm-80gb"}


def test_a_load_far_below_what_a_replica_carries_is_answered(plan: Plan) -> None:
    """One query in 20 s, where a replica carries some 100 in 1 s: no draw needs a second one, every draw holds."""
    asked = scenario({"peak_qps_cv": 0.3, "samples": 200}, **SPARSE)
    found = uncertainty(planner.plan(asked, requests=1000, worlds=0).as_dict(), asked, requests=1000)
    assert found["p_slo_held"] == 1.0
    assert found["gpus"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    assert found["surface"]["candidates"][0]["points"] >= 10


def test_where_no_load_is_too_much_the_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty_design, "worst_of", lambda probe: 0.5)
    asked = scenario({"peak_qps_cv": 0.3, "samples": 100}, **SPARSE)
    document = planner.plan(asked, requests=1000, worlds=0).as_dict()
    with pytest.raises(ScenarioError, match=r"^uncertainty: finds no load at which the planned fleet just holds"):
        uncertainty(document, asked, requests=1000)


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
    document = with_uncertainty(planned(asked), asked, requests=REQUESTS).as_dict()
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
    shown = CliRunner().invoke(cli, ["plan", str(file), "--requests", str(REQUESTS), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "How sure: 400 draws of what is not known" in shown.stdout
    assert json.loads(out.read_text())["uncertainty"]["draws"] == 400
