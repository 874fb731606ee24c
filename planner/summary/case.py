"""A case in words: the answer, each step with its arithmetic, what was printed beside ours, what is assumed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.quantities import BILLION, amount, share_text, value_text
from planner.summary.words import number, percent

Document = Mapping[str, Any]
MOST_MODEL_ROWS = 6  # of what a simulation assumes; the JSON has all


def case_text(document: Document) -> str:
    """The whole case as text."""
    lines = [*paragraph(f"{document['case']}: {document['title']}"), ""]
    if document["changed"]:
        changed = ", ".join(f"{key} = {value}" for key, value in document["changed"].items())
        lines += [*paragraph(f"With {changed}. The numbers are worked out with it, the words are the case's own."), ""]
    lines += paragraph(document["answer"])
    lines += section("Held against what is printed", _printed(document))
    lines += section("How it is worked out", _steps(document))
    lines += section("With other inputs", _variants(document))
    lines += section(*_sensitivity(document))
    lines += section("Assumed, not given by the source", _assumed(document))
    lines += section("Source", _source(document))
    return "\n".join(lines)


def answer_sentence(parts: Iterable[str | tuple[Any, str, bool]]) -> str:
    """The answer's text with its numbers in place: each is (value, unit, whether it is told as per cent)."""
    return "".join(part if isinstance(part, str) else _told(*part) for part in parts)


def _told(value: Any, unit: str, per_cent: bool) -> str:
    return share_text(value) if per_cent else value_text(value, unit)


# --- printed figures ---


def _printed(document: Document) -> list[str]:
    lines = []
    for row in document["printed"]:
        unit = f" {row['unit']}" if row["unit"] else ""
        held = f"{row['output']}: printed {amount(row['value'], 6)}{unit}, ours {amount(row['ours'], 5)}"
        says = f"; {row['says']}" if row["says"] else ""
        lines += paragraph(f"{held}: {row['verdict']}{_off(row)}{says}", "  ", "    ")
    return lines


def _off(row: Document) -> str:
    """By how much a figure that does not reproduce is off: printed ÷ ours."""
    return f" ({amount(row['ratio'])}x)" if not row["within"] and row["ratio"] else ""


# --- steps ---


def _steps(document: Document) -> list[str]:
    lines: list[str] = []
    for index, step in enumerate(document["steps"]):
        says = step["because"] or step["does"]
        lines += [""] if index else []
        lines += paragraph(f"{step['id']} ({step['model']}): {says}", "  ", "    ")
        lines += _indented(_inputs(step) + _outputs(step))
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _inputs(step: Document) -> list[str]:
    return table([[item["name"], _input_value(item), _input_origin(item)] for item in step["inputs"]], "<><")


def _input_value(item: Document) -> str:
    if isinstance(item["value"], list):
        return ", ".join(value_text(one["value"], one["unit"], 4) for one in item["value"])
    return value_text(item["value"], item["unit"], 4)


def _input_origin(item: Document) -> str:
    if item["origin"] == "default":
        return f"not given: {item['why']}"
    given = item["given"]
    if isinstance(given, list):
        references = [one for one in given if isinstance(one, str) and one.startswith("$")]
        return ", ".join(references)
    if item["origin"] == "reference":
        return str(given)
    # Said only where it was converted: "10000 USD/server/month" beside its hourly price.
    written = str(given).split(maxsplit=1)
    return f"from {given}" if len(written) > 1 and not _same_unit(written[1], item["unit"]) else ""


def _same_unit(written: str, unit: str) -> bool:
    """Whether a unit as written is the one that is shown, but for a plural s and spelled-out thousands."""
    plain = written.replace("1000 ", "k").replace("1e6 ", "M").replace("1000000 ", "M").replace("chip", "gpu")
    return [name.removesuffix("s") for name in re.findall(r"[A-Za-z]+", plain.replace("queries", "query"))] == [
        name.removesuffix("s") for name in re.findall(r"[A-Za-z]+", unit)
    ]


def _outputs(step: Document) -> list[str]:
    numbers = {item["name"]: _in_formula(item) for item in [*step["inputs"], *step["outputs"]]}
    rows = []
    for item in step["outputs"]:
        value = value_text(item["value"], item["unit"], 4)
        formula = f"= {_in_numbers(item['formula'], numbers)}" if item["formula"] else ""
        rows.append([item["name"], formula, f"= {value}"])
    return table(rows, "<<<")


def _in_formula(item: Document) -> str:
    """A value as it stands in a formula: a bare number in its declared unit, with the unit where that is its own."""
    value = item["value"]
    if not isinstance(value, int | float):
        return str(item["name"])
    if item.get("own_unit"):
        return value_text(value, item["unit"], 4)
    plain = amount(value, 4) if abs(value) < BILLION else f"{value:.4g}".replace("e+", "e")
    return f"({plain})" if value < 0 else plain


def _in_numbers(formula: str, numbers: Mapping[str, str]) -> str:
    """A formula with its numbers in place of the names."""
    return re.sub(r"[a-z_][a-z0-9_]*", lambda found: numbers.get(found[0], found[0]), formula)


# --- the rest ---


def _sensitivity(document: Document) -> tuple[str, list[str]]:
    varied = document["sensitivity"]
    if varied is None:
        return "", []
    even = varied["target"] is not None
    rows = [
        ["input", "value", "1 % more of it", f"meets {value_text(varied['target'], varied['unit'])} at" if even else ""]
    ]
    for row in sorted(varied["rows"], key=lambda row: -abs(row["elasticity"] or 0)):
        never = "jumps over it" if row["jumps_over"] else "never"
        meets = never if row["break_even"] is None else value_text(row["break_even"], row["unit"])
        rows.append(
            [row["input"], value_text(row["value"], row["unit"]), _moves(row["elasticity"]), meets if even else ""]
        )
    return f"What moves {varied['of']}, each input alone", table(rows, "<>>>")


def _moves(elasticity: float | None) -> str:
    """By how much 1 % more of an input moves the answer."""
    if elasticity is None:
        return "not told"
    return f"{'+' if elasticity > 0 else ''}{percent(elasticity / 100)}"


def _variants(document: Document) -> list[str]:
    rows = []
    for row in document["variants"]:
        changes = ", ".join(f"{key} = {value}" for key, value in row["changes"].items())
        rows.append(
            [row["id"], changes, f"{row['output']} = {value_text(row['value'], row['unit'])}", row["because"] or ""]
        )
    return table(rows, "<<<<")


def _assumed(document: Document) -> list[str]:
    steps = {step["id"] for step in document["steps"]}
    assumed = [row for row in document["provenance"] if row["kind"] == "assumed"]
    own = [row for row in assumed if row["what"].split(".")[0] in steps]
    of_models = [row for row in assumed if row not in own]
    rows = [[row["what"], row["value"], row["source"]] for row in own]
    lines = table(rows, "<<<")
    if of_models:
        lines += paragraph("By the simulation:", "  ")
        shown = [[row["what"], row["value"], row["source"]] for row in of_models[:MOST_MODEL_ROWS]]
        lines += table(shown, "<<<", most_lines=2)
        if len(of_models) > MOST_MODEL_ROWS:
            lines += paragraph(f"and {len(of_models) - MOST_MODEL_ROWS} more: --json has all", "  ")
    return lines


def _source(document: Document) -> list[str]:
    source = document["source"]
    lines = paragraph(f"{source['document']}. Its figures are {source['means']}.", "  ")
    lines += paragraph(source["note"] or "", "  ")
    said = [f"one USD buys {value_text(rate, currency)}" for currency, rate in document["exchange_rates"].items()]
    if document["days_per_month"] is not None:
        said.append(f"a month has {number(document['days_per_month'])} days")
    lines += paragraph(f"In this case {' and '.join(said)}." if said else "", "  ")
    for note in document["notes"]:
        lines += paragraph(f"Note: {note}", "  ", "    ")
    return lines
