"""What a GPU-hour is made of, the bill split into busy and idle, and the fleet that follows the day: rows by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Ads,
    Commitment,
    Demand,
    LoadShape,
    Ownership,
    Prices,
    Size,
    Training,
    all_in_gpu_hour_usd,
    assumed_mix,
    assumed_ownership,
    cost_lines,
    fleet_cost,
    load_shape,
    mixed,
    owned,
    parts_usd,
    training_usd_per_query,
    unit_economics,
)
from planner.errors import InputError

MIX = (
    Commitment("reserved", 0.5, 2.0),
    Commitment("on_demand", 0.3, 4.0),
    Commitment("spot", 0.2, 1.2, interruption_share=0.2),
)
BOUGHT = Ownership(
    capex_usd_per_gpu=35_040,
    life_years=4,
    usd_per_kwh=0.10,
    watts_per_gpu=1000,
    residual_share=0.0,
    pue=1.5,
    hosting_usd_per_gpu_month=73,
    staff_usd_per_year=876_000,
)
HALF_DAY = (1.0,) * 12 + (0.5,) * 12


def mix_prices(*commitments: Commitment, **other: Any) -> Prices:
    parts = mixed(commitments)
    return Prices(parts_usd(parts), kind="commitments", parts=parts, **other)


def own_prices(own: Ownership = BOUGHT, **other: Any) -> Prices:
    parts = owned(own)
    return Prices(parts_usd(parts), kind="own", parts=parts, staff_usd_per_year=own.staff_usd_per_year or 0.0, **other)


# --- a mix of commitments ---


@pytest.mark.parametrize(
    ("commitments", "usd", "because"),
    [
        ([Commitment("reserved", 1.0, 2.0)], 2.0, "one price is that price"),
        ([Commitment("reserved", 0.5, 2.0), Commitment("on_demand", 0.5, 4.0)], 3.0, "half and half"),
        ([Commitment("spot", 1.0, 1.2, 0.2)], 1.5, "a fifth of the paid hours serve nothing: 1.25 bought for one"),
        ([Commitment("spot", 1.0, 1.2)], 1.2, "an interruption that was not given counts as none"),
        (MIX, 0.5 * 2 + 0.3 * 4 + 0.2 * 1.5, "all three"),
        ([Commitment("reserved", 1 / 3, 3.0)] * 3, 3.0, "thirds add up to one"),
    ],
)
def test_a_mix_costs_the_sum_of_its_shares(commitments: Any, usd: float, because: str) -> None:
    assert usd == pytest.approx(parts_usd(mixed(commitments))), because


def test_spot_without_its_interruptions_is_flagged() -> None:
    rows = assumed_mix((Commitment("reserved", 0.5, 2.0), Commitment("spot", 0.5, 1.0)))
    assert ("prices.commitments[1].interruption_share", "assumed", "0", "optimistic") in [
        (row.what, row.kind, row.value, row.errs) for row in rows
    ]
    given = assumed_mix(MIX)
    assert not any(row.what.endswith("interruption_share") for row in given)
    assert any("while spot is interrupted" in row.what for row in given)
    assert not assumed_mix((Commitment("reserved", 1.0, 2.0),))


# --- hardware of one's own ---


@pytest.mark.parametrize(
    ("changes", "parts", "because"),
    [
        ({}, (1.0, 0.15, 0.1), "35,040 over 35,040 hours; 1 kW · 1.5 · 0.10; 73 ÷ 730"),
        ({"residual_share": 0.25}, (0.75, 0.15, 0.1), "a quarter comes back"),
        ({"residual_share": None}, (1.0, 0.15, 0.1), "worth nothing at the end unless said"),
        ({"pue": None}, (1.0, 0.156, 0.1), "the survey's average of 1.56"),
        ({"usd_per_kwh": 0.0}, (1.0, 0.1), "power in the hosting price: no line of its own"),
        ({"hosting_usd_per_gpu_month": None}, (1.0, 0.15), "no hosting, no line"),
        ({"life_years": 2}, (2.0, 0.15, 0.1), "half the life, twice the price"),
    ],
)
def test_a_gpu_hour_of_ones_own_part_by_part(changes: dict[str, Any], parts: tuple[float, ...], because: str) -> None:
    own = owned(replace(BOUGHT, **changes))
    assert pytest.approx(parts) == tuple(part.usd_per_gpu_hour for part in own), because


def test_staff_is_the_fleets_and_weighs_on_a_small_one() -> None:
    """876,000 $ a year are 100 $ an hour: 10 $ a GPU-hour of ten GPUs, 1 $ of a hundred."""
    prices = own_prices()
    assert pytest.approx(1.25 + 10) == all_in_gpu_hour_usd(10, prices)
    assert pytest.approx(1.25 + 1) == all_in_gpu_hour_usd(100, prices)
    cost = fleet_cost(10, prices, Demand(1.0))
    assert cost is not None
    assert pytest.approx(10 * 1.25 + 100) == cost.usd_per_hour


def test_what_was_not_said_of_the_hardware_is_listed() -> None:
    bare = Ownership(capex_usd_per_gpu=1, life_years=1, usd_per_kwh=0.1, watts_per_gpu=1)
    expected = {
        "prices.own.residual_share": "pessimistic",
        "prices.energy.pue": "unknown",
        "prices.own.hosting_usd_per_gpu_month": "optimistic",
        "prices.own.staff_usd_per_year": "optimistic",
    }
    assert expected == {row.what: row.errs for row in assumed_ownership(bare)}
    assert not assumed_ownership(BOUGHT)


def test_each_part_is_a_line_of_the_bill() -> None:
    prices = own_prices(compute_share=0.8, retrieval_usd_per_query=0.001)
    demand = Demand(10, uncached_share=0.5)
    lines = cost_lines(4, prices, demand)
    expected = [
        ("hardware: $35,040 over 4 years", 96.0, "GPU-hour", 1.0),
        ("energy, cooling included", 144.0, "kWh", 0.10),
        ("hosting: $73.00 a GPU and month", 96.0, "GPU-hour", 0.1),
        ("staff of the fleet", 1.0, "day", 2400.0),
        ("inference spend beside compute (compute is 80%)", 96.0, "GPU-hour", (1.25 + 25) * 0.25),
        ("retrieval", 432_000.0, "uncached query", 0.001),
    ]
    assert expected == [
        (line.what, pytest.approx(line.quantity), line.unit, pytest.approx(line.unit_price_usd)) for line in lines
    ]
    cost = fleet_cost(4, prices, demand)
    assert cost is not None
    assert pytest.approx(cost.usd_per_query * demand.day_queries) == fsum(line.product_usd for line in lines)


def test_spot_hours_that_serve_nothing_stand_on_the_bill() -> None:
    lines = cost_lines(10, mix_prices(*MIX), Demand(1.0))
    assert [120.0, 72.0, 60.0] == [pytest.approx(line.quantity) for line in lines]
    assert "spot, 20 % of the GPUs, 20 % interrupted" == lines[2].what


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


shares = st.floats(0, 1)
all_prices = st.one_of(
    st.builds(Prices, gpu_hour_usd=st.floats(0.01, 100), compute_share=st.floats(0.1, 1)),
    st.builds(own_prices, retrieval_usd_per_query=st.just(0.0) | st.floats(1e-6, 0.1)),
    st.builds(
        lambda one, a, b: mix_prices(Commitment("reserved", one, a), Commitment("spot", 1 - one, b, 0.1)),
        st.floats(0.01, 0.99),
        st.floats(0.1, 10),
        st.floats(0.1, 10),
    ),
)
demands = st.builds(
    Demand,
    peak_qps=st.floats(1e-3, 1e6),
    day=st.none() | st.lists(shares, min_size=23, max_size=23).map(lambda rest: (1.0, *rest)),
    uncached_share=st.floats(0.01, 1),
)


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


# --- a fleet that follows the day ---


def shape(size: Size, prices: Prices | None = None, day: Any = HALF_DAY) -> LoadShape:
    return load_shape(size, prices or Prices(2.0), Demand(8.0, day))


@pytest.mark.parametrize(
    ("size", "replicas", "because"),
    [
        (Size(4, 0, 1), (4, 2), "half the load, half the replicas"),
        (Size(5, 0, 1), (5, 3), "rounded up: 2.5 replicas do not serve"),
        (Size(4, 1, 2), (5, 3), "the spare one stays all day"),
        (Size(4, 0, 1, min_replicas=3), (4, 3), "never below the floor"),
        (Size(1, 0, 1), (1, 1), "one replica serves the quietest hour too"),
    ],
)
def test_replicas_follow_the_hours(size: Size, replicas: tuple[int, int], because: str) -> None:
    found = shape(size).following.replicas
    assert replicas == (found[0], found[23]), because
    assert 24 == len(found)


@pytest.mark.parametrize(
    ("startup_s", "startup_gpu_hours", "because"),
    [
        (0.0, 0.0, "at once"),
        (900.0, 2 * 0.25, "two replicas, a quarter of an hour before midnight"),
        (3600.0, 2.0, "a whole hour before"),
        (5400.0, 3.0, "an hour and a half before"),
        (13 * 3600.0, 24.0, "longer than the dip: never stopped"),
        (100 * 3600.0, 24.0, "longer than the day"),
    ],
)
def test_replicas_are_booked_ahead(startup_s: float, startup_gpu_hours: float, because: str) -> None:
    found = shape(Size(4, 0, 1, startup_s=startup_s)).following
    assert pytest.approx(startup_gpu_hours) == found.startup_gpu_hours, because
    assert pytest.approx(72 + startup_gpu_hours) == found.gpu_hours, because


def test_a_short_dip_is_not_worth_a_stop() -> None:
    """Half the load for one hour, replicas that take an hour to start: what would be saved is booked again."""
    dip = shape(Size(4, 0, 1, startup_s=3600.0), day=(1.0,) * 12 + (0.5,) + (1.0,) * 11)
    assert 96.0 == pytest.approx(dip.following.gpu_hours)
    assert 2.0 == pytest.approx(dip.following.startup_gpu_hours)


@pytest.mark.parametrize(
    ("prices", "static", "following", "because"),
    [
        (Prices(2.0), 192.0, 144.0, "96 and 72 GPU-hours at 2 $"),
        (Prices(2.0, compute_share=0.5), 384.0, 288.0, "and as much again beside compute"),
        (mix_prices(Commitment("reserved", 1.0, 2.0)), 192.0, 192.0, "all reserved: nothing is saved"),
        (
            mix_prices(Commitment("reserved", 0.5, 2.0), Commitment("on_demand", 0.5, 4.0)),
            48 * 2.0 + 48 * 4.0,
            48 * 2.0 + 24 * 4.0,
            "two GPUs reserved all day, two on demand for the busy half",
        ),
        (
            mix_prices(Commitment("reserved", 0.75, 2.0), Commitment("on_demand", 0.25, 4.0)),
            72 * 2.0 + 24 * 4.0,
            72 * 2.0 + 12 * 4.0,
            "the quiet half needs less than is reserved, and still pays it",
        ),
        (
            mix_prices(Commitment("on_demand", 0.5, 4.0), Commitment("spot", 0.5, 1.0, 0.5)),
            48 * 4.0 + 96 * 1.0,
            36 * 4.0 + 72 * 1.0,
            "nothing reserved: both shrink alike, lost spot hours with them",
        ),
        (
            own_prices(replace(BOUGHT, staff_usd_per_year=0.0)),
            96 * (1.0 + 0.15 + 0.1),
            96 * (1.0 + 0.1) + 72 * 0.15,
            "of bought hardware only the energy is saved",
        ),
        (own_prices(), 96 * 1.25 + 2400, 96 * 1.1 + 72 * 0.15 + 2400, "and staff is paid all the same"),
        (Prices(None), None, None, "no price, no bill"),
    ],
)
def test_what_a_following_fleet_pays(prices: Prices, static: Any, following: Any, because: str) -> None:
    found = shape(Size(4, 0, 1), prices)
    assert (pytest.approx(static), pytest.approx(following)) == (
        found.static.usd_per_day,
        found.following.usd_per_day,
    ), because


sizes = st.builds(
    Size,
    serving=st.integers(1, 500),
    spare=st.integers(0, 5),
    gpus_per_replica=st.integers(1, 8),
    startup_s=st.floats(0, 200_000),
)


@given(sizes, all_prices, demands)
def test_a_following_fleet_is_never_dearer_than_the_static_one(size, prices, demand):
    found = load_shape(size, prices, demand)
    assert found.static.usd_per_day is not None
    assert found.following.usd_per_day is not None
    assert found.following.usd_per_day <= found.static.usd_per_day * (1 + 1e-9)
    assert found.following.gpu_hours <= found.static.gpu_hours * (1 + 1e-9)
    assert found.following.startup_gpu_hours >= -1e-6
    assert found.peak_replicas == size.replicas == max(found.following.replicas)
    cost = fleet_cost(size.replicas * size.gpus_per_replica, prices, demand)
    assert cost is not None
    assert pytest.approx(24 * cost.usd_per_hour) == found.static.usd_per_day


@given(sizes, all_prices, st.floats(0.1, 100))
def test_on_a_flat_day_following_is_standing_still(size, prices, qps):
    found = load_shape(size, prices, Demand(qps))
    assert pytest.approx(found.static.gpu_hours) == found.following.gpu_hours
    assert pytest.approx(found.static.usd_per_day) == found.following.usd_per_day
    assert pytest.approx(0, abs=1e-6) == found.following.startup_gpu_hours


@given(sizes, demands, st.floats(0, 100_000))
def test_a_longer_start_up_never_books_less(size, demand, more_s):
    prices = Prices(1.0)
    soon = load_shape(size, prices, demand).following.gpu_hours
    late = load_shape(replace(size, startup_s=size.startup_s + more_s), prices, demand).following.gpu_hours
    assert late >= soon * (1 - 1e-9)


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixed(MIX[:2]), "prices.commitments (=0.8 in all): the shares must add up to 1"),
        (lambda: Commitment("reserved", 1.5, 1.0), "prices.commitments.share (=1.5): must be a share"),
        (
            lambda: Commitment("reserved", 1.0, 0.0),
            "prices.commitments.gpu_hour_usd (=0.0): must be a finite number > 0",
        ),
        (
            lambda: Commitment("reserved", 1.0, 1.0, 0.1),
            "prices.commitments.interruption_share (=0.1): is of spot only",
        ),
        (lambda: Commitment("spot", 1.0, 1.0, 1.0), "prices.commitments.interruption_share (=1.0): must be a share"),
        (
            lambda: replace(BOUGHT, capex_usd_per_gpu=0),
            "prices.own.capex_usd_per_gpu (=0): must be a finite number > 0",
        ),
        (lambda: replace(BOUGHT, life_years=math.nan), "prices.own.life_years (=nan): must be a finite number > 0"),
        (lambda: replace(BOUGHT, residual_share=1.0), "prices.own.residual_share (=1.0): must be a share"),
        (lambda: replace(BOUGHT, usd_per_kwh=-1), "prices.energy.usd_per_kwh (=-1): must be a finite number >= 0"),
        (lambda: replace(BOUGHT, pue=0.5), "prices.energy.pue (=0.5): must be a finite number >= 1"),
        (lambda: replace(BOUGHT, pue=math.inf), "prices.energy.pue (=inf): must be a finite number >= 1"),
        (lambda: replace(BOUGHT, staff_usd_per_year=-1), "prices.own.staff_usd_per_year (=-1): must be"),
        (lambda: replace(mix_prices(*MIX), gpu_hour_usd=9.0), "prices.gpu_hour_usd (=9.0): its parts come to 2.5"),
        (lambda: Training(0, 12), "prices.training.usd (=0): must be a finite number > 0"),
        (lambda: Training(1, 0), "prices.training.months (=0): must be a finite number > 0"),
        (lambda: Size(0, 0, 1), "serving (=0): must be a finite number > 0"),
        (lambda: Size(1, 0, 1, startup_s=-1), "fleet.startup_s (=-1): must be a finite number >= 0"),
    ],
)
def test_a_price_out_of_range_is_named_with_its_rule(make: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
