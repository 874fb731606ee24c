"""The years ahead: what the plan chose, planned again with each year's load, step time, GPU price and revenue."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from planner import Scenario, plan
from planner.economics import usd_per_hour
from planner.errors import InputError, ScenarioError
from planner.studies.chosen import pinned
from planner.studies.years import years
from planner.studies.years_rates import YearlyChanges, decline, hardware_gain_per_year, settled, stated_factor_per_year

REQUESTS = 1500
STEADY = {"gpu_price_change": 0.0, "speed_change": 0.0, "traffic_change": 0.0, "revenue_change": 0.0}
BASE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": ["l4-24gb", "l40s-48gb"],
    "engine": {"quantization": "fp8", "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 30.0, "day": [0.5] * 12 + [1.0] * 12},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 100}]},
    "slo": {"p90_ttft_ms": "<=3000", "p90_e2e_ms": "<=20000"},
    "prices": {"gpu_hour_usd": 1.0, "training": {"usd": 50_000, "months": 12}},
    "revenue": {"ads": {"usd_per_query": 0.001}},
}
OWN = {
    "own": {"capex_usd_per_gpu": 7000, "life_years": 4, "watts_per_gpu": 300, "hosting_usd_per_gpu_month": 20},
    "energy": {"usd_per_kwh": 0.1, "pue": 1.2},
}
SPOT = [{"kind": "reserved", "share": 0.5, "gpu_hour_usd": 0.6}, {"kind": "on_demand", "share": 0.5, "gpu_hour_usd": 1}]


@cache
def answered(count: int = 2, changes: str = "{}", **rates: float) -> dict[str, Any]:
    scenario = Scenario.from_dict(BASE).with_values(json.loads(changes))
    return years(scenario, count, YearlyChanges(**(STEADY | rates)), requests=REQUESTS).as_dict()


@cache
def planned(changes: str = "{}") -> dict[str, Any]:
    return plan(Scenario.from_dict(BASE).with_values(json.loads(changes)), requests=REQUESTS, worlds=0).as_dict()


def test_year_0_is_the_plan():
    document, row = planned(), answered()["years"][0]
    assert document["fleet"]["gpus"] == row["gpus"]
    assert document["cost"]["usd_per_hour"] == row["usd_per_hour"]
    assert document["cost"]["usd_per_query"] == row["usd_per_query"]
    assert document["margin"]["usd_per_query"] == row["margin_usd_per_query"]
    assert document["margin"]["after_training_usd_per_query"] == row["margin_after_training_usd_per_query"]
    assert document["break_even"]["rpm_usd"] == row["break_even_rpm_usd"]
    assert document["fleet"] == answered()["fleet"]


def test_where_nothing_changes_every_year_is_the_same():
    found = answered()["years"]
    assert [0, 1, 2] == [row["year"] for row in found]
    different = {"year", "usd_per_query_at_stated_decline"}
    for row in found[1:]:
        assert {key: row[key] for key in row if key not in different} == {
            key: found[0][key] for key in row if key not in different
        }


def test_the_price_alone_scales_the_cost_by_itself_and_leaves_the_fleet():
    found = answered(gpu_price_change=-0.2)["years"]
    assert len({row["gpus"] for row in found}) == 1
    for row in found:
        expected = found[0]["usd_per_query"] * 0.8 ** row["year"]
        assert expected == pytest.approx(row["usd_per_query"], rel=1e-12)
        assert found[0]["usd_per_hour"] * 0.8 ** row["year"] == pytest.approx(row["usd_per_hour"], rel=1e-12)
        assert 1000 * expected == pytest.approx(row["break_even_rpm_usd"], rel=1e-12)
        assert 0.001 - expected == pytest.approx(row["margin_usd_per_query"], rel=1e-9)


def test_more_years_only_add_rows():
    assert answered(1, traffic_change=0.4)["years"] == answered(2, traffic_change=0.4)["years"][:2]


def test_a_year_of_more_traffic_is_a_plan_for_that_traffic_on_what_was_chosen():
    row = answered(traffic_change=0.4)["years"][2]
    chosen = pinned(Scenario.from_dict(BASE), planned())
    expected = plan(chosen.with_values({"traffic.peak_qps": 30.0 * 1.4**2}), requests=REQUESTS, worlds=0).as_dict()
    assert 58.8 == pytest.approx(row["peak_qps"])
    assert expected["fleet"]["gpus"] == row["gpus"] > planned()["fleet"]["gpus"]
    assert expected["cost"]["usd_per_query"] == pytest.approx(row["usd_per_query"], rel=1e-12)
    per_query = expected["cost"]["amortised_training_usd_per_query"]
    assert 1000 * (row["usd_per_query"] + per_query) == pytest.approx(row["break_even_rpm_after_training_usd"])


def test_faster_steps_need_fewer_gpus_and_slower_ones_more():
    now = answered()["years"][0]["gpus"]
    assert answered(1, speed_change=1.0)["years"][1]["gpus"] < now < answered(1, speed_change=-0.4)["years"][1]["gpus"]


def test_time_has_no_unit_of_its_own():
    """Every duration halved, arrivals twice as dense, limits half as long: the same fleet at twice the load."""
    relaxed = {"slo": {"p90_ttft_ms": "<=6000", "p90_e2e_ms": "<=40000"}}
    slow, fast = answered(1, json.dumps(relaxed)), answered(1, speed_change=1.0, traffic_change=1.0)
    assert slow["years"][0]["gpus"] == fast["years"][1]["gpus"]


# rates, revenue of a query after two years, because
REVENUES: list[tuple[dict[str, Any], float, str]] = [
    ({"ads": {"usd_per_query": 0.001}}, 0.001, "flat"),
    ({"ads": {"ecpm_usd": 5, "ads_per_query": 0.5}}, 0.0025, "by its factors"),
    ({"ads": {"revenue_usd_per_year": 1e9, "queries_per_year": 1e11}}, 0.01, "by volume: the queries stay"),
    ({"subscription": {"usd_per_month": 20, "queries_per_month": 400}}, 0.05, "the month's price; its queries stay"),
    ({"api": {"usd_per_million_input": 1, "usd_per_million_output": 4}}, 7e-4, "300 tokens in, 100 out"),
    ({"per_word": {"usd_per_1000_words": 0.8}}, 0.06, "100 tokens are 75 words"),
]


@pytest.mark.parametrize(("revenue", "usd", "because"), REVENUES)
def test_what_a_query_earns_changes_under_every_model(revenue: dict[str, Any], usd: float, because: str):
    found = answered(2, json.dumps({"revenue": revenue}), revenue_change=0.1)["years"]
    assert usd == pytest.approx(found[0]["revenue_usd_per_query"], rel=1e-6), because
    assert usd * 1.21 == pytest.approx(found[2]["revenue_usd_per_query"], rel=1e-6), because


# prices, $ per GPU-hour in year 2 at −50 % a year, because
PRICES: list[tuple[dict[str, Any], float, str]] = [
    ({"gpu_hour_usd": 2.0}, 0.5, "a number"),
    ({"commitments": SPOT}, 0.2, "a mix: every part of it"),
    (OWN, 7000 / 4 / 4 / 8760 + 0.3 * 1.2 * 0.1 + 20 / 730, "of owned hardware the capex; energy and hosting stay"),
]


@pytest.mark.parametrize(("prices", "usd", "because"), PRICES)
def test_a_gpus_price_changes_however_it_is_made(prices: dict[str, Any], usd: float, because: str):
    document = answered(2, json.dumps({"prices": prices}), gpu_price_change=-0.5)
    row = document["years"][2]
    assert usd == pytest.approx(row["gpu_hour_usd"], rel=1e-9), because
    assert usd_per_hour(row["gpus"], usd) == pytest.approx(row["usd_per_hour"], rel=1e-9), because
    assert row["break_even_rpm_after_training_usd"] is None


def test_a_rate_cards_price_changes_too():
    found = answered(1, json.dumps({"prices.gpu_hour_usd": {"rate_card": "on-demand"}}), gpu_price_change=-0.5)["years"]
    assert found[0]["gpu_hour_usd"] / 2 == pytest.approx(found[1]["gpu_hour_usd"], rel=1e-12)


def test_who_waits_is_told_year_by_year():
    changes = {"revenue.abandonment": {"metric": "e2e", "per_100ms": 0.005}}
    document = planned(json.dumps(changes))
    found = answered(1, json.dumps(changes), speed_change=1.0)["years"]
    assert document["revenue"]["usd_per_query"] == pytest.approx(found[0]["revenue_usd_per_query"], rel=1e-12)
    assert found[0]["revenue_usd_per_query"] < found[1]["revenue_usd_per_query"] < 0.001


def test_a_year_that_no_fleet_can_serve_keeps_its_reason_and_the_next_is_planned():
    gpus = planned()["fleet"]["gpus"]
    document = answered(2, json.dumps({"fleet.max_gpus": gpus}), traffic_change=1.0)
    assert [True, False, False] == [row["feasible"] for row in document["years"]]
    assert "fleet.max_gpus" in document["years"][1]["reason"]
    assert document["years"][1]["usd_per_query"] is None
    assert document["decline"]["cost_per_year"] is None


def test_a_scenario_that_no_fleet_can_serve_has_no_years():
    document = answered(1, json.dumps({"slo": {"p90_ttft_ms": "<=1"}}))
    assert document["feasible"] is False
    assert document["years"] == []


# --- rates ---


def test_the_documents_rates_are_read_off_their_cases():
    assert 1.5**0.5 - 1 == pytest.approx(hardware_gain_per_year(), rel=1e-12)
    assert 10.0 == pytest.approx(stated_factor_per_year(), rel=1e-12)


def test_a_rate_that_is_not_given_is_assumed_and_listed():
    scenario = Scenario.from_dict(BASE)
    document = years(scenario, 1, YearlyChanges(traffic_change=0.0), requests=REQUESTS).as_dict()
    assert 1 / 1.5**0.5 - 1 == pytest.approx(document["rates"]["gpu_price_change"]["per_year"])
    assert {"traffic_change"} == {key for key, rate in document["rates"].items() if rate["given"]}
    listed = {row["what"]: row for row in document["provenance"] if row["what"].startswith("years")}
    assert {"gpu_price_change", "speed_change", "revenue_change", "the GPU", "the price paid", "all else"} == {
        what.removeprefix("years: ") for what in listed
    }
    assert "case hardware-trajectory" in listed["years: gpu_price_change"]["source"]
    assert "-18.4%" in listed["years: gpu_price_change"]["value"]


def test_beside_a_speed_that_is_given_the_price_stays():
    assert settled(YearlyChanges(speed_change=0.2)).gpu_price_change == 0
    assert settled(YearlyChanges(speed_change=0.2, gpu_price_change=-0.1)).gpu_price_change == -0.1


def test_the_parts_of_a_falling_cost_multiply_to_it():
    changes = {"prices.retrieval_usd_per_query": 0.0001}
    document = answered(2, json.dumps(changes), gpu_price_change=-0.2, traffic_change=0.4)
    told, first, last = document["decline"], document["years"][0], document["years"][2]
    cost = (last["usd_per_query"] / first["usd_per_query"]) ** 0.5
    assert cost == pytest.approx(told["cost_per_year"])
    assert 0.8 == pytest.approx(told["gpu_price_per_year"])
    assert ((last["gpus"] / first["gpus"]) ** 0.5 / 1.4) == pytest.approx(told["gpus_per_query_per_year"])
    parts = ("gpu_price_per_year", "gpus_per_query_per_year", "beside_gpus_per_year")
    product = told[parts[0]] * told[parts[1]] * told[parts[2]]
    assert cost == pytest.approx(product)
    assert told["beside_gpus_per_year"] > 1  # retrieval does not get cheaper
    assert 0.1 == pytest.approx(cost * told["left_per_year"])


def test_the_stated_fall_is_told_beside_every_year():
    found = answered(2)["years"]
    assert [1.0, 0.1, 0.01] == pytest.approx(
        [row["usd_per_query_at_stated_decline"] / found[0]["usd_per_query"] for row in found]
    )
    assert decline([])["cost_per_year"] is None


# --- what is refused ---

# years, rates, changes, key, because
REFUSED: list[tuple[int, dict[str, float], dict[str, Any], str, str]] = [
    (0, {}, {}, "years (=0): must be 1 to 50", "no year"),
    (51, {}, {}, "years (=51): must be 1 to 50", "too many"),
    (1, {"traffic_change": -1.0}, {}, "traffic_change (=-1.0): must be above -1", "no traffic is left"),
    (1, {"speed_change": float("nan")}, {}, "speed_change (=nan): must be above -1", "no number"),
    (1, {"gpu_price_change": float("inf")}, {}, "gpu_price_change (=inf): must be above -1", "no number"),
    (50, {"revenue_change": 1.0}, {}, "revenue_change (=1.0): comes to a factor of 1.13e+15 in 50 years", "too much"),
    (1, {}, {"prices": None}, "prices.gpu_hour_usd: is required", "nothing to change"),
    (1, {}, {"slo": None}, "slo: is required", "nothing to plan for"),
    (
        1,
        {},
        {"traffic": {"arrivals": {"offline": {"requests": 100}}}, "slo": {"mean_e2e_ms": "<=600000"}},
        "traffic.peak_qps: is required",
        "a load without a rate",
    ),
]


@pytest.mark.parametrize(("count", "rates", "changes", "says", "because"), REFUSED)
def test_bad_input_is_refused_by_name(
    count: int, rates: dict[str, float], changes: dict[str, Any], says: str, because: str
):
    scenario = Scenario.from_dict(BASE).with_values(changes)
    with pytest.raises((InputError, ScenarioError)) as raised:
        years(scenario, count, YearlyChanges(**rates), requests=REQUESTS)
    assert says in str(raised.value), because
