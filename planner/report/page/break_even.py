"""Break-even on the page: the margin of a query against one value at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.economics.revenue import MILLE
from planner.report.page.answer import gpu_hour_usd
from planner.report.page.charts_money import break_even_chart
from planner.report.page.parts import Cell, Chart, Table, dollars, text
from planner.report.page.sums import cache_usd_per_hour
from planner.report.svg import NARROW_IN, draw
from planner.summary.words import number, price, usd
from planner.units import HOURS_PER_DAY, S_PER_HOUR

Document = dict[str, Any]


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

    With B the day's bill for GPUs (against traffic the response cache's own too), Q its queries, R and C a query's
    revenue and cost, q the peak rate, p the GPU price:

        margin(q') = R − C + B/Q · (1 − q/q')    margin(RPM) = RPM/1000 − C    margin(p') = R − C + B/Q · (1 − p'/p)

    The values of margin 0 are the document's own.
    """
    cost, revenue, values = (document.get(key) or {} for key in ("cost", "revenue", "break_even"))
    per_query, earned, hourly = cost.get("usd_per_query"), revenue.get("usd_per_query"), cost.get("usd_per_hour")
    queries = sum(hour.get("queries") or 0.0 for hour in document.get("day") or [])
    if per_query is None or earned is None or hourly is None or queries <= 0:
        return ()
    fixed, left = HOURS_PER_DAY * hourly / queries, earned - per_query
    all_day = fixed + HOURS_PER_DAY * cache_usd_per_hour(document) / queries
    peak = (document["scenario"].get("traffic") or {}).get("peak_qps") or queries / (HOURS_PER_DAY * S_PER_HOUR)
    paid = gpu_hour_usd(document)
    lines = [
        Line(
            "qps",
            "Margin against traffic",
            "queries/s at the peak",
            lambda rate: left + all_day * (1 - peak / rate),
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
    if paid is not None and paid > 0:
        by_price = Line(
            "price",
            "Margin against the GPU price",
            "USD per GPU-hour",
            lambda usd_per_hour: left + fixed * (1 - usd_per_hour / paid),
            paid,
            values.get("gpu_hour_usd"),
        )
        lines.append(by_price)
    return tuple(line for line in lines if line.plan > 0 and (line.zero is None or line.zero > 0))


def break_even_charts(document: Document) -> tuple[Chart, ...]:
    """A picture of each margin line."""
    return tuple(_line_chart(line) for line in margin_lines(document))


def _line_chart(line: Line) -> Chart:
    words = {"qps": number, "price": price}.get(line.name, usd)
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
