"""How sure the answer is: chances, spreads, what each input alone moves, and how well the draws stand for plans."""

from __future__ import annotations

from typing import Any

from planner.report.page_charts_money import gpus_words, tornado_chart
from planner.report.page_parts import Cell, Chart, Fact, Table, count, dollars, share, text
from planner.report.svg import draw
from planner.summary.words import number, percent, plural, usd

Document = dict[str, Any]
MOST_BARS = 12
CHANCES = {
    "p_slo_held": "P(every limit holds)",
    "p_margin_positive": "P(the margin is above 0)",
    "p_both": "P(both)",
    "p_no_fleet": "P(none of the fleets looked at holds)",
}
AFTER = ", after its share of the training"
SPREADS = {
    "gpus": ("GPUs needed", ("p50", "p90", "p99"), gpus_words),
    "usd_per_query": ("cost of a query", ("p10", "p50", "p90"), usd),
    "margin_usd_per_query": ("margin of a query", ("p10", "p50", "p90"), usd),
}


def facts(document: Document) -> tuple[Fact, ...]:
    """The chances, and the spread of GPUs, cost and margin over the draws."""
    drawn = _drawn(document)
    trained = (document.get("margin") or {}).get("after_training_usd_per_query") is not None
    made = [Fact(name, share(drawn[key]), _between(drawn, key)) for key, name in CHANCES.items() if key in drawn]
    for found, whose in ((drawn, ", this fleet"), (drawn.get("resized") or {}, ", sized for each draw")):
        for key, (name, places, words) in SPREADS.items():
            spread = found.get(key)
            if spread:
                said = (f"{place} {words(spread[place]) if place in spread else 'beyond them all'}" for place in places)
                whole = name if key == "gpus" else name + whose
                whole += AFTER if trained and key.startswith("margin") else ""
                made.append(Fact(whole, Cell(", ".join(said))))
    return tuple(made)


def notes(document: Document) -> tuple[str, ...]:
    """How many draws, and how well the surface that answered them stands for whole plans."""
    drawn, lines = _drawn(document), []
    if drawn.get("draws"):
        seed = f", seed {drawn['seed']}" if drawn.get("seed") is not None else ""
        lines.append(f"{plural(drawn['draws'], 'draw')}{seed}.")
    surface = drawn.get("surface") or {}
    if surface.get("simulations"):
        line = f"They were read off a surface through {plural(surface['simulations'], 'simulation')}"
        error = surface.get("error") or {}
        told = [words(error[key]) for key, words in (("gpus", gpus_words), ("usd_per_query", usd)) if error.get(key)]
        lines.append(f"{line}; its own error: {', '.join(told)} a query." if len(told) == 2 else f"{line}.")
    return tuple(lines)


def tornado(document: Document) -> Chart | None:
    """How far each input alone moves the margin, or the cost where there is no margin; None without such rows."""
    bars = _drawn(document).get("tornado") or []
    rows = [{**row, "name": row["name"].replace("_", " ")} for row in bars if "name" in row]
    for what, of in (("margin", "margin"), ("usd_per_query", "cost")):
        keys = (f"{what}_low", f"{what}_high")
        drawn = [row for row in rows if all(row.get(key) is not None for key in keys)]
        if drawn:
            planned = document.get(of) or {}
            after = planned.get("after_training_usd_per_query")  # with a training bill the draws' margins bear it
            return _tornado(rows, drawn, keys, of, planned.get("usd_per_query") if after is None else after)
    return None


def inputs_table(document: Document) -> Table | None:
    """The uncertain inputs with their laws and where these come from."""
    rows = _drawn(document).get("inputs") or []
    if not rows:
        return None
    heads = ("input", "law", "kind", "source")
    cells = tuple(
        (
            text(str(row.get("name", "input")).replace("_", " ")),
            *(text(_said(row.get(key))) for key in ("law", "kind", "source")),
        )
        for row in rows
    )
    return Table(heads, cells, "<<<<", "text", plain=heads)


def checked_table(document: Document) -> Table | None:
    """Single draws: what the surface said of them, and what a whole plan says."""
    cells = []
    for index, row in enumerate(_drawn(document).get("checked") or []):
        surface, plan = (row.get(key) if isinstance(row.get(key), dict) else {} for key in ("surface", "plan"))
        figures = [_count(one.get("gpus")) for one in (surface, plan)]
        figures += [_dollars(one.get("usd_per_query")) for one in (surface, plan)]
        cells.append((text(_said(row.get("draw", index + 1))), *figures))
    heads = ("draw", "GPUs, surface", "GPUs, plan", "USD a query, surface", "USD a query, plan")
    return Table(heads, tuple(cells), ">>>>>", caption="single draws, planned in full") if cells else None


def _tornado(rows: list[Document], drawn: list[Document], keys: tuple[str, str], of: str, plan: float | None) -> Chart:
    drawn.sort(key=lambda row: -abs(row[keys[1]] - row[keys[0]]))
    shown = drawn[:MOST_BARS]
    svg = draw("tornado", 1.2 + 0.5 * len(shown), tornado_chart(shown, keys, plan, _fine))
    cells = tuple(
        (
            text(row["name"]),
            *(_end(row.get(end)) for end in ("low", "high")),
            *(Cell(_fine(row[key]), row[key]) if key in row else text(None) for key in keys),
            *(count(row.get(f"gpus_{end}")) for end in ("low", "high")),
        )
        for row in rows
    )
    title = f"{of.capitalize()} of a query: what each input alone moves"
    label = f"{title}, from its low to its high end; the widest: {shown[0]['name']}."
    heads = ("input", "low", "high", f"{of} at low", f"{of} at high", "GPUs at low", "GPUs at high")
    return Chart("tornado", title, svg, label, Table(heads, cells, "<>>>>>>"))


def _fine(value: float) -> str:
    """Dollars with a digit more: what an input moves is small beside the whole."""
    return usd(value, 4)


def _drawn(document: Document) -> Document:
    found: Document = document.get("uncertainty") or {}
    return found


def _between(drawn: Document, key: str) -> str:
    """The chance with the surface lower and higher by its own error."""
    ends = drawn.get(f"{key}_within_error")
    known = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    return f"{percent(ends[0])} to {percent(ends[1])} within the surface's own error" if known and ends else ""


def _end(value: Any) -> Cell:
    return Cell(number(value), value) if isinstance(value, int | float) else text(_said(value))


def _count(value: Any) -> Cell:
    return count(value) if isinstance(value, int | float) else text(_said(value))


def _dollars(value: Any) -> Cell:
    return dollars(value) if isinstance(value, int | float) else text(_said(value))


def _said(value: Any) -> str | None:
    return None if value is None else str(value)
