"""The cases that ship with the package, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from planner.economics.cases.schema import Case
from planner.errors import UnknownNameError, nearest_names

FOLDER = Path(__file__).parent / "data"


@cache
def names() -> tuple[str, ...]:
    """All names, in the alphabet's order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def shipped(name: str) -> Case:
    """The shipped case of this name; an UnknownNameError for any other."""
    if name not in names():
        nearest = nearest_names(name, names())
        rule = "no shipped case has this name" + ("" if nearest else "; planner economics --list names them")
        raise UnknownNameError("case", name, rule, nearest)
    return Case.load(FOLDER / f"{name}.yaml")
