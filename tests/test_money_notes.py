"""What an answer about money says beside its figures: what may be counted twice, split, or the wrong way round."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from planner import Scenario
from planner.economics import Ads, Api, Demand, Prices, RevenueModel, unit_economics
from planner.pricing import money_document
from planner.studies.sweep import sweep
from planner.summary import plan_text
from planner.summary.economics import economics_text
from tests.bad_scenarios import GOOD
from tests.summary_documents import PLAN

TOKENS = Demand(10.0, prompt_tokens=1000, output_tokens=200, cached_prompt_share=0.25)
STAFFED = Prices(2.0, 0.9, staff_usd_per_year=87_600.0)

NOTES: list[tuple[Prices, RevenueModel, str, bool, str]] = [
    # prices, revenue, words, whether a note has them, because
    (STAFFED, Ads(usd_per_query=0.01), "staff may be counted twice", True, "own staff, and a share beside compute"),
    (replace(STAFFED, compute_share=1.0), Ads(usd_per_query=0.01), "counted twice", False, "own staff alone"),
    (Prices(2.0, 0.9), Ads(usd_per_query=0.01), "counted twice", False, "the share alone"),
    (Prices(2.0), Api(0.5, 2.0, 0.6), "cached input is sold dearer ($0.6", True, "a cache that costs more"),
    (Prices(2.0), Api(0.5, 2.0, 0.5), "cached input", False, "as dear as other input"),
    (Prices(2.0), Api(0.5, 2.0), "cached input", False, "no price of its own"),
]


@pytest.mark.parametrize(("prices", "model", "words", "there", "because"), NOTES, ids=[row[4] for row in NOTES])
def test_a_note_stands_where_a_bill_may_mislead(
    prices: Prices, model: RevenueModel, words: str, there: bool, because: str
) -> None:
    notes = unit_economics(2, prices, TOKENS, model).notes
    assert there == any(words in note for note in notes), because


def test_a_missing_revenue_names_all_four_ways_to_earn() -> None:
    notes = unit_economics(2, Prices(2.0), TOKENS).notes
    assert "margin left out: no revenue was given (revenue.ads, .subscription, .api or .per_word)" in notes


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (None, "the peak load in all 24 hours: the day is flat"),
        ((1.0,) * 24, "the peak load in all 24 hours: the day is flat"),
        ((1.0,) * 12 + (0.5,) * 12, "the day's load shape"),
    ],
)
def test_a_cost_per_query_says_at_which_load_it_is_stated(day: tuple[float, ...] | None, words: str) -> None:
    notes = unit_economics(2, Prices(2.0), Demand(10.0, day)).notes
    assert f"cost per query is stated at {words}, cached queries included" in notes


MIX = [
    {"kind": "reserved", "share": 0.6, "gpu_hour_usd": 2.0},
    {"kind": "on_demand", "share": 0.4, "gpu_hour_usd": 4.0},
]


@pytest.mark.parametrize(
    ("gpus", "note", "because"),
    [
        (2, "the shares of prices.commitments are billed as parts of a GPU: of 2, 1.2 reserved, 0.8 on demand", "1.2"),
        (5, None, "three and two"),
    ],
)
def test_shares_that_are_no_whole_gpus_are_said(gpus: int, note: str | None, because: str) -> None:
    scenario = Scenario.from_dict(GOOD | {"prices": {"commitments": MIX}})
    prices = Prices(2.8)
    money = unit_economics(gpus, prices, TOKENS)
    found = money_document(scenario, gpus, prices, money, None)["economics_notes"]
    assert list(money.notes) == found[: len(money.notes)]
    assert ([] if note is None else [note]) == found[len(money.notes) :], because


# --- in the text answers ---


def answer(**more: Any) -> str:
    """The text of `economics` for the plan's document with more in it."""
    document = {**copy.deepcopy(PLAN), "best_slo": None, "levers": {}, "bases": [], "gaps": [], **more}
    return " ".join(economics_text(document).split())


SKIP = {"threshold_usd_per_query": 0.0007, "replica_usd_per_hour": 8.49, "replica_qps": 4.37}


def test_the_marginal_query_says_that_staff_is_not_in_it() -> None:
    said = "The fleet's staff is not in it: one more query needs no more of it."
    staffed = {**PLAN["cost"], "price": {"parts": [{"what": "GPUs"}, {"what": "staff of the fleet"}]}}
    assert said in answer(levers={"skip_llm": SKIP}, cost=staffed)
    assert "One more query costs" in answer(levers={"skip_llm": SKIP})
    assert said not in answer(levers={"skip_llm": SKIP})


def test_one_replica_earns_and_two_earn() -> None:
    for serving, words in ((1, "1 serving replica (2 GPUs) earns most"), (2, "2 serving replicas (2 GPUs) earn most")):
        size = {"serving": serving, "gpus": 2}
        found = {"best": size, "own": size, "slo": {"p99_ttft_ms": 500.0}, "sizes": [size], "gained_usd_per_day": 0.0}
        assert words in answer(best_slo=found)


def test_the_rate_of_the_other_currency_stands_in_every_answer() -> None:
    cost = {**PLAN["cost"], "currency": {"code": "CNY", "per_usd": 7.1}}
    assert "Amounts are in USD; 1 USD = 7.1 CNY (prices.exchange_rates)." in answer(cost=cost)
    assert "1 USD = 7.1 CNY (prices.exchange_rates)" in plan_text({**PLAN, "cost": cost})
    assert "1 USD" not in answer()
    assert "1 USD" not in plan_text(PLAN)


SWEPT: list[tuple[dict[str, Any], list[str], str]] = [
    ({"gpu_hour_usd": 2.0}, [], "nothing to tell"),
    (
        {"gpu_hour_usd": 2.0, "retrieval_usd_per_query": 0.001},
        ["USD an hour is the fleet's, retrieval not in it; USD a query and the margin have it"],
        "two bases in one row",
    ),
    (
        {"gpu_hour_usd": "14.2 CNY", "exchange_rates": {"CNY": 7.1}, "currency": "CNY"},
        ["amounts are in USD; 1 USD = 7.1 CNY (prices.exchange_rates)"],
        "the currency is not shown",
    ),
]


@pytest.mark.parametrize(("prices", "notes", "because"), SWEPT, ids=[row[2] for row in SWEPT])
def test_a_sweep_says_what_its_columns_have_in_them(
    prices: dict[str, Any], notes: list[str], because: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.studies.sweep.planned", lambda *arguments: {"feasible": False, "reason": "not asked"})
    found = sweep(Scenario.from_dict(GOOD | {"prices": prices}), {"traffic.peak_qps": [5, 10]}).as_dict()
    assert notes == found["notes"], because
    assert [5, 10] == [point["values"]["traffic.peak_qps"] for point in found["points"]]
