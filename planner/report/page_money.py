"""Money on the page: the bill, what a query earns, the day, break-even, the fleet that follows the day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.economics.revenue import MILLE
from planner.report.page_answer import gpu_hour_usd
from planner.report.page_charts_money import break_even_chart, hourly_cost_chart, queries_chart
from planner.report.page_parts import Cell, Chart, Table, count, dollars, share, text, unit_price
from planner.report.svg import NARROW_IN, draw
from planner.summary.earnings import PEAK_ALL_DAY
from planner.summary.words import number, plural, usd
from planner.units import HOURS_PER_DAY, S_PER_HOUR

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
    "usd_per_query_lost": "revenue lost, a query",
    "at_risk_usd_per_query_per_100ms": "at risk for each further 100 ms, a query",
    "at_risk_usd_per_day_per_100ms": "at risk for each further 100 ms, a day",
    "source": "source",
}


def bill(document: Document) -> Table | None:
    """A day's cost, each line quantity × unit price, down to one query; None without a price."""
    lines, cost = document.get("cost_lines") or [], document.get("cost") or {}
    if not lines or cost.get("usd_per_query") is None:
        return None
    rows = _down_to_one(document, lines, cost["usd_per_query"])
    for key, words in PARTS.items():
        if cost.get(key) is not None:
            rows.append((text(words), Cell(""), Cell(""), dollars(cost[key])))
    return Table(("cost of one day", "quantity", "unit price", "product"), tuple(rows), "<>>>", "list")


def price_parts(document: Document) -> Table | None:
    """What the price of a GPU-hour is made of, where that is more than one thing."""
    price = (document.get("cost") or {}).get("price") or {}
    parts = [part for part in price.get("parts") or [] if isinstance(part, Mapping)]
    if len(parts) < 2:
        return None
    keys = list(dict.fromkeys(key for part in parts for key in part))
    heads = tuple(key.replace("_", " ").replace(" usd", " [USD]") for key in keys)
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
    return Table(("revenue of one day", "quantity", "unit price", "product"), tuple(rows), "<>>>", "list")


def margin(document: Document) -> Table | None:
    """Revenue, cost and margin of a query; None without revenue."""
    revenue, cost, left = (document.get(key) or {} for key in ("revenue", "cost", "margin"))
    if revenue.get("usd_per_query") is None:
        return None
    lost = (revenue.get("abandonment") or {}).get("usd_per_query_lost")
    rpm = revenue.get("query_rpm_usd")
    thousand = Cell("" if rpm is None else f"{usd(rpm)} per 1,000", rpm)
    net = ", less what waiting loses" if lost else ""
    rows = [(text(f"it earns{net}"), dollars(revenue["usd_per_query"]), thousand)]
    if cost.get("usd_per_query") is not None:
        rows.append((text("it costs"), dollars(cost["usd_per_query"]), _of_revenue(left.get("cost_share_of_revenue"))))
    if left.get("usd_per_query") is not None:
        made = dollars(left["usd_per_query"], "good" if left["usd_per_query"] >= 0 else "bad")
        rows.append((text("margin", "strong"), made, _of_revenue(left.get("fraction"))))
    return Table(("one query", "USD", ""), tuple(rows), "<><")


def abandonment(document: Document) -> Table | None:
    """What waiting costs in lost impressions."""
    lost = (document.get("revenue") or {}).get("abandonment") or {}
    rows = tuple((text(words), _lost(lost[key], key)) for key, words in LOST.items() if lost.get(key) is not None)
    if not rows:
        return None
    return Table(("users who leave", ""), (*rows, (text("counted"), text(PEAK_ALL_DAY))), "<<")


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


def load_shape_notes(document: Document) -> tuple[str, ...]:
    """How many replicas a fleet that follows the day has, and what that rests on."""
    shape, lines = document.get("load_shape") or {}, []
    if shape.get("mean_replicas") is not None and shape.get("peak_replicas") is not None:
        most = plural(shape["peak_replicas"], "replica")
        lines.append(f"Following the day: {number(shape['mean_replicas'])} replicas on average, {most} at the peak.")
    if isinstance(shape.get("basis"), str):
        lines.append(f"{shape['basis'][:1].upper()}{shape['basis'][1:]}.")
    return tuple(lines)


@dataclass(frozen=True)
class Line:
    """Margin of a query in USD as a function of one value; where the plan stands, and where the margin is 0."""

    name: str
    title: str
    unit: str
    margin: Callable[[Any], Any]
    plan: float
    zero: float | None


def margin_lines(document: Document) -> tuple[Line, ...]:
    """Margin of a query against the peak rate, the RPM and the GPU price, each alone; none without a margin.

    With B the day's bill for GPUs, Q its queries, R and C a query's revenue and cost, q the peak rate, p the GPU price:

        margin(q') = R − C + B/Q · (1 − q/q')    margin(RPM) = RPM/1000 − C    margin(p') = R − C + B/Q · (1 − p'/p)

    The values of margin 0 are the document's own.
    """
    cost, revenue, values = (document.get(key) or {} for key in ("cost", "revenue", "break_even"))
    per_query, earned, hourly = cost.get("usd_per_query"), revenue.get("usd_per_query"), cost.get("usd_per_hour")
    queries = sum(hour.get("queries") or 0.0 for hour in document.get("day") or [])
    if per_query is None or earned is None or hourly is None or queries <= 0:
        return ()
    fixed, left = HOURS_PER_DAY * hourly / queries, earned - per_query
    peak = (document["scenario"].get("traffic") or {}).get("peak_qps") or queries / (HOURS_PER_DAY * S_PER_HOUR)
    price = gpu_hour_usd(document)
    lines = [
        Line(
            "qps",
            "Margin against traffic",
            "queries/s at the peak",
            lambda rate: left + fixed * (1 - peak / rate),
            peak,
            values.get("qps"),
        ),
        Line(
            "rpm",
            "Margin against revenue",
            "USD per 1,000 queries",
            lambda rpm: rpm / MILLE - per_query,
            earned * MILLE,
            values.get("rpm_usd"),
        ),
    ]
    if price is not None and price > 0:
        by_price = Line(
            "price",
            "Margin against the GPU price",
            "USD per GPU-hour",
            lambda usd_per_hour: left + fixed * (1 - usd_per_hour / price),
            price,
            values.get("gpu_hour_usd"),
        )
        lines.append(by_price)
    return tuple(line for line in lines if line.plan > 0 and (line.zero is None or line.zero > 0))


def break_even_charts(document: Document) -> tuple[Chart, ...]:
    """A picture of each margin line."""
    return tuple(_line_chart(line) for line in margin_lines(document))


def _line_chart(line: Line) -> Chart:
    words = number if line.name == "qps" else usd
    paint = break_even_chart(line.margin, line.plan, line.zero, line.unit, words, line.name == "qps")
    name = f"break-even-{line.name}"
    rows = [(text("plan"), Cell(words(line.plan), line.plan), dollars(float(line.margin(line.plan))))]
    said = "there is no break-even"
    if line.zero is not None:
        left = float(line.margin(line.zero))
        rows.append((text("break-even"), Cell(words(line.zero), line.zero), Cell(usd(round(left, 9)), left)))
        said = f"break-even at {words(line.zero)}"
    label = f"Margin of a query against {line.unit}: the plan stands at {words(line.plan)}, {said}."
    table = Table(("", line.unit, "margin, USD a query"), tuple(rows), "<>>")
    return Chart(name, line.title, draw(name, 2.7, paint, NARROW_IN), label, table)


def _down_to_one(document: Document, lines: list[Document], per_query: float) -> list[tuple[Cell, ...]]:
    """Lines, their sum where there are several, and what one query has of it."""
    rows = [_line(line) for line in lines]
    if len(lines) > 1 and all(line.get("product_usd") is not None for line in lines):
        total = sum(line["product_usd"] for line in lines)
        rows.append((text("a day", "strong"), Cell(""), Cell(""), dollars(total, "strong")))
    queries = sum(hour.get("queries") or 0.0 for hour in document.get("day") or [])
    by = Cell(f"÷ {number(round(queries))} queries", queries) if queries else Cell("")
    return [*rows, (text("one query", "strong"), by, Cell(""), dollars(per_query, "strong"))]


def _line(line: Document) -> tuple[Cell, ...]:
    quantity, unit, price = line.get("quantity"), line.get("unit", ""), line.get("unit_price_usd")
    amount = Cell("" if quantity is None else plural(quantity, unit) if unit else number(quantity), quantity)
    each = Cell("") if price is None else unit_price(price)
    return text(line.get("what", "other")), amount, each, dollars(line.get("product_usd"))


def _of_revenue(part: float | None) -> Cell:
    return Cell("" if part is None else f"{share(part).text} of revenue", part)


def _any(value: Any, key: str) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(None if value is None else str(value))
    if key.endswith("share"):
        return share(value)
    return unit_price(value) if "usd" in key else count(value)


def _lost(value: Any, key: str) -> Cell:
    if not isinstance(value, int | float):
        return text(str(value).upper() if key == "metric" else str(value))
    return share(value) if key == "lost_share" else dollars(value)


def _clock(hour: Document) -> Cell:
    return Cell(f"{hour['hour']:02d}:00", hour["hour"])


def _per_query(hour: Document) -> float | None:
    cost = hour.get("cost")
    return cost / hour["queries"] if cost is not None and hour["queries"] else None
