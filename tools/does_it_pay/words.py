"""Words, spans and tables of the page, and the rule that the verdict follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from planner.summary.words import number, percent, usd

WIDTH = 124
SURE = 0.9  # a verdict is given where at least this share of the draws agrees
PAYS, DOES_NOT, CANNOT = "pays", "does not pay", "cannot be said"


def verdict(chance: float) -> str:
    """What is said of a query whose margin is above 0 in a share `chance` of the draws."""
    if chance >= SURE:
        return PAYS
    return DOES_NOT if 1 - chance >= SURE else CANNOT


def revenue_span(option: Mapping[str, Any]) -> list[float]:
    """Revenue of a query at its 10 % and 90 % quantile, USD."""
    row = next(row for row in option["uncertainty"]["tornado"] if row["name"] == "revenue")
    return [option["revenue_usd_per_query"] * row[end] for end in ("low", "high")]


def money_span(values: Sequence[float]) -> str:
    """ "$0.00365 to $0.00449", or one figure where they read alike."""
    return _span([usd(min(values)), usd(max(values))])


def percent_span(shares: Sequence[float]) -> str:
    """ "99.1 % to 99.6 %"."""
    return _span([percent(min(shares)), percent(max(shares))])


def billions(count: float) -> str:
    """ "70.6": 70,600,000,000."""
    return number(count / 1e9)


def several(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def wrapped(text: str) -> str:
    """A paragraph."""
    return "\n".join(wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return "\n\n".join([f"## {title}", *parts]) + "\n"


def _span(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(ends))
