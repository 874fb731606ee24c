"""What a GPU-hour is made of: a mix of commitments, hardware of one's own, and what is refused; rows by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from math import fsum
from typing import Any

import pytest

from planner.economics import (
    Commitment,
    Demand,
    Ownership,
    Size,
    Training,
    all_in_gpu_hour_usd,
    assumed_mix,
    assumed_ownership,
    cost_lines,
    fleet_cost,
    mixed,
    owned,
    parts_usd,
)
from planner.errors import InputError
from tests.gpu_hours import BOUGHT, MIX, mix_prices, own_prices

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
