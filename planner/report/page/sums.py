"""What must add up in a plan's document: fleet, day, bill, earnings, margin, break-even.

An edited figure is not shown beside the ones it contradicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from math import fsum
from typing import Any, NamedTuple

from planner.economics.revenue import MILLE
from planner.errors import DataFileError
from planner.report.page.together import contradictions
from planner.units import HOURS_PER_DAY, S_PER_HOUR

Document = Mapping[str, Any]
NEAR = 1e-6  # of the larger one: how far two figures that must be the same may be apart
RETRIEVAL = "retrieval"  # the line of a bill that is not the fleet's
OWN_RATE = ("closed", "offline", "trace")  # arrivals that do not follow a peak rate


class Same(NamedTuple):
    """A figure, what the others make of it, and how."""

    key: str
    value: float | None
    expected: float | None
    how: str


def check_sums(document: Document, where: str) -> None:
    """Raise DataFileError on the first figure that contradicts the others; `document` is a feasible plan's, of the
    right shape, its numbers within their ranges.
    """
    for key, rule in contradictions(document):
        raise DataFileError(f"{where}: {key}", None, f"is damaged: {rule}; plan again")
    for row in (*_fleet(document), *_day(document), *_bill(document), *_earned(document), *_left(document)):
        if row.value is None or row.expected is None:
            continue
        if not math.isclose(row.value, row.expected, rel_tol=NEAR, abs_tol=1e-12):
            rule = f"does not add up: {row.how} = {row.expected:.6g}; plan again"
            raise DataFileError(f"{where}: {row.key}", row.value, rule)


# --- what must add up ---


def _fleet(document: Document) -> Iterator[Same]:
    fleet, proof = document["fleet"], document.get("spare_proof") or {}
    yield Same("spare_proof.replicas", proof.get("replicas"), fleet["replicas"], "fleet.replicas")
    yield Same("spare_proof.stopped", proof.get("stopped"), fleet["spare_replicas"], "fleet.spare_replicas")
    each = fleet.get("gpus_per_replica")
    product = None if each is None else fleet["replicas"] * each
    yield Same("fleet.gpus", fleet["gpus"], product, "replicas × gpus_per_replica")
    cost = document.get("cost") or {}
    for index, row in enumerate(document["alternatives"]):
        if row.get("chosen"):
            key = f"alternatives[{index}]"
            yield Same(f"{key}.gpus", row.get("gpus"), fleet["gpus"], "fleet.gpus")
            yield Same(f"{key}.replicas", row.get("replicas"), fleet["replicas"], "fleet.replicas")
            for name in ("usd_per_hour", "usd_per_query") if not document.get("autoscaler") else ():
                yield Same(f"{key}.{name}", row.get(name), cost.get(name), f"cost.{name}")


def _day(document: Document) -> Iterator[Same]:
    """Each hour's queries and cost. A fleet costs the same every hour, and so does a response cache; retrieval and the
    cache's fee follow the queries, where hours differ in their hits each by its own.
    """
    hours, traffic = document.get("day") or [], document["scenario"].get("traffic") or {}
    shares, peak = traffic.get("day") or [], traffic.get("peak_qps")
    if peak is not None and not _own_rate(traffic) and _numbers(shares) and len(shares) == len(hours):
        for hour, of_peak in zip(hours, shares, strict=True):
            how = "peak_qps × 3,600 s × the hour's share"
            yield Same(f"day[{hour['hour']}].queries", hour["queries"], peak * S_PER_HOUR * of_peak, how)
    hourly = (document.get("cost") or {}).get("usd_per_hour")
    costs = [hour.get("cost") for hour in hours]
    if hourly is None or not hours or any(cost is None for cost in costs):
        return
    if document.get("autoscaler"):  # each hour has its own replicas
        return
    hourly += cache_usd_per_hour(document)
    if (document.get("response_cache") or {}).get("by_hour"):
        for hour, bought in zip(hours, _bought(document), strict=False):
            how = "cost.usd_per_hour, the response cache, and the hour's own retrieval and hits"
            yield Same(f"day[{hour['hour']}].cost", hour["cost"], hourly + bought * hour["queries"], how)
        return
    queries = fsum(hour["queries"] for hour in hours)
    beside = fsum(costs) - HOURS_PER_DAY * hourly if _retrieval(document) else 0.0
    if beside < -NEAR * HOURS_PER_DAY * hourly:
        yield Same("cost.usd_per_hour", hourly, fsum(costs) / HOURS_PER_DAY, "at most the day's cost ÷ 24")
    for hour in hours:
        expected = hourly + (beside * hour["queries"] / queries if queries else 0.0)
        how = "cost.usd_per_hour, and the hour's share of retrieval"
        yield Same(f"day[{hour['hour']}].cost", hour["cost"], expected, how)


def _bill(document: Document) -> Iterator[Same]:
    cost, lines, queries = document.get("cost") or {}, document.get("cost_lines") or [], _queries(document)
    per_query = cost.get("usd_per_query")
    if per_query is None:
        return
    total = per_query * queries if queries else None
    yield from _lines("cost_lines", lines, total, "cost.usd_per_query")
    hours = document.get("day") or []
    if hours and all(hour.get("cost") is not None for hour in hours):
        how = "cost.usd_per_query × the day's queries"
        yield Same("the day's cost", fsum(hour["cost"] for hour in hours), total, how)
    used, idle = cost.get("usage_usd_per_query"), cost.get("idle_usd_per_query")
    yield Same("cost.usd_per_query", per_query, _sum(used, idle), "what is used + what is idle")
    trained, whole = cost.get("amortised_training_usd_per_query"), cost.get("usd_per_query_with_training")
    yield Same("cost.usd_per_query_with_training", whole, _sum(per_query, trained), "a query + its share of training")
    price = cost.get("price") or {}
    made = [_product(part) for part in price.get("parts") or []]
    if made and all(part is not None for part in made):
        yield Same("cost.price.gpu_hour_usd", price.get("gpu_hour_usd"), fsum(p or 0.0 for p in made), "its parts")
    static = (document.get("load_shape") or {}).get("static") or {}
    of_day, gpus = HOURS_PER_DAY * cost["usd_per_hour"], document["fleet"]["gpus"]
    yield Same("load_shape.static.gpu_hours", static.get("gpu_hours"), HOURS_PER_DAY * gpus, "24 × fleet.gpus")
    scaled = document.get("autoscaler")
    if not scaled:
        yield Same("load_shape.static.usd_per_day", static.get("usd_per_day"), of_day, "24 × cost.usd_per_hour")
        return
    yield Same("autoscaler.usd_per_day", scaled.get("usd_per_day"), of_day, "24 × cost.usd_per_hour")
    always = (scaled.get("static") or {}).get("usd_per_day")
    yield Same("autoscaler.static.usd_per_day", always, static.get("usd_per_day"), "load_shape.static.usd_per_day")


def _earned(document: Document) -> Iterator[Same]:
    revenue, queries = document.get("revenue") or {}, _queries(document)
    per_query = revenue.get("usd_per_query")
    if per_query is None:
        return
    yield Same("revenue.query_rpm_usd", revenue.get("query_rpm_usd"), MILLE * per_query, "1,000 × usd_per_query")
    total = per_query * queries if queries else None
    yield from _lines("revenue.lines", revenue.get("lines") or [], total, "revenue.usd_per_query")


def _left(document: Document) -> Iterator[Same]:
    """Margin and break-even; see `break_even.margin_lines` for the formulas that are 0 at the break-even values."""
    cost, revenue, margin = (document.get(key) or {} for key in ("cost", "revenue", "margin"))
    per_query, earned, left = (part.get("usd_per_query") for part in (cost, revenue, margin))
    values = document.get("break_even") or {}
    if per_query is not None:
        rpm_usd = MILLE * per_query
        yield Same("break_even.rpm_usd", values.get("rpm_usd"), rpm_usd, "1,000 × cost.usd_per_query")
    if per_query is None or earned is None or left is None:
        return
    # Beside the cost, so that a small margin is not held against rounding of two large figures.
    yield Same("margin.usd_per_query", left + per_query, earned, "margin + cost")
    if earned > 0:
        yield Same("margin.fraction", margin.get("fraction"), left / earned, "margin ÷ revenue")
        part = margin.get("cost_share_of_revenue")
        yield Same("margin.cost_share_of_revenue", part, per_query / earned, "cost ÷ revenue")
    trained = cost.get("amortised_training_usd_per_query")
    after = margin.get("after_training_usd_per_query")
    if after is not None and trained is not None:
        yield Same("margin.after_training_usd_per_query", after + trained, left, "it + the query's share of training")
    yield from _even(document, earned - per_query)


def _even(document: Document, left: float) -> Iterator[Same]:
    values, queries, cost = document.get("break_even") or {}, _queries(document), document["cost"]
    if not queries:
        return
    fixed = HOURS_PER_DAY * cost["usd_per_hour"] / queries
    traffic = document["scenario"].get("traffic") or {}
    peak = queries / (HOURS_PER_DAY * S_PER_HOUR) if _own_rate(traffic) else traffic.get("peak_qps")
    price = (cost.get("price") or {}).get("gpu_hour_usd")
    beside = left + fixed  # what a query leaves for GPUs
    cached = HOURS_PER_DAY * cache_usd_per_hour(document) / queries
    if beside > 0:
        how = "the peak rate × GPUs' cost of a query ÷ what it leaves for them, the response cache's bill on both sides"
        even = None if peak is None else peak * (fixed + cached) / (beside + cached)
        yield Same("break_even.qps", values.get("qps"), even, how)
        even = None if price is None else price * beside / fixed
        how = "the GPU's price × what a query leaves for GPUs ÷ their cost of it"
        yield Same("break_even.gpu_hour_usd", values.get("gpu_hour_usd"), even, how)


# --- helpers ---


def _lines(key: str, lines: list[Document], total: float | None, of: str) -> Iterator[Same]:
    """Lines of a bill: each quantity × unit price, and all of them together."""
    for index, line in enumerate(lines):
        yield Same(f"{key}[{index}].product_usd", line.get("product_usd"), _product(line), "quantity × unit price")
    products = [line.get("product_usd") for line in lines]
    if products and all(product is not None for product in products):
        come_to = fsum(product or 0.0 for product in products)
        yield Same(key, come_to, total, f"{of} × the day's queries")


def _own_rate(traffic: Document) -> bool:
    """Whether the load has a rate of its own, so that the day is that rate all day."""
    arrivals = traffic.get("arrivals")
    return isinstance(arrivals, Mapping) and any(kind in arrivals for kind in OWN_RATE)


def _product(line: Document) -> float | None:
    quantity, price = (_number(line.get(key)) for key in ("quantity", "unit_price_usd"))
    return None if quantity is None or price is None else quantity * price


def _sum(*parts: float | None) -> float | None:
    return None if any(part is None for part in parts) else fsum(part or 0.0 for part in parts)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(_number(value) is not None for value in values)


def _queries(document: Document) -> float:
    return fsum(hour["queries"] for hour in document.get("day") or [])


def cache_usd_per_hour(document: Document) -> float:
    """The response cache's own bill of an hour; 0 where there is none."""
    return (document.get("response_cache") or {}).get("usd_per_hour") or 0.0


def _bought(document: Document) -> list[float]:
    """What is bought for a query of each hour, in USD; nothing where a price is not a number."""
    cache, prices = document.get("response_cache") or {}, document["scenario"].get("prices") or {}
    retrieval, fee = prices.get("retrieval_usd_per_query") or 0.0, cache.get("usd_per_hit") or 0.0
    by_hour = cache["by_hour"]
    if not _numbers(by_hour) or not _numbers([retrieval, fee]):
        return []
    return [retrieval * (1.0 - hit) + fee * hit for hit in by_hour]


def _retrieval(document: Document) -> bool:
    """Whether a part of the bill follows the queries; without its lines that is not known."""
    lines = document.get("cost_lines") or []
    return not lines or any(RETRIEVAL in str(line.get("what", "")) for line in lines)
