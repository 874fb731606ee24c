"""Money in words: the bill, another currency, subscribers, users who leave, the day; and nothing where nothing is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from summary_documents import PLAN, Document

from planner.summary import plan_text
from planner.summary.layout import WIDTH, columns

CNY = {"code": "CNY", "per_usd": 7.1}
SHAPE: Document = {
    "static": {"gpu_hours": 336.0, "usd_per_day": 1003.0},
    "following": {
        "gpu_hours": 250.5,
        "usd_per_day": 748.0,
        "startup_gpu_hours": 4.5,
        "replicas": [4] * 12 + [7] * 12,
    },
    "peak_replicas": 7,
    "mean_replicas": 5.5,
    "basis": "assumed: a replica carries as much in a smaller fleet",
}
GONE: Document = {
    "metric": "ttft",
    "lost_share": 0.021,
    "usd_per_query_lost": 0.000963,
    "at_risk_usd_per_query_per_100ms": 0.000314,
    "at_risk_usd_per_day_per_100ms": 2420.0,
    "source": "1 % of the users leave per 100 ms of TTFT beyond 200 ms",
}
RETRIEVAL: Document = {
    "what": "retrieval",
    "quantity": 50_000.0,
    "unit": "uncached query",
    "unit_price_usd": 0.001,
    "product_usd": 50.0,
}
WITH_ADS: Document = {
    "what": "queries with ads, 30 % of all",
    "quantity": 2_310_768.0,
    "unit": "query",
    "unit_price_usd": 0.0449,
    "product_usd": 103_753.48,
}
MONTH: Document = {
    "subscribers": 513_504.0,
    "usd_per_month": 20.0,
    "queries_per_month": 450.0,
    "cost_usd_per_month": 0.54,
    "margin_usd_per_month": 19.46,
    "break_even_queries_per_month": 16_666.7,
    "losing_share": 0.0007,
    "losing_queries_share": 0.031,
    "heavy": [
        {"percentile": 50.0, "queries_per_month": 167.0, "cost_usd_per_month": 0.2, "margin_usd_per_month": 19.8},
        {"percentile": 99.9, "queries_per_month": 20_000, "cost_usd_per_month": 24, "margin_usd_per_month": -4.0},
    ],
}


def flat(text: str) -> str:
    return " ".join(text.split())


def said(changes: dict[str, Any]) -> str:
    """The plan's text with values put at dotted keys."""
    document = copy.deepcopy(PLAN)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = document
        for step in path:
            place = place[step]
        place[last] = value
    text = plan_text(document)
    assert all(columns(line) <= WIDTH for line in text.split("\n"))
    return flat(text)


@pytest.mark.parametrize(
    ("changes", "sentence", "because"),
    [
        (
            {"cost.currency": CNY},
            "A query costs $0.00120 (0.00852 CNY), 2.7 % of its ad revenue; margin $0.0437 (0.310 CNY, 97.3 %).",
            "both currencies, the per cent in the same brackets",
        ),
        ({"cost.currency": CNY}, "= $1,002.96 7,121.02 CNY", "every line of the bill"),
        ({"cost.currency": CNY}, "= $1,052.96 7,476.02 CNY", "their sum"),
        ({"cost.currency": CNY}, "revenue $0.0449 0.319 CNY query RPM $44.90 (318.79 CNY)", "what a query earns"),
        ({"cost.currency": CNY}, "$111.70 793.07 CNY per GPU-hour", "break-even"),
        ({"cost.currency": None}, "A query costs $0.00120, 2.7 % of its ad revenue; margin $0.0437 (97.3 %).", "none"),
        ({"revenue.model": "api"}, "A query costs $0.00120, 2.7 % of its revenue;", "not every revenue is of ads"),
        (
            {"cost.amortised_training_usd_per_query": 0.001, "margin.after_training_usd_per_query": 0.0427},
            "margin $0.0437 (97.3 %), $0.0427 after its share of the training.",
            "a training bill in the answer",
        ),
        (
            {"cost.amortised_training_usd_per_query": 0.1, "margin.after_training_usd_per_query": -0.0563},
            "margin $0.0437 (97.3 %); with its share of the training it LOSES $0.0563.",
            "a loss is said",
        ),
        (
            {"cost.amortised_training_usd_per_query": 0.001, "margin.after_training_usd_per_query": 0.0427},
            "training $0.00100 the training bill over all queries of its months; not in the cost above",
            "and where it is not",
        ),
        (
            {"cost_lines": [PLAN["cost_lines"][0] | {"unit": "kWh", "quantity": 875.2, "product_usd": 73.9}]},
            "GPUs 875 kWh × $2.985 = $73.90",
            "a symbol has no plural",
        ),
        (
            {"cost.price": {"gpu_hour_usd": 5.86, "parts": [{}, {}]}},
            "$5.86 a GPU-hour, all in",
            "what the parts come to",
        ),
        (
            {
                "cost.usage_usd_per_query": 0.0009,
                "cost.idle_usd_per_query": 0.0003,
                "cost.busy_gpu_hours": 252.0,
                "cost.idle_gpu_hours": 84.0,
            },
            "busy 252 of 336 GPU-hours, some batch running, however small: of a query's cost $0.000900 is usage and "
            "$0.000300 idle",
            "usage beside allocation",
        ),
        (
            {"load_shape": SHAPE},
            "following 4 to 7 replicas by the hour, 5.50 on average, would take 250 GPU-hours (4.50 of them starting "
            "up) and $748.00 a day instead of $1,003.00; assumed: a replica carries as much in a smaller fleet",
            "a fleet that follows the day",
        ),
        (
            {"load_shape": SHAPE | {"static": {"gpu_hours": 336.0, "usd_per_day": None}}},
            "would take 250 GPU-hours (4.50 of them starting up); assumed",
            "without a price, GPU-hours alone",
        ),
        (
            {"revenue.abandonment": GONE},
            "Users who leave before the answer 2.1 % of all queries: $0.000963 a query, which the revenue above is net "
            "of at risk: 100 ms more of every TTFT would lose $0.000314 a query, $2,420.00 a day 1 % of the users",
            "who leaves, and what is at risk",
        ),
        (
            {"revenue.abandonment": GONE},
            "by each hour's own latencies, simulated at a few loads of the day",
            "which hours' latencies were counted",
        ),
        (
            {"revenue.abandonment": GONE | {"lost_share_at_peak": 0.034, "lost_impressions": 161_753.8}},
            "2.1 % of all queries (3.4 % at the peak): $0.000963 a query, which the revenue above is net of with them "
            "161,754 ads a day are not shown at risk",
            "the busiest hour, and lost impressions",
        ),
        ({"cost.currency": CNY}, "1 USD = 7.1 CNY (prices.exchange_rates)", "at which rate"),
        (
            {"cost_lines": [*PLAN["cost_lines"], RETRIEVAL]},
            "an hour for the fleet, without retrieval · $0.00120 a query with it · ",
            "three figures, two of them without retrieval",
        ),
        (
            {"revenue.usd_per_query": 0.01347, "revenue.lines": [WITH_ADS]},
            "Earned in one day queries with ads, 30 % of all 2,310,768 queries × $0.0449 = $103,753",
            "why a query earns less than one with ads does",
        ),
        (
            {"revenue.model": "subscription", "revenue.subscription": MONTH},
            "mean 450 $0.540 $19.46 p50 167 $0.200 $19.80 p99.9 20,000 $24.00 −$4.00 $20.00 a month pays for 16,667 "
            "queries: 0.070 % of the subscribers ask more, 3.1 % of all queries 513,504 subscribers ask the day's",
            "what a subscriber costs",
        ),
        (
            {"revenue.model": "subscription", "revenue.subscription": MONTH | {"losing_share": None, "heavy": []}},
            "$20.00 a month pays for 16,667 queries 513,504 subscribers",
            "without a tail only the mean",
        ),
        (
            {
                "revenue.lines": [
                    {
                        "what": "ads shown",
                        "quantity": 4_621_536.2,
                        "unit": "ad",
                        "unit_price_usd": 0.018,
                        "product_usd": 83_187.65,
                    },
                    {
                        "what": "left",
                        "quantity": -100_000,
                        "unit": "query",
                        "unit_price_usd": 0.01,
                        "product_usd": -1000.0,
                    },
                ]
            },
            "Earned in one day ads shown 4,621,536 ads × $0.018 = $83,188 left −100,000 queries × $0.01 = −$1,000.00 "
            "sum = $82,188",
            "earnings line by line",
        ),
    ],
)
def test_money_reads_as_an_owner_would_say_it(changes: dict[str, Any], sentence: str, because: str):
    assert sentence in said(changes), because


@pytest.mark.parametrize(
    ("changes", "absent", "because"),
    [
        ({}, "Users who leave", "nothing is said of leaving"),
        ({}, "subscriber", "nor of subscribers"),
        ({}, "Earned in one day", "nor of earnings without lines"),
        ({}, "following", "nor of a fleet that follows"),
        ({}, "training", "nor of training"),
        (
            {"load_shape": SHAPE | {"following": SHAPE["following"] | {"replicas": [7] * 24, "gpu_hours": 336.0}}},
            "following",
            "on a flat day both fleets are one",
        ),
        (
            {"revenue.lines": [{"what": "queries", "quantity": 1.0, "unit": "query", "product_usd": 1.0}]},
            "Earned in one day",
            "that every query earns its revenue is no news",
        ),
        ({"load_shape": {"following": {"replicas": [1, 2]}}}, "following", "a broken document is no reason to fail"),
        ({"revenue.abandonment": {"metric": "ttft"}}, "Users who leave", "nor half an abandonment"),
    ],
)
def test_what_is_not_there_is_not_spoken_of(changes: dict[str, Any], absent: str, because: str):
    assert absent not in said(changes), because
