"""What each option of a scenario takes off, as a table and in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.many_plans import waterfall_warning_lines
from planner.summary.words import number, plural, usd, with_limit_names

Document = dict[str, Any]

_TITLE = "Option waterfall: what each option takes off the fleet and off the cost of a query, in this order"


def waterfall_lines(rows: list[Document]) -> list[str]:
    """The section of a plan with a waterfall; nothing without rows."""
    planned = [row for row in rows if row.get("feasible") is not None]
    if not planned:
        return []
    fitting = [row for row in planned if row.get("feasible")]
    cells = [["", "GPUs", "", "$/query", "", "alone", "", "interaction", ""]]
    cells += [_cells(row) for row in planned]
    lines = table(cells, "<>>>>>>>>")
    lines += _sum(fitting, "All together" if fitting and fitting[0] is planned[0] else "From the first that fits on")
    for row in planned:
        lines += paragraph(f"{row['step']}: {row.get('what', '')}{_costs(row)}", "  ", "    ")
    for row in rows:
        if row.get("reason"):
            lines += paragraph(f"{row['step']}: {with_limit_names(row['reason'])}", "  ", "    ")
    lines += waterfall_warning_lines(planned)
    explained = "alone: the option by itself on the first row that fits; interaction: in this order less alone"
    return section(_TITLE, [*lines, *paragraph(explained, "  ")])


def _cells(row: Document) -> list[str]:
    if not row.get("feasible"):
        return [row["step"], "no fleet fits", *[""] * 7]
    alone = (row.get("alone") or {}).get("removed")
    cells = [row["step"]]
    for key, words in (("gpus", number), ("usd_per_query", usd)):
        cells += [words(row[key]) if row.get(key) is not None else "", _taken(row.get("removed"), key)]
    return cells + [_taken(part, key) for part in (alone, row.get("interaction")) for key in ("gpus", "usd_per_query")]


def _costs(row: Document) -> str:
    """ "; it takes nothing off here, it adds 1 GPU", of an option that the fleet grows with."""
    more = -((row.get("removed") or {}).get("gpus") or 0)
    return f"; it takes nothing off here, it adds {plural(more, 'GPU')}" if more > 0 else ""


def _taken(part: Document | None, key: str) -> str:
    """What was removed, with the sign that it has for the fleet: 32 GPUs removed read "−32"."""
    value = (part or {}).get(key)
    if value is None:
        return ""
    words = number(-value) if key == "gpus" else usd(-value)
    return f"+{words}" if value < 0 else words


def _sum(fitting: list[Document], which: str) -> list[str]:
    """ "All together: 108 to 42 GPUs"."""
    if len(fitting) < 2:
        return []
    first, last = fitting[0], fitting[-1]
    said = f"{which}: {number(first['gpus'])} to {number(last['gpus'])} GPUs"
    if first.get("usd_per_query") and last.get("usd_per_query") is not None:
        said += f", {usd(first['usd_per_query'])} to {usd(last['usd_per_query'])} a query"
    return paragraph(f"{said}.", "  ")
