"""What an API bills for a million tokens: dated public list prices, each with the days that it holds for."""

from __future__ import annotations

from dataclasses import dataclass

from planner.catalogue.tables import Row, read_rows
from planner.errors import DataFileError

FILE = "token_prices.csv"


@dataclass(frozen=True)
class TokenPrice:
    """One model's list price in USD per million tokens.

    `since` and `until` are the first and the last day of it, YYYY-MM-DD, "" where it is open; `date` is the day on
    which `source` listed it.
    """

    model: str
    usd_per_million_input: float
    usd_per_million_output: float
    since: str
    until: str
    source: str
    date: str
    note: str


def token_price(on: str | None = None) -> TokenPrice:
    """The public price that an AI search could be built on, as of a day `on` (YYYY-MM-DD).

    Without a day: as of the one on which the prices were listed, so that an answer does not change overnight. Raises
    DataFileError where no price holds on that day.
    """
    prices = [_price(row) for row in read_rows(FILE)]
    day = on or max(price.date for price in prices)
    for price in prices:
        if price.since <= day and (not price.until or day <= price.until):
            return price
    raise DataFileError("token price", FILE, f"has none for {day}")


def _price(row: Row) -> TokenPrice:
    return TokenPrice(
        model=row["model"],
        usd_per_million_input=float(row["usd_per_million_input"]),
        usd_per_million_output=float(row["usd_per_million_output"]),
        since=row["from"],
        until=row["until"],
        source=row["source"],
        date=row["date"],
        note=row["note"],
    )
