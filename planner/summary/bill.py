"""Lines of money as rows of a table: quantity × unit price = product."""

from __future__ import annotations

from typing import Any

from planner.summary.currency import other
from planner.summary.words import number, plural, price, usd

Document = dict[str, Any]

_SYMBOLS = ("kWh",)  # units that have no plural


def bill_rows(lines: list[Document], currency: Document | None) -> list[list[str]]:
    """A row for each line, one for their sum: what, quantity × unit price, product in USD, in the other currency."""
    rows = []
    for line in lines:
        product = line.get("product_usd")
        multiplied = f"{_counted(line)} × {price(line.get('unit_price_usd'))}"
        rows.append([line.get("what", "other"), multiplied, f"= {usd(product)}", other(product, currency)])
    total = total_usd(lines)
    if total is not None and len(lines) > 1:
        rows.append(["sum", "", f"= {usd(total)}", other(total, currency)])
    return rows


def total_usd(lines: list[Document]) -> float | None:
    """The sum of the products; None without lines, or where one of them is missing."""
    products = [line.get("product_usd") for line in lines]
    return None if not products or None in products else sum(product or 0.0 for product in products)


def _counted(line: Document) -> str:
    quantity, unit = line.get("quantity"), line.get("unit", "unit")
    if quantity is not None and abs(quantity) >= 1000 and unit in ("query", "ad", "subscriber"):
        quantity = round(quantity)
    return f"{number(quantity)} {unit}" if unit in _SYMBOLS else plural(quantity, unit)
