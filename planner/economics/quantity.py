"""Numbers with a unit that cannot be mixed by accident.

USD and CNY are different dimensions and meet only through a case's exchange rate; a US cent is a hundredth of a USD.
Words and tokens are different dimensions and meet only through a stated number of words to a thousand tokens. A query
(a user's) is no request (one model call). A month has no length of its own: a case that turns months into hours says
how many days it counts. A year has 365 days and 12 months. GB and GiB are both bytes, 10⁹ and 2³⁰ of them.

The text of a quantity is `NUMBER UNIT`: units are names joined by `*` and `/`, each with an optional whole exponent
(`^2`), after a `/` also with a number: "19.22 USD/server/hour", "0.02 USD/1000 tokens". It is read by the grammar
below, never by a parser that could compute.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import pint
from pint.facets.plain import PlainQuantity
from pint.util import UnitsContainer

from planner.economics.unit_names import BY_THE_THOUSAND, CURRENCIES, KILO, NAMES, OTHER_CURRENCIES, UNITS
from planner.errors import InputError, nearest_names

Quantity: TypeAlias = PlainQuantity[Any]  # a number with a unit, of this module's registry
MOST = 1e300
MOST_TEXT = 120  # characters of a quantity
MOST_EXPONENT = 4


def _registry() -> pint.UnitRegistry[Any]:
    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(None)  # empty: nothing but the units above can be named
    for name, definition, _ in UNITS:
        registry.define(f"{name} = {definition or f'[{name}]'}")
    return registry


_REGISTRY = _registry()
_TERM = re.compile(r"(?:(\d[\d.]*(?:[eE][+-]?\d+)?)\s*)?([A-Za-z]+)?(?:\^(-?\d))?")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class Rates:
    """What one case says about units that have no fixed relation.

    `exchange`: units of a currency to one USD, as {"CNY": 7.1}; `days_per_month`: None = not said.
    """

    exchange: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    days_per_month: float | None = None


NO_RATES = Rates()


def quantity(number: float, unit: str = "") -> Quantity:
    """A number with a unit, as written; "" is a plain number. Raises InputError on an unknown unit."""
    factor, units = _unit(unit, "unit", unit)
    return _made(number * factor, units)


def parse(value: float | str, key: str) -> Quantity:
    """A plain number, or the quantity that a text names. Errors are InputErrors on `key`."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MOST_TEXT:
            raise InputError(key, value, f"must be a number with a unit in at most {MOST_TEXT} characters")
        found = _NUMBER.match(text)
        if not found:
            raise InputError(key, value, 'must be a number, or text such as "19.22 USD/hour"')
        factor, units = _unit(text[found.end() :], key, value)
        number = float(found[0]) * factor
    else:
        number, units = float(value) if abs(value) <= MOST else math.inf, {}
    if not abs(number) <= MOST:
        raise InputError(key, value, f"must be a finite number below {MOST:g}")
    return _made(number, units)


def magnitude(value: Quantity, unit: str, rates: Rates, key: str) -> float:
    """The number of `unit` that `value` is, by the case's rates where a currency or a month is in the way.

    Raises InputError where the two are of different kinds, in words that say what is missing.
    """
    factor, units = _unit(unit, key, unit)
    return _in_units(value, units, unit, rates, key) / factor


def converted(value: Quantity, unit: str, rates: Rates, key: str) -> Quantity:
    """`value` in another unit; the errors of `magnitude`."""
    _, units = _unit(unit, key, unit)
    return _made(_in_units(value, units, unit, rates, key), units)


def alike(values: tuple[Quantity, ...], rates: Rates, key: str) -> tuple[Quantity, ...]:
    """All in the unit of the first, so that they can be added or compared; the errors of `magnitude`."""
    return tuple(converted(value, unit_text(values[0]), rates, key) for value in values)


def reduced(value: Quantity) -> Quantity:
    """The same with no two units of one dimension in it: USD · s/hour/query becomes USD/query."""
    result: Quantity = value.to_reduced_units()
    return result


def unit_text(value: Quantity) -> str:
    """The unit as this module reads it: "USD/query", "" for a plain number."""
    parts = _parts(value)
    above = "*".join(_power(name, power) for name, power in parts.items() if power > 0)
    return above + "".join(f"/{_power(name, -power)}" for name, power in parts.items() if power < 0)


# --- reading units ---


def _unit(text: str, key: str, shown: object) -> tuple[float, dict[str, int]]:
    """A factor and the exponents of the units that a text names."""
    text = text.strip()
    factor, powers = 1.0, dict[str, int]()
    if not text:
        return factor, powers
    terms = re.split(r"\s*([/*·])\s*", text if text[0] in "/*·" else f"*{text}")[1:]
    for sign, term in zip(terms[::2], terms[1::2], strict=True):
        found = _TERM.fullmatch(term)
        if not found or not term or (found[1] and sign != "/") or not found[2]:
            rule = f'"{term or text}" is no unit: write as in "19.22 USD/hour" or "0.02 USD/1000 tokens"'
            raise InputError(key, shown, rule)
        name = NAMES.get(found[2]) or NAMES.get(found[2].removesuffix("s"))
        if name is None and found[2].upper() in OTHER_CURRENCIES:
            rule = f'unknown unit "{found[2]}": currencies here are {" and ".join(CURRENCIES)}; convert it first'
            raise InputError(key, shown, rule)
        if name is None:
            raise InputError(key, shown, f'unknown unit "{found[2]}"', nearest_names(found[2], NAMES) or known_units())
        power = int(found[3] or 1) * (-1 if sign == "/" else 1)
        try:
            number = float(found[1] or 1)
        except ValueError:
            raise InputError(key, shown, f'"{found[1]}" is no number') from None
        if not 0 < number < MOST:
            raise InputError(key, shown, f"a unit is counted in a positive number of them, not {found[1]}")
        name, number = (KILO[number, name], 1.0) if (number, name) in KILO else (name, number)
        factor /= number
        powers[name] = powers.get(name, 0) + power
    if any(abs(power) > MOST_EXPONENT for power in powers.values()):
        raise InputError(key, shown, f"a unit's exponent must be at most {MOST_EXPONENT}")
    return factor, {name: power for name, power in powers.items() if power}


def known_units() -> str:
    """The names of all units, for messages and the page."""
    return ", ".join(name for name, _, _ in UNITS)


def _made(number: float, units: Mapping[str, int]) -> Quantity:
    made: Quantity = _REGISTRY.Quantity(number, UnitsContainer(units))
    return made


def _parts(value: Quantity) -> dict[str, int]:
    held: Mapping[str, Any] = value._units
    return {name: int(power) for name, power in held.items()}


def _power(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"


# --- converting ---


def _in_units(value: Quantity, units: Mapping[str, int], unit: str, rates: Rates, key: str) -> float:
    target = _made(1.0, units)
    if value.dimensionality != target.dimensionality:
        given, value, target = value, _neutral(value, rates), _neutral(target, rates)
        if value.dimensionality != target.dimensionality:
            raise _mixed(given, _made(1.0, units), unit, rates, key)
    number = float((value / target).to_reduced_units().magnitude)
    if not math.isfinite(number):
        raise InputError(key, shown(value), f"is beyond all numbers in {unit or 'plain numbers'}")
    return number


def _neutral(value: Quantity, rates: Rates) -> Quantity:
    """With currencies in USD and months in days, as far as the case says how."""
    days, exchange = rates.days_per_month, rates.exchange
    for name, power in _parts(value).items():
        if name == "month" and days is not None:
            value = value * (_made(days, {"day": 1, "month": -1}) ** power)
        elif name in exchange:
            value = value * (_made(1 / exchange[name], {"USD": 1, name: -1}) ** power)
    return reduced(value)


def _mixed(value: Quantity, target: Quantity, unit: str, rates: Rates, key: str) -> InputError:
    """Say in plain words why the two do not meet."""
    have, want = set(_parts(value)), set(_parts(target))
    has_words, wants_words = bool(have & {"word", "kword"}), bool(want & {"word", "kword"})
    has_tokens, wants_tokens = (bool(names & {"token", "ktoken", "Mtoken"}) for names in (have, want))
    if not have:
        usual = BY_THE_THOUSAND.get(unit, unit)
        each = "" if usual == unit else f" or, for each, {shown(value)} {unit}"
        return InputError(key, shown(value), f"needs a unit, as in {shown(value)} {usual}{each}", usual)
    if "CNY" in have ^ want and "CNY" not in rates.exchange:
        rule = f"CNY and USD meet only through a rate: give exchange_rates.CNY, the CNY that one USD buys ({unit} here)"
        return InputError(key, shown(value), rule)
    if "month" in have ^ want and rates.days_per_month is None:
        return InputError(key, shown(value), f"a month has no fixed length: give days_per_month ({unit} is needed)")
    if (has_words and wants_tokens and not has_tokens) or (has_tokens and wants_words and not has_words):
        rule = f"words are not tokens: convert by a stated number of words to 1,000 tokens ({unit} is needed)"
        return InputError(key, shown(value), rule)
    return InputError(key, shown(value), f"is of another kind: must be in {unit or 'no unit, a plain number'}")


def shown(value: Quantity) -> str:
    """A quantity as text, as it could stand in a file: "19.22 USD/hour"."""
    return f"{float(value.magnitude):.12g} {unit_text(value)}".strip()
