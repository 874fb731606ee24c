"""What a section of the page is made of: cells, tables, charts with the table behind them, pairs of name and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from planner.summary.words import ABSENT, milliseconds, number, percent, price, usd

Tone = Literal["", "good", "bad", "soft", "strong"]


@dataclass(frozen=True)
class Cell:
    """Text with its unit; `value` is the very number that it shows, so that the page can be read by machines."""

    text: str
    value: float | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """Columns by heading and rows of cells, as many as headings. `align` has "<" or ">" for each column.

    `narrow` says what becomes of it on a phone: it is scrolled, or each row becomes a list of names and values, or
    each row becomes a running text, in which the columns of `plain` go without their names.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    align: str
    narrow: Literal["scroll", "list", "text"] = "scroll"
    caption: str = ""
    plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A picture, what is to be seen on it in words, and its numbers."""

    name: str
    title: str
    svg: str
    label: str  # for people who do not see it
    table: Table
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Fact:
    """A name, its figure, what is to be said of it, and what stands behind the figure in smaller letters."""

    name: str
    cell: Cell
    note: str = ""
    unit: str = ""


def text(words: str | None, tone: Tone = "") -> Cell:
    """A cell of words; a dash where there are none."""
    return Cell(words or ABSENT, None, tone)


def count(value: float | None, tone: Tone = "") -> Cell:
    """A number without a unit of its own."""
    return Cell(number(value), value, tone)


def dollars(value: float | None, tone: Tone = "") -> Cell:
    """An amount in US dollars."""
    return Cell(usd(value), value, tone)


def unit_price(value: float | None) -> Cell:
    """A price in US dollars that multiplies a quantity, with further digits."""
    return Cell(price(value), value)


def share(value: float | None, tone: Tone = "") -> Cell:
    """A share in per cent; the value stays a share."""
    return Cell(percent(value), value, tone)


def latency(value_ms: float | None, tone: Tone = "") -> Cell:
    """A latency in milliseconds."""
    return Cell(milliseconds(value_ms), value_ms, tone)
