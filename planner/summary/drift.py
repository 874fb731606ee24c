"""The answer of `drift` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts, paragraph, section, table
from planner.summary.words import capitalised, clean, limit_name, milliseconds, number, percent, plural, usd

Document = dict[str, Any]
MODEL_KEY = "monitor.model_name"

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
_NEGLIGIBLE = 0.0005  # of the cost: digits of a smaller part would only widen the table
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
    lines += section("Troubles with the sources", _listed(_troubles(document)))
    return "\n".join(lines)


def _answer(document: Document, parts: list[Document]) -> str:
    total, cost = document.get("total") or {}, document.get("cost") or {}
    fraction, limit = total.get("fraction"), document.get("limit")
    bound = f"the limit is {percent(limit)}"
    if fraction is None:
        why = "no query came, or no replica answered"
        verdict = "WITHIN THE PLAN" if document.get("within") else "NOT AS PLANNED"
        unknown = f"{verdict}: what a query costs cannot be told: {why} ({bound})."
        return f"{_first(document)}{unknown}{_overload(document)}"
    amount = cost.get("usd_per_query")
    costs = "A query's share of the GPUs is" if amount is None else f"A query costs {usd(amount)},"
    than = "at this hour" if document.get("hour") is not None else "over a day"
    so = f"{costs} {_departure(fraction)} {than} ({bound})"
    first = _first(document)
    judged = [part for part in parts if part.get("share") and part.get("holds") is not None]
    beyond = abs(fraction) > (limit or 0.0) or any(part["holds"] is False for part in judged)
    # Beside a missed service level, another model, or a dark part of the fleet, a planned cost is no "within the plan".
    verdict = "NOT AS PLANNED: " if beyond else "" if first else "WITHIN THE PLAN: "
    largest = sorted(judged, key=lambda part: -abs(part["share"]))
    told = [f"{_name(part)} {_signed_percent(part['share'])}" for part in largest if abs(part["share"]) >= 0.005]
    return f"{first}{verdict}{so}{': ' + ', '.join(told) if told else ''}.{_overload(document)}"


def _first(document: Document) -> str:
    """What comes before any figure: another model, who did not answer, and service levels that are missed."""
    others = [one["text"] for one in document.get("troubles") or [] if one["source"] == MODEL_KEY]
    said = "".join(f"IS IT THE PLAN'S MODEL? {capitalised(text)}. " for text in others)
    sources = document.get("sources") or {}
    asked, answered = sources.get("asked"), sources.get("answered") or 0
    if asked is not None and answered != asked:
        told = "traffic, utilisation and capacity cannot be told, the rest is of those alone"
        said += f"{answered} of {plural(asked, 'source')} read: {told}. "
    levels = [
        f"{limit_name(row['key'])} {milliseconds(row['actual_ms'])} > {milliseconds(row['limit_ms'])}"
        for row in document.get("slo") or []
        if row.get("met") is False
    ]
    return f"{said}THE SERVICE LEVELS ARE MISSED: {', '.join(levels)}. " if levels else said


def _overload(document: Document) -> str:
    """What must not be missed beside a cost that is as planned."""
    room = document.get("capacity") or {}
    wanted, bound = (room.get("replicas") or {}).get("wanted"), room.get("bound")
    many = "" if wanted is None else f": {'at least ' if bound else ''}{plural(wanted, 'replica')} wanted"
    if bound:
        return f" A QUEUE STANDS BEFORE THE FLEET: it is asked for more than it serves{many}."
    if (room.get("headroom_fraction") or 0.0) >= 0:
        return ""
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
                *_amounts(part.get("usd_per_query"), part.get("share")),
                "not judged" if part.get("holds") is None and part.get("share") else _VERDICTS[part.get("holds")],
            ]
        )
    total = document.get("total") or {}
    cost, planned = document.get("cost") or {}, document.get("planned") or {}
    amounts = [usd(planned.get("usd_per_query")), usd(cost.get("usd_per_query"))]
    whole = _amounts(total.get("usd_per_query"), total.get("fraction"))
    rows.append(["whole", "$/query", *amounts, "", "", *whole, ""])
    return table(rows, "<<>>>>>><")


def _amounts(amount_usd: float | None, share: float | None) -> list[str]:
    """Dollars and share of the cost; of a negligible part no digits."""
    if share is None:
        return [usd(amount_usd, 2), "–"]
    if 0 < abs(share) < _NEGLIGIBLE:
        return ["–" if amount_usd is None else "≈ $0", "≈ 0 %"]
    return [usd(amount_usd, 2), _signed_percent(share)]


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
        said.append(f"The replicas that run, less spare ones, carry {number(room['qps'])} queries/s.")
    if room.get("load_qps") is not None:
        said.append(f"Asked for: {number(room['load_qps'])} queries/s.")
    least = "at least " if room.get("bound") else ""
    if room.get("headroom_fraction") is not None:
        said.append(f"Headroom over the load: {'at most ' if least else ''}{percent(room['headroom_fraction'])}.")
    known = [
        f"{least if key == 'wanted' and replicas[key] is not None else ''}{number(replicas[key])} {key}"
        for key in ("planned", "running", "wanted")
        if key in replicas
    ]
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
