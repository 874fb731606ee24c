"""How sure the answer is: chances, spreads, what each input alone moves, and how well the draws stand for plans."""

from __future__ import annotations

from typing import Any

from planner.report.page.charts_money import Words, gpus_words, tornado_chart
from planner.report.page.parts import Cell, Chart, Fact, Table, count, dollars, share, text
from planner.report.svg import draw
from planner.summary.uncertainty import beside_a_plan, rests_on
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
                said = [f"{place} {_at(spread, place, words, key)}" for place in places]
                if key == "gpus":
                    said[-1] += beside_a_plan(spread.get("p99"), drawn.get("checked") or [])
                whole = name if key == "gpus" else name + whose
                whole += AFTER if trained and key.startswith("margin") else ""
                made.append(Fact(whole, Cell(", ".join(said))))
    return tuple(made)


def notes(document: Document) -> tuple[str, ...]:
    """How many draws, how well the surface that answered them stands for whole plans, and how to read the bars."""
    drawn, lines = _drawn(document), []
    if drawn.get("draws"):
        seed = f", seed {drawn['seed']}" if drawn.get("seed") is not None else ""
        lines.append(f"{plural(drawn['draws'], 'draw')}{seed}.")
    basis = rests_on(drawn)
    if basis:
        lines.append(basis)
    if drawn.get("tornado"):
        lines.append(
            "Bars: one input at its 10 % and its 90 % quantile, planned anew, the others at their medians. "
            + ("The line they begin at has all at their medians; the plan is elsewhere." if _medians(drawn) else "")
        )
    return tuple(line.strip() for line in lines)


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
            plan = planned.get("usd_per_query") if after is None else after
            return _tornado(rows, drawn, keys, of, _medians(document["uncertainty"]).get(what), plan)
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


def _tornado(
    rows: list[Document],
    drawn: list[Document],
    keys: tuple[str, str],
    of: str,
    medians: float | None,
    plan: float | None,
) -> Chart:
    drawn.sort(key=lambda row: -abs(row[keys[1]] - row[keys[0]]))
    shown = drawn[:MOST_BARS]
    svg = draw("tornado", 1.2 + 0.5 * len(shown), tornado_chart(shown, keys, medians, plan, usd))
    cells = tuple(
        (
            text(row["name"]),
            *(_end(row.get(end)) for end in ("low", "high")),
            *(Cell(usd(row[key]), row[key]) if key in row else text(None) for key in keys),
            *(count(row.get(f"gpus_{end}")) for end in ("low", "high")),
        )
        for row in rows
    )
    title = f"{of.capitalize()} of a query: what each input alone moves"
    label = f"{title}, from its low to its high end; the widest: {shown[0]['name']}."
    heads = ("input", "low", "high", f"{of} at low", f"{of} at high", "GPUs at low", "GPUs at high")
    return Chart("tornado", title, svg, label, Table(heads, cells, "<>>>>>>"))


def _medians(drawn: Document) -> Document:
    """The answer with every input at its median; nothing in a document from before it was told."""
    found: Document = drawn.get("at_medians") or {}
    return found


def _at(spread: Document, place: str, words: Words, key: str) -> str:
    """One quantile; where it is not there no fleet looked at holds, or the planned one carries nothing."""
    if spread.get(place) is not None:
        return words(spread[place])
    return "beyond them all" if key == "gpus" else "nothing carried within the limits"


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
