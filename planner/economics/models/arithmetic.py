"""Steps that say no more than an operation: their units follow from their inputs'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.models.fields import Factor, Given, Made, Share
from planner.economics.quantity import Quantity, Rates, alike, converted, reduced, shown
from planner.errors import InputError


@dataclass(frozen=True)
class Result:
    """One quantity."""

    value: Quantity


@dataclass(frozen=True)
class Ratio:
    """How many times one thing is another."""

    ratio: Annotated[float, Made("", "of ÷ to")]


@dataclass(frozen=True)
class Reduction:
    """What is left, and what is saved, as shares of what was there before."""

    left: Annotated[float, Made("")]
    reduction: Annotated[float, Made("", "1 − left")]


@dataclass(frozen=True)
class MarginOfPrice:
    """Cost and what is left, as shares of the price."""

    cost_share: Annotated[float, Made("", "cost ÷ price")]
    gross_margin: Annotated[float, Made("", "1 − cost_share")]


def product(of: tuple[Quantity, ...]) -> Result:
    """All of them multiplied; units multiply and cancel."""
    value = of[0]
    for factor in of[1:]:
        value = value * factor
    return Result(reduced(value))


def quotient(of: Quantity, by: Quantity) -> Result:
    """One quantity divided by another, of whatever kind: USD a year by queries a year are USD a query."""
    return Result(reduced(of / _divisor("by", by)))


def total(of: tuple[Quantity, ...], rates: Rates) -> Result:
    """Quantities of one kind added up, in the unit of the first."""
    value, *others = alike(of, rates, "of")
    for other in others:
        value = value + other
    return Result(value)


def difference(of: Quantity, less: Quantity, rates: Rates) -> Result:
    """One quantity less another of its kind, in the unit of the first."""
    value, other = alike((of, less), rates, "less")
    return Result(value - other)


def in_unit(of: Quantity, unit: str, rates: Rates) -> Result:
    """The same quantity in another unit; a currency by the case's exchange rate, a month by its days_per_month."""
    return Result(converted(of, unit, rates, "of"))


def discounted(of: Quantity, discount: Share) -> Result:
    """A price less a discount: of × (1 − discount)."""
    return Result(of * (1 - discount))


def rounded(of: Quantity, digits: Annotated[float, Given("", 1, 15)]) -> Result:
    """Rounded to so many significant digits, where a document went on with a rounded figure."""
    if digits != int(digits):
        raise InputError("digits", digits, "must be a whole number", str(round(digits)))
    return Result(of.__class__(float(f"{of.magnitude:.{int(digits) - 1}e}"), of.units))


def ratio(of: Quantity, to: Quantity, rates: Rates) -> Ratio:
    """How many times `to` the quantity `of` is; both of one kind."""
    first, second = alike((of, to), rates, "to")
    return Ratio(float(first.magnitude / _divisor("to", second).magnitude))


def reduction(before: Quantity, after: Quantity, rates: Rates) -> Reduction:
    """What share of a quantity is saved: 1 − after ÷ before."""
    left = ratio(after, _divisor("before", before), rates).ratio
    return Reduction(left, 1 - left)


def combined_reduction(factors: tuple[Factor, ...]) -> Reduction:
    """What several independent factors save together: 1 − their product. Independence is the document's claim."""
    left = 1.0
    for factor in factors:
        left *= factor
    return Reduction(left, 1 - left)


def margin_of_price(cost: Quantity, price: Quantity, rates: Rates) -> MarginOfPrice:
    """Cost as a share of the price, and the gross margin that leaves."""
    share = ratio(cost, price, rates).ratio
    return MarginOfPrice(share, 1 - share)


def _divisor(key: str, value: Quantity) -> Quantity:
    if value.magnitude == 0:
        raise InputError(key, shown(value), "must not be 0: it divides")
    return value
