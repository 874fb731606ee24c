"""The bill, what is left of the revenue, the values at which nothing is, and the day."""

from __future__ import annotations

from typing import Any

from planner.summary.after_training import after_training_rows
from planner.summary.bill import bill_rows, total_usd
from planner.summary.currency import both, currency_of, other, rate_words
from planner.summary.earnings import earning_lines
from planner.summary.layout import bars, facts, paragraph, section, table
from planner.summary.words import ABSENT, number, percent, plural, usd

Document = dict[str, Any]


def money_sentence(document: Document) -> str:
    """ "A query costs $0.00120, 2.6 % of its ad revenue; margin $0.0437 (97.4 %)", or what is missing for it."""
    cost, revenue = document.get("cost") or {}, document.get("revenue") or {}
    per_query, earned = cost.get("usd_per_query"), revenue.get("usd_per_query")
    if per_query is None:
        return "No GPU price given: cost and margin left out."
    currency = currency_of(document)
    text = f"A query costs {both(per_query, currency)}"
    if earned is None:
        return f"{text}; no revenue given: margin left out."
    left = document.get("margin") or {}
    share, fraction = left.get("cost_share_of_revenue"), left.get("fraction")
    earning = "ad revenue" if revenue.get("model", "ads") == "ads" else "revenue"
    text += f", {percent(share)} of its {earning}; " if share is not None else "; "
    margin = left.get("usd_per_query")
    if margin is not None and margin < 0:
        return f"{text}it LOSES {both(-margin, currency)}: the revenue is {both(earned, currency)}."
    beside = ", ".join(part for part in (other(margin, currency), percent(fraction)) if part not in ("", ABSENT))
    within = f" ({beside})" if beside else ""
    return f"{text}margin {usd(margin)}{within}{_after_training(left, currency)}."


def _after_training(left: Document, currency: Document | None) -> str:
    after = left.get("after_training_usd_per_query")
    if after is None:
        return ""
    if after < 0:
        return f"; with its share of the training it LOSES {both(-after, currency)}"
    return f", {both(after, currency)} after its share of the training"


def money_lines(document: Document) -> list[str]:
    """Bill, margin and break-even as sections, with the notes on what was left out."""
    lines = section("Cost of one day", _bill(document))
    lines += section("Revenue and margin", _margin(document))
    lines += earning_lines(document)
    lines += section("Break-even: each value alone, the fleet and the rest unchanged", _break_even(document))
    notes = [
        line for note in document.get("economics_notes") or [] for line in paragraph(f"Note: {note}", "  ", "    ")
    ]
    return [*lines, *notes] if lines else section("Money", notes)


def day_lines(document: Document) -> list[str]:
    """The 24 hours as a line of bars for the load and one for how busy the fleet is, with the extremes in words.

    Below them the busy and the idle part of the bill, and a fleet that follows the day.
    """
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
    return [*table(rows, "<<<"), *facts([("busy", _busy(document)), ("following", _following(document))])]


def _busy(document: Document) -> str:
    """Usage and idle cost: what the engines worked on, and what they did not."""
    cost, currency = document.get("cost") or {}, currency_of(document)
    used, idle = cost.get("usage_usd_per_query"), cost.get("idle_usd_per_query")
    busy, rest = cost.get("busy_gpu_hours"), cost.get("idle_gpu_hours")
    if used is None or idle is None or busy is None or rest is None:
        return ""
    hours = f"{number(busy)} of {plural(busy + rest, 'GPU-hour')}, some batch running, however small"
    return f"{hours}: of a query's cost {both(used, currency)} is usage and {both(idle, currency)} idle"


def _following(document: Document) -> str:
    """A fleet that follows the day, where that differs from one that is on all day."""
    shape = document.get("load_shape") or {}
    static, follows = shape.get("static") or {}, shape.get("following") or {}
    sizes = follows.get("replicas") or []
    if len(set(sizes)) < 2 or static.get("gpu_hours") is None or follows.get("gpu_hours") is None:
        return ""
    said = f"{min(sizes)} to {plural(max(sizes), 'replica')} by the hour"
    said += f", {number(shape.get('mean_replicas'))} on average, would take {plural(follows['gpu_hours'], 'GPU-hour')}"
    if follows.get("startup_gpu_hours"):
        said += f" ({number(follows['startup_gpu_hours'])} of them starting up)"
    if static.get("usd_per_day") is not None and follows.get("usd_per_day") is not None:
        currency = currency_of(document)
        instead = both(static["usd_per_day"], currency)
        said += f" and {both(follows['usd_per_day'], currency)} a day instead of {instead}"
    return f"{said}; {shape['basis']}" if shape.get("basis") else said


def _bill(document: Document) -> list[str]:
    cost, lines = document.get("cost") or {}, document.get("cost_lines") or []
    currency = currency_of(document)
    if not cost and not lines:
        told = any("cost left out" in note for note in document.get("economics_notes") or [])
        return [] if told else ["  no GPU price given (prices.gpu_hour_usd): cost left out"]
    rows, total = bill_rows(lines, currency), total_usd(lines)
    queries = [hour.get("queries") for hour in document.get("day") or []]
    counted = sum(queries) if queries and None not in queries else 0
    per_query = cost.get("usd_per_query")
    if total is not None and counted:
        divided = f"{usd(total)} ÷ {number(round(counted))} queries"
        rows.append(["cost per query", divided, f"= {usd(per_query)}", other(per_query, currency)])
    shown = table(rows, "<>>>")
    without, included = _beside_retrieval(lines)
    parts = [f"{both(cost['usd_per_hour'], currency)} an hour{without}"] if cost.get("usd_per_hour") is not None else []
    if per_query is not None:
        parts.append(f"{both(per_query, currency)} a query{included}")
    if cost.get("usd_per_million_tokens") is not None:
        parts.append(f"{both(cost['usd_per_million_tokens'], currency)} per million tokens (prompt + output){without}")
    made_of = (cost.get("price") or {}).get("parts") or []
    if len(made_of) > 1:
        parts.append(f"{both(cost['price'].get('gpu_hour_usd'), currency)} a GPU-hour, all in")
    return [*shown, *paragraph(" · ".join(parts), "  "), *paragraph(rate_words(currency), "  ")]


def _beside_retrieval(lines: list[Document]) -> tuple[str, str]:
    """What to say of a figure of the fleet alone, and of one that has retrieval in it; nothing where none is paid."""
    paid = any(line.get("what") == "retrieval" for line in lines)
    return (" for the fleet, without retrieval", " with it") if paid else ("", "")


def _margin(document: Document) -> list[str]:
    cost, revenue, left = (document.get(key) or {} for key in ("cost", "revenue", "margin"))
    earned, currency = revenue.get("usd_per_query"), currency_of(document)
    if earned is None:
        told = any("margin left out" in note for note in document.get("economics_notes") or [])
        return [] if told else ["  no revenue given (revenue.ads, .subscription, .api or .per_word): margin left out"]

    def row(what: str, value: float, said: str = "") -> list[str]:
        return [what, usd(value), other(value, currency), said]

    rpm = f"query RPM {both(revenue.get('query_rpm_usd'), currency)}: per thousand queries"
    rows = [row("revenue", earned, rpm)]
    if cost.get("usd_per_query") is not None:
        share = left.get("cost_share_of_revenue")
        rows.append(row("cost", cost["usd_per_query"], "" if share is None else f"{percent(share)} of revenue"))
    if left.get("usd_per_query") is not None:
        fraction = left.get("fraction")
        rows.append(row("margin", left["usd_per_query"], "" if fraction is None else f"{percent(fraction)} of revenue"))
    trained, after = cost.get("amortised_training_usd_per_query"), left.get("after_training_usd_per_query")
    if trained is not None:
        rows.append(row("training", trained, "the training bill over all queries of its months; not in the cost above"))
    if after is not None:
        rows.append(row("margin after training", after))
    return table(rows, "<>><")


def _break_even(document: Document) -> list[str]:
    values, currency = document.get("break_even") or {}, currency_of(document)
    rows = []
    if values.get("qps") is not None:
        said = "queries/s at the peak: with fewer, the fleet costs more than it earns"
        rows.append([number(values["qps"]), "", said])
    for key, said in (
        ("rpm_usd", "query RPM: the least that 1,000 queries must earn"),
        ("gpu_hour_usd", "per GPU-hour: the most that a GPU may cost"),
    ):
        if values.get(key) is not None:
            rows.append([usd(values[key]), other(values[key], currency), said])
    return table([*rows, *after_training_rows(document)], ">><")


def _clock(day: list[Document], index: int) -> str:
    hour = day[index].get("hour")
    return f"{index if hour is None else int(hour):02d}:00"
