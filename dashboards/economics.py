"""The dashboard *Economics*: what a query costs, earns and leaves, beside what the plan expects at that hour."""

from __future__ import annotations

from dashboards.panels import GREEN, RED, Panel, Query, bars, figure, lines, llm
from planner.metrics import names
from planner.metrics.promql import day_margin

TITLE = "LLM economics"
BASIS = 'cost_basis="$cost_basis"'
BILL, QPS = llm(names.TOTAL_HOURLY_COST), llm(names.QUERIES_PER_SECOND)
COST, PLANNED = llm(names.COST_PER_QUERY, BASIS), llm(names.PLANNED_COST_PER_QUERY)
REVENUE, MARGIN = llm(names.REVENUE_PER_QUERY), llm(names.MARGIN_PER_QUERY, BASIS)
ALLOCATION, USAGE = (llm(names.COST_PER_QUERY, f'cost_basis="{basis}"') for basis in names.COST_BASES)
SAVED = llm(names.CACHE_SAVINGS_FRACTION, by="cache")
LOSS = ((None, RED), (0, GREEN))


def panels() -> list[tuple[str, list[Panel]]]:
    """Rows of panels: title, panels from left to right."""
    return [("Now", _now()), ("Over the day", _day()), ("Where the money goes", _bill())]


def _now() -> list[Panel]:
    return [
        figure(
            "Cost per query",
            "What a user query costs, cached ones included, and what the plan expects of it at this hour. Basis: "
            "allocation = the whole bill, usage = without the time in which engines stood idle.",
            "currencyUSD",
            [Query(COST, "actual"), Query(PLANNED, "planned")],
            width=6,
            decimals=5,
        ),
        figure(
            "Margin per query",
            "Revenue less cost. Red: a query costs more than it earns.",
            "currencyUSD",
            [Query(MARGIN, "margin")],
            steps=LOSS,
            decimals=5,
        ),
        figure(
            "Query RPM",
            "What 1,000 user queries earn (not eCPM, which is of 1,000 ads).",
            "currencyUSD",
            [Query(llm(names.QUERY_RPM), "RPM")],
            decimals=2,
        ),
        figure(
            "Bill",
            "What the fleet that runs costs in an hour, idle replicas included.",
            "currencyUSD",
            [Query(BILL, "USD an hour")],
            decimals=2,
        ),
        figure(
            "Cost per million tokens",
            "Prompt and generated tokens of model calls; queries that the response cache answers have none.",
            "currencyUSD",
            [Query(llm(names.COST_PER_MILLION_TOKENS, BASIS), "USD per million tokens")],
            width=6,
            decimals=3,
        ),
    ]


def _day() -> list[Panel]:
    return [
        lines(
            "Cost and revenue per query",
            "A fleet that stays on all day costs most per query when the fewest ask: the plan's line follows the hours "
            "too. Where cost is above revenue a query loses money.",
            "currencyUSD",
            [Query(COST, "cost", "cost"), Query(PLANNED, "planned cost", "plan"), Query(REVENUE, "revenue", "good")],
        ),
        lines(
            "Margin per query",
            "Revenue less cost; planned: revenue less the planned cost of this hour. Below 0 a query loses money.",
            "currencyUSD",
            [
                Query(MARGIN, "margin", "total"),
                Query(f"{REVENUE} - {PLANNED}", "as planned", "plan"),
                Query("vector(0)", "break-even", "limit"),
            ],
        ),
        lines(
            "Cost per query, today and before",
            "The same hours of yesterday and of a week ago.",
            "currencyUSD",
            [
                Query(COST, "today", "cost"),
                Query(_before(COST, "1d"), "yesterday"),
                Query(_before(COST, "1w"), "a week ago"),
                Query(PLANNED, "planned", "plan"),
            ],
        ),
        lines(
            "Earned and spent in an hour",
            "Revenue of an hour of queries at this rate, and the bill of an hour. Between them: profit, or loss.",
            "currencyUSD",
            [
                Query(f"{REVENUE} * {QPS} * 3600", "earned", "good"),
                Query(BILL, "spent on the fleet", "cost"),
            ],
        ),
    ]


def _bill() -> list[Panel]:
    # Without either cache the bill would be divided by (1 - saved) of each: the logarithm turns the product to a sum.
    without = f"{BILL} * exp(-sum(ln(1 - {SAVED})))"
    return [
        bars(
            "What the caches save, in USD an hour",
            "From the bill as it would be without any cache, down to the bill as it is. Each saving is of that cache "
            "alone, the other in place: where both work their savings do not quite add up to the difference.",
            "currencyUSD",
            [
                Query(without, "without any cache", "plan"),
                *(Query(_saves(cache), f"{cache} cache saves", "good") for cache in names.CACHES),
                Query(BILL, "the bill", "cost"),
            ],
        ),
        lines(
            "Share of the cost that each cache saves",
            "(cost without this cache - cost with it) / cost without it, the other cache in place.",
            "percentunit",
            [Query(SAVED, "{{cache}}")],
        ),
        lines(
            "Cost per million tokens, by basis",
            "allocation: the whole bill; usage: the part of it in which engines had work. The gap is what idleness "
            "costs.",
            "currencyUSD",
            [Query(llm(names.COST_PER_MILLION_TOKENS, by="cost_basis"), "{{cost_basis}}")],
        ),
        lines(
            "Share of the bill that pays for idle engines",
            "1 - usage / allocation: replicas on, no request in them. Spare replicas and quiet hours need some.",
            "percentunit",
            [Query(f"1 - {USAGE} / {ALLOCATION}", "idle")],
            width=6,
        ),
        figure(
            "Margin over 24 hours",
            "Sum over the last 24 hours of margin x queries, by allocation, less the bill of times without a "
            "query. Not known before nine tenths of a day are.",
            "currencyUSD",
            [Query(day_margin(_ALL_MARGIN, QPS, BILL, REVENUE, on=""), "USD")],
            width=6,
            steps=LOSS,
            decimals=2,
        ),
    ]


_ALL_MARGIN = llm(names.MARGIN_PER_QUERY, 'cost_basis="allocation"')


def _saves(cache: str) -> str:
    return llm(names.CACHE_SAVINGS_USD_PER_HOUR, f'cache="{cache}"')


def _before(expr: str, age: str) -> str:
    """The same figure, that long ago."""
    return expr.removesuffix(")") + f" offset {age})"
