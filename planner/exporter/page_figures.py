"""The figures of a snapshot in words and with bars; what is not known says so, and is never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from planner.summary.words import milliseconds, number, percent, usd

UNKNOWN = "not known"
Tone = Literal["", "good", "bad", "soft"]
WIDEST_RATIO = 2.0  # at the end of a bar of ratios: twice or half as much as planned


@dataclass(frozen=True)
class Shown:
    """A figure in words; `value` is the number itself, for machines."""

    text: str
    value: float | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Bar:
    """A bar from `left` to `left` + `width`, in per cent of its row, and a mark; `words` say what it shows."""

    left: float
    width: float
    words: str
    tone: Tone = ""
    mark: float | None = None


def at(document: Mapping[str, Any] | None, *path: str) -> float | None:
    """A finite number of a document by its keys; None where there is none."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return finite(value)


def finite(value: Any) -> float | None:
    """A number that can be shown, else None."""
    number_like = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number_like and math.isfinite(value) else None


def listed(document: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """The rows of a list in a document; none where there is no such list."""
    rows = (document or {}).get(key)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, Sequence) else []


# --- figures ---


def dollars(value: float | None, tone: Tone = "") -> Shown:
    """An amount in USD."""
    return _shown(value, usd, tone)


def share(value: float | None, tone: Tone = "") -> Shown:
    """A share in per cent; the value stays a share."""
    return _shown(value, percent, tone)


def plain(value: float | None, tone: Tone = "") -> Shown:
    """A number without a unit of its own."""
    return _shown(value, number, tone)


def latency(value_ms: float | None, tone: Tone = "") -> Shown:
    """A latency in milliseconds."""
    return _shown(value_ms, milliseconds, tone)


def signed_dollars(value: float | None) -> Shown:
    """An amount with its sign, to two digits."""
    if value is None:
        return Shown(UNKNOWN, None, "soft")
    return Shown(f"{'+' if value > 0 else ''}{usd(value, 2)}", value)


def signed_share(value: float | None) -> str:
    """A share with its sign."""
    return UNKNOWN if value is None else f"{'+' if value > 0 else ''}{percent(value)}"


def in_unit(value: float | None, unit: str) -> Shown:
    """A figure of the table of quantities in its own unit."""
    match unit:
        case "share":
            return share(value)
        case "USD":
            return dollars(value)
        case "ms":
            return latency(value)
    return plain(value)


def ago(seconds: float) -> str:
    """A time span in one unit that fits it: "4 s", "12 min", "3 h"."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _shown(value: float | None, words: Any, tone: Tone) -> Shown:
    return Shown(UNKNOWN, None, "soft") if value is None else Shown(words(value), value, tone)


# --- bars ---


def from_middle(value: float, largest: float, words: str, tone: Tone = "") -> Bar:
    """A bar from the middle of its row, to the right for what is above 0; `largest` reaches the end."""
    width = 50 * min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    return Bar(50.0 if value >= 0 else 50.0 - width, width, words, tone, mark=50.0)


def of_ratio(ratio: float | None, words: str) -> Bar | None:
    """A bar of actual over planned: the middle is 1, the ends twice and half as much."""
    if ratio is None or ratio < 0:
        return None
    log = -1.0 if ratio == 0 else math.log(ratio) / math.log(WIDEST_RATIO)
    return from_middle(max(-1.0, min(log, 1.0)), 1.0, words)


def up_to(value: float, whole: float, words: str, tone: Tone = "") -> Bar:
    """A bar from the left; `whole` is marked and lies at four fifths of the row, so that what is beyond shows."""
    return Bar(0.0, min(80 * value / whole, 100.0) if whole > 0 else 100.0, words, tone, mark=80.0)
