"""The CSV files of `data/`, as rows of text and as tables; every other file here reads them through these functions."""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, str]


@cache
def read_text(name: str) -> str:
    """The text of one file of `data/`."""
    return files("planner.catalogue").joinpath("data", name).read_text(encoding="utf-8")


@cache
def read_rows(name: str) -> tuple[Row, ...]:
    """One dict per line of a file of `data/`; an empty cell is an empty string."""
    return tuple(csv.DictReader(io.StringIO(read_text(name))))


def read_table(name: str) -> pd.DataFrame:
    """A file of `data/` as a table; an empty cell is NaN, never zero."""
    import pandas as pd  # half a second to import, and only `planner catalogue` shows tables

    return pd.read_csv(io.StringIO(read_text(name)))


def names_of(row: Row) -> tuple[str, ...]:
    """The row's `aliases` (separated by semicolons), lower case."""
    return tuple(alias.strip().lower() for alias in row["aliases"].split(";") if alias.strip())


def flag(text: str) -> bool:
    """`true` or `false` as a bool; anything else is a defect of the file."""
    return {"true": True, "false": False}[text]


def number(text: str) -> float | None:
    """The cell's number, or None where it is empty."""
    return float(text) if text else None


def whole(text: str) -> int:
    """The cell's whole number."""
    return int(text)
