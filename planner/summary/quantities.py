"""A number with its unit in words: "$0.0656/query", "14,050 words/query", "2.12 trillion queries/year"."""

from __future__ import annotations

from typing import Any

from planner.summary.words import ABSENT, number, percent, usd

BILLION, TRILLION, TOO_LARGE = 1e9, 1e12, 1e15
_SHOWN = {"gpu": "GPU", "ktoken": "1,000 tokens", "Mtoken": "million tokens", "kword": "1,000 words", "byte": "byte"}
_PLAIN = {"USD", "CNY", "s", "ms", "W", "kW", "MW", "Wh", "kWh", "MWh", "FLOP", "GFLOP", "TFLOP", "PFLOP"}
_BYTES = {"kB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB"}


def value_text(value: Any, unit: str, digits: int = 3) -> str:
    """A value as it is told: money with its sign, counts with their plural, yes or no, text as it stands."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    above, *below = (unit or "").split("/")
    per = "".join(f"/{_name(part)}" for part in below)
    if above == "USD":
        return f"{_money(value, digits)}{per}"
    return f"{amount(value, digits)}{' ' if above else ''}{_counted(above, value)}{per}"


def share_text(value: Any) -> str:
    """A plain number as per cent."""
    return percent(value) if isinstance(value, int | float) else str(value)


def amount(value: float, digits: int = 3) -> str:
    """A number of at least `digits` significant digits without trailing zeros; billions and trillions in words."""
    size = abs(value)
    if TRILLION <= size < TOO_LARGE:
        return f"{_trimmed(number(value / TRILLION, digits))} trillion"
    if BILLION <= size < TOO_LARGE:
        return f"{_trimmed(number(value / BILLION, digits))} billion"
    return _trimmed(number(value, digits))


def _money(value: float, digits: int) -> str:
    if BILLION <= abs(value) < TOO_LARGE:
        return f"{'−' if value < 0 else ''}${amount(abs(value), digits)}"
    return usd(value, digits) if abs(value) >= 1 else _trimmed(usd(value, digits))


def _trimmed(text: str) -> str:
    """0.0200 is 0.02; exponents stay."""
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _counted(unit: str, value: float) -> str:
    """A unit after its number: with a plural s where it is a word."""
    names = unit.split("*")
    first = names[0]
    if not first:
        return ""
    shown = [_name(name) for name in names]
    if first not in _PLAIN | _BYTES and first not in _SHOWN.keys() - {"gpu", "byte"} and abs(value) != 1:
        last = shown[-1]
        shown[-1] = f"{last[:-1]}ies" if last.endswith("y") and last != "day" else f"{last}s" if last != "s" else last
    return "·".join(shown)


def _name(unit: str) -> str:
    return "·".join(_SHOWN.get(part, part) for part in unit.split("*"))
