"""A fleet that follows the day beside the one that is on all day: rows by hand, and laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Commitment,
    Demand,
    LoadShape,
    Prices,
    Size,
    fleet_cost,
    load_shape,
)
from tests.gpu_hours import BOUGHT, HALF_DAY, all_prices, demands, mix_prices, own_prices


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
