"""Prices of a GPU-hour made of parts, and days and fleets that pay them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from planner.economics import (
    Commitment,
    Demand,
    Ownership,
    Prices,
    mixed,
    owned,
    parts_usd,
)

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
