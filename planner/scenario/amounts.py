"""Amounts of money: numbers in USD, or text with another currency and the scenario's own exchange rate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from planner.errors import nearest_names
from planner.scenario.types import broken

USD = "USD"
MOST_RATE = 1e9
RATES = "exchange_rates"  # key of `prices`, and of the context that a scenario is validated in
_CODE = re.compile(r"[A-Z]{3}")
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_AMOUNT = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]{{3}})\s*")


class Money(float):
    """An amount in USD that remembers how it was written: `Money(2.0, "14.2 CNY")`."""

    given: str

    def __new__(cls, usd: float, given: str) -> Money:
        """`usd` is the amount at the scenario's rate, `given` the text that stands in the scenario."""
        amount = super().__new__(cls, usd)
        amount.given = given
        return amount

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]  # copies keep the text
        return float(self), self.given


def rates_of(data: Mapping[str, Any]) -> dict[str, float]:
    """Units of each currency per USD that a raw scenario states, USD included.

    The schema checks the same key later and refuses what is no rate: till then 1 stands in for it, so that the error
    is about the rate and not about every amount in that currency.
    """
    prices = data.get("prices")
    stated = prices.get(RATES) if isinstance(prices, Mapping) else None
    rates = {USD: 1.0}
    if isinstance(stated, Mapping):
        for code, rate in stated.items():
            number = isinstance(rate, int | float) and 0 < rate <= MOST_RATE
            rates[str(code)] = float(rate) if number else 1.0
    return rates


def no_rate(code: str, known: Mapping[str, float]) -> tuple[str, str | None]:
    """Rule and nearest choice for a currency that the scenario gives no rate for."""
    return f"has no exchange rate: give prices.{RATES}.{code}, in {code} per USD", nearest_names(code, known, count=1)


def _amount(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    if isinstance(value, Money):
        handler(float(value))
        return value
    if not isinstance(value, str):
        return handler(value)
    found = _AMOUNT.fullmatch(value)
    if found is None:
        raise broken('must be a number in USD, or text with a currency such as "14.5 CNY"')
    number, code = found.groups()
    if code != code.upper():
        raise broken("a currency is written in capitals", nearest=f"{number} {code.upper()}")
    rates = (info.context or {}).get(RATES, {USD: 1.0})
    if code not in rates:
        rule, nearest = no_rate(code, rates)
        raise broken(rule, nearest=nearest)
    return Money(handler(float(number) / rates[code]), f"{number} {code}")


class _AmountSchema:
    """In the JSON Schema an amount is a number in USD, or text such as "14.5 CNY"."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*[A-Z]{{3}}\s*$"}
        return {"anyOf": [handler(core_schema), text]}


def _as_given(value: Any) -> Any:
    return value.given if isinstance(value, Money) else value


_ROUND_TRIP = (WrapValidator(_amount), PlainSerializer(_as_given), _AmountSchema())
MOST_USD = 1e15
Price = Annotated[float, Field(gt=0, le=1e9), *_ROUND_TRIP]
PriceOrFree = Annotated[float, Field(ge=0, le=1e9), *_ROUND_TRIP]
Sum = Annotated[float, Field(gt=0, le=MOST_USD), *_ROUND_TRIP]  # of a year, or of a whole training run
SumOrNothing = Annotated[float, Field(ge=0, le=MOST_USD), *_ROUND_TRIP]


def _currency(value: Any) -> Any:
    if isinstance(value, str) and not _CODE.fullmatch(value):
        raise broken("must be a currency's three letters", nearest=value.upper() if len(value) == 3 else None)
    return value


Currency = Annotated[str, BeforeValidator(_currency)]


def _known_codes(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise broken("must be a mapping such as {CNY: 7.1}")
    for code in value:
        if not _CODE.fullmatch(str(code)):
            nearest = str(code).upper() if len(str(code)) == 3 else None
            raise broken("must be a currency's three letters, with its units per USD", str(code), nearest=nearest)
        if code == USD:
            raise broken("rates are units per USD: leave USD itself out", USD)
        if isinstance(value[code], str) and re.fullmatch(_NUMBER, value[code].strip()):
            raise broken("must be a number: leave the quotes out", str(code), nearest=value[code].strip())
    return {code: rate for code, rate in value.items() if rate is not None}


Rates = Annotated[dict[str, Annotated[float, Field(ge=1e-9, le=MOST_RATE)]], BeforeValidator(_known_codes)]
