"""The bill split into busy and idle, and a training bill beside it: rows by hand, and to the cent by law."""

from __future__ import annotations

from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Ads,
    Demand,
    Prices,
    Training,
    training_usd_per_query,
    unit_economics,
)
from tests.gpu_hours import all_prices, demands, shares

# --- usage and allocation ---


@pytest.mark.parametrize(
    ("utilisation", "usage", "idle", "because"),
    [
        ((1.0,) * 24, 0.002, 0.0, "always busy: all of it is usage"),
        ((0.0,) * 24, 0.0, 0.002, "never busy: all of it is idle"),
        ((1.0,) * 12 + (0.5,) * 12, 0.0015, 0.0005, "three quarters busy"),
    ],
)
def test_usage_is_the_busy_share_of_the_bill(utilisation: Any, usage: float, idle: float, because: str) -> None:
    answer = unit_economics(2, Prices(3.6), Demand(1.0), utilisation=utilisation)
    assert answer.allocation is not None
    split = answer.allocation
    assert (pytest.approx(usage), pytest.approx(idle)) == (split.usage_usd_per_query, split.idle_usd_per_query), because
    assert pytest.approx(48.0) == split.busy_gpu_hours + split.idle_gpu_hours


def test_retrieval_is_usage_however_idle_the_gpus() -> None:
    prices = Prices(3.6, retrieval_usd_per_query=0.001)
    answer = unit_economics(1, prices, Demand(1.0, uncached_share=0.5), utilisation=(0.0,) * 24)
    assert answer.allocation is not None
    assert pytest.approx(0.0005) == answer.allocation.usage_usd_per_query


def test_without_a_price_or_a_utilisation_nothing_is_split() -> None:
    assert unit_economics(1, Prices(None), Demand(1.0), utilisation=(0.5,) * 24).allocation is None
    assert unit_economics(1, Prices(1.0), Demand(1.0)).allocation is None


@given(st.integers(1, 10_000), all_prices, demands, st.lists(shares, min_size=24, max_size=24))
def test_usage_and_idle_add_up_to_the_bill_to_the_cent(gpus, prices, demand, utilisation):
    answer = unit_economics(gpus, prices, demand, utilisation=utilisation)
    assert answer.cost is not None
    assert answer.allocation is not None
    split, queries = answer.allocation, demand.day_queries
    bill = fsum(line.product_usd for line in answer.lines)
    both = (split.usage_usd_per_query + split.idle_usd_per_query) * queries
    assert abs(bill - both) <= 0.005 + 1e-12 * bill
    assert split.idle_usd_per_query >= 0
    assert split.usage_usd_per_query >= 0


# --- training ---


@pytest.mark.parametrize(
    ("usd", "months", "queries", "per_query", "because"),
    [
        (1_397_107.4380165292, 12, 1e9 / 365, 1_397_107.4380165292 / 1e9, "GPT-3's training over a billion queries"),
        (1_397_107.4380165292, 12, 2.1e12 / 365, 6.65289e-07, "and over a year of the world's searches"),
        (100.0, 24, 86_400, 100 / 730 / 86_400, "two years are 730 days"),
    ],
)
def test_training_is_spread_over_the_queries_of_its_months(usd, months, queries, per_query, because):
    demand = Demand(queries / 86_400)
    assert pytest.approx(per_query, rel=1e-6) == training_usd_per_query(Training(usd, months), demand), because


def test_a_training_bill_stands_beside_cost_and_margin_not_in_them():
    plain = unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.002))
    trained = unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.002), training=Training(1e6, 12))
    assert plain.cost == trained.cost
    assert plain.break_even == trained.break_even
    assert plain.margin is not None
    assert trained.margin is not None
    assert trained.training_usd_per_query is not None
    assert plain.margin.after_training_usd_per_query is None
    after = trained.margin.usd_per_query - trained.training_usd_per_query
    assert pytest.approx(after) == trained.margin.after_training_usd_per_query
    assert any("leave the training bill out" in note for note in trained.notes)
