"""Dollars, with the scenario's own currency beside them where it has one."""

from __future__ import annotations

from typing import Any

from planner.summary.words import usd

Document = dict[str, Any]


def currency_of(document: Document) -> Document | None:
    """The currency that a plan's answers also show: {code, per_usd}; None for dollars alone."""
    found = (document.get("cost") or {}).get("currency") or {}
    return found if found.get("code") and found.get("per_usd") else None


def rate_words(currency: Document | None) -> str:
    """ "1 USD = 7.1 CNY (prices.exchange_rates)"; nothing without another currency."""
    return "" if currency is None else f"1 USD = {currency['per_usd']:g} {currency['code']} (prices.exchange_rates)"


def other(value: float | None, currency: Document | None) -> str:
    """The amount in the other currency, "8.52 CNY"; nothing without one."""
    if value is None or currency is None:
        return ""
    return f"{usd(value * currency['per_usd']).replace('$', '')} {currency['code']}"


def both(value: float | None, currency: Document | None) -> str:
    """ "$1.20", or "$1.20 (8.52 CNY)"."""
    beside = other(value, currency)
    return f"{usd(value)} ({beside})" if beside else usd(value)
