"""What a query costs and earns now, beside the plan."""

from __future__ import annotations

from typing import Any

from planner.drift.actual import Actual
from planner.drift.attribution import Attribution
from planner.observed import Observed
from planner.planned import Planned
from planner.units import S_PER_HOUR, TOKENS_PER_PRICE


def money_of(
    planned: Planned, observed: Observed, actual: Actual, whole: Attribution
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """`cost`, `planned`, `revenue` and `margin` of the document, and what was assumed for them.

    The usage basis is the part of the bill in which engines had work: allocation × the share of replica-time in which
    any request ran. Tokens are prompt and output of all model calls.
    """
    known = whole.unit_usd
    cost = whole.actual_per_query if known else None
    bill = actual.usd_per_hour if known else None
    retrieval = planned.retrieval_usd_per_query * actual.uncached_share
    busy = observed.busy_share
    usage = None if cost is None or busy is None else retrieval + (cost - retrieval) * busy
    tokens = _tokens_per_s(observed)
    per_million = None if bill is None or not tokens else bill / S_PER_HOUR / tokens * TOKENS_PER_PRICE
    earned, assumed = _revenue(planned, observed, actual)
    document = {
        "cost": {
            "usd_per_hour": bill,
            "usd_per_query": cost,
            "usage_usd_per_query": usage,
            "usd_per_million_tokens": per_million,
            "usage_usd_per_million_tokens": None if per_million is None or busy is None else per_million * busy,
        },
        "planned": {
            "usd_per_hour": planned.usd_per_hour,
            "usd_per_query": whole.planned_per_query if known else None,
            "day_usd_per_query": planned.usd_per_query,
        },
        "revenue": None if earned is None else {"usd_per_query": earned, "query_rpm_usd": 1000.0 * earned},
        "margin": None
        if earned is None or cost is None
        else {"usd_per_query": earned - cost, "usage_usd_per_query": None if usage is None else earned - usage},
    }
    return document, assumed


def _tokens_per_s(observed: Observed) -> float | None:
    if observed.requests_per_s is None or observed.prompt_tokens is None or observed.output_tokens is None:
        return None
    return observed.requests_per_s * (observed.prompt_tokens + observed.output_tokens)


def _revenue(planned: Planned, observed: Observed, actual: Actual) -> tuple[float | None, list[tuple[str, str]]]:
    """What a user's query earns: told, else planned."""
    if observed.revenue_usd_per_s is not None:
        rate = actual.queries_per_s
        return (observed.revenue_usd_per_s / rate if rate else None), []
    if planned.revenue_usd_per_query is None:
        return None, []
    return planned.revenue_usd_per_query, [("revenue.usd_per_query", "the plan's revenue of a query")]
