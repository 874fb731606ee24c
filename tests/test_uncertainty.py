"""How sure a plan is: what real plans of a small scenario say, held against closed forms and against other plans."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import planner
from planner import Scenario
from planner.deployment import Deployment
from planner.errors import ScenarioError
from planner.planning import Plan
from planner.sizing import search
from planner.studies.uncertainty import laboratory, uncertainty
from planner.studies.uncertainty.design import MOST_POINTS
from planner.studies.uncertainty.worlds import StepTimes, in_draws
from planner.summary.uncertainty import uncertainty_lines
from tests.uncertain_fleets import (
    FEW,
    PEAK_QPS,
    REQUESTS,
    SMALL,
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
    """Of the serving replicas; the spare one stays one. Whole replicas and small fleets: 15 % is allowed."""
    found = drawn(plan, {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 400})
    row = next(row for row in found["tornado"] if row["name"] == "peak_qps")
    assert (row["gpus_high"] - 1) / (row["gpus_low"] - 1) == pytest.approx(row["high"] / row["low"], rel=0.15)


def test_load_and_revenue_that_move_against_each_other_hold_both_less_often(plan: Plan) -> None:
    """Little load holds the limits but costs more a query; revenue that falls with the load makes both hold oftener."""

    def both(rho: float) -> float:
        pair = [{"between": ["peak_qps", "revenue"], "rho": rho}]
        given = {"samples": 500, "step_time_cv": 0, "peak_qps_cv": 0.2, "revenue_cv": 0.4, "correlations": pair}
        return float(drawn(plan, given)["p_both"])

    assert both(-0.9) > both(0.9) + 0.05


def test_the_margin_of_a_draw_bears_its_queries_part_of_the_training_bill(plan: Plan) -> None:
    """Fleet F and bill T are fixed: at x times the load a query bears (F + T)/x and retrieval r, and earns R.

    It pays where x > (F + T)/(R − r): a chance of Φ(−(ln of that + σ²/2)/σ), to one draw of 400. That is less than
    the planned load, which the fleet carries.
    """
    month = 24 * 3600 * PEAK_QPS * 365 / 12  # queries; the day is flat
    bill = {"prices.training": {"usd": 1e-5 * month * 12, "months": 12}}
    given = {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 400}
    trained = planned(scenario(**bill))
    without = drawn(plan, given)
    found = uncertainty(trained.as_dict(), scenario(given, **bill), requests=REQUESTS)
    assert without["p_margin_positive"] > found["p_margin_positive"] > 0.5
    sigma, retrieval = math.sqrt(math.log1p(0.3**2)), 0.00001
    fixed = trained.as_dict()["cost"]["usd_per_query"] - retrieval + 1e-5
    enough = math.log(fixed / (trained.as_dict()["revenue"]["usd_per_query"] - retrieval))
    assert found["p_margin_positive"] == pytest.approx(norm.cdf(-(enough + sigma**2 / 2) / sigma), abs=1 / 400)
    (row,), (before,) = found["tornado"], without["tornado"]
    for end in ("low", "high"):
        assert row[f"margin_{end}"] == pytest.approx(before[f"margin_{end}"] - 1e-5 / row[end])
    text = " ".join(" ".join(uncertainty_lines(trained.as_dict() | {"uncertainty": found})).split())
    assert "% of the draws, of the queries that the fleet carries, after its share of the training both" in text
    assert "% of the draws, this fleet, after its share of the training" in text


def test_queries_that_the_fleet_cannot_carry_neither_earn_nor_bear_its_cost(plan: Plan) -> None:
    """With n serving replicas the fleet carries between 1 and n/(n − 1) times the planned load, as it is the smallest.

    So a query never costs less than (n − 1)/n of what it was planned to; were all served it would be 1/1.39 at the
    load's 90 % quantile. A training bill that only twice the load could bear is never earned.
    """
    answer = plan.as_dict()
    given = {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 400}
    found = drawn(plan, given)
    serving, retrieval = answer["fleet"]["replicas"] - 1, 0.00001
    compute = answer["cost"]["usd_per_query"] - retrieval
    assert compute * (serving - 1) / serving <= found["usd_per_query"]["p10"] - retrieval <= compute
    assert found["usd_per_query"]["p90"] > 1.2 * answer["cost"]["usd_per_query"]  # at little load it costs more
    month = 24 * 3600 * PEAK_QPS * 365 / 12
    twice = 2 * (answer["revenue"]["usd_per_query"] - retrieval) - compute
    bill = {"prices.training": {"usd": twice * month * 12, "months": 12}}
    trained = planned(scenario(**bill)).as_dict()
    assert uncertainty(trained, scenario(given, **bill), requests=REQUESTS)["p_margin_positive"] == 0.0


def test_the_chance_within_the_error_is_that_at_a_load_so_much_higher_and_lower(plan: Plan) -> None:
    """The load alone varies: held where x ≤ c, a chance of Φ((ln c + σ²/2)/σ); the error e makes it c·exp(±e).

    To one draw of 2,000 each. The rms of the residuals is meant, which is more than their median.
    """
    found = drawn(plan, {"step_time_cv": 0, "peak_qps_cv": 0.3})
    planned_one = found["surface"]["candidates"][0]
    assert planned_one["error_share"] > 1.1 * planned_one["typical_error_share"]
    off = planned_one["error_share"] / math.sqrt(math.log1p(0.3**2))
    score = norm.ppf(found["p_slo_held"])
    expected = [norm.cdf(score - off), norm.cdf(score + off)]
    assert expected == pytest.approx(found["p_slo_held_within_error"], abs=2 / 2000)


def test_the_step_time_alone_moves_the_ends_of_the_tornado_to_those_of_the_draws(plan: Plan) -> None:
    """With one input the 10 % and the 90 % world are the draws' own quantiles, exactly.

    One candidate, so that what costs more is also larger.
    """
    alone = {"hardware": "h100-sxm-80gb", "slo": {"p90_ttft_ms": "<=60", "mean_tpot_ms": "<=20"}}
    asked = Scenario.from_dict(SMALL | alone | {"uncertainty": {"samples": 300}})
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
    assert error["gpus"]["mean"] <= 0.6
    assert error["only_one_finds_a_fleet"] == 0
    off = [abs(row["surface"]["gpus"] - row["plan"]["gpus"]) for row in found["checked"]]
    assert error["gpus"] == {"mean": pytest.approx(np.mean(off)), "most": max(off)}


def test_a_checked_plan_is_that_of_the_perturbed_scenario(plan: Plan) -> None:
    """With a step time known exactly a checked draw is a plan that anyone can make."""
    found = drawn(plan, {"step_time_cv": 0, "peak_qps_cv": 0.3, "samples": 200})
    row = found["checked"][-1]
    assert row["factors"]["peak_qps"] > 1.3
    again = planned(scenario(peak_qps=PEAK_QPS * row["factors"]["peak_qps"])).as_dict()
    assert row["plan"]["gpus"] == again["fleet"]["gpus"]
    assert row["plan"]["usd_per_query"] == pytest.approx(again["cost"]["usd_per_query"])


def test_few_simulations_are_spent_and_their_error_is_told(document: dict[str, Any]) -> None:
    surface = document["uncertainty"]["surface"]
    assert 20 < surface["simulations"] <= 200
    assert max(row["points"] for row in surface["candidates"]) > 1 + MOST_POINTS  # those of the tail
    assert surface["simulations"] == sum(row["simulations"] for row in surface["candidates"])
    for row in surface["candidates"]:
        assert row["points"] >= 10
        assert row["idle_runs"] > 10
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
    found = uncertainty(planner.plan(asked, requests=FEW, worlds=0).as_dict(), asked, requests=FEW)
    assert found["p_slo_held"] == 1.0
    assert found["gpus"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    assert found["surface"]["candidates"][0]["points"] >= 10


def test_where_no_load_is_too_much_the_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laboratory, "worst_of", lambda probe: 0.5)
    monkeypatch.setattr(laboratory, "MOST_RATE_QPS", 10.0)  # a real run at 1e7 queries/s takes its time
    asked = scenario({"peak_qps_cv": 0.3, "samples": 100}, **SPARSE)
    document = planner.plan(asked, requests=FEW, worlds=0).as_dict()
    with pytest.raises(ScenarioError, match=r"^uncertainty: finds no load at which the planned fleet just holds"):
        uncertainty(document, asked, requests=FEW)
