"""Prices, revenue and the day in a plan: from the scenario's keys through the simulation to document and text."""

from __future__ import annotations

import json
from math import fsum
from typing import Any

import numpy as np
import pytest

import planner
from planner import Scenario, plan
from planner.economics import Demand, Patience, lost_queries
from planner.economics.bases import ListPrice, QueryTokens, list_price
from planner.errors import InputError, MisfitError, UnknownNameError
from planner.pricing import leaving, priced
from planner.simulation.outcome import Latencies
from planner.specs import Gpu

SMALL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 4096, "max_num_seqs": 64},
    "traffic": {"peak_qps": 60.0, "day": [1.0] * 12 + [0.25] * 12},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}},
                "output_tokens": 120,
                "shared_prefix": {"tokens": 200},
            }
        ],
        "response_cache": {"hit_rate": 0.25},
    },
    "slo": {"p90_ttft_ms": "<=400", "mean_tpot_ms": "<=20"},
    "prices": {"gpu_hour_usd": 3.0},
    "revenue": {"ads": {"usd_per_query": 0.002}},
}
QUERIES = 60 * 3600 * 15.0  # of the day: twelve hours at the peak, twelve at a quarter of it
OWN = {"capex_usd_per_gpu": 35_040, "life_years": 4}
STAY = {"metric": "e2e", "after_ms": 500, "per_100ms": 0.02}


def planned(**changes: Any) -> dict[str, Any]:
    result = plan(Scenario.from_dict(SMALL | changes), requests=2000, worlds=0)
    document: dict[str, Any] = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert result.feasible
    assert document == result.as_dict()
    return document


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return planned()


def assumed(document: dict[str, Any]) -> set[str]:
    return {row["what"] for row in document["provenance"] if row["kind"] == "assumed"}


# --- cost ---


def test_allocation_is_usage_and_idle_to_the_cent(plain: dict[str, Any]):
    cost = plain["cost"]
    busy = fsum(hour["utilisation"] for hour in plain["day"]) / 24
    assert cost["usage_usd_per_query"] == pytest.approx(busy * cost["usd_per_query"])
    both = (cost["usage_usd_per_query"] + cost["idle_usd_per_query"]) * QUERIES
    assert abs(both - fsum(line["product_usd"] for line in plain["cost_lines"])) < 0.005
    assert cost["busy_gpu_hours"] + cost["idle_gpu_hours"] == pytest.approx(24 * plain["fleet"]["gpus"])


def test_one_price_is_one_part(plain: dict[str, Any]):
    price = plain["cost"]["price"]
    assert ("given", 3.0) == (price["kind"], price["gpu_hour_usd"])
    assert [(1.0, "GPU-hour", 3.0, 3.0)] == [
        (part["quantity"], part["unit"], part["unit_price_usd"], part["usd_per_gpu_hour"]) for part in price["parts"]
    ]


def test_a_mix_prices_the_fleet_with_its_rate_cards():
    document = planned(
        prices={
            "commitments": [
                {"kind": "reserved", "share": 0.5, "gpu_hour_usd": {"rate_card": "reserved"}},
                {"kind": "on_demand", "share": 0.3, "gpu_hour_usd": {"rate_card": "on-demand"}},
                {"kind": "spot", "share": 0.2, "gpu_hour_usd": "14.2 CNY"},
            ],
            "exchange_rates": {"CNY": 7.1},
        }
    )
    cost = document["cost"]
    reserved, on_demand, spot = cost["price"]["parts"]
    assert ["always", "beyond_reserved", "beyond_reserved"] == [part["paid"] for part in (reserved, on_demand, spot)]
    effective = 0.5 * reserved["unit_price_usd"] + 0.3 * on_demand["unit_price_usd"] + 0.2 * 2.0
    assert cost["price"]["gpu_hour_usd"] == pytest.approx(effective)
    assert cost["usd_per_hour"] == pytest.approx(document["fleet"]["gpus"] * effective)
    assert "prices.commitments[2].interruption_share" in assumed(document)
    sources = {row["what"]: row["source"] for row in document["provenance"]}
    assert "reserved h100-sxm-80gb" in sources["prices.commitments[0].gpu_hour_usd"]
    assert "on-demand h100-sxm-80gb" in sources["prices.commitments[1].gpu_hour_usd"]


def test_owned_hardware_is_priced_part_by_part_and_its_assumptions_listed():
    document = planned(
        prices={"own": OWN | {"staff_usd_per_year": 876_000}, "energy": {"usd_per_kwh": 0.1}, "compute_share": 0.5}
    )
    cost, gpus = document["cost"], document["fleet"]["gpus"]
    gpu_hour = 1.0 + 0.7 * 1.56 * 0.1 + 100 / gpus  # 700 W of the catalogue, the survey's PUE, 100 $ an hour of staff
    assert cost["price"]["kind"] == "own"
    assert cost["price"]["gpu_hour_usd"] == pytest.approx(gpu_hour)
    assert fsum(part["usd_per_gpu_hour"] for part in cost["price"]["parts"]) == pytest.approx(gpu_hour)
    assert cost["usd_per_hour"] == pytest.approx(2 * gpus * gpu_hour)
    bill = fsum(line["product_usd"] for line in document["cost_lines"])
    assert bill == pytest.approx(24 * cost["usd_per_hour"])
    told = {"prices.own.residual_share", "prices.own.hosting_usd_per_gpu_month", "prices.energy.pue"}
    assert told | {"prices.own.watts_per_gpu"} <= assumed(document)
    assert "prices.own.staff_usd_per_year" not in assumed(document)
    chosen = next(row for row in document["alternatives"] if row["chosen"])
    assert chosen["usd_per_hour"] == cost["usd_per_hour"]


def test_a_training_bill_is_spread_over_the_plans_own_volume():
    document = planned(prices={"gpu_hour_usd": 3.0, "training": {"usd": 365_000, "months": 12}})
    per_query = 365_000 / (365 * QUERIES)
    cost = document["cost"]
    assert cost["amortised_training_usd_per_query"] == pytest.approx(per_query)
    assert cost["usd_per_query_with_training"] == pytest.approx(cost["usd_per_query"] + per_query)
    left = document["margin"]["usd_per_query"] - per_query
    assert document["margin"]["after_training_usd_per_query"] == pytest.approx(left)


# --- the day ---


def test_a_fleet_that_follows_the_day_is_shown_beside_the_static_one(plain: dict[str, Any]):
    shape, fleet = plain["load_shape"], plain["fleet"]
    serving = fleet["replicas"]
    quiet = -(-serving // 4)
    assert [serving] * 12 + [quiet] * 12 == shape["following"]["replicas"]
    assert (serving, (serving + quiet) / 2) == (shape["peak_replicas"], shape["mean_replicas"])
    assert shape["static"] == {"gpu_hours": 24.0 * serving, "usd_per_day": 24 * plain["cost"]["usd_per_hour"]}
    starting = (serving - quiet) * 300 / 3600  # before midnight, five minutes of those that the next hour needs
    assert shape["following"]["startup_gpu_hours"] == pytest.approx(starting)
    hours = 12 * (serving + quiet) + starting
    assert shape["following"]["gpu_hours"] == pytest.approx(hours)
    assert shape["following"]["usd_per_day"] == pytest.approx(3 * hours)


def test_the_shape_of_the_load_follows_the_fleets_keys():
    document = planned(fleet={"spare_replicas": 1, "min_replicas": 3, "startup_s": 1800})
    shape = document["load_shape"]
    assert shape["peak_replicas"] == document["fleet"]["replicas"]
    assert shape["following"]["replicas"][23] == 3
    rise = shape["peak_replicas"] - 3
    assert shape["following"]["startup_gpu_hours"] == pytest.approx(rise / 2)


def test_demand_without_a_day_has_no_shape():
    traffic = {"arrivals": {"closed": {"concurrency": 60, "requests_per_client": 4}}}
    query = {"stages": SMALL["query"]["stages"]}
    document = planned(traffic=traffic, query=query)
    assert document["load_shape"] is None
    cost = document["cost"]
    assert cost["usage_usd_per_query"] + cost["idle_usd_per_query"] == pytest.approx(cost["usd_per_query"])


def test_without_a_price_the_shape_is_told_in_gpu_hours():
    document = planned(prices={})
    assert document["cost"] is None
    assert document["load_shape"]["static"]["usd_per_day"] is None
    assert document["load_shape"]["following"]["usd_per_day"] is None
    assert document["load_shape"]["following"]["gpu_hours"] < document["load_shape"]["static"]["gpu_hours"]


# --- revenue ---


def test_tokens_are_sold_with_the_simulated_hit_rate_of_the_prefix_cache():
    api = {"usd_per_million_input": 0.5, "usd_per_million_cached_input": 0.05, "usd_per_million_output": 2.0}
    document = planned(revenue={"api": api})
    revenue, hit = document["revenue"], document["at_peak"]["prefix_cache_hit_rate"]
    assert hit > 0.2
    fresh, held, output = revenue["lines"]
    assert held["quantity"] / (fresh["quantity"] + held["quantity"]) == pytest.approx(hit)
    assert output["quantity"] == pytest.approx(QUERIES * 120 / 1e6)
    total = fsum(line["product_usd"] for line in revenue["lines"])
    assert revenue["usd_per_query"] == pytest.approx(total / QUERIES)
    assert revenue["model"] == "api"
    assert {"revenue.api: cached input", "revenue: answers from the response cache"} <= assumed(document)


def test_words_are_sold_once_however_many_samples_were_drawn():
    stage = SMALL["query"]["stages"][0] | {"samples": 2}
    first = {"name": "draft", "prompt_tokens": 300, "output_tokens": 40}
    words = {"per_word": {"usd_per_1000_words": 1.0, "words_per_1000_tokens": 1000}}
    document = planned(query={"stages": [first, stage]}, revenue=words, traffic={"peak_qps": 10.0})
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.12)


def test_a_prompt_is_billed_once_for_all_its_samples_as_the_list_price_has_it():
    """800 tokens in, three answers of 150: 800 · 1 $ + 450 · 3 $ a million are 0.00215 $, not 0.00375 $."""
    stage = {"name": "answer", "prompt_tokens": 800, "output_tokens": 150, "samples": 3}
    api = {"api": {"usd_per_million_input": 1.0, "usd_per_million_output": 3.0}}
    changes = {"query": {"stages": [stage], "response_cache": {"hit_rate": 0.3}}, "traffic": {"peak_qps": 10.0}}
    document = planned(revenue=api, **changes)
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.00215)
    basis = list_price(QueryTokens(2400, 450, 800, uncached_share=0.7), ListPrice(1.0, 3.0))
    assert basis.usd_per_query == pytest.approx(0.7 * document["revenue"]["usd_per_query"])


def test_samples_of_tokens_sold_are_flagged():
    stage = SMALL["query"]["stages"][0] | {"samples": 2}
    api = {"api": {"usd_per_million_input": 0.5, "usd_per_million_output": 2.0}}
    document = planned(query={"stages": [stage]}, revenue=api, traffic={"peak_qps": 10.0})
    assert "revenue.api: samples of answer" in assumed(document)


def test_a_subscribers_month_is_told_at_the_plans_cost():
    subscription = {"usd_per_month": 20, "queries_per_month": 400, "tail": {"lognormal": {"cv": 2}}, "days": 30}
    document = planned(revenue={"subscription": subscription})
    month, per_query = document["revenue"]["subscription"], document["cost"]["usd_per_query"]
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.05)
    assert month["subscribers"] == pytest.approx(QUERIES * 30 / 400)
    assert month["cost_usd_per_month"] == pytest.approx(400 * per_query)
    assert month["break_even_queries_per_month"] == pytest.approx(20 / per_query)
    assert [50, 90, 99, 99.9] == [heavy["percentile"] for heavy in month["heavy"]]
    assert "revenue.subscription.days" not in assumed(document)


def test_who_leaves_is_told_by_every_simulated_latency(plain: dict[str, Any]):
    document = planned(revenue=SMALL["revenue"] | {"abandonment": STAY})
    gone, revenue = document["revenue"]["abandonment"], document["revenue"]
    assert document["at_peak"]["e2e_ms"] == plain["at_peak"]["e2e_ms"]
    by_mean = 0.75 * (1 - 0.98 ** ((plain["at_peak"]["e2e_ms"]["mean"] - 500) / 100))
    assert 0.5 * by_mean < gone["lost_share"] < by_mean  # convex in the wait: the mean overstates, the fast ones stay
    assert revenue["usd_per_query"] == pytest.approx(0.002 * (1 - gone["lost_share"]))
    assert document["margin"]["usd_per_query"] == pytest.approx(
        revenue["usd_per_query"] - document["cost"]["usd_per_query"]
    )
    # Everybody waits beyond 500 ms, so 100 ms more keep 98 % of those who stay among the uncached three quarters.
    stayed = 0.75 - gone["lost_share"]
    at_risk = 0.002 * stayed * 0.02
    assert gone["at_risk_usd_per_query_per_100ms"] == pytest.approx(at_risk, rel=1e-6)
    assert gone["at_risk_usd_per_day_per_100ms"] == pytest.approx(at_risk * QUERIES, rel=1e-6)
    assert "revenue.abandonment: latencies of the day" in assumed(document)


def test_nobody_who_leaves_is_nothing_that_changes(plain: dict[str, Any]):
    document = planned(revenue=SMALL["revenue"] | {"abandonment": STAY | {"per_100ms": 0}})
    assert document["revenue"]["abandonment"]["lost_share"] == 0
    assert plain["revenue"]["lines"] == document["revenue"]["lines"]  # no line that takes off nothing
    for key in ("cost", "margin", "break_even", "cost_lines", "day", "load_shape"):
        assert document[key] == plain[key], key


@pytest.mark.parametrize("metric", ["ttft", "e2e"])
def test_users_wait_for_what_the_scenario_says(metric: str):
    told = SMALL["revenue"] | {"abandonment": STAY | {"metric": metric, "after_ms": 0}}
    ttft_ms, e2e_ms = np.array([100.0, 300.0]), np.array([1000.0, np.inf])
    latencies = Latencies(ttft_ms, ttft_ms, e2e_ms, e2e_ms, np.zeros(2, np.int64))
    demand = Demand(10.0, uncached_share=0.75)
    found = leaving(Scenario.from_dict(SMALL | {"revenue": told}), demand, lambda of_peak: latencies)
    patience = Patience(metric, 0.02, 0)  # type: ignore[arg-type]
    expected = lost_queries({"ttft": ttft_ms, "e2e": e2e_ms}[metric], patience, 0.75)
    assert found is not None
    assert patience == found[0]
    assert (expected.share, expected.share_100ms_later) == (found[1].share, found[1].share_100ms_later)


def test_quiet_hours_lose_less_and_count_with_their_queries():
    """Twelve hours at the peak and twelve at a quarter of it: the day loses less than its busiest hour."""
    told = planned(revenue=SMALL["revenue"] | {"abandonment": STAY})["revenue"]["abandonment"]
    assert 0.8 * told["lost_share_at_peak"] < told["lost_share"] < told["lost_share_at_peak"]
    flat = planned(revenue=SMALL["revenue"] | {"abandonment": STAY}, traffic={"peak_qps": 60.0})
    gone = flat["revenue"]["abandonment"]
    assert gone["lost_share"] == gone["lost_share_at_peak"] == told["lost_share_at_peak"]
    assert "the day is flat" in " ".join(flat["economics_notes"])


def test_ads_that_nobody_stays_for_are_counted():
    ads = {"ecpm_usd": 5, "ads_per_query": 2, "fill": 0.8, "commercial_share": 0.25}
    revenue = planned(revenue={"ads": ads, "abandonment": STAY})["revenue"]
    assert revenue["impressions_per_query"] == pytest.approx(0.4)
    lost = revenue["abandonment"]["lost_share"] * QUERIES * 0.4
    assert lost == pytest.approx(revenue["abandonment"]["lost_impressions"])
    flat = planned(revenue=SMALL["revenue"] | {"abandonment": STAY})["revenue"]["abandonment"]
    assert flat["lost_impressions"] is None


def test_ads_on_a_share_of_the_queries():
    document = planned(revenue={"ads": {"usd_per_query": 0.01, "commercial_share": 0.2}})
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.002)
    assert document["revenue"]["lines"][0]["quantity"] == pytest.approx(QUERIES / 5)


# --- what others read ---


def test_an_answer_without_the_new_keys_has_them_empty(plain: dict[str, Any]):
    assert (None, None, None) == (
        plain["cost"]["amortised_training_usd_per_query"],
        plain["cost"]["currency"],
        plain["uncertainty"],
    )
    assert ("ads", None, None) == tuple(plain["revenue"][key] for key in ("model", "abandonment", "subscription"))
    assert plain["margin"]["after_training_usd_per_query"] is None
    assert plain["cost"]["usd_per_query"] == pytest.approx(plain["fleet"]["gpus"] * 72 / QUERIES)


def test_a_plan_that_does_not_fit_has_no_money_either():
    document = plan(Scenario.from_dict(SMALL | {"slo": {"p90_ttft_ms": "<=1"}}), requests=1000).as_dict()
    assert not document["feasible"]
    assert (None, None, None) == (document["cost"], document["revenue"], document["load_shape"])


def test_the_printed_plan_shows_the_other_currency():
    scenario = Scenario.from_dict(
        SMALL | {"prices": {"gpu_hour_usd": "21.3 CNY", "exchange_rates": {"CNY": 7.1}, "currency": "CNY"}}
    )
    answer = planner.plan(scenario, requests=2000, worlds=0)
    cost = answer.as_dict()["cost"]
    assert cost["currency"] == {"code": "CNY", "per_usd": 7.1}
    assert cost["price"]["gpu_hour_usd"] == pytest.approx(3.0)
    assert "CNY)" in str(answer).split("\n\n")[1]


# --- what the catalogue decides ---


def test_hardware_without_a_known_draw_must_be_told_one():
    scenario = Scenario.from_dict(SMALL | {"prices": {"own": OWN, "energy": {"usd_per_kwh": 0.1}}})
    gpu = unknown_draw()
    with pytest.raises(MisfitError, match=r"^prices\.own\.watts_per_gpu: is required: .* a10g-24gb$"):
        priced(gpu, scenario)
    told = scenario.with_values({"prices.own.watts_per_gpu": 300})
    assert "prices.own.watts_per_gpu" not in {row.what for row in priced(gpu, told).provenance}


def unknown_draw() -> Gpu:
    from planner.catalogue.hardware import gpu

    found = gpu("a10g-24gb")
    assert found.power_w is None
    return found


@pytest.mark.parametrize(
    ("prices", "starts", "holds", "because"),
    [
        (
            {"commitments": [{"kind": "spot", "share": 1, "gpu_hour_usd": {"rate_card": "spott"}}]},
            "prices.commitments[0].gpu_hour_usd.rate_card (=spott): must be one of",
            "nearest: spot",
            "misspelt",
        ),
        (
            {"gpu_hour_usd": {"rate_card": "reservd"}},
            "prices.gpu_hour_usd.rate_card (=reservd): must be one of",
            "nearest: reserved",
            "misspelt",
        ),
        (
            {"commitments": [{"kind": "on_demand", "share": 1, "gpu_hour_usd": {"rate_card": "on-demand"}}]},
            "prices.commitments[0].gpu_hour_usd.rate_card (=on-demand): the rate card has no such price for rtx-4090",
            "give prices.commitments[0].gpu_hour_usd as a number",
            "no price of that GPU",
        ),
    ],
)
def test_a_price_that_the_catalogue_lacks_is_named_by_its_key(prices: Any, starts: str, holds: str, because: str):
    scenario = Scenario.from_dict(SMALL | {"prices": prices, "hardware": "rtx-4090-24gb"})
    with pytest.raises(UnknownNameError) as caught:
        plan(scenario, requests=1000)
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value), because
    assert isinstance(caught.value, InputError)


def test_a_reserved_rate_card_is_paid_for_by_a_following_fleet_too():
    held = Scenario.from_dict(SMALL | {"prices": {"gpu_hour_usd": {"rate_card": "reserved"}}})
    running = Scenario.from_dict(SMALL | {"prices": {"gpu_hour_usd": {"rate_card": "on-demand"}}})
    from planner.catalogue.hardware import gpu

    h100 = gpu("h100-sxm-80gb")
    assert ["always"] == [part.paid for part in priced(h100, held).prices.parts]
    assert () == priced(h100, running).prices.parts
