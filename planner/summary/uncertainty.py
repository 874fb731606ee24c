"""How sure the answer is: chances over the draws, what matters most, how far their arithmetic can be trusted."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts, paragraph, section, table
from planner.summary.words import number, percent, plural, usd

Document = dict[str, Any]

NAMES = {
    "step_time": "step time",
    "peak_qps": "load at the peak",
    "output_tokens": "output tokens",
    "revenue": "revenue of a query",
    "price": "GPU price",
}
MOST_INPUTS = 3
ROUGH = 0.1  # a relative error of the surface from which it is called rough; so is a p99 further off its whole plan
CARRIED, AFTER = ", of the queries that the fleet carries", ", after its share of the training"
FEW_BEYOND = 0.01  # a share of the draws beyond the simulated points that needs no warning


def uncertainty_lines(document: Document) -> list[str]:
    """The block "How sure" of a plan; nothing where no uncertainty was asked for."""
    drawn = document.get("uncertainty") or {}
    if not drawn:
        return []
    trained = (document.get("margin") or {}).get("after_training_usd_per_query") is not None
    lines = facts(_chances(drawn, document.get("fleet") or {}, trained))
    lines += _tornado(drawn.get("tornado") or [])
    lines += [line for said in (_varied(drawn), rests_on(drawn)) for line in paragraph(said, "  ", "    ")]
    return section(f"How sure: {plural(drawn.get('draws'), 'draw')} of what is not known", lines)


def _chances(drawn: Document, fleet: Document, trained: bool) -> list[tuple[str, str]]:
    """One line for each chance and spread; `trained`: the margins bear a training bill."""
    replicas, spare = fleet.get("replicas"), fleet.get("spare_replicas")
    losing = f", {replicas - spare} of {plural(replicas, 'replica')} serving" if replicas and spare else ""
    held = drawn.get("p_slo_held")
    limits = "" if held is None else f"{percent(held)} of the draws: this fleet{losing}"
    within = drawn.get("p_slo_held_within_error")
    if limits and within and within[0] != within[1]:
        limits += f"; {percent(within[0])} to {percent(within[1])} within the error of the fit"
    none = drawn.get("p_no_fleet")
    nothing = f"{percent(none)} of the draws: none of the candidates looked at holds the limits" if none else ""
    return [
        ("limits hold", limits),
        ("margin above 0", _chance(drawn.get("p_margin_positive"), f"{CARRIED}{AFTER if trained else ''}")),
        ("both", _chance(drawn.get("p_both"))),
        ("GPUs needed", _gpus(drawn, fleet.get("gpus"))),
        ("no fleet", nothing),
        ("cost of a query", _spread(drawn.get("usd_per_query"))),
        ("margin", _spread(drawn.get("margin_usd_per_query"), AFTER if trained else "")),
    ]


def _chance(share: float | None, said: str = "") -> str:
    return "" if share is None else f"{percent(share)} of the draws{said}"


def _gpus(drawn: Document, planned: float | None) -> str:
    found = drawn.get("gpus")
    if found is None:
        return ""
    said = [
        f"{number(found[key])} in {of} of the draws"
        if found.get(key) is not None
        else f"in {of} of the draws no number is enough"
        for key, of in (("p50", "50 %"), ("p90", "90 %"), ("p99", "99 %"))
    ]
    said[-1] += beside_a_plan(found.get("p99"), drawn.get("checked") or [])
    return f"{', '.join(said)}{'' if planned is None else f'; planned: {number(planned)}'}"


def beside_a_plan(gpus: float | None, checked: list[Document]) -> str:
    """What the whole plan of the draw at 99 % says, the last of those checked: the tail is where the surface is worst.

    ROUGH where the two are further than `ROUGH` apart, or only one of them finds a fleet.
    """
    if not checked:
        return ""
    whole = (checked[-1].get("plan") or {}).get("gpus")
    if gpus is None and whole is None:
        return ""
    apart = gpus is None or whole is None or abs(gpus / whole - 1) > ROUGH
    said = "finds no fleet" if whole is None else f"says {number(whole)}"
    return f" (a whole plan of that draw {said}{': ROUGH' if apart else ''})"


def _spread(found: Document | None, said: str = "") -> str:
    """The 10 % and the 90 % quantile; one is not there where the fleet carries nothing in so many draws."""
    if not found or (found.get("p10") is None and found.get("p90") is None):
        return ""
    low, high = ("without end" if found.get(key) is None else usd(found[key]) for key in ("p10", "p90"))
    none = " (within the limits it carries nothing there)" if "without end" in (low, high) else ""
    return f"{low} to {high}{none} in 80 % of the draws, this fleet{said}"


def _tornado(rows: list[Document]) -> list[str]:
    """The inputs that matter most."""
    cells: list[list[str]] = [
        [
            str(NAMES.get(row["name"], row["name"])),
            *(number(row[end], 3) for end in ("low", "high")),
            _ends(row, "gpus", number),
            _ends(row, "usd_per_query", usd),
            _ends(row, "margin", usd),
        ]
        for row in _most(rows)
    ]
    if not cells:
        return []
    title = "What matters most: each at its 10 % and its 90 % quantile, planned anew, the others at their medians"
    columns = zip(("", "from ×", "to ×", "GPUs", "$/query", "margin"), zip(*cells, strict=True), strict=True)
    head = [name if any(column) else "" for name, column in columns]
    return ["", *paragraph(title, "  "), *table([head, *cells], "<>>>>>"), ""]


def _most(rows: list[Document]) -> list[Document]:
    """The inputs with the widest swings, which the rows begin with; among them the one that moves the GPUs most."""
    first = rows[:MOST_INPUTS]
    moves = max(rows, key=lambda row: abs((row.get("gpus_high") or 0.0) - (row.get("gpus_low") or 0.0)), default=None)
    return first if moves in first or moves is None else [*first[:-1], moves]


def _ends(row: Document, key: str, words: Any) -> str:
    """Both ends of a figure; "none" where no fleet holds there; empty where it is not known at all."""
    ends = [row.get(f"{key}_{end}") for end in ("low", "high")]
    if all(end is None for end in ends):
        return ""
    low, high = ("none" if end is None else words(end) for end in ends)
    return low if low == high else f"{low} – {high}"


def _varied(drawn: Document) -> str:
    """Which inputs were drawn by which law, and which were taken as known."""
    inputs = drawn.get("inputs") or []
    by_law = [f"{NAMES.get(row['name'], row['name'])} ({row['law']})" for row in inputs if row["law"] != "not varied"]
    fixed = [NAMES.get(row["name"], row["name"]) for row in inputs if row["law"] == "not varied"]
    said = f"Drawn: {'; '.join(by_law)}." if by_law else ""
    if fixed:
        said += f" Taken as known exactly: {', '.join(fixed)}."
    pairs = [f"{' and '.join(one['between'])} {number(one['rho'])}" for one in drawn.get("correlations") or []]
    return said + (f" Correlations: {', '.join(pairs)}." if pairs else " Drawn independently." if by_law[1:] else "")


def rests_on(drawn: Document) -> str:
    """What the draws' arithmetic rests on, its own error, and how it did against whole plans."""
    surface = drawn.get("surface") or {}
    if not surface.get("simulations"):
        return ""
    few = surface.get("candidates") or [{}]
    planned, error = few[0], surface.get("error") or {}
    said = f"The draws are read off {plural(surface['simulations'], 'simulation')}"
    said += f" of {plural(len(few), 'candidate')}" if few[0] else ""
    share, typical = planned.get("error_share"), planned.get("typical_error_share")
    if share is not None and typical is not None:
        gpus = f" ({number(error['gpus'], 2)} GPUs)" if error.get("gpus") is not None else ""
        said += f"; leaving one out misses its load by {percent(typical)} typically, {percent(share)}{gpus} rms"
        said += ", which is ROUGH" if share > ROUGH else ""
    said += "."
    beyond = planned.get("beyond_points_share") or 0.0
    if beyond > FEW_BEYOND:
        said += f" {percent(beyond)} of the draws lie beyond the simulated ones: extrapolated."
    return f"{said} {_checked(surface.get('checked') or {}, len(drawn.get('checked') or []))}".strip()


def _checked(error: Document, count: int) -> str:
    if not count or error.get("exact") is None:
        return ""
    said = f"Against whole plans of {plural(count, 'draw')}: {number(error['exact'])} with the same number of GPUs"
    gpus = error.get("gpus")
    if gpus and gpus.get("mean") and gpus.get("most"):
        said += f", {number(gpus['mean'], 2)} GPUs off on average, {number(gpus['most'])} at most"
    if error.get("other_candidate"):
        said += f", {number(error['other_candidate'])} with another candidate"
    if error.get("only_one_finds_a_fleet"):
        said += f", {number(error['only_one_finds_a_fleet'])} where only one of the two finds a fleet"
    return f"{said}."
