"""A line of a bill: a quantity at a unit price."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MoneyLine:
    """One line of a day's bill or earnings: quantity [unit] × unit_price_usd [$/unit] = product_usd."""

    what: str
    quantity: float
    unit: str
    unit_price_usd: float
    product_usd: float


def money_line(what: str, quantity: float, unit: str, unit_price_usd: float) -> MoneyLine:
    """The line with its product."""
    return MoneyLine(what, quantity, unit, unit_price_usd, quantity * unit_price_usd)
