"""What could have been otherwise: options one after the other, other candidates; and where the numbers come from."""

from __future__ import annotations

from typing import Any

from planner.report.page.charts_money import gpus_words, waterfall_chart, waterfall_height_in
from planner.report.page.parts import Cell, Chart, Table, count, dollars, share, text
from planner.report.svg import draw
from planner.summary.candidates import (
    against,
    candidate_name,
    key_heading,
    rejected_groups,
    setting_words,
    varied_keys,
)
from planner.summary.words import ABSENT, number, plural, usd, with_limit_names

Document = dict[str, Any]
MOST_ROWS = 40  # of candidates that hold, and of groups of rejected ones
HEADS = {"usd_per_query": "USD a query", "gpus": "GPUs"}
NAMED = 6  # candidates named in a group of rejected ones


def waterfall_charts(document: Document) -> tuple[Chart, ...]:
    """Cost of a query and GPUs, option after option; none where the document has no waterfall."""
    rows = [row for row in document.get("waterfall") or [] if "step" in row]
    made = []
    for key, title, words in (
        ("usd_per_query", "Cost of a query, option after option", usd),
        ("gpus", "GPUs, option after option", gpus_words),
    ):
        known = [row for row in rows if row.get(key) is not None]
        if len(known) < 2:
            continue
        name = f"waterfall-{key.split('_')[0]}"
        svg = draw(name, waterfall_height_in(rows), waterfall_chart(rows, key, words))
        label = f"{title}: from {words(known[0][key])} ({known[0]['step']}) to {words(known[-1][key])}."
        table = Table(("step", HEADS[key]), tuple((_step(row), Cell(words(row[key]), row[key])) for row in known), "<>")
        made.append(Chart(name, title, svg, label, table))
    return tuple(made)


def waterfall_table(document: Document) -> Table | None:
    """Each step with what it sets, what is left, what it removes in this order and alone, and their difference."""
    rows = [row for row in document.get("waterfall") or [] if "step" in row]
    if not rows:
        return None
    cells = tuple(
        (
            _step(row),
            text(_doing(row)),
            count(row.get("gpus")),
            dollars(row.get("usd_per_query")),
            _both(row.get("removed")),
            _both((row.get("alone") or {}).get("removed")),
            _both(row.get("interaction")),
        )
        for row in rows
    )
    heads = ("option", "what it does", "GPUs", "USD a query", "removed", "removed alone", "interaction")
    return Table(heads, cells, "<<>>>>>", "text", plain=("option", "what it does"))


def waterfall_warnings(document: Document) -> tuple[str, ...]:
    """What the plans of the rows warn of and the plan itself does not, each with the rows that do."""
    said: dict[str, list[str]] = {}
    own = document.get("warnings") or []
    for row in document.get("waterfall") or []:
        for line in row.get("warnings") or []:
            if line not in own:
                said.setdefault(line, []).append(str(row.get("step") or ABSENT))
    return tuple(f"Warning, {', '.join(steps)}: {line}." for line, steps in said.items())


def candidates_table(document: Document) -> Table | None:
    """The candidates that hold the limits, the chosen one first; None where none does."""
    alternatives = document["alternatives"]
    fitting = [row for row in alternatives if row.get("feasible")]
    if not fitting:
        return None
    varied = varied_keys(alternatives) or ["hardware"]
    rows = []
    for row in fitting[:MOST_ROWS]:
        about = "" if row.get("verified", True) else "≈ "
        chosen = bool(row.get("chosen"))
        rows.append(
            (
                *(text(setting_words(row, key), "strong" if chosen else "") for key in varied),
                *(Cell(about + number(row.get(key)), row.get(key)) for key in ("replicas", "gpus")),
                dollars(row.get("usd_per_hour")),
                dollars(row.get("usd_per_query")),
                share(row.get("utilisation")),
                Cell(against(row, fitting[0]), None, "good" if chosen else ""),
            )
        )
    heads = (*(key_heading(key) for key in varied), "replicas", "GPUs", "USD an hour", "USD a query", "busy", "")
    return Table(heads, tuple(rows), "<" * len(varied) + ">>>>><", "text", plain=("hardware", "model"))


def candidates_note(document: Document) -> str:
    """How many candidates hold, how they are ordered, and what is not shown."""
    fitting = [row for row in document["alternatives"] if row.get("feasible")]
    if len(document["alternatives"]) == 1:
        return "The scenario leaves nothing to choose: there is one candidate."
    said = f"{number(len(fitting))} of {plural(len(document['alternatives']), 'candidate')} hold the limits"
    if len(fitting) > 1:
        said += ", cheapest first" if any("usd_per_query" in row for row in fitting) else ", fewest GPUs first"
    said += "."
    if any(not row.get("verified", True) for row in fitting[:MOST_ROWS]):
        said += " ≈ was sized on shorter runs, without a confidence interval."
    if len(fitting) > MOST_ROWS:
        said += f" The first {MOST_ROWS} are shown."
    return said


def rejected_table(document: Document) -> Table | None:
    """The rejected candidates, grouped by what rejected them."""
    alternatives = document["alternatives"]
    varied = varied_keys(alternatives)
    rows = []
    for group in rejected_groups(alternatives)[:MOST_ROWS]:
        names = [candidate_name(row, varied) for row in group[:NAMED]]
        more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
        who = ("; ".join(name for name in names if name) or "the candidate") + more
        alike = "; the others alike" if len({row.get("reason") for row in group}) > 1 else ""
        rows.append(
            (count(len(group)), text(who), text(with_limit_names(group[0].get("reason", "no reason given")) + alike))
        )
    return Table(("", "rejected", "because"), tuple(rows), "><<", "text", plain=("rejected",)) if rows else None


def provenance_table(document: Document) -> Table | None:
    """Every quantity's origin, the weakest first."""
    rows = []
    for row in document.get("provenance") or []:
        source = row.get("source", "")
        dated = f"{source} ({row['date']})" if row.get("date") else source
        errs = row.get("errs", "")
        tone: Any = {"optimistic": "bad", "pessimistic": "good"}.get(errs, "")
        rows.append(
            (
                text(row.get("kind")),
                text(row.get("what")),
                Cell(row.get("value", "")),
                Cell(errs, None, tone),
                text(dated),
            )
        )
    return (
        Table(
            ("kind", "what", "value", "errs", "source"),
            tuple(rows),
            "<<<<<",
            "text",
            plain=("kind", "what", "value", "source"),
        )
        if rows
        else None
    )


def _both(size: Document | None) -> Cell:
    """GPUs and USD a query in one cell."""
    if not size:
        return text(None)
    gpus, cost = size.get("gpus"), size.get("usd_per_query")
    said = [words(value) for value, words in ((gpus, gpus_words), (cost, usd)) if value is not None]
    return Cell(", ".join(said) or ABSENT, cost if cost is not None else gpus)


def _step(row: Document) -> Cell:
    step = row["step"]
    return text(step if isinstance(step, str) else f"{step}. {row.get('what', '')}", "strong")


def _doing(row: Document) -> str:
    said = (
        row.get("what", "")
        if isinstance(row["step"], str)
        else ", ".join(f"{k} = {v}" for k, v in (row.get("set") or {}).items())
    )
    reason = row.get("reason")
    return "; ".join(part for part in (said, with_limit_names(reason) if reason else "") if part)
