"""The four cost bases in words: side by side, by what they are divided by, and what lies between them."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.words import number, usd

Document = dict[str, Any]

_NO_FACTOR = 5e-4  # off 1: in the JSON only


def gap_lines(document: Document) -> list[str]:
    """A section for each two bases."""
    return [line for gap in document.get("gaps") or [] for line in section(_gap_title(gap), _gap(gap))]


def bases_lines(document: Document) -> list[str]:
    """$ by a thousand tokens and by a query on each basis, and what each rests on."""
    bases = document.get("bases") or []
    if not bases:
        return []
    rows = [["", "$/1k input", "$/1k output", "$/query"]]
    rows += [
        [basis["name"], *(usd(basis[key]) for key in ("usd_per_1k_input", "usd_per_1k_output", "usd_per_query"))]
        for basis in bases
    ]
    lines = table(rows, "<>>>")
    for basis in bases:
        lines += paragraph(f"{basis['name']}: {basis['how']}", "  ", "    ")
        for assumed in basis.get("assumed") or []:
            lines += paragraph(f"assumed: {assumed}", "    ", "      ")
    said = "$/query is by the user's query, the cached ones included; retrieval is in none of them."
    if (document.get("revenue") or {}).get("model") == "api":
        said += " Of a list price only queries that reach the model are billed there; revenue.api bills those from the "
        said += "response cache too."
    return [*lines, *paragraph(said, "  ")]


def denominator_lines(document: Document) -> list[str]:
    """The same bills per thousand of what prices are quoted by."""
    found = document.get("denominators") or []
    keys = ("usd_per_1k_tokens", "usd_per_1k_output_alone", "usd_per_1k_words")
    rows = [["", "$/1k tokens, in + out", "$/1k output alone", "$/1k words, in + out"]]
    rows += [[row["name"], *(usd(row[key]) for key in keys)] for row in found]
    words = f"{number(document.get('words_per_1000_tokens'))} words to 1,000 tokens"
    return [*table(rows, "<>>>"), *paragraph(f"Prices compare only by the same one; {words}.", "  ")] if found else []


def _gap_title(gap: Document) -> str:
    return f"From {gap['start']} to {gap['to']}: × {number(gap['ratio'])}, the product of"


def _gap(gap: Document) -> list[str]:
    shown = [factor for factor in gap["factors"] if abs(factor["value"] - 1) >= _NO_FACTOR]
    return table([[factor["name"], f"× {number(factor['value'])}", factor["because"]] for factor in shown], "<><")
