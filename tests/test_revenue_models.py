"""What a query earns under each model, and what a subscriber costs: by hand, by source, by law."""

from __future__ import annotations

import math
from dataclasses import replace
from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics import (
    Ads,
    Api,
    Demand,
    Patience,
    PerWord,
    Prices,
    RevenueModel,
    Subscription,
    cost_to_serve,
    lost_queries,
    revenue_of,
    unit_economics,
)
from planner.errors import InputError

TOKENS = Demand(10.0, prompt_tokens=1000, output_tokens=200, answer_tokens=200, cached_prompt_share=0.25)
DEEPSEEK_QUERIES = 1e9  # any number: the tokens of all of them are what was published


@pytest.mark.parametrize(
    ("model", "demand", "usd_per_query", "because"),
    [
        (Ads(usd_per_query=0.05, commercial_share=0.2), TOKENS, 0.01, "a fifth of the queries carry ads"),
        (
            Ads(ecpm_usd=20, ads_per_query=3, fill=0.5, publisher_share=0.6, commercial_share=0.25),
            TOKENS,
            0.0045,
            "20/1000 · 3 · 0.5 · 0.6, on a quarter of the queries",
        ),
        (
            Ads(revenue_usd_per_year=224.6e9, queries_per_year=5e12),
            TOKENS,
            0.04492,
            "Google Search & other of 2025 over at least 5 T searches",
        ),
        (
            Ads(revenue_usd_per_year=198.1e9, queries_per_year=5e12),
            TOKENS,
            0.03962,
            "and of 2024",
        ),
        (Subscription(20, 400), TOKENS, 0.05, "20 $ for 400 queries"),
        (Subscription(20, 400, days=28), TOKENS, 0.05, "a shorter month has as many queries: they were stated"),
        (Api(0.5, 2.0), TOKENS, 0.0009, "1000 · 0.5 + 200 · 2.0, a million at a time"),
        (Api(0.5, 2.0, 0.1), TOKENS, 0.0008, "750 · 0.5 + 250 · 0.1 + 200 · 2.0"),
        (Api(0.5, 2.0, 0.0), TOKENS, 0.000775, "cached input given away"),
        (Api(0.5, 2.0, 0.1), replace(TOKENS, cached_prompt_share=None), 0.0009, "no prefix cache, nothing cached"),
        (
            Api(0.55, 2.19, 0.14),
            Demand(DEEPSEEK_QUERIES / 86_400, prompt_tokens=608, output_tokens=168, cached_prompt_share=0.5625),
            562_100 / DEEPSEEK_QUERIES,
            "DeepSeek's day of Feb 2025: 608 G tokens in, 342 G of them cached, 168 G out, at list price",
        ),
        (PerWord(0.82, 750), TOKENS, 0.615 * 0.2, "Jasper: 82 $ for 100,000 words are 0.615 $ for 1,000 tokens"),
        (PerWord(0.82), TOKENS, 0.615 * 0.2, "750 words to 1,000 tokens unless said"),
        (PerWord(1.0, 1000), replace(TOKENS, output_tokens=999), 0.2, "sold are the words that the user gets"),
    ],
)
def test_a_query_earns_what_its_model_says(model: RevenueModel, demand: Demand, usd_per_query: float, because: str):
    revenue = revenue_of(model, demand)
    assert usd_per_query == pytest.approx(revenue.usd_per_query, rel=1e-6), because
    assert pytest.approx(1000 * usd_per_query, rel=1e-6) == revenue.query_rpm_usd


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        (Ads(usd_per_query=0.01), [("queries, cached ones included", 864_000.0, "query", 0.01)]),
        (
            Ads(usd_per_query=0.05, commercial_share=0.2),
            [("queries with ads, 20 % of all", 172_800.0, "query", 0.05)],
        ),
        (
            Ads(ecpm_usd=20, ads_per_query=3, fill=0.5, publisher_share=0.6),
            [
                (
                    "ads shown, 3 a query, 50 % of the places sold, 60 % of the price kept",
                    1_296_000.0,
                    "ad",
                    0.012,
                )
            ],
        ),
        (
            Subscription(30, 400, days=30),
            [("subscribers, a day of a month of 30", 64_800.0, "subscriber", 1.0)],
        ),
        (
            Api(0.5, 2.0, 0.1),
            [
                ("prompt tokens not in the prefix cache", 648.0, "million token", 0.5),
                ("prompt tokens from the prefix cache", 216.0, "million token", 0.1),
                ("output tokens", 172.8, "million token", 2.0),
            ],
        ),
        (PerWord(0.82), [("words of answers, 750 to 1,000 tokens", 129_600.0, "thousand word", 0.82)]),
    ],
)
def test_a_days_earnings_are_quantity_times_unit_price(model: RevenueModel, lines: list[Any]):
    found = revenue_of(model, TOKENS).lines
    assert lines == [
        (line.what, pytest.approx(line.quantity), line.unit, pytest.approx(line.unit_price_usd)) for line in found
    ]


@pytest.mark.parametrize(
    ("model", "demand", "what", "because"),
    [
        (Subscription(20, 400), TOKENS, "revenue.subscription.days", "which month?"),
        (PerWord(0.8), TOKENS, "revenue.per_word.words_per_1000_tokens", "750 is a rule of thumb"),
        (Api(0.5, 2.0), TOKENS, "revenue.api.usd_per_million_cached_input", "billed as other input"),
        (Api(0.5, 2.0, 0.1), TOKENS, "revenue.api: cached input", "the peak's hit rate for the whole day"),
        (
            Api(0.5, 2.0),
            replace(TOKENS, uncached_share=0.7),
            "revenue: answers from the response cache",
            "billed without being computed",
        ),
        (
            Subscription(20, 400, tail_cv=2.0),
            TOKENS,
            "revenue.subscription.tail: cost of a query",
            "heavy users may ask dearer queries",
        ),
    ],
)
def test_what_a_model_assumes_is_listed(model: RevenueModel, demand: Demand, what: str, because: str):
    rows = unit_economics(1, Prices(1.0), demand, model).provenance
    assert what in [row.what for row in rows], because
    assert {"assumed"} == {row.kind for row in rows}


def test_what_the_samples_of_a_prompt_share_is_not_billed_twice_nor_at_the_cached_price():
    """Three answers of one prompt: two thirds of the 3,000 prompt tokens are cached, of the 1,000 billed none."""
    drawn = Demand(1.0, prompt_tokens=3000, output_tokens=600, prompt_once_tokens=1000, cached_prompt_share=2 / 3)
    assert revenue_of(Api(1.0, 2.0, 0.1), drawn).usd_per_query == pytest.approx((1000 + 1200) / 1e6)
    shared = replace(drawn, cached_prompt_share=2 / 3 + 0.4 / 3)  # and 400 of its own tokens were there before
    expected = (600 + 400 * 0.1 + 1200) / 1e6
    assert revenue_of(Api(1.0, 2.0, 0.1), shared).usd_per_query == pytest.approx(expected)


def test_nothing_is_assumed_where_all_is_said():
    for model in (Subscription(20, 400, days=30), PerWord(0.8, 750), Ads(usd_per_query=0.1, commercial_share=0.5)):
        assert not unit_economics(1, Prices(1.0), TOKENS, model).provenance
    no_cache = replace(TOKENS, cached_prompt_share=0.0)
    assert not unit_economics(1, Prices(1.0), no_cache, Api(0.5, 2.0)).provenance


# --- subscribers ---


@pytest.mark.parametrize(
    ("plan", "usd_per_query", "break_even", "because"),
    [
        (Subscription(20, 100), 0.009566666666666667, 2_090.59, "ChatGPT Plus against the one-stage query of 2023"),
        (Subscription(20, 100), 0.06556666666666668, 305.033, "and against the two-stage one"),
        (Subscription(10, 300), 0.1, 100.0, "Copilot: 300 queries cost 30 $ where 10 $ are paid"),
    ],
)
def test_a_subscription_pays_for_so_many_queries(plan, usd_per_query, break_even, because):
    found = cost_to_serve(plan, TOKENS, usd_per_query)
    assert break_even == pytest.approx(found.break_even_queries_per_month, rel=1e-5), because
    assert pytest.approx(plan.usd_per_month - found.cost_usd_per_month) == found.margin_usd_per_month


def test_copilots_loss_comes_out():
    """10 $ a month, 30 $ to serve: 20 $ lost a user, a margin of −200 %; over 1.5 M users 30 M$ a month."""
    demand = Demand(1.5e6 * 300 / 30 / 86_400)
    answer = unit_economics(1, Prices(0.1 * 3600 * demand.peak_qps), demand, Subscription(10, 300, days=30))
    assert answer.subscribers is not None
    assert answer.margin is not None
    assert pytest.approx(1.5e6) == answer.subscribers.subscribers
    assert pytest.approx(-20) == answer.subscribers.margin_usd_per_month
    assert pytest.approx(-2.0) == answer.margin.fraction
    assert pytest.approx(-30e6) == answer.subscribers.subscribers * answer.subscribers.margin_usd_per_month


def test_the_tail_is_log_normal_with_the_mean_that_was_given():
    """cv² = e − 1 makes σ = 1 and μ = ln m − ½; where break-even is the median, half lose and ask Φ(1) of all."""
    mean, cv = 400.0, sqrt(exp(1) - 1)
    median = mean * exp(-0.5)
    found = cost_to_serve(Subscription(20, mean, tail_cv=cv), TOKENS, 20 / median)
    assert pytest.approx(0.5) == found.losing_share
    assert pytest.approx(0.8413447, rel=1e-6) == found.losing_queries_share
    by_percentile = {heavy.percentile: heavy.queries_per_month for heavy in found.heavy}
    assert pytest.approx(median) == by_percentile[50.0]
    assert pytest.approx(exp(log(median) + 1.2815515655446004)) == by_percentile[90.0]
    assert pytest.approx(exp(log(median) + 2.3263478740408408)) == by_percentile[99.0]
    for heavy in found.heavy:
        assert pytest.approx(heavy.queries_per_month * 20 / median) == heavy.cost_usd_per_month
        assert pytest.approx(20 - heavy.cost_usd_per_month) == heavy.margin_usd_per_month


def test_without_a_tail_nothing_is_said_of_heavy_users():
    found = cost_to_serve(Subscription(20, 400), TOKENS, 0.01)
    assert (None, None, ()) == (found.losing_share, found.losing_queries_share, found.heavy)


@given(st.floats(1, 1000), st.floats(1, 1e5), st.floats(0.01, 10), st.floats(1e-5, 1.0))
def test_the_losing_subscribers_ask_at_least_their_share_of_the_queries(usd, mean, cv, per_query):
    found = cost_to_serve(Subscription(usd, mean, tail_cv=cv), TOKENS, per_query)
    assert found.losing_share is not None
    assert found.losing_queries_share is not None
    assert 0 <= found.losing_share <= found.losing_queries_share + 1e-12 <= 1 + 1e-9
    queries = [heavy.queries_per_month for heavy in found.heavy]
    assert queries == sorted(queries)


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ads(0.01, commercial_share=1.2), "revenue.ads.commercial_share (=1.2): must be a share"),
        (lambda: Ads(revenue_usd_per_year=1), "revenue.ads.queries_per_year: must be given with revenue_usd_per_year"),
        (lambda: Ads(queries_per_year=1), "revenue.ads.revenue_usd_per_year: must be given with queries_per_year"),
        (
            lambda: Ads(revenue_usd_per_year=1, queries_per_year=0),
            "revenue.ads.queries_per_year (=0): must be a finite",
        ),
        (
            lambda: Ads(revenue_usd_per_year=1, queries_per_year=1, commercial_share=0.5),
            "revenue.ads.commercial_share (=0.5): leave it out",
        ),
        (lambda: Ads(0.1, queries_per_year=1), "revenue.ads (=queries_per_year): cannot stand beside usd_per_query"),
        (
            lambda: Ads(revenue_usd_per_year=1, queries_per_year=1, fill=0.5),
            "revenue.ads (=fill): cannot stand beside revenue_usd_per_year",
        ),
        (lambda: Subscription(0, 1), "revenue.subscription.usd_per_month (=0): must be a finite number > 0"),
        (lambda: Subscription(1, 0), "revenue.subscription.queries_per_month (=0): must be a finite number > 0"),
        (
            lambda: Subscription(1, 1, -1),
            "revenue.subscription.tail.lognormal.cv (=-1): must be a finite number >= 0.001",
        ),
        (lambda: Subscription(1, 1, days=0), "revenue.subscription.days (=0): must be between 1 and 31"),
        (lambda: Api(0, 1), "revenue.api.usd_per_million_input (=0): must be a finite number > 0"),
        (lambda: Api(1, 1, -1), "revenue.api.usd_per_million_cached_input (=-1): must be a finite number >= 0"),
        (lambda: PerWord(1, 0), "revenue.per_word.words_per_1000_tokens (=0): must be a finite number > 0"),
        (lambda: Patience("ttft", 1.0), "revenue.abandonment.per_100ms (=1.0): must be a share of at least 0"),
        (lambda: Patience("ttft", 0.1, -5), "revenue.abandonment.after_ms (=-5): must be a finite number >= 0"),
        (lambda: lost_queries(np.array([]), Patience("ttft", 0.1)), "latency_ms (=0 values): must hold at least one"),
        (lambda: lost_queries(np.array([math.nan]), Patience("ttft", 0.1)), "latency_ms (=1 values): must hold"),
        (lambda: lost_queries(np.array([1.0]), Patience("ttft", 0.1), 2.0), "uncached_share (=2.0): must be a share"),
        (lambda: revenue_of(Api(1, 1), Demand(1.0)), "prompt_tokens: must be known where they are sold"),
        (lambda: revenue_of(PerWord(1), Demand(1.0)), "answer_tokens: must be known where they are sold"),
        (
            lambda: Demand(1.0, prompt_tokens=5, prompt_once_tokens=6),
            "prompt_once_tokens (=6): must be part of prompt_tokens",
        ),
        (lambda: Demand(1.0, answer_tokens=-1), "answer_tokens (=-1): must be a finite number >= 0"),
        (lambda: Demand(1.0, cached_prompt_share=1.1), "cached_prompt_share (=1.1): must be a share between 0 and 1"),
    ],
)
def test_a_revenue_out_of_range_is_named_with_its_rule(make: Any, message: str):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
