"""One option of a waterfall: what a scenario sets, and what stands there without it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of the scenario: the keys that it sets, and what stands there without it (None: not given).

    `lacking` says what the baseline has in its place. `unused` says why the scenario does not use it; it is then no
    part of the baseline either.
    """

    step: str
    what: str
    values: dict[str, Any] = field(default_factory=dict)
    without: dict[str, Any] = field(default_factory=dict)
    lacking: str = ""
    unused: str = ""


def unused(step: str, why: str) -> Option:
    """An option that the scenario does not use."""
    return Option(step, "", unused=why)


def choice_words(values: Iterable[Any]) -> str:
    """ "1 or 2"."""
    return " or ".join(map(str, values))
