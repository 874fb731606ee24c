"""What a day earns, who leaves before the answer, and what a subscriber costs."""

from __future__ import annotations

from typing import Any

from planner.summary.bill import bill_rows
from planner.summary.currency import both, currency_of
from planner.summary.layout import paragraph, section, table
from planner.summary.words import number, percent, plural

Document = dict[str, Any]
BY_THE_HOUR = "by each hour's own latencies, simulated at a few loads of the day"


def earning_lines(document: Document) -> list[str]:
    """The day's earnings line by line, what waiting loses, and a subscriber's month, each as a section."""
    revenue = document.get("revenue") or {}
    lines = section("Earned in one day", _earned(document, revenue))
    lines += section("Users who leave before the answer", _leaving(document, revenue.get("abandonment") or {}))
    title = "A subscriber's month"
    return [*lines, *section(title, _subscriber(document, revenue.get("subscription") or {}))]


def _earned(document: Document, revenue: Document) -> list[str]:
    """Quantity × price; left out where it would only say that every query earns its revenue."""
    lines = revenue.get("lines") or []
    if len(lines) < 2 and all(
        line.get("unit") == "query" and line.get("unit_price_usd") in (None, revenue.get("usd_per_query"))
        for line in lines
    ):
        return []
    return table(bill_rows(lines, currency_of(document)), "<>>>")


def _leaving(document: Document, found: Document) -> list[str]:
    if found.get("lost_share") is None:
        return []
    currency = currency_of(document)
    lost = both(found.get("usd_per_query_lost"), currency)
    peak, ads = found.get("lost_share_at_peak"), found.get("lost_impressions")
    busiest = "" if peak is None or percent(peak) == percent(found["lost_share"]) else f" ({percent(peak)} at the peak)"
    said = f"{percent(found['lost_share'])} of all queries{busiest}: {lost} a query, which the revenue above is net of"
    lines = paragraph(said, "  ", "    ")
    if ads is not None:
        lines += paragraph(f"with them {plural(round(ads), 'ad')} a day are not shown", "  ", "    ")
    risk, daily = found.get("at_risk_usd_per_query_per_100ms"), found.get("at_risk_usd_per_day_per_100ms")
    if risk is not None and daily is not None:
        metric = str(found.get("metric", "")).upper()
        said = f"at risk: 100 ms more of every {metric} would lose {both(risk, currency)} a query"
        lines += paragraph(f"{said}, {both(daily, currency)} a day", "  ", "    ")
    return [*lines, *paragraph(found.get("source", ""), "  ", "    "), *paragraph(BY_THE_HOUR, "  ", "    ")]


def _subscriber(document: Document, found: Document) -> list[str]:
    if found.get("cost_usd_per_month") is None:
        return []
    currency = currency_of(document)
    rows = [["", "queries", "cost", "leaves"], _month("mean", found, currency)]
    for heavy in found.get("heavy") or []:
        rows.append(_month(f"p{heavy.get('percentile', 0):g}", heavy, currency))
    limit, paid = found.get("break_even_queries_per_month"), both(found.get("usd_per_month"), currency)
    said = f"{paid} a month pays for {number(_whole(limit))} queries"
    if found.get("losing_share") is not None:
        said += f": {percent(found['losing_share'])} of the subscribers ask more"
        said += f", {percent(found.get('losing_queries_share'))} of all queries"
    lines = [*table(rows, "<>>>"), *paragraph(said, "  ", "    ")]
    if found.get("subscribers") is not None:
        lines += paragraph(f"{number(_whole(found['subscribers']))} subscribers ask the day's queries", "  ", "    ")
    return lines


def _month(who: str, row: Document, currency: Document | None) -> list[str]:
    amounts = (both(row.get(key), currency) for key in ("cost_usd_per_month", "margin_usd_per_month"))
    return [who, number(_whole(row.get("queries_per_month"))), *amounts]


def _whole(value: float | None) -> float | None:
    return round(value) if value is not None and value >= 100 else value
