"""The bill of a fleet that an autoscaler starts and stops: worked by hand for every kind of price, and its laws."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Ads,
    Commitment,
    Demand,
    Economics,
    PaidHours,
    Prices,
    committed_replicas,
    mixed,
    paid_usd_by_hour,
    parts_usd,
    unit_economics,
)
from planner.errors import InputError
from tests.gpu_hours import all_prices, own_prices

HALF = ((4.0,) * 12 + (10.0,) * 12,)  # replicas of two GPUs each, planned 10
BUSY = (0.5,) * 24
MIX = mixed([Commitment("reserved", 0.4, 1.0), Commitment("on_demand", 0.6, 3.0)])
ALL_RESERVED = mixed([Commitment("reserved", 1.0, 1.0)])


def prices_of(parts: tuple, **more: float) -> Prices:
    return Prices(parts_usd(parts), kind="commitments", parts=parts, **more)


def economics(prices: Prices, by_day: tuple = HALF, earns: float = 0.05) -> Economics:
    demand = Demand(1.0, (0.5,) * 12 + (1.0,) * 12)
    return unit_economics(20, prices, demand, Ads(usd_per_query=earns), BUSY, paid=PaidHours(10, 2, by_day))


@pytest.mark.parametrize(
    ("prices", "by_day", "usd_per_day", "because"),
    [
        (Prices(2.0), HALF, (4 * 12 + 10 * 12) * 2 * 2.0, "168 replica-hours of two GPUs at $2"),
        (Prices(2.0, 0.8), HALF, 672 / 0.8, "what is paid beside compute is a share of it"),
        (Prices(2.0), ((12.0,) * 24,), 12 * 24 * 2 * 2.0, "more than planned is paid for too"),
        (prices_of(MIX), HALF, 8 * 24 * 1.0 + 12 * 12 * 3.0, "eight GPUs reserved; twelve beyond them, half the day"),
        (prices_of(MIX), ((2.0,) * 24,), 8 * 24 * 1.0, "four of eight reserved ones are off: all are paid for"),
        (prices_of(MIX), (HALF[0], (4.0,) * 24), 8 * 24 + 6 * 12 * 3.0, "of two days the mean"),
        (prices_of(ALL_RESERVED), HALF, 20 * 24 * 1.0, "nothing is saved of what is all reserved"),
    ],
)
def test_the_bill_of_paid_replicas(prices: Prices, by_day: tuple, usd_per_day: float, because: str) -> None:
    answer = economics(prices, by_day)
    assert answer.cost is not None
    assert pytest.approx(usd_per_day) == 24 * answer.cost.usd_per_hour, because
    assert pytest.approx(usd_per_day) == fsum(line.product_usd for line in answer.lines), because
    assert pytest.approx(usd_per_day) == fsum(hour.cost or 0.0 for hour in answer.day), because
    assert pytest.approx(usd_per_day / (18 * 3600)) == answer.cost.usd_per_query, because


def test_lines_tell_the_gpu_hours_that_are_paid_for() -> None:
    lines = economics(Prices(2.0, 0.8)).lines
    assert [(336.0, 2.0), (336.0, 0.5)] == [(line.quantity, line.unit_price_usd) for line in lines]
    lines = economics(prices_of(MIX)).lines
    assert [(192.0, 1.0), (pytest.approx(144.0), 3.0)] == [(line.quantity, line.unit_price_usd) for line in lines]


def test_reserved_replicas_that_are_off_are_idle() -> None:
    split = economics(prices_of(MIX), ((2.0,) * 24,)).allocation
    assert split is not None
    assert (24.0 * 2, 24.0 * 6) == (split.busy_gpu_hours, split.idle_gpu_hours), "1 of 4 billed replicas is busy"
    assert pytest.approx(3 * split.usage_usd_per_query) == split.idle_usd_per_query


@pytest.mark.parametrize(
    ("parts", "planned", "most", "replicas", "because"),
    [
        ((), 7, 10, 7, "by the hour: nothing is committed to"),
        (MIX, 7, 10, 7, "on demand beyond the planned fleet"),
        (ALL_RESERVED, 7, 10, 10, "what ran beyond was reserved too"),
        (ALL_RESERVED, 7, 5, 7, "the planned fleet is there anyway"),
        (own_prices().parts, 7, 10, 10, "hardware that is owned is bought for the most that runs"),
    ],
)
def test_what_commitments_are_shares_of(parts: tuple, planned: int, most: int, replicas: int, because: str) -> None:
    prices = prices_of(parts) if parts else Prices(1.0)
    assert replicas == committed_replicas(prices, planned, most), because


def test_without_a_price_the_gpu_hours_that_run_still_have_their_break_even() -> None:
    answer = economics(Prices(None))
    assert answer.cost is None
    assert [None] * 24 == [hour.cost for hour in answer.day]
    assert pytest.approx(0.05 * 18 * 3600 / 336) == answer.break_even.gpu_hour_usd


@pytest.mark.parametrize(
    ("by_day", "because"), [((), "no day"), (((1.0,) * 23,), "an hour is missing"), (((0.0,) * 24,), "nothing runs")]
)
def test_impossible_hours_are_refused(by_day: tuple, because: str) -> None:
    with pytest.raises(InputError, match="paid"):
        PaidHours(3, 1, by_day)


hours = st.tuples(*[st.floats(0.5, 20.0)] * 24)


@given(all_prices, st.lists(hours, min_size=1, max_size=3).map(tuple))
def test_hours_lines_and_queries_add_up_to_one_bill(prices: Prices, by_day: tuple) -> None:
    answer = economics(prices, by_day)
    assert answer.cost is not None
    assert answer.allocation is not None
    total = answer.cost.usd_per_query * 18 * 3600
    assert pytest.approx(total) == fsum(line.product_usd for line in answer.lines)
    assert pytest.approx(total) == fsum(hour.cost or 0.0 for hour in answer.day)
    split = answer.allocation
    assert pytest.approx(answer.cost.usd_per_query) == split.usage_usd_per_query + split.idle_usd_per_query
    assert split.idle_usd_per_query >= -1e-12


@given(all_prices)
def test_all_planned_replicas_paid_all_day_cost_what_the_static_fleet_does(prices: Prices) -> None:
    demand = Demand(1.0)
    static = unit_economics(20, prices, demand, Ads(usd_per_query=0.01), BUSY)
    paid = PaidHours(10, 2, ((10.0,) * 24,))
    scaled = unit_economics(20, prices, demand, Ads(usd_per_query=0.01), BUSY, paid=paid)
    assert static.cost is not None
    assert scaled.cost is not None
    assert pytest.approx(static.cost.usd_per_query) == scaled.cost.usd_per_query
    assert pytest.approx(static.break_even.qps) == scaled.break_even.qps
    assert pytest.approx(static.break_even.gpu_hour_usd) == scaled.break_even.gpu_hour_usd
    by_hour = paid_usd_by_hour(prices, paid)
    assert by_hour is not None
    assert pytest.approx(static.cost.usd_per_hour) == by_hour[7]


def test_break_even_values_leave_nothing() -> None:
    prices = replace(prices_of(MIX), compute_share=0.9)
    answer = economics(prices, earns=0.02)
    even = answer.break_even
    assert even.qps is not None
    assert even.gpu_hour_usd is not None
    assert prices.gpu_hour_usd is not None
    assert even.rpm_usd is not None
    factor = even.gpu_hour_usd / prices.gpu_hour_usd
    dear = tuple(replace(part, unit_price_usd=factor * part.unit_price_usd) for part in prices.parts)
    at_even = [
        economics(replace(prices, gpu_hour_usd=parts_usd(dear), parts=dear), earns=0.02),
        economics(prices, earns=even.rpm_usd / 1000),
    ]
    assert [pytest.approx(0, abs=1e-9)] * 2 == [money.margin.usd_per_query for money in at_even if money.margin]
