"""Prices and revenue of a scenario: what is read, what is written back, and what is refused in which words."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from planner.errors import ScenarioError
from planner.scenario import Scenario, dotted_keys, json_schema
from planner.scenario.amounts import Money

GOOD: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 10},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
    "slo": {"p99_ttft_ms": "<=1000"},
}
CNY = {"exchange_rates": {"CNY": 7.1}}
MIX = [
    {"kind": "reserved", "share": 0.6, "gpu_hour_usd": 2.0},
    {"kind": "on_demand", "share": 0.3, "gpu_hour_usd": {"rate_card": "on-demand"}},
    {"kind": "spot", "share": 0.1, "gpu_hour_usd": 1.0, "interruption_share": 0.05},
]
OWN = {"capex_usd_per_gpu": 32_000.0, "life_years": 4.0}
KWH = {"usd_per_kwh": 0.1}
ADS = {"usd_per_query": 0.04}
SUBSCRIPTION = {"usd_per_month": 20.0, "queries_per_month": 400.0}
API = {"usd_per_million_input": 0.5, "usd_per_million_output": 2.0}
WORDS = {"usd_per_1000_words": 0.82}
STAY = {"metric": "ttft", "per_100ms": 0.01}


def money(prices: Any = None, revenue: Any = None) -> Scenario:
    return Scenario.from_dict(GOOD | {"prices": prices, "revenue": revenue})


READ = [
    ({"commitments": MIX}, None),
    ({"own": OWN, "energy": KWH}, None),
    (
        {
            "own": OWN
            | {"residual_share": 0.1, "watts_per_gpu": 1300.0, "staff_usd_per_year": 1e6}
            | {"hosting_usd_per_gpu_month": 90.0},
            "energy": {"usd_per_kwh": "0.60 CNY", "pue": 1.3},
            **CNY,
        },
        None,
    ),
    ({"gpu_hour_usd": 2.0, "training": {"usd": 1.4e6, "months": 12.0}}, None),
    ({"gpu_hour_usd": "14.2 CNY", "currency": "CNY", **CNY}, None),
    ({"currency": "USD"}, {"ads": ADS | {"commercial_share": 0.3}}),
    (None, {"ads": {"revenue_usd_per_year": 224.6e9, "queries_per_year": 5e12}}),
    (None, {"ads": {"ecpm_usd": 18.0, "ads_per_query": 2.0, "commercial_share": 0.3}}),
    (None, {"subscription": SUBSCRIPTION | {"tail": {"lognormal": {"cv": 2.0}}, "days": 30.0}}),
    (None, {"api": API | {"usd_per_million_cached_input": 0.0}}),
    (None, {"per_word": WORDS | {"words_per_1000_tokens": 750.0}}),
    (None, {"ads": ADS, "abandonment": STAY | {"after_ms": 500.0}}),
    (None, {"api": API, "abandonment": STAY}),
]


@pytest.mark.parametrize(("prices", "revenue"), READ, ids=range(len(READ)))
def test_money_is_written_as_it_was_read(prices: Any, revenue: Any) -> None:
    scenario = money(prices, revenue)
    written = json.loads(json.dumps(scenario.as_dict()))
    assert (prices or {}).items() <= written["prices"].items()
    assert written.get("revenue") == revenue
    again = Scenario.from_dict(written)
    assert again == scenario
    assert again.as_dict() == scenario.as_dict()


def test_what_was_not_given_stays_out() -> None:
    scenario = money({"own": OWN, "energy": KWH}, {"subscription": SUBSCRIPTION})
    assert scenario.prices.own is not None
    assert (None, None, None, None) == (
        scenario.prices.own.residual_share,
        scenario.prices.own.watts_per_gpu,
        scenario.prices.own.staff_usd_per_year,
        scenario.prices.own.hosting_usd_per_gpu_month,
    )
    assert scenario.prices.energy is not None
    assert scenario.prices.energy.pue is None
    bare = money().as_dict()
    assert {"compute_share": 1.0, "retrieval_usd_per_query": 0.0, "currency": "USD"} == bare["prices"]
    assert "revenue" not in bare


# --- other currencies ---


def test_an_amount_in_another_currency_is_its_dollars_at_the_scenarios_rate() -> None:
    scenario = money({"gpu_hour_usd": "14.2 CNY", **CNY}, {"ads": {"usd_per_query": "0.0355CNY"}})
    assert scenario.prices.gpu_hour_usd == pytest.approx(2.0)
    assert scenario.revenue is not None
    assert scenario.revenue.ads is not None
    assert scenario.revenue.ads.usd_per_query == pytest.approx(0.005)
    assert money({"gpu_hour_usd": "3 USD"}).prices.gpu_hour_usd == 3


def test_another_rate_moves_every_amount_in_that_currency() -> None:
    scenario = money({"gpu_hour_usd": "14.2 CNY", **CNY})
    assert scenario.with_values({"prices.exchange_rates.CNY": "14.2"}).prices.gpu_hour_usd == pytest.approx(1.0)
    assert scenario.with_values({"gpu_hour_usd": "28.4 CNY"}).prices.gpu_hour_usd == pytest.approx(4.0)


def test_a_copied_amount_still_knows_how_it_was_written() -> None:
    amount = money({"gpu_hour_usd": "14.2 CNY", **CNY}).prices.gpu_hour_usd
    assert isinstance(amount, Money)
    for copied in (copy.deepcopy(amount), pickle.loads(pickle.dumps(amount))):
        assert (pytest.approx(2.0), "14.2 CNY") == (copied, copied.given)


def test_the_shown_currency_has_its_units_per_usd() -> None:
    assert money({"currency": "CNY", **CNY}).prices.per_usd == 7.1
    assert money({"gpu_hour_usd": 1}).prices.per_usd == 1


# --- what is refused ---

REFUSED = [
    # prices, revenue, the line starts with, holds, because
    ({"gpu_hour_usd": -1}, None, "prices.gpu_hour_usd (=-1):", "must be > 0", "negative price"),
    ({"gpu_hour_usd": "-3 CNY", **CNY}, None, "prices.gpu_hour_usd (=-3 CNY):", "must be > 0", "negative in CNY too"),
    ({"gpu_hour_usd": "3 CNY"}, None, "prices.gpu_hour_usd (=3 CNY):", "give prices.exchange_rates.CNY", "no rate"),
    (
        {"gpu_hour_usd": "3 CNH", **CNY},
        None,
        "prices.gpu_hour_usd (=3 CNH): has no exchange rate",
        "nearest: CNY",
        "another's rate",
    ),
    ({"gpu_hour_usd": "3 cny", **CNY}, None, "prices.gpu_hour_usd (=3 cny):", "nearest: 3 CNY", "small letters"),
    ({"gpu_hour_usd": "cheap"}, None, "prices.gpu_hour_usd (=cheap):", 'such as "14.5 CNY"', "no amount"),
    ({"gpu_hour_usd": "3"}, None, "prices.gpu_hour_usd (=3):", "must be a number in USD", "text without currency"),
    ({"gpu_hour_usd": "1e999 CNY", **CNY}, None, "prices.gpu_hour_usd", "must be finite", "beyond a float"),
    ({"retrieval_usd_per_query": "0.1 EUR"}, None, "prices.retrieval_usd_per_query (=0.1 EUR):", ".EUR", "no rate"),
    ({"exchange_rates": {"cny": 7}}, None, "prices.exchange_rates.cny (=7):", "nearest: CNY", "small letters"),
    ({"exchange_rates": {"YUAN": 7}}, None, "prices.exchange_rates.YUAN (=7):", "three letters", "no code"),
    ({"exchange_rates": {"USD": 1}}, None, "prices.exchange_rates.USD (=1):", "leave USD itself out", "USD in USD"),
    ({"exchange_rates": 7.1}, None, "prices.exchange_rates (=7.1):", "{CNY: 7.1}", "no mapping"),
    (
        {"exchange_rates": {"CNY": 0}, "gpu_hour_usd": "3 CNY"},
        None,
        "prices.exchange_rates.CNY (=0):",
        "must be >= 1e-09",
        "the rate is wrong, not the amount",
    ),
    ({"exchange_rates": {"CNY": -7}}, None, "prices.exchange_rates.CNY (=-7):", "must be >=", "negative rate"),
    (
        {"exchange_rates": {"CNY": "7.1"}},
        None,
        "prices.exchange_rates.CNY (=7.1):",
        "must be a number: leave the quotes out; nearest: 7.1",
        "quoted",
    ),
    ({"exchange_rates": {"CNY": "x"}}, None, "prices.exchange_rates.CNY (=x):", "must be a number", "text"),
    ({"currency": "EUR"}, None, "prices.currency (=EUR):", "give prices.exchange_rates.EUR, in EUR per USD", "no rate"),
    ({"currency": "cny", **CNY}, None, "prices.currency (=cny):", "nearest: CNY", "small letters"),
    ({"currency": "dollars"}, None, "prices.currency (=dollars):", "three letters", "a word"),
    (
        {"commitments": MIX[:2]},
        None,
        "prices.commitments (=",
        "the shares must add up to 1, not 0.9",
        "a tenth is missing",
    ),
    (
        {"commitments": [MIX[0] | {"share": 60}]},
        None,
        "prices.commitments[0].share (=60):",
        "must be <= 1",
        "per cent for a share",
    ),
    ({"commitments": [MIX[0] | {"share": 0}]}, None, "prices.commitments[0].share (=0):", "must be >=", "nothing"),
    (
        {"gpu_hour_usd": 2, "compute_share": "95%"},
        None,
        "prices.compute_share (=95%):",
        "must be a number: a share, 0.3 for 30 %; nearest: 0.95",
        "a per cent in text",
    ),
    (
        None,
        {"ads": ADS | {"commercial_share": 30}},
        "revenue.ads.commercial_share (=30):",
        "must be <= 1: a share, 0.3 for 30 %; nearest: 0.3",
        "a per cent as a number",
    ),
    (None, {"ads": ADS | {"fill": -5}}, "revenue.ads.fill (=-5):", "a share, 0.3 for 30 %", "below every share"),
    (
        None,
        {"ads": ADS, "abandonment": STAY | {"per_100ms": 1.5}},
        "revenue.abandonment.per_100ms (=1.5):",
        "must be < 1: a share, 0.3 for 30 %; nearest: 0.015",
        "a small per cent",
    ),
    (
        None,
        {"ads": ADS | {"commercial_share": True}},
        "revenue.ads.commercial_share (=true):",
        "must be a number",
        "neither",
    ),
    (
        {"commitments": [MIX[0] | {"kind": "on-demand"}]},
        None,
        "prices.commitments[0].kind (=on-demand):",
        "nearest: on_demand",
        "misspelt",
    ),
    (
        {"commitments": [MIX[0] | {"interruption_share": 0.1}]},
        None,
        "prices.commitments[0].interruption_share (=0.1):",
        "is of spot only",
        "reserved capacity stays",
    ),
    (
        {"commitments": [*MIX[:2], MIX[2] | {"interruption_share": 1}]},
        None,
        "prices.commitments[2].interruption_share (=1):",
        "must be < 1",
        "spot that is never there",
    ),
    (
        {"commitments": [{"kind": "reserved", "share": 1}]},
        None,
        "prices.commitments[0].gpu_hour_usd:",
        "is required",
        "absent is never zero",
    ),
    ({"commitments": []}, None, "prices.commitments (=[]):", "at least 1", "a mix of nothing"),
    ({"commitments": MIX, "gpu_hour_usd": 2}, None, "prices.commitments (=", "give only one of", "two prices"),
    (
        {"own": OWN, "energy": KWH, "gpu_hour_usd": 2},
        None,
        "prices.own (=",
        "give only one of: gpu_hour_usd, own",
        "rented and bought",
    ),
    ({"own": OWN}, None, "prices.energy.usd_per_kwh:", "is required beside own", "hardware without power"),
    ({"energy": KWH}, None, "prices.energy (=", "only beside prices.own", "power of rented GPUs"),
    (
        {"own": OWN | {"residual_share": 1}, "energy": KWH},
        None,
        "prices.own.residual_share (=1):",
        "must be < 1",
        "worth as much as new",
    ),
    ({"own": {"capex_usd_per_gpu": 1}, "energy": KWH}, None, "prices.own.life_years:", "is required", "how long?"),
    ({"own": OWN | {"life_years": 0}, "energy": KWH}, None, "prices.own.life_years (=0):", "must be >= 0.01", "zero"),
    ({"own": OWN | {"watts": 1}, "energy": KWH}, None, "prices.own.watts (=1):", "watts_per_gpu", "misspelt"),
    (
        {"own": OWN, "energy": KWH | {"pue": 0.9}},
        None,
        "prices.energy.pue (=0.9):",
        "must be >= 1",
        "a site below its computers",
    ),
    (
        {"own": OWN, "energy": {"usd_per_kwh": -1}},
        None,
        "prices.energy.usd_per_kwh (=-1):",
        "must be >= 0",
        "negative price",
    ),
    ({"training": {"usd": 1e6}}, None, "prices.training.months:", "is required", "spread over what?"),
    ({"training": {"usd": 0, "months": 1}}, None, "prices.training.usd (=0):", "must be > 0", "free training"),
    (None, {}, "revenue.ads:", "exactly one of ads, subscription, api, per_word", "revenue from nothing"),
    (None, {"abandonment": STAY}, "revenue.ads:", "is required", "nothing to lose"),
    (None, {"ads": ADS, "api": API}, "revenue.api (=", "give only one of: ads, api", "two models"),
    (None, {"per_words": WORDS}, "revenue.per_words (=", "nearest: per_word", "misspelt"),
    (
        None,
        {"ads": {"revenue_usd_per_year": 1e11}},
        "revenue.ads.queries_per_year:",
        "is required beside revenue_usd_per_year",
        "revenue without queries",
    ),
    (
        None,
        {"ads": {"queries_per_year": 1e12}},
        "revenue.ads.revenue_usd_per_year:",
        "is required beside queries_per_year",
        "queries without revenue",
    ),
    (
        None,
        {"ads": {"revenue_usd_per_year": 1e11, "queries_per_year": 0}},
        "revenue.ads.queries_per_year (=0):",
        "must be >= 1",
        "no queries",
    ),
    (
        None,
        {"ads": ADS | {"queries_per_year": 5}},
        "revenue.ads.usd_per_query (=0.04):",
        "or queries_per_year without it",
        "two forms",
    ),
    (
        None,
        {"ads": {"revenue_usd_per_year": 1, "queries_per_year": 1, "fill": 0.5}},
        "revenue.ads.revenue_usd_per_year (=1):",
        "fill without them",
        "two forms",
    ),
    (
        None,
        {"ads": {"revenue_usd_per_year": 1, "queries_per_year": 1, "commercial_share": 0.5}},
        "revenue.ads.commercial_share (=0.5):",
        "leave it out",
        "the average has it in it",
    ),
    (None, {"ads": ADS | {"commercial_share": 30}}, "revenue.ads.commercial_share (=30):", "must be <= 1", "per cent"),
    (None, {"ads": {"ecpm_usd": 5}}, "revenue.ads.ads_per_query:", "is required beside ecpm_usd", "half a form"),
    (
        None,
        {"subscription": {"usd_per_month": 20}},
        "revenue.subscription.queries_per_month:",
        "is required",
        "revenue without queries",
    ),
    (
        None,
        {"subscription": SUBSCRIPTION | {"queries_per_month": 0}},
        "revenue.subscription.queries_per_month (=0):",
        "must be >= 0.001",
        "nobody asks",
    ),
    (
        None,
        {"subscription": SUBSCRIPTION | {"tail": {"lognormal": {"cv": 0}}}},
        "revenue.subscription.tail.lognormal.cv (=0):",
        "must be >= 0.001",
        "no tail",
    ),
    (
        None,
        {"subscription": SUBSCRIPTION | {"days": 365}},
        "revenue.subscription.days (=365):",
        "must be <= 31",
        "a year for a month",
    ),
    (None, {"api": {"usd_per_million_input": 1}}, "revenue.api.usd_per_million_output:", "is required", "half"),
    (
        None,
        {"api": API | {"usd_per_million_cached_input": -1}},
        "revenue.api.usd_per_million_cached_input (=-1):",
        "must be >= 0",
        "negative price",
    ),
    (
        None,
        {"per_word": WORDS | {"words_per_1000_tokens": 0}},
        "revenue.per_word.words_per_1000_tokens (=0):",
        "must be >= 1",
        "no words",
    ),
    (
        None,
        {"ads": ADS, "abandonment": STAY | {"per_100ms": 1}},
        "revenue.abandonment.per_100ms (=1):",
        "must be < 1",
        "nobody ever stays",
    ),
    (
        None,
        {"ads": ADS, "abandonment": STAY | {"per_100ms": -0.1}},
        "revenue.abandonment.per_100ms (=-0.1):",
        "must be >= 0",
        "impossible share",
    ),
    (
        None,
        {"ads": ADS, "abandonment": STAY | {"metric": "tpot"}},
        "revenue.abandonment.metric (=tpot):",
        "must be one of ttft, e2e",
        "nobody leaves a token",
    ),
    (
        None,
        {"subscription": SUBSCRIPTION, "abandonment": STAY},
        "revenue.abandonment (=",
        "may not stand beside subscription",
        "the month is paid",
    ),
]


@pytest.mark.parametrize(
    ("prices", "revenue", "starts", "holds", "because"), REFUSED, ids=[f"{row[2]}-{row[4]}" for row in REFUSED]
)
def test_bad_money_is_refused_in_one_line(prices: Any, revenue: Any, starts: str, holds: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        money(prices, revenue)
    line = str(caught.value)
    assert line.startswith(starts), (because, line)
    assert holds in line, (because, line)
    assert "\n" not in line


# --- the schema ---


@pytest.mark.parametrize(
    "key",
    [
        "prices.commitments[].share",
        "prices.commitments[].interruption_share",
        "prices.own.capex_usd_per_gpu",
        "prices.own.hosting_usd_per_gpu_month",
        "prices.energy.pue",
        "prices.training.months",
        "prices.exchange_rates",
        "revenue.ads.commercial_share",
        "revenue.ads.queries_per_year",
        "revenue.subscription.tail.lognormal.cv",
        "revenue.api.usd_per_million_cached_input",
        "revenue.per_word.words_per_1000_tokens",
        "revenue.abandonment.per_100ms",
    ],
)
def test_the_schema_knows_every_key_of_money(key: str) -> None:
    assert key in dotted_keys()


def test_the_schema_takes_amounts_as_numbers_and_as_text() -> None:
    price = json_schema()["$defs"]["Prices"]["properties"]["retrieval_usd_per_query"]
    assert ["number", "string"] == [kind["type"] for kind in price["anyOf"]]
