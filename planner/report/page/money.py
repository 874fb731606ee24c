"""Money on the page: the bill, what a query earns, the day, the fleet that follows the day."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import Any

from planner.report.page.charts_money import hourly_cost_chart, queries_chart
from planner.report.page.parts import Cell, Chart, Table, count, dollars, share, text, unit_price
from planner.report.svg import draw
from planner.summary.currency import currency_of, other, rate_words
from planner.summary.earnings import BY_THE_HOUR
from planner.summary.words import capitalised, number, percent, plural, usd

Document = dict[str, Any]
PARTS = {
    "usage_usd_per_query": "of it used: engines running a step, and retrieval",
    "idle_usd_per_query": "of it idle: paid for, with no step running",
    "amortised_training_usd_per_query": "beside it: training, spread over the queries",
    "usd_per_query_with_training": "one query with training",
}
LOST = {
    "metric": "latency that users wait for",
    "lost_share": "queries lost to waiting",
    "lost_share_at_peak": "of those of the busiest hour",
    "lost_impressions": "ads not shown, a day",
    "usd_per_query_lost": "revenue lost, a query",
    "at_risk_usd_per_query_per_100ms": "at risk for each further 100 ms, a query",
    "at_risk_usd_per_day_per_100ms": "at risk for each further 100 ms, a day",
    "source": "source",
}
PARTS_HEADS = {
    "what": "",
    "unit_price_usd": "unit price",
    "usd_per_gpu_hour": "of a GPU-hour",
    "paid": "is paid",
}
PAID = {
    "always": "whether it runs or not",
    "running": "while it runs",
    "beyond_reserved": "for the hours beyond the reserved ones",
}
CENTS = (2, 3, 4)  # decimals of the lines of a bill; no more than are needed for them to add up as shown
WHOLE = 1e-6  # of a GPU
PLAIN_USD = 10_000.0  # from here on dollars are shown without cents


def bill(document: Document) -> Table | None:
    """A day's cost, each line quantity × unit price, down to one query; None without a price."""
    lines, cost = document.get("cost_lines") or [], document.get("cost") or {}
    if not lines or cost.get("usd_per_query") is None:
        return None
    rows = _down_to_one(document, lines, cost["usd_per_query"])
    for key, words in PARTS.items():
        if cost.get(key) is not None:
            rows.append((text(words), Cell(""), Cell(""), dollars(cost[key])))
    return _both_ways(document, ("cost of one day", "quantity", "unit price", "product"), rows, "<>>>", "list")


def price_parts(document: Document) -> Table | None:
    """What the price of a GPU-hour is made of, where that is more than one thing."""
    price = (document.get("cost") or {}).get("price") or {}
    parts = [part for part in price.get("parts") or [] if isinstance(part, Mapping)]
    if len(parts) < 2:
        return None
    keys = list(dict.fromkeys(key for part in parts for key in part))
    heads = tuple(PARTS_HEADS.get(key, key.replace("_", " ")) for key in keys)
    rows = tuple(tuple(_any(part.get(key), key) for key in keys) for part in parts)
    align = "".join(">" if any(isinstance(part.get(key), int | float) for part in parts) else "<" for key in keys)
    return Table(heads, rows, align, "list", f"the GPU-hour: {price.get('kind', 'price')}".replace("_", " "))


def earnings(document: Document) -> Table | None:
    """A day's revenue, each line quantity × unit price, down to one query; None without such lines."""
    revenue = document.get("revenue") or {}
    lines = revenue.get("lines") or []
    if not lines or revenue.get("usd_per_query") is None:
        return None
    rows = _down_to_one(document, lines, revenue["usd_per_query"])
    return _both_ways(document, ("revenue of one day", "quantity", "unit price", "product"), rows, "<>>>", "list")


def margin(document: Document) -> Table | None:
    """Revenue, cost and margin of a query; None without revenue."""
    revenue, cost, left = (document.get(key) or {} for key in ("revenue", "cost", "margin"))
    if revenue.get("usd_per_query") is None:
        return None
    lost = (revenue.get("abandonment") or {}).get("usd_per_query_lost")
    rpm = revenue.get("query_rpm_usd")
    thousand = Cell("" if rpm is None else f"{usd(rpm)} per 1,000", rpm)
    net = ", less what waiting loses" if lost else ""
    rows = [(text(f"it earns{net}"), thousand, dollars(revenue["usd_per_query"]))]
    if cost.get("usd_per_query") is not None:
        rows.append((text("it costs"), _of_revenue(left.get("cost_share_of_revenue")), dollars(cost["usd_per_query"])))
    if left.get("usd_per_query") is not None:
        made = dollars(left["usd_per_query"], "good" if left["usd_per_query"] >= 0 else "bad")
        rows.append((text("margin", "strong"), _of_revenue(left.get("fraction")), made))
    return _both_ways(document, ("one query", "", "USD"), rows, "<<>", "scroll")


def money_notes(document: Document) -> tuple[str, ...]:
    """The other currency's rate, GPUs that a mix of capacity would cut, and what the plan itself says of its money."""
    said = [rate_words(currency_of(document)), *_cut(document), *(document.get("economics_notes") or [])]
    return tuple(f"{capitalised(line)}." for line in said if line)


def _cut(document: Document) -> list[str]:
    """Reserved shares that are no whole number of GPUs."""
    price = (document.get("cost") or {}).get("price") or {}
    parts = price.get("parts") or [] if price.get("kind") == "commitments" else []
    lines, gpus = [], document["fleet"]["gpus"]
    for part in parts:
        held = part.get("quantity")
        if part.get("paid") != "always" or not isinstance(held, int | float) or held > 1:
            continue
        booked = gpus * held
        if abs(booked - round(booked)) > WHOLE:
            lines.append(
                f"{percent(held)} of {plural(gpus, 'GPU')} is {number(booked)}: reserved capacity is booked in whole "
                "GPUs, and the bill takes the share as it is given"
            )
    return lines


def abandonment(document: Document) -> Table | None:
    """What waiting costs in lost impressions."""
    lost = (document.get("revenue") or {}).get("abandonment") or {}
    rows = tuple((text(words), _lost(lost[key], key)) for key, words in LOST.items() if lost.get(key) is not None)
    if not rows:
        return None
    return Table(("users who leave", ""), (*rows, (text("counted"), text(BY_THE_HOUR))), "<<")


def day_charts(document: Document) -> tuple[Chart, ...]:
    """The 24 hours: queries, and what one costs; none where the document has no day."""
    hours = [hour for hour in document.get("day") or [] if hour.get("hour") is not None and "queries" in hour]
    if not hours:
        return ()
    total = sum(hour["queries"] for hour in hours)
    label = f"Queries by the hour; {number(round(total))} in the day."
    rows = tuple(
        (_clock(hour), Cell(number(round(hour["queries"])), hour["queries"]), share(hour.get("utilisation")))
        for hour in hours
    )
    table = Table(("hour", "queries", "engines busy"), rows, ">>>")
    made = [Chart("day-queries", "Queries in each hour", draw("day-queries", 2.7, queries_chart(hours)), label, table)]
    costs = [_per_query(hour) for hour in hours]
    known = [cost for cost in costs if cost is not None]
    if not known:
        return tuple(made)
    mean, earned = ((document.get(key) or {}).get("usd_per_query") for key in ("cost", "revenue"))
    svg = draw("day-cost", 2.7, hourly_cost_chart(hours, costs, mean, earned))
    rows = tuple(
        (_clock(hour), dollars(hour.get("cost")), dollars(cost)) for hour, cost in zip(hours, costs, strict=True)
    )
    label = f"Cost of a query by the hour: from {usd(min(known))} to {usd(max(known))}."
    table = Table(("hour", "cost of the hour", "cost of a query"), rows, ">>>")
    return (*made, Chart("day-cost", "Cost of a query in each hour", svg, label, table))


def load_shape(document: Document) -> Table | None:
    """The fleet as planned beside one that follows the day."""
    shape = document.get("load_shape") or {}
    ways = [("planned: on all day", shape.get("static")), ("following the day", shape.get("following"))]
    rows = tuple(
        (text(name), count(way.get("gpu_hours")), count(way.get("startup_gpu_hours")), dollars(way.get("usd_per_day")))
        for name, way in ways
        if way
    )
    heads = ("fleet", "GPU-hours a day", "of them starting", "USD a day")
    return Table(heads, rows, "<>>>", "list") if rows else None


def autoscaled(document: Document) -> Table | None:
    """The fleet as its autoscaler runs it beside the one on all day; None without an autoscaler."""
    scaled = document.get("autoscaler") or {}
    rows = tuple(
        (text(name), count(replicas), count(way.get("gpu_hours_per_day")), dollars(way.get("usd_per_day")))
        for name, way, replicas in (
            ("as the autoscaler runs it", scaled, scaled.get("mean_paid_replicas")),
            ("on all day", scaled.get("static") or {}, (scaled.get("static") or {}).get("replicas")),
        )
    )
    heads = ("the planned fleet", "replicas paid for", "GPU-hours a day", "USD a day")
    return Table(heads, rows, "<>>>", "list") if scaled else None


def autoscaled_notes(document: Document) -> tuple[str, ...]:
    """How the service levels fared under the autoscaler, and what the plan says of it."""
    scaled = document.get("autoscaler") or {}
    held, good = scaled.get("slo_hours_share"), scaled.get("goodput_share")
    lines = [] if held is None else [f"With the autoscaler the limits hold in {percent(held)} of the hours"]
    lines += [] if good is None else [f"{percent(1 - good)} of the queries miss a limit themselves"]
    return tuple(f"{capitalised(line)}." for line in (*lines, *(scaled.get("notes") or [])))


def load_shape_notes(document: Document) -> tuple[str, ...]:
    """How many replicas a fleet that follows the day has, and what that rests on."""
    shape, lines = document.get("load_shape") or {}, []
    if shape.get("mean_replicas") is not None and shape.get("peak_replicas") is not None:
        most = plural(shape["peak_replicas"], "replica")
        lines.append(f"Following the day: {number(shape['mean_replicas'])} replicas on average, {most} at the peak.")
    if isinstance(shape.get("basis"), str):
        lines.append(f"{shape['basis'][:1].upper()}{shape['basis'][1:]}.")
    return tuple(lines)


def _both_ways(document: Document, heads: tuple[str, ...], rows: list[Any], align: str, narrow: Any) -> Table:
    """A table whose last column is dollars, with the scenario's other currency beside it where it has one."""
    currency = currency_of(document)
    if currency is None:
        return Table(heads, tuple(rows), align, narrow)
    cells = []
    for row in rows:
        value = row[-1].value
        there = None if value is None else value * currency["per_usd"]
        cells.append((*row, Cell(other(value, currency), there)))
    return Table((*heads, str(currency["code"])), tuple(cells), f"{align}>", narrow)


def _down_to_one(document: Document, lines: list[Document], per_query: float) -> list[tuple[Cell, ...]]:
    """Lines, their sum where there are several, and what one query has of it."""
    products = [line.get("product_usd") for line in lines]
    known = [product for product in products if product is not None]
    total = fsum(known) if len(lines) > 1 and len(known) == len(lines) else None
    decimals = None if total is None else _decimals(known, total)
    rows = [_line(line, decimals) for line in lines]
    if total is not None:
        rows.append((text("a day", "strong"), Cell(""), Cell(""), _cents(total, decimals, "strong")))
    queries = fsum(hour.get("queries") or 0.0 for hour in document.get("day") or [])
    by = Cell(f"÷ {number(round(queries))} queries", queries) if queries else Cell("")
    return [*rows, (text("one query", "strong"), by, Cell(""), dollars(per_query, "strong"))]


def _decimals(products: list[float], total: float) -> int | None:
    """The fewest decimals at which the lines, as they are shown, add up to the sum as it is shown; None: as usual,
    where the usual ones do, where dollars are shown whole, or where none of them do.
    """
    if any(abs(value) >= PLAIN_USD for value in (*products, total)) or any(0 < abs(value) < 1 for value in products):
        return None
    for decimals in CENTS:
        if round(fsum(round(value, decimals) for value in products), decimals) == round(total, decimals):
            return None if decimals == CENTS[0] else decimals
    return None


def _cents(value: float | None, decimals: int | None, tone: Any = "") -> Cell:
    if value is None or decimals is None:
        return dollars(value, tone)
    return Cell(f"{'−' if value < 0 else ''}${abs(value):,.{decimals}f}", value, tone)


def _line(line: Document, decimals: int | None) -> tuple[Cell, ...]:
    quantity, unit, price = line.get("quantity"), line.get("unit", ""), line.get("unit_price_usd")
    quantity = None if quantity is None else quantity + 0.0  # no "−0"
    amount = Cell("" if quantity is None else plural(quantity, unit) if unit else number(quantity), quantity)
    each = Cell("") if price is None else unit_price(price)
    return text(line.get("what", "other")), amount, each, _cents(line.get("product_usd"), decimals)


def _of_revenue(part: float | None) -> Cell:
    return Cell("" if part is None else f"{share(part).text} of revenue", part)


def _any(value: Any, key: str) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        said = PAID.get(value, value) if key == "paid" and isinstance(value, str) else value
        return text(None if said is None else str(said))
    if key.endswith("share"):
        return share(value)
    return unit_price(value) if "usd" in key else count(value)


def _lost(value: Any, key: str) -> Cell:
    if not isinstance(value, int | float):
        return text(str(value).upper() if key == "metric" else str(value))
    if key == "lost_impressions":
        return count(round(value))
    return share(value) if key.startswith("lost_share") else dollars(value)


def _clock(hour: Document) -> Cell:
    return Cell(f"{hour['hour']:02d}:00", hour["hour"])


def _per_query(hour: Document) -> float | None:
    cost = hour.get("cost")
    return cost / hour["queries"] if cost is not None and hour["queries"] else None
