"""The bill, what is left of the revenue, the values at which nothing is, and the day."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import bars, paragraph, section, table
from planner.summary.words import number, percent, plural, price, usd

Document = dict[str, Any]


def money_sentence(document: Document) -> str:
    """ "A query costs $0.00120, 2.6 % of its ad revenue; margin $0.0437 (97.4 %)", or what is missing for it."""
    cost, revenue = document.get("cost") or {}, document.get("revenue") or {}
    per_query, earned = cost.get("usd_per_query"), revenue.get("usd_per_query")
    if per_query is None:
        return "No GPU price given: cost and margin left out."
    if earned is None:
        return f"A query costs {usd(per_query)}; no revenue given: margin left out."
    left = document.get("margin") or {}
    share, fraction = left.get("cost_share_of_revenue"), left.get("fraction")
    text = f"A query costs {usd(per_query)}"
    text += f", {percent(share)} of its ad revenue; " if share is not None else "; "
    per_cent = "" if fraction is None else f" ({percent(fraction)})"
    if (left.get("usd_per_query") or 0) < 0:
        return f"{text}it LOSES {usd(-left['usd_per_query'])}: the revenue is {usd(earned)}."
    return f"{text}margin {usd(left.get('usd_per_query'))}{per_cent}."


def money_lines(document: Document) -> list[str]:
    """Bill, margin and break-even as sections, with the notes on what was left out."""
    lines = section("Cost of one day", _bill(document))
    lines += section("Revenue and margin", _margin(document))
    lines += section("Break-even: each value alone, the fleet and the rest unchanged", _break_even(document))
    notes = [
        line for note in document.get("economics_notes") or [] for line in paragraph(f"Note: {note}", "  ", "    ")
    ]
    return [*lines, *notes] if lines else section("Money", notes)


def day_lines(document: Document) -> list[str]:
    """The 24 hours as a line of bars for the load and one for how busy the fleet is, with the extremes in words."""
    day = document.get("day") or []
    rows = []
    for key, words in (("queries", lambda x: number(round(x))), ("utilisation", percent)):
        values = [hour.get(key) for hour in day]
        if not values or None in values:
            continue
        low, high = min(values), max(values)
        said = f"{words(low)} at {_clock(day, values.index(low))} to {words(high)} at {_clock(day, values.index(high))}"
        if words(low) == words(high):
            said = f"{words(high)}{' in every hour' if key == 'queries' else ' all day'}"
        rows.append([key, bars(values), said + (f"; {words(sum(values))} a day" if key == "queries" else "")])
    return table(rows, "<<<")


def _bill(document: Document) -> list[str]:
    cost, rows = document.get("cost") or {}, []
    lines = document.get("cost_lines") or []
    if not cost and not lines:
        told = any("cost left out" in note for note in document.get("economics_notes") or [])
        return [] if told else ["  no GPU price given (prices.gpu_hour_usd): cost left out"]
    for line in lines:
        rows.append(
            [
                line.get("what", "other"),
                f"{plural(line.get('quantity'), line.get('unit', 'unit'))} × {price(line.get('unit_price_usd'))}",
                f"= {usd(line.get('product_usd'))}",
            ]
        )
    products = [line.get("product_usd") for line in lines]
    total = None if not products or None in products else sum(products)
    if total is not None and len(lines) > 1:
        rows.append(["sum", "", f"= {usd(total)}"])
    queries = [hour.get("queries") for hour in document.get("day") or []]
    counted = sum(queries) if queries and None not in queries else 0
    if total is not None and counted:
        divided = f"{usd(total)} ÷ {number(round(counted))} queries"
        rows.append(["cost per query", divided, f"= {usd(cost.get('usd_per_query'))}"])
    shown = table(rows, "<>>")
    parts = [f"{usd(cost['usd_per_hour'])} an hour"] if cost.get("usd_per_hour") is not None else []
    if cost.get("usd_per_query") is not None:
        parts.append(f"{usd(cost['usd_per_query'])} a query")
    if cost.get("usd_per_million_tokens") is not None:
        parts.append(f"{usd(cost['usd_per_million_tokens'])} per million tokens (prompt + output)")
    return [*shown, *paragraph(" · ".join(parts), "  ")] if parts else shown


def _margin(document: Document) -> list[str]:
    cost, revenue, left = (document.get(key) or {} for key in ("cost", "revenue", "margin"))
    earned = revenue.get("usd_per_query")
    if earned is None:
        told = any("margin left out" in note for note in document.get("economics_notes") or [])
        return [] if told else ["  no revenue given (revenue.ads): margin left out"]
    rows = [["revenue", usd(earned), f"query RPM {usd(revenue.get('query_rpm_usd'))}: per thousand queries"]]
    if cost.get("usd_per_query") is not None:
        share = left.get("cost_share_of_revenue")
        rows.append(["cost", usd(cost["usd_per_query"]), "" if share is None else f"{percent(share)} of revenue"])
    if left.get("usd_per_query") is not None:
        fraction = left.get("fraction")
        rows.append(
            ["margin", usd(left["usd_per_query"]), "" if fraction is None else f"{percent(fraction)} of revenue"]
        )
    return table(rows, "<><")


def _break_even(document: Document) -> list[str]:
    values = document.get("break_even") or {}
    rows = []
    if values.get("qps") is not None:
        rows.append([number(values["qps"]), "queries/s at the peak: with fewer, the fleet costs more than it earns"])
    if values.get("rpm_usd") is not None:
        rows.append([usd(values["rpm_usd"]), "query RPM: the least that 1,000 queries must earn"])
    if values.get("gpu_hour_usd") is not None:
        rows.append([usd(values["gpu_hour_usd"]), "per GPU-hour: the most that a GPU may cost"])
    return table(rows, "><")


def _clock(day: list[Document], index: int) -> str:
    hour = day[index].get("hour")
    return f"{index if hour is None else int(hour):02d}:00"
