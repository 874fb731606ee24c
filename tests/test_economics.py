"""The economics of a plan: figures by hand and from published sources, and what happens where a value is absent."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from planner.economics import (
    Ads,
    BreakEven,
    Demand,
    Prices,
    ad_revenue,
    day_queries,
    demand_at_own_rate,
    fleet_cost,
    queries_by_hour,
    unit_economics,
    utilisation_by_hour,
)
from planner.errors import InputError

SEARCH_DAY = (
    *(0.44, 0.38, 0.35, 0.34, 0.36, 0.42, 0.52, 0.64, 0.76, 0.86, 0.93, 0.97),
    *(0.98, 0.97, 0.96, 0.95, 0.94, 0.95, 0.97, 1.0, 0.98, 0.88, 0.72, 0.56),
)
HALF_DAY = (1.0,) * 12 + (0.0,) * 12
SERVER_HOUR_USD = 10_000 / 30 / 24  # 8 A100 rented for three years, a month of 30 days


@pytest.mark.parametrize(
    ("units", "price_usd", "demand", "usd_per_query", "because"),
    [
        # Yang Jun's server: 128 requests of 20 s at once = 6.4 requests/s; ceil(qps · (1 − cached) / (6.4 · u)) servers
        (math.ceil(100 / 6.4), SERVER_HOUR_USD, Demand(100), 0.000617284, "16 servers flat out carry 100 QPS"),
        (math.ceil(100 / (6.4 * 0.7)), SERVER_HOUR_USD, Demand(100), 0.000887346, "at 70 % utilisation it takes 23"),
        (
            math.ceil(100 * 0.7 / (6.4 * 0.7)),
            SERVER_HOUR_USD,
            Demand(100, uncached_share=0.7),
            0.000617284,
            "30 % from the cache: 16 again, and the cached queries share the bill",
        ),
        (
            3_617 * 8,
            1.0,
            Demand(13e6 * 15 / 86_400),
            694_464 / 195e6,
            "OpenAI's bill of Feb 2023: 13 M users ask 15 a day",
        ),
        (1, 3.6, Demand(1.0), 0.001, "3.6 $/h over 3,600 queries/h"),
        (1, 3.6, Demand(1.0, HALF_DAY), 0.002, "the fleet is paid for the twelve hours when nobody asks, too"),
    ],
)
def test_cost_per_query_is_the_days_bill_over_all_the_days_queries(units, price_usd, demand, usd_per_query, because):
    cost = fleet_cost(units, Prices(price_usd), demand)
    assert cost is not None
    assert usd_per_query == pytest.approx(cost.usd_per_query, rel=1e-6), because


def test_deepseeks_published_day_comes_out():
    """27-28 Feb 2025: 226.75 nodes of 8 GPUs at 2 $/h; 608 G tokens in, 168 G out, sold for 562,027 $ at list price.

    The "cost profit margin of 545 %" that went with it is profit over cost, a margin of 84.5 % of revenue.
    """
    queries = 1e9  # any number: the tokens of all of them are what was published
    demand = Demand(queries / 86_400, prompt_tokens=608, output_tokens=168)
    answer = unit_economics(1_814, Prices(2.0), demand, Ads(usd_per_query=562_027 / queries))
    assert answer.cost is not None
    assert answer.margin is not None
    assert answer.margin.fraction is not None
    assert pytest.approx(87_072) == 24 * answer.cost.usd_per_hour
    assert pytest.approx(87_072 / 776_000) == answer.cost.usd_per_million_tokens
    assert pytest.approx(0.845, abs=5e-4) == answer.margin.fraction
    assert pytest.approx(5.45, abs=0.006) == answer.margin.usd_per_query / answer.cost.usd_per_query


@pytest.mark.parametrize(
    ("ads", "usd_per_query", "because"),
    [
        (
            Ads(usd_per_query=100e9 / 2.1e12),
            0.048,
            "search ads of about 100 G$ over 2.1 T searches, as the source rounds",
        ),
        (Ads(usd_per_query=224.6e9 / 5e12), 0.0449, "Google Search & other 2025 over at least 5 T searches"),
        (
            Ads(ecpm_usd=60, ads_per_query=1, fill=1, publisher_share=1),
            0.06,
            "chat ads of Feb 2026, one on every answer",
        ),
        (
            Ads(ecpm_usd=25, ads_per_query=0.2, fill=1, publisher_share=1),
            0.005,
            "chat ads of Apr 2026 on a fifth of answers",
        ),
        (Ads(ecpm_usd=20, ads_per_query=3, fill=0.5, publisher_share=0.6), 0.018, "20/1000 · 3 · 0.5 · 0.6"),
    ],
)
def test_ad_revenue_per_query_follows_its_source(ads, usd_per_query, because):
    revenue = ad_revenue(ads)
    assert usd_per_query == pytest.approx(revenue.usd_per_query, abs=5e-4 if ads.usd_per_query else 1e-12), because
    assert revenue.query_rpm_usd == pytest.approx(1000 * revenue.usd_per_query)


def test_the_unrounded_search_volume_earns_less_than_the_published_4_8_cents():
    unrounded = ad_revenue(Ads(usd_per_query=100e9 / (1.2e12 * 60 / 34))).usd_per_query
    assert pytest.approx(0.0472222, rel=1e-6) == unrounded
    assert abs(unrounded - 0.048) > 5e-4


def test_an_ai_search_day_by_hand():
    """120 QPS at the peak, Σ shares 17.83, 16 GPUs at 3 $/h of which compute is 80 %, 30 % cached, retrieval 1 $/1000.

    queries = 120 · 3600 · 17.83 = 7,702,560; $/h = 16 · 3 / 0.8 = 60; $/query = 1440 / 7,702,560 + 0.0007.
    """
    demand = Demand(120, SEARCH_DAY, uncached_share=0.7, prompt_tokens=1800, output_tokens=300)
    answer = unit_economics(16, Prices(3.0, 0.8, 0.001), demand, Ads(usd_per_query=0.0449))
    assert answer.cost is not None
    assert answer.margin is not None
    assert pytest.approx(7_702_560) == demand.day_queries
    assert pytest.approx(60) == answer.cost.usd_per_hour
    assert pytest.approx(1440 / 7_702_560 + 0.0007) == answer.cost.usd_per_query
    assert pytest.approx(1440e6 / (7_702_560 * 0.7 * 2100)) == answer.cost.usd_per_million_tokens
    assert pytest.approx(0.0449 - answer.cost.usd_per_query) == answer.margin.usd_per_query
    assert pytest.approx(1000 * answer.cost.usd_per_query) == answer.break_even.rpm_usd
    assert pytest.approx(1440 / (3600 * 17.83 * (0.0449 - 0.0007))) == answer.break_even.qps
    assert pytest.approx((0.0449 - 0.0007) * 7_702_560 * 0.8 / (24 * 16)) == answer.break_even.gpu_hour_usd


def test_every_cost_line_is_quantity_times_unit_price():
    demand = Demand(10, uncached_share=0.5)
    answer = unit_economics(4, Prices(2.0, 0.8, 0.001), demand)
    expected = [
        ("GPUs, spares included, all day", 96.0, "GPU-hour", 2.0, 192.0),
        ("inference spend beside compute (compute is 80%)", 96.0, "GPU-hour", 0.5, 48.0),
        ("retrieval", 432_000.0, "uncached query", 0.001, 432.0),
    ]
    assert expected == [
        (line.what, line.quantity, line.unit, pytest.approx(line.unit_price_usd), pytest.approx(line.product_usd))
        for line in answer.lines
    ]


def test_the_day_lists_queries_cost_and_utilisation_of_each_hour():
    demand = Demand(10, HALF_DAY, uncached_share=0.5)
    answer = unit_economics(
        4, Prices(2.0, retrieval_usd_per_query=0.001), demand, utilisation=(0.6,) * 12 + (0.0,) * 12
    )
    first = {"hour": 0, "queries": 36_000.0, "cost": 8.0 + 18.0, "utilisation": 0.6}
    last = {"hour": 23, "queries": 0.0, "cost": 8.0, "utilisation": 0.0}
    assert first == asdict(answer.day[0])
    assert last == asdict(answer.day[23])
    assert list(range(24)) == [hour.hour for hour in answer.day]


@pytest.mark.parametrize(
    ("simulated", "utilisation", "because"),
    [
        ([(100.0, 0.8)], (0.8, 0.4), "with the peak alone, half the load is half as busy"),
        ([(100.0, 0.8), (50.0, 0.6)], (0.8, 0.6), "a simulated half load is read off as it is"),
        ([(80.0, 0.5)], (0.5, 0.3125), "beyond the heaviest simulated load it stays flat"),
        ([(25.0, 0.4), (75.0, 0.8)], (0.8, 0.6), "half-way between two simulated loads"),
    ],
)
def test_utilisation_of_an_hour_is_read_off_simulated_loads(simulated, utilisation, because):
    demand = Demand(100, (1.0,) * 12 + (0.5,) * 12)
    hours = utilisation_by_hour(demand, simulated)
    assert pytest.approx(utilisation) == (hours[0], hours[23]), because


def test_a_run_without_a_peak_is_priced_at_its_own_rate():
    demand = demand_at_own_rate(8.0, prompt_tokens=900, output_tokens=100)
    answer = unit_economics(2, Prices(3.6), demand)
    assert answer.cost is not None
    assert pytest.approx(7.2 / (8 * 3600)) == answer.cost.usd_per_query
    assert pytest.approx(7.2e6 / (8 * 3600 * 1000)) == answer.cost.usd_per_million_tokens
    assert "the run's own load" in answer.notes[0]


def test_the_users_rate_of_a_run_counts_the_queries_that_the_cache_answered():
    assert pytest.approx(10.0) == demand_at_own_rate(7.0, uncached_share=0.7).peak_qps


def test_a_flat_day_is_the_same_as_no_day():
    assert pytest.approx(86_400 * 3) == day_queries(3.0, None)
    assert queries_by_hour(3.0, None) == queries_by_hour(3.0, (1.0,) * 24)


# --- what is absent stays absent ---


def test_without_revenue_there_is_no_margin_and_it_is_said():
    answer = unit_economics(4, Prices(2.0), Demand(10))
    assert answer.revenue is None
    assert answer.margin is None
    assert answer.break_even.qps is None
    assert answer.break_even.gpu_hour_usd is None
    assert answer.break_even.rpm_usd is not None
    assert any("margin left out" in note for note in answer.notes)
    assert any("no revenue was given" in note for note in answer.notes)


def test_without_a_gpu_price_there_is_no_cost_but_the_price_that_could_be_paid():
    answer = unit_economics(1, Prices(None), Demand(1.0), Ads(usd_per_query=0.001))
    assert answer.cost is None
    assert answer.margin is None
    assert not answer.lines
    assert all(hour.cost is None for hour in answer.day)
    assert BreakEven(qps=None, rpm_usd=None, gpu_hour_usd=pytest.approx(3.6)) == answer.break_even
    assert any("no GPU price" in note for note in answer.notes)


@pytest.mark.parametrize(
    "demand",
    [Demand(1.0), Demand(1.0, prompt_tokens=100), Demand(1.0, uncached_share=0, prompt_tokens=9, output_tokens=9)],
)
def test_without_tokens_there_is_no_cost_per_million_of_them(demand):
    answer = unit_economics(1, Prices(2.0), demand)
    assert answer.cost is not None
    assert answer.cost.usd_per_million_tokens is None
    assert any("million tokens left out" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("retrieval_usd", "revenue_usd", "because"),
    [
        (0.01, 0.005, "retrieval alone costs what a query earns, or more"),
        (0.01, 0.01, "retrieval alone costs what a query earns, or more"),
        (0.0, 0.0, "a query earns nothing"),
    ],
)
def test_where_no_traffic_and_no_gpu_price_can_pay_break_even_says_why(retrieval_usd, revenue_usd, because):
    prices = Prices(2.0, retrieval_usd_per_query=retrieval_usd)
    answer = unit_economics(1, prices, Demand(1.0), Ads(usd_per_query=revenue_usd))
    assert answer.break_even.qps is None
    assert answer.break_even.gpu_hour_usd is None
    assert any(because in note for note in answer.notes)


def test_a_query_that_earns_nothing_has_a_margin_in_dollars_only():
    answer = unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.0))
    assert answer.margin is not None
    assert pytest.approx(-0.001) == answer.margin.usd_per_query
    assert answer.margin.fraction is None
    assert answer.margin.cost_share_of_revenue is None


def test_a_break_even_beyond_the_sized_load_warns_of_latencies():
    losing = unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.0005))
    earning = unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.002))
    assert pytest.approx(2.0) == losing.break_even.qps
    assert any("may not hold its latencies" in note for note in losing.notes)
    assert not any("latencies" in note for note in earning.notes)


def test_ad_factors_that_were_not_given_are_listed_as_assumed():
    answer = unit_economics(1, Prices(3.6), Demand(1.0), Ads(ecpm_usd=10, ads_per_query=2))
    assert answer.revenue is not None
    assert pytest.approx(0.02) == answer.revenue.usd_per_query
    expected = [("revenue.ads.fill", "assumed"), ("revenue.ads.publisher_share", "assumed")]
    assert expected == [(row.what, row.kind) for row in answer.provenance]
    assert not unit_economics(1, Prices(3.6), Demand(1.0), Ads(usd_per_query=0.02)).provenance


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prices(0.0), "prices.gpu_hour_usd (=0.0): must be a finite number > 0"),
        (lambda: Prices(-1.0), "prices.gpu_hour_usd (=-1.0): must be a finite number > 0"),
        (lambda: Prices(math.nan), "prices.gpu_hour_usd (=nan): must be a finite number > 0"),
        (lambda: Prices(1.0, compute_share=1.2), "prices.compute_share (=1.2): must be a share between 0 and 1"),
        (lambda: Prices(1.0, compute_share=0.0), "prices.compute_share (=0.0): must be a finite number > 0"),
        (
            lambda: Prices(1.0, retrieval_usd_per_query=-1),
            "prices.retrieval_usd_per_query (=-1): must be a finite number >= 0",
        ),
        (lambda: Demand(0.0), "traffic.peak_qps (=0.0): must be a finite number > 0"),
        (lambda: Demand(math.inf), "traffic.peak_qps (=inf): must be a finite number > 0"),
        (lambda: Demand(1.0, (1.0,) * 23), "traffic.day (=23 values): must hold 24 shares of the peak"),
        (lambda: Demand(1.0, (1.0,) * 23 + (1.5,)), "traffic.day[23] (=1.5): must be a share between 0 and 1"),
        (lambda: Demand(1.0, (0.0,) * 24), "sum of traffic.day (=0.0): must be a finite number > 0"),
        (lambda: Demand(1.0, uncached_share=-0.1), "uncached_share (=-0.1): must be a share between 0 and 1"),
        (lambda: Demand(1.0, prompt_tokens=-1), "prompt_tokens (=-1): must be a finite number >= 0"),
        (
            lambda: demand_at_own_rate(1.0, 0.0),
            "uncached_share (=0): must be > 0 where the rate is that of the queries",
        ),
        (lambda: utilisation_by_hour(Demand(1.0), []), "simulated (=none): needs at least one simulated load"),
        (Ads, "revenue.ads (=empty): must give usd_per_query, or ecpm_usd and ads_per_query"),
        (lambda: Ads(0.01, ecpm_usd=5), "revenue.ads (=ecpm_usd): cannot stand beside usd_per_query: give one form"),
        (lambda: Ads(ecpm_usd=5), "revenue.ads.ads_per_query: must be given with ecpm_usd"),
        (lambda: Ads(fill=0.5, ads_per_query=1), "revenue.ads.ecpm_usd: must be given with ads_per_query, fill"),
        (
            lambda: Ads(ecpm_usd=5, ads_per_query=1, fill=1.1),
            "revenue.ads.fill (=1.1): must be a share between 0 and 1",
        ),
        (lambda: Ads(-0.01), "revenue.ads.usd_per_query (=-0.01): must be a finite number >= 0"),
        (lambda: fleet_cost(0, Prices(1.0), Demand(1.0)), "gpus (=0): must be a finite number > 0"),
        (lambda: unit_economics(0, Prices(None), Demand(1.0)), "gpus (=0): must be a finite number > 0"),
        (
            lambda: unit_economics(1, Prices(1.0), Demand(1.0), utilisation=[0.5]),
            "utilisation (=1 values): must hold 24",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
