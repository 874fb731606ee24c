"""What waiting loses, and what holds of every revenue model with it: by hand and by law."""

from __future__ import annotations

import math
from dataclasses import replace
from math import fsum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Ads,
    Api,
    Demand,
    Economics,
    Lost,
    Patience,
    PerWord,
    Prices,
    Subscription,
    lost_in_day,
    lost_queries,
    stay_shares,
    unit_economics,
)

TOKENS = Demand(10.0, prompt_tokens=1000, output_tokens=200, answer_tokens=200, cached_prompt_share=0.25)


@pytest.mark.parametrize(
    ("latency_ms", "patience", "stays", "because"),
    [
        (0.0, Patience("ttft", 0.01), 1.0, "no wait, nobody leaves"),
        (100.0, Patience("ttft", 0.01), 0.99, "one in a hundred after 100 ms"),
        (1000.0, Patience("ttft", 0.01), 0.99**10, "of those still there, again and again"),
        (150.0, Patience("ttft", 0.01), 0.99**1.5, "between the steps too"),
        (500.0, Patience("ttft", 0.01, 500), 1.0, "nobody minds half a second"),
        (700.0, Patience("ttft", 0.01, 500), 0.99**2, "only what is beyond it counts"),
        (math.inf, Patience("ttft", 0.01), 0.0, "nobody waits for a query that failed"),
        (math.inf, Patience("ttft", 0.0), 1.0, "but where nobody ever leaves, nobody does"),
    ],
)
def test_a_user_stays_with_a_probability_by_the_wait(latency_ms, patience, stays, because):
    assert stays == pytest.approx(stay_shares(np.array([latency_ms]), patience)[0]), because


def test_every_latency_counts_not_their_mean():
    """Half the users wait 0, half 1,000 ms: 1 − (1 + 0.9^10)/2, more than nothing and less than at 500 ms alone."""
    lost = lost_queries(np.array([0.0, 1000.0]), Patience("e2e", 0.1))
    assert pytest.approx((1 - 0.9**10) / 2) == lost.share
    assert pytest.approx(1 - (0.9 + 0.9**11) / 2) == lost.share_100ms_later
    assert lost.share < lost_queries(np.array([500.0, 500.0]), Patience("e2e", 0.1)).share


def leaving(answers: float, patience: Patience, latency_ms: float, uncached: float = 1.0) -> Economics:
    demand = replace(TOKENS, uncached_share=uncached)
    lost = lost_queries(np.full(3, latency_ms), patience, uncached)
    return unit_economics(1, Prices(3.6), demand, Ads(usd_per_query=answers), leaving=(patience, lost))


def test_revenue_is_net_of_those_who_left_and_says_what_a_further_100_ms_loses():
    answer = leaving(0.01, Patience("ttft", 0.01, 200), 400.0)
    assert answer.revenue is not None
    assert answer.revenue.abandonment is not None
    gone = answer.revenue.abandonment
    assert pytest.approx(0.01 * 0.99**2) == answer.revenue.usd_per_query
    assert pytest.approx(10 * 0.99**2) == answer.revenue.query_rpm_usd
    assert pytest.approx(1 - 0.99**2) == gone.lost_share
    assert pytest.approx(0.01 * (1 - 0.99**2)) == gone.usd_per_query_lost
    assert pytest.approx(0.01 * (0.99**2 - 0.99**3)) == gone.at_risk_usd_per_query_per_100ms
    assert pytest.approx(gone.at_risk_usd_per_query_per_100ms * 864_000) == gone.at_risk_usd_per_day_per_100ms
    assert ("ttft", "1 % of the users leave per 100 ms of TTFT beyond 200 ms") == (gone.metric, gone.source)
    assert answer.margin is not None
    assert pytest.approx(answer.revenue.usd_per_query - 0.0001) == answer.margin.usd_per_query


def test_who_leaves_has_been_served_all_the_same():
    patient, hasty = leaving(0.01, Patience("ttft", 0.0), 400.0), leaving(0.01, Patience("ttft", 0.5), 400.0)
    assert patient.cost == hasty.cost
    assert patient.lines == hasty.lines


HALF_DAYS = (1.0,) * 12 + (0.25,) * 12


def by_load(of_peak: float) -> Lost:
    """Who leaves grows with the square of the load."""
    return Lost(0.4 * of_peak**2, 0.8 * of_peak**2)


@pytest.mark.parametrize(
    ("day", "share", "because"),
    [
        (None, 0.4, "a flat day is its peak"),
        ((0.5,) * 24, 0.4, "also where it is written as half of a peak that never comes"),
        (HALF_DAYS, (12 * 0.4 + 3 * 0.025) / 15, "four times as many ask in the busy hours as in the quiet ones"),
        (
            (1.0,) * 12 + (0.6,) * 12,
            (0.4 + 0.6 * (0.6 * 0.1 + 0.4 * 0.225)) / 1.6,
            "0.6 lies between 0.5 and 0.75: linear, above the curve",
        ),
        ((1.0,) * 12 + (0.1,) * 12, (0.4 + 0.1 * 0.025) / 1.1, "below the lowest level as at that level"),
    ],
)
def test_who_leaves_in_a_day_is_weighed_by_queries(day: tuple[float, ...] | None, share: float, because: str):
    lost = lost_in_day(Demand(7.0, day), by_load)
    assert share == pytest.approx(lost.share), because
    assert 2 * lost.share == pytest.approx(lost.share_100ms_later), because
    assert lost.share_at_peak == 0.4


def test_only_loads_that_some_hour_lies_between_are_asked_for():
    asked: list[float] = []

    def noted(of_peak: float) -> Lost:
        asked.append(of_peak)
        return by_load(of_peak)

    lost_in_day(Demand(7.0), noted)
    assert [1.0] == asked
    lost_in_day(Demand(7.0, (1.0,) * 12 + (0.8,) * 12), noted)
    assert [1.0, 1.0, 0.75, 0.9] == asked


def test_patience_of_the_day_and_a_missing_threshold_are_listed_as_assumed():
    rows = leaving(0.01, Patience("ttft", 0.01), 400.0).provenance
    expected = ["revenue.abandonment: latencies of the day", "revenue.abandonment.after_ms"]
    assert expected == [row.what for row in rows]
    assert ["pessimistic", "pessimistic"] == [row.errs for row in rows]
    assert 1 == len(leaving(0.01, Patience("ttft", 0.01, 300), 400.0).provenance)


waits = st.lists(st.floats(0, 1e6), min_size=1, max_size=20).map(np.array)
patiences = st.builds(
    Patience, metric=st.just("ttft"), per_100ms=st.floats(0, 0.99), after_ms=st.none() | st.floats(0, 1e4)
)
models = st.one_of(
    st.builds(Ads, usd_per_query=st.floats(1e-4, 1.0), commercial_share=st.none() | st.floats(0.01, 1)),
    st.builds(Ads, ecpm_usd=st.floats(0.1, 100), ads_per_query=st.floats(0.1, 5), fill=st.none() | st.floats(0.01, 1)),
    st.builds(Ads, revenue_usd_per_year=st.floats(1e6, 1e12), queries_per_year=st.floats(1e7, 1e13)),
    st.builds(
        Subscription,
        usd_per_month=st.floats(1, 500),
        queries_per_month=st.floats(1, 1e4),
        tail_cv=st.none() | st.floats(0.1, 5),
        days=st.none() | st.floats(28, 31),
    ),
    st.builds(
        Api,
        usd_per_million_input=st.floats(0.01, 50),
        usd_per_million_output=st.floats(0.01, 200),
        usd_per_million_cached_input=st.none() | st.floats(0, 50),
    ),
    st.builds(PerWord, usd_per_1000_words=st.floats(0.01, 10), words_per_1000_tokens=st.none() | st.floats(100, 1500)),
)
demands = st.builds(
    Demand,
    peak_qps=st.floats(1e-3, 1e6),
    day=st.none() | st.lists(st.floats(0, 1), min_size=23, max_size=23).map(lambda rest: (1.0, *rest)),
    uncached_share=st.floats(0.01, 1),
    prompt_tokens=st.floats(1, 1e5),
    output_tokens=st.floats(1, 1e4),
    answer_tokens=st.floats(1, 1e4),
    cached_prompt_share=st.none() | st.floats(0, 1),
)
all_prices = st.builds(
    Prices,
    gpu_hour_usd=st.floats(0.01, 100),
    compute_share=st.floats(0.1, 1),
    retrieval_usd_per_query=st.just(0.0) | st.floats(1e-6, 0.1),
)


@given(waits, demands, models, patiences)
def test_where_nobody_leaves_everything_is_as_before(latency_ms, demand, model, patience):
    patience = replace(patience, per_100ms=0.0)
    lost = lost_queries(latency_ms, patience, demand.uncached_share)
    assert Lost(0.0, 0.0) == lost
    before = unit_economics(3, Prices(2.0), demand, model)
    after = unit_economics(3, Prices(2.0), demand, model, leaving=(patience, lost))
    assert before.revenue is not None
    assert after.revenue is not None
    assert before.revenue.usd_per_query == after.revenue.usd_per_query
    assert (before.cost, before.margin, before.break_even) == (after.cost, after.margin, after.break_even)


@given(waits, patiences, st.floats(0, 1))
def test_cached_queries_never_leave(latency_ms, patience, uncached):
    lost = lost_queries(latency_ms, patience, uncached)
    assert 0 <= lost.share <= lost.share_100ms_later <= uncached + 1e-12
    assert pytest.approx(uncached * lost_queries(latency_ms, patience).share) == lost.share


@given(waits, patiences, st.floats(0, 1e4))
def test_a_longer_wait_never_keeps_more_users(latency_ms, patience, more_ms):
    assert lost_queries(latency_ms, patience).share <= lost_queries(latency_ms + more_ms, patience).share + 1e-12


@given(demands, models, patiences, waits)
def test_a_days_lines_add_up_to_what_its_queries_earn(demand, model, patience, latency_ms):
    lost = lost_queries(latency_ms, patience, demand.uncached_share)
    answer = unit_economics(1, Prices(1.0), demand, model, leaving=(patience, lost))
    assert answer.revenue is not None
    gross = answer.revenue.usd_per_query / (1 - lost.share) if lost.share < 1 else math.inf
    total = fsum(line.product_usd for line in answer.revenue.lines)
    wanted = answer.revenue.usd_per_query * demand.day_queries
    assert wanted == pytest.approx(total, rel=1e-9, abs=1e-9 * min(gross, 1e3) * demand.day_queries)


@given(st.integers(1, 10_000), all_prices, demands, models, patiences, waits)
def test_break_even_leaves_no_margin_under_every_revenue_model(gpus, prices, demand, model, patience, latency_ms):
    lost = lost_queries(latency_ms, patience, demand.uncached_share)
    told: dict[str, Any] = {"leaving": (patience, lost)}
    answer = unit_economics(gpus, prices, demand, model, **told)
    values = answer.break_even
    assert values.rpm_usd is not None
    assert close_to_zero(unit_economics(gpus, prices, demand, Ads(usd_per_query=values.rpm_usd / 1000)))
    if values.qps is not None and values.gpu_hour_usd is not None:
        assert close_to_zero(unit_economics(gpus, prices, replace(demand, peak_qps=values.qps), model, **told))
        dear = replace(prices, gpu_hour_usd=values.gpu_hour_usd)
        assert close_to_zero(unit_economics(gpus, dear, demand, model, **told))


def close_to_zero(answer: Economics) -> bool:
    """The margin is 0 within 1e-9 of the revenue."""
    assert answer.margin is not None
    assert answer.revenue is not None
    return abs(answer.margin.usd_per_query) <= 1e-9 * answer.revenue.usd_per_query
