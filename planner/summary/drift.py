"""The answer of `drift` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts, paragraph, section, table
from planner.summary.words import capitalised, clean, limit_name, milliseconds, number, percent, plural, usd

Document = dict[str, Any]

_CAUSES = {
    "traffic": ("traffic", "queries/s"),
    "token_lengths": ("token lengths", "tokens"),
    "prefix_hit_rate": ("prefix hits", "share"),
    "response_hit_rate": ("response hits", "share"),
    "step_speed": ("step speed", "ms ITL"),
    "utilisation": ("utilisation", "replicas"),
    "price": ("price", "$/GPU-h"),
}
_SHARES = ("prefix_hit_rate", "response_hit_rate")
_VERDICTS = {True: "holds", False: "NO LONGER", None: "not told"}


def drift_text(document: Document) -> str:
    """Cost per query against the plan, cause by cause; lines that no longer hold; what the fleet carries."""
    document = clean(document)
    parts = document.get("parts") or []
    lines = [*paragraph(document["scenario_name"]), ""] if document.get("scenario_name") else []
    lines += paragraph(_answer(document, parts))
    lines += section("What moved it (the parts add up to the whole)", _part_lines(document, parts))
    lines += section("Why", facts([(_name(part), part.get("note", "")) for part in parts]))
    lines += section("What no longer holds", _broken_lines(parts))
    lines += section("What the fleet carries", paragraph(_capacity(document), "  "))
    lines += section("Money", _money_lines(document))
    lines += section("Taken from the plan, as nobody tells it", _assumed_lines(document))
    lines += section("Notes", _listed(document.get("notes") or []))
    lines += section("Sources that gave no figure", _listed(_troubles(document)))
    return "\n".join(lines)


def _answer(document: Document, parts: list[Document]) -> str:
    total, cost = document.get("total") or {}, document.get("cost") or {}
    fraction, limit = total.get("fraction"), document.get("limit")
    bound = f"the limit is {percent(limit)}"
    if fraction is None:
        why = "no query came, or no replica answered"
        verdict = "WITHIN THE PLAN" if document.get("within") else "NOT AS PLANNED"
        return f"{_first(document)}{verdict}: what a query costs cannot be told: {why} ({bound})."
    amount = cost.get("usd_per_query")
    costs = "A query's share of the GPUs is" if amount is None else f"A query costs {usd(amount)},"
    than = "at this hour" if document.get("hour") is not None else "over a day"
    so = f"{costs} {_departure(fraction)} {than} ({bound})"
    first = _first(document)
    judged = [part for part in parts if part.get("share") and part.get("holds") is not None]
    beyond = abs(fraction) > (limit or 0.0) or any(part["holds"] is False for part in judged)
    # Beside a missed service level, or with part of the fleet dark, a cost as planned is no "within the plan".
    verdict = "NOT AS PLANNED: " if beyond else "" if first else "WITHIN THE PLAN: "
    largest = sorted(judged, key=lambda part: -abs(part["share"]))
    told = [f"{_name(part)} {_signed_percent(part['share'])}" for part in largest if abs(part["share"]) >= 0.005]
    return f"{first}{verdict}{so}{': ' + ', '.join(told) if told else ''}.{_overload(document)}"


def _first(document: Document) -> str:
    """What comes before any figure: who did not answer, and service levels that are missed."""
    said = ""
    sources = document.get("sources") or {}
    asked, answered = sources.get("asked"), sources.get("answered") or 0
    if asked is not None and answered != asked:
        told = "traffic, utilisation and capacity cannot be told, the rest is of those alone"
        said = f"{answered} of {plural(asked, 'source')} read: {told}. "
    levels = [
        f"{limit_name(row['key'])} {milliseconds(row['actual_ms'])} > {milliseconds(row['limit_ms'])}"
        for row in document.get("slo") or []
        if row.get("met") is False
    ]
    return f"{said}THE SERVICE LEVELS ARE MISSED: {', '.join(levels)}. " if levels else said


def _overload(document: Document) -> str:
    """What must not be missed beside a cost that is as planned."""
    room = document.get("capacity") or {}
    if (room.get("headroom_fraction") or 0.0) >= 0:
        return ""
    wanted = (room.get("replicas") or {}).get("wanted")
    many = "" if wanted is None else f": {plural(wanted, 'replica')} wanted"
    return f" THE LOAD IS MORE THAN THE FLEET CARRIES within the service levels{many}."


def _departure(fraction: float) -> str:
    if abs(fraction) < 0.0005:
        return "as planned"
    return f"{percent(abs(fraction))} {'more' if fraction > 0 else 'less'} than planned"


def _signed_percent(share: float) -> str:
    return f"+{percent(share)}" if share > 0 else percent(share)


def _name(part: Document) -> str:
    return _CAUSES.get(part["cause"], (part["cause"],))[0]


def _part_lines(document: Document, parts: list[Document]) -> list[str]:
    rows = [["", "", "planned", "actual", "ratio", "cost ×", "$ a query", "of cost", ""]]
    for part in parts:
        show = percent if part["cause"] in _SHARES else number
        rows.append(
            [
                _name(part),
                _CAUSES.get(part["cause"], ("", ""))[1],
                show(part.get("planned")),
                show(part.get("actual")),
                number(part.get("ratio")),
                number(part.get("factor")),
                usd(part.get("usd_per_query")),
                "–" if part.get("share") is None else _signed_percent(part["share"]),
                "not judged" if part.get("holds") is None and part.get("share") else _VERDICTS[part.get("holds")],
            ]
        )
    total = document.get("total") or {}
    cost, planned = document.get("cost") or {}, document.get("planned") or {}
    whole = "–" if total.get("fraction") is None else _signed_percent(total["fraction"])
    amounts = [usd(planned.get("usd_per_query")), usd(cost.get("usd_per_query"))]
    rows.append(["whole", "$/query", *amounts, "", "", usd(total.get("usd_per_query")), whole, ""])
    return table(rows, "<<>>>>>><")


def _broken_lines(parts: list[Document]) -> list[str]:
    lines = []
    for part in parts:
        if part.get("holds") is False:
            lines += paragraph(f"{part['key']}: {part.get('mend') or part.get('note') or 'plan again'}", "  ", "    ")
    return lines


def _capacity(document: Document) -> str:
    room = document.get("capacity") or {}
    replicas = room.get("replicas") or {}
    said = []
    if room.get("qps") is not None:
        said.append(f"The replicas that run, less the spare ones, carry {number(room['qps'])} queries/s.")
    if room.get("headroom_fraction") is not None:
        said.append(f"Headroom over the load: {percent(room['headroom_fraction'])}.")
    known = [f"{number(replicas[key])} {key}" for key in ("planned", "running", "wanted") if key in replicas]
    if known:
        said.append(f"Replicas: {', '.join(known)}.")
    return " ".join(said)


def _money_lines(document: Document) -> list[str]:
    cost, margin = document.get("cost") or {}, document.get("margin") or {}
    revenue = document.get("revenue") or {}
    rows = []
    if cost.get("usd_per_hour") is not None:
        tokens = cost.get("usd_per_million_tokens")
        per_token = "" if tokens is None else f" · {usd(tokens)} a million tokens"
        usage = cost.get("usage_usd_per_query")
        worked = "" if usage is None else f" · {usd(usage)} a query without the time in which engines were idle"
        rows.append(("cost", f"{usd(cost['usd_per_hour'])} an hour{per_token}{worked}"))
    if revenue.get("usd_per_query") is not None:
        rows.append(("revenue", f"{usd(revenue['usd_per_query'])} a query"))
    if margin.get("usd_per_query") is not None:
        rows.append(("margin", f"{usd(margin['usd_per_query'])} a query"))
    for saved in document.get("savings") or []:
        if saved.get("fraction"):
            hourly = "" if saved.get("usd_per_hour") is None else f", {usd(saved['usd_per_hour'])} an hour"
            share = percent(saved["fraction"])
            rows.append((f"{saved['cache']} cache", f"saves {share} of what the fleet would cost without it{hourly}"))
    return facts(rows)


def _assumed_lines(document: Document) -> list[str]:
    return facts([(row["figure"], row["from"]) for row in document.get("assumed") or []])


def _listed(texts: list[str]) -> list[str]:
    return [line for text in texts for line in paragraph(capitalised(text), "  ", "    ")]


def _troubles(document: Document) -> list[str]:
    found = document.get("troubles") or []
    shown = [f"{one['source']}: {one['text']} ({one['reason']})" for one in found[:8]]
    return [*shown, f"and {plural(len(found) - 8, 'source')} more"] if len(found) > 8 else shown
