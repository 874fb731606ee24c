"""The answer of `economics` for a scenario in words: the plan in short, then what would make a query earn more."""

from __future__ import annotations

from typing import Any

from planner.summary.bases import bases_lines, denominator_lines, gap_lines
from planner.summary.currency import currency_of, rate_words
from planner.summary.earnings import BY_THE_HOUR
from planner.summary.layout import paragraph, section, table
from planner.summary.model_loss import loss_lines
from planner.summary.money import money_sentence
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.plan import plan_text
from planner.summary.service import demand_words, fleet_words
from planner.summary.words import (
    capitalised,
    clean,
    limit_name,
    milliseconds,
    number,
    percent,
    plural,
    usd,
    with_limit_names,
)

Document = dict[str, Any]

_LATENCIES_SHOWN = 4  # side by side: those of the scenario's limits first
_SIZES_AROUND = 3  # shown on each side of the best and of the plan's own


def economics_text(document: Document) -> str:
    """The page that `planner economics SCENARIO` prints; of a scenario that no fleet can serve, why."""
    document = clean(document)
    if not document.get("feasible"):
        return plan_text(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    who = fleet_words(document.get("fleet") or {}, document.get("model") or {})
    verb = "serves" if (document.get("fleet") or {}).get("gpus") == 1 else "serve"
    lines += paragraph(f"{who} {verb} {demand_words(scenario) or 'the load'}. {money_sentence(document)}")
    rate = rate_words(currency_of(document))
    lines += paragraph(f"Amounts are in USD; {rate}." if rate else "")
    lines += section("Revenue at risk: users who do not wait", _at_risk(document))
    lines += section("The service level worth asking for", _best_slo(document))
    levers = document.get("levers") or {}
    lines += section("Shorter answers", _shorter(levers.get("shorter_answers") or {}))
    lines += section("Smaller models, their quality not modelled", _smaller(levers.get("smaller_models") or {}))
    skipped = _skip(levers.get("skip_llm") or {}, document.get("revenue") or {}, document.get("cost") or {})
    lines += section("Queries that are not worth the model", skipped)
    lines += section("Four ways to say what the model calls of a query cost", bases_lines(document))
    lines += section("The same bills, by what they are divided by", denominator_lines(document))
    lines += gap_lines(document)
    lines += [line for note in document.get("economics_notes") or [] for line in paragraph(f"Note: {note}", "", "  ")]
    return "\n".join([*lines, *origin_lines(document.get("provenance") or []), *definition_lines()])


# --- users who leave ---


def _at_risk(document: Document) -> list[str]:
    lost = (document.get("revenue") or {}).get("abandonment")
    if not lost:
        return paragraph("Not known: the scenario does not say how users leave (revenue.abandonment).", "  ")
    per_query, per_day = lost.get("at_risk_usd_per_query_per_100ms"), lost.get("at_risk_usd_per_day_per_100ms")
    said = f"{percent(lost.get('lost_share'))} of the queries are left before the answer: "
    said += f"{usd(lost.get('usd_per_query_lost'))} a query. Each further 100 ms of {lost.get('metric', '').upper()} "
    said += f"would lose {usd(per_query)} a query, {usd(per_day)} a day."
    weighed = capitalised(f"{BY_THE_HOUR}.")
    return [*paragraph(said, "  "), *paragraph(lost.get("source", ""), "  "), *paragraph(weighed, "  ")]


def _best_slo(document: Document) -> list[str]:
    found = document.get("best_slo")
    if not found:
        why = "the scenario does not say how users leave (revenue.abandonment)"
        if document.get("revenue", {}).get("abandonment"):
            why = "revenue or cost is missing"
        return paragraph(f"Not known: {why}.", "  ")
    best, own = found["best"], found["own"]
    gained = found.get("gained_usd_per_day") or 0.0
    earn = "earns" if best["serving"] == 1 else "earn"
    levels = ", ".join(f"{limit_name(key)} {milliseconds(value)}" for key, value in found["slo"].items())
    lines = paragraph(
        f"{plural(best['serving'], 'serving replica')} ({plural(best['gpus'], 'GPU')}) {earn} most: {levels}.", "  "
    )
    if best["serving"] == own["serving"]:
        lines += paragraph("That is the planned fleet: its limits are the ones worth asking for.", "  ")
    else:
        change = best["gpus"] - own["gpus"]
        said = (
            f"{plural(abs(change), 'GPU')} {'more' if change > 0 else 'fewer'} than planned for the scenario's limits"
        )
        lines += paragraph(f"{said}: {usd(gained)} more margin a day.", "  ")
    sizes = found["sizes"]
    places = {index for index, size in enumerate(sizes) if size["serving"] in (best["serving"], own["serving"])}
    shown = [size for index, size in enumerate(sizes) if any(abs(index - place) <= _SIZES_AROUND for place in places)]
    keys = list(found["slo"])[:_LATENCIES_SHOWN]
    rows = [["serving", "GPUs", *(limit_name(key) for key in keys), "left", "cost a day", "margin a day", ""]]
    for size in shown:
        marks = [word for word, marked in (("best", best), ("planned", own)) if size["serving"] == marked["serving"]]
        mark = ", ".join(marks)
        if size.get("saturated"):
            mark = "SATURATED"
        rows.append(
            [
                number(size["serving"]),
                number(size["gpus"]),
                *(milliseconds((size.get("latencies") or {}).get(key)) for key in keys),
                percent(size.get("lost_share")),
                usd(size.get("cost_usd_per_day")),
                usd(size.get("margin_usd_per_day")),
                mark,
            ]
        )
    lines += table(rows, f">>{'>' * len(keys)}>>><")
    ends = "; ".join(found.get("ends") or [])
    lines += paragraph(capitalised(f"{ends}.") if ends else "", "  ")
    return lines + paragraph("Latencies at the peak; quieter hours count with their own.", "  ")


# --- levers ---


def _shorter(found: Document) -> list[str]:
    if found.get("reason"):
        return paragraph(f"Not told: {found['reason']}.", "  ")
    if not found.get("rows"):
        return []
    rows = [["", "tokens", *_HEADS]]
    rows += [[f"−{percent(row['shorter_by'])}", number(row["output_tokens"]), *_figures(row)] for row in found["rows"]]
    lines = table(rows, ">>>>>>>>")
    end = found.get("break_even")
    if end:
        if end.get("output_tokens") is not None:
            said = f"Answers of {number(round(end['output_tokens']))} tokens on average still pay; {end['note']}."
        else:
            said = capitalised(f"{end['note']}.")
        lines += paragraph(said, "  ")
    return lines


def _smaller(found: Document) -> list[str]:
    if found.get("reason"):
        return paragraph(f"None: {found['reason']}.", "  ")
    rows = [["", "B", "active", *_HEADS]]
    for row in found.get("rows") or []:
        sizes = [number(row[key] / 1e9) for key in ("total_parameters", "active_parameters")]
        rows.append([row["model"], *sizes, *_figures(row)])
    lines = table(rows, "<>>>>>>>>") if len(rows) > 1 else []
    for row in found.get("rows") or []:
        if row.get("reason"):
            lines += paragraph(f"{row['model']}: {with_limit_names(row['reason'])}", "  ", "    ")
    return lines + loss_lines(found)


_HEADS = ("GPUs", "", "$/query", "", "margin", "")


def _figures(row: Document) -> list[str]:
    """GPUs, $/query and margin, each with what it changes."""
    if not row.get("feasible"):
        return ["no fleet fits", "", "", "", "", ""]
    removed = row.get("removed") or {}
    gained = row.get("gained_usd_per_query")
    margin = row.get("margin_usd_per_query")
    return [
        number(row.get("gpus")),
        _change(removed.get("gpus"), number),
        usd(row.get("usd_per_query")),
        _change(removed.get("usd_per_query"), usd),
        "" if margin is None else usd(margin),
        "" if gained is None else _change(-gained, usd),
    ]


def _change(removed: float | None, words: Any) -> str:
    """What was removed, with the sign that it has for the fleet."""
    if removed is None:
        return ""
    return f"+{words(-removed)}" if removed < 0 else str(words(-removed))


_EARNING = {
    "ads": "A query with ads",
    "subscription": "A query of a subscriber",
    "api": "A query sold by the token",
    "per_word": "A query sold by the word",
}


def _skip(found: Document, revenue: Document, cost: Document) -> list[str]:
    if found.get("reason"):
        return paragraph(f"Not told: {found['reason']}.", "  ")
    threshold = found.get("threshold_usd_per_query")
    if threshold is None:
        return []
    made = f"a replica at {usd(found['replica_usd_per_hour'])} an hour carries {number(found['replica_qps'])} queries/s"
    lines = paragraph(f"One more query costs {usd(threshold)}: {made} within the limits, at the day's shape.", "  ")
    if any(part.get("what") == "staff of the fleet" for part in (cost.get("price") or {}).get("parts") or []):
        lines += paragraph("The fleet's staff is not in it: one more query needs no more of it.", "  ")
    if found.get("retrieval_usd_per_query"):
        lines += paragraph(f"Retrieval, {usd(found['retrieval_usd_per_query'])}, is part of it.", "  ")
    value = found.get("earned_usd_per_query")
    if value is not None:
        left = ", less those who leave" if revenue.get("abandonment") else ""
        verdict = (
            "above it: such a query is worth the model" if value >= threshold else "BELOW it: it is not worth the model"
        )
        lines += paragraph(
            f"{_EARNING.get(revenue.get('model', 'ads'), 'A query')} earns {usd(value)}{left}, {verdict}.", "  "
        )
    others = found.get("without_others")
    if others:
        share = percent(1 - found["commercial_share"])
        if others.get("saved_usd_per_day") is None:
            lines += paragraph(
                f"Without the {share} that carry no ads: {others.get('reason') or 'no fleet fits'}.", "  "
            )
        else:
            said = f"Without the model for the {share} that carry no ads: {plural(others['gpus'], 'GPU')}, "
            said += f"{usd(others['usd_per_query'])} a query, {usd(others['saved_usd_per_day'])} a day saved."
            lines += paragraph(f"{said} That their users stay is assumed.", "  ")
    return lines
