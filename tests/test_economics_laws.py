"""Laws of the economics, over random fleets, prices, days and revenues."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import Ads, Demand, Economics, Prices, fleet_cost, unit_economics

shares = st.floats(0, 1)
days = st.none() | st.lists(shares, min_size=23, max_size=23).map(lambda rest: (1.0, *rest))
demands = st.builds(
    Demand,
    peak_qps=st.floats(1e-3, 1e6),
    day=days,
    uncached_share=st.floats(0.01, 1),
    prompt_tokens=st.floats(1, 1e5),
    output_tokens=st.floats(1, 1e4),
)
all_prices = st.builds(
    Prices,
    gpu_hour_usd=st.floats(0.01, 100),
    compute_share=st.floats(0.1, 1),
    retrieval_usd_per_query=st.just(0.0) | st.floats(1e-6, 0.1),
)
fleets = st.integers(1, 10_000)
ads = st.builds(Ads, usd_per_query=st.floats(1e-4, 1.0))


def close_to_zero(answer: Economics) -> bool:
    """The margin is 0 within 1e-9 of the larger of revenue and cost."""
    assert answer.margin is not None
    assert answer.revenue is not None
    return abs(answer.margin.usd_per_query) <= 1e-9 * answer.revenue.usd_per_query


@given(fleets, all_prices, demands)
def test_doubling_the_gpu_price_doubles_the_compute_cost(gpus, prices, demand):
    once = fleet_cost(gpus, prices, demand)
    twice = fleet_cost(gpus, replace(prices, gpu_hour_usd=2 * prices.gpu_hour_usd), demand)
    assert once is not None
    assert twice is not None
    retrieval = prices.retrieval_usd_per_query * demand.uncached_share
    assert 2 * once.usd_per_hour == twice.usd_per_hour
    assert pytest.approx(2 * once.usd_per_million_tokens) == twice.usd_per_million_tokens
    assert pytest.approx(2 * once.usd_per_query) == twice.usd_per_query + retrieval


@given(fleets, all_prices, demands, ads)
def test_each_break_even_value_put_back_leaves_no_margin(gpus, prices, demand, revenue):
    values = unit_economics(gpus, prices, demand, revenue).break_even
    assert values.rpm_usd is not None
    assert close_to_zero(unit_economics(gpus, prices, demand, Ads(usd_per_query=values.rpm_usd / 1000)))
    pays_retrieval = revenue.usd_per_query > prices.retrieval_usd_per_query * demand.uncached_share
    assert pays_retrieval == (values.qps is not None) == (values.gpu_hour_usd is not None)
    if values.qps is not None and values.gpu_hour_usd is not None:
        assert close_to_zero(unit_economics(gpus, prices, replace(demand, peak_qps=values.qps), revenue))
        assert close_to_zero(unit_economics(gpus, replace(prices, gpu_hour_usd=values.gpu_hour_usd), demand, revenue))


@given(fleets, all_prices, demands, ads)
def test_cost_share_and_margin_fraction_add_up_to_one(gpus, prices, demand, revenue):
    margin = unit_economics(gpus, prices, demand, revenue).margin
    assert margin is not None
    assert margin.fraction is not None
    assert margin.cost_share_of_revenue is not None
    assert pytest.approx(1.0, abs=1e-9 * (1 + margin.cost_share_of_revenue)) == (
        margin.fraction + margin.cost_share_of_revenue
    )


@given(fleets, all_prices, demands)
def test_ten_times_the_queries_on_the_same_fleet_cost_a_tenth_each(gpus, prices, demand):
    """Baidu's "QPS ×10, cost to a tenth" is the arithmetic of a fixed bill; retrieval is paid by the query."""
    prices = replace(prices, retrieval_usd_per_query=0.0)
    before = fleet_cost(gpus, prices, demand)
    after = fleet_cost(gpus, prices, replace(demand, peak_qps=10 * demand.peak_qps))
    assert before is not None
    assert after is not None
    assert pytest.approx(before.usd_per_query / 10) == after.usd_per_query


@given(fleets, all_prices, demands)
def test_lines_hours_and_cost_per_query_are_one_and_the_same_bill(gpus, prices, demand):
    answer = unit_economics(gpus, prices, demand)
    assert answer.cost is not None
    bill = answer.cost.usd_per_query * demand.day_queries
    assert pytest.approx(bill) == fsum(line.product_usd for line in answer.lines)
    assert pytest.approx(bill) == fsum(hour.cost for hour in answer.day if hour.cost is not None)
    assert pytest.approx(demand.day_queries) == fsum(hour.queries for hour in answer.day)


@given(fleets, all_prices, demands, st.floats(0.01, 1))
def test_a_flatter_day_never_makes_a_query_dearer(gpus, prices, demand, floor):
    filled = replace(demand, day=tuple(max(floor, of_peak) for of_peak in demand.day or (1.0,) * 24))
    peaky, flatter = fleet_cost(gpus, prices, demand), fleet_cost(gpus, prices, filled)
    assert peaky is not None
    assert flatter is not None
    assert flatter.usd_per_query <= peaky.usd_per_query
