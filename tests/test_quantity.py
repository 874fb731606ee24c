"""Quantities with a unit: what may meet, what may not, and texts that are no quantity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.economics.quantity import NO_RATES, Rates, converted, magnitude, parse, quantity, reduced, shown
from planner.errors import InputError

RATES = Rates({"CNY": 7.0}, 30)


@pytest.mark.parametrize(
    ("text", "unit", "number", "because"),
    [
        ("19.22 USD/server/hour", "USD/server/hour", 19.22, "as written"),
        ("3 cents/1000 tokens", "USD/1000 tokens", 0.03, "a US cent is a hundredth of a USD"),
        ("82 USD/100000 words", "USD/word", 0.00082, "a number after the stroke divides"),
        ("60 USD/1000 ads", "USD/ad", 0.06, "a CPM is a price of a thousand"),
        ("1 GiB", "GB", 1.073741824, "2³⁰ bytes are more than 10⁹"),
        ("80 GB", "GiB", 80e9 / 2**30, "and the other way round"),
        ("1 year", "hour", 8760, "a year has 365 days"),
        ("2.4e3 W", "kW", 2.4, "exponents are read"),
        ("3 chips", "gpu", 3, "a chip is a GPU; a plural s is understood"),
        ("5 queries/s", "query/day", 432_000, "a day has 86,400 seconds"),
        ("12", "", 12, "a number without a unit is a plain number"),
        ("0.22 /year", "/year", 0.22, "a unit may begin with its stroke"),
        ("1 TFLOP/s", "GFLOP/s", 1000, "tera is a thousand giga"),
        ("2 kWh", "W*hour", 2000, "energy is power times time"),
    ],
)
def test_a_text_is_a_quantity(text: str, unit: str, number: float, because: str) -> None:
    assert magnitude(parse(text, "key"), unit, NO_RATES, "key") == pytest.approx(number, rel=1e-12), because


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be a number"),
        ("USD", "must be a number"),
        ("nan", "must be a number"),
        ("inf USD", "must be a number"),
        ("1e999 USD", "must be a finite number"),
        ("__import__('os').system('true')", "must be a number"),
        ("9**9**9**9", "is no unit"),
        ("(1+1) USD", "must be a number"),
        ("1 USD/hou", 'unknown unit "hou"; nearest: hour'),
        ("0.55 EUR/Mtoken", 'unknown unit "EUR": currencies here are USD and CNY; convert it first'),
        ("5 inr", 'unknown unit "inr": currencies here are USD and CNY'),
        ("1 usr", 'unknown unit "usr"; nearest: user'),
        ("1 USD//hour", "is no unit"),
        ("1 USD/", "is no unit"),
        ("1 USD/0 tokens", "positive number"),
        ("1 USD/1.2.3 tokens", "is no number"),
        ("1,000 USD", "is no unit"),
        ("1 2 USD", "is no unit"),
        ("30 %", "is no unit"),
        ("1 USD^9", "exponent must be at most 4"),
        ("1 meter", 'unknown unit "meter"'),
        ("1 " + "USD*" * 100 + "USD", "at most 120 characters"),
        ("1 USD\x00", "is no unit"),
    ],
)
def test_what_is_no_quantity_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text, "step.price")
    assert says in str(refused.value)
    assert str(refused.value).startswith("step.price")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "unit", "says"),
    [
        ("140 CNY", "USD", "give exchange_rates.CNY"),
        ("0.6 CNY/kWh", "USD/kWh", "give exchange_rates.CNY"),
        ("10000 USD/month", "USD/hour", "give days_per_month"),
        ("50 words", "token", "words are not tokens"),
        ("50 tokens/query", "word/query", "words are not tokens"),
        ("50 queries", "request", "of another kind"),
        ("1 USD/query", "USD/request", "of another kind"),
        ("50", "USD", "needs a unit, as in 50 USD"),
        ("18", "USD/ad", r"needs a unit, as in 18 USD/1000 ads or, for each, 18 USD/ad; nearest: USD/1000 ads"),
        ("14", "USD/query", "needs a unit, as in 14 USD/1000 queries or, for each, 14 USD/query"),
        ("50 USD", "", "of another kind: must be in no unit"),
        ("80 GB", "GB/gpu", "of another kind"),
    ],
)
def test_different_kinds_do_not_meet(text: str, unit: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        magnitude(parse(text, "key"), unit, NO_RATES, "key")


def test_currencies_meet_through_the_cases_own_rate() -> None:
    assert magnitude(parse("140 CNY", "key"), "USD", RATES, "key") == pytest.approx(20)
    assert magnitude(parse("20 USD/hour", "key"), "CNY/hour", RATES, "key") == pytest.approx(140)
    assert magnitude(parse("140 CNY", "key"), "USD", Rates({"CNY": 6.8}), "key") == pytest.approx(140 / 6.8)


def test_months_become_hours_by_the_cases_own_days() -> None:
    ten_thousand = parse("10000 USD/month", "key")
    assert magnitude(ten_thousand, "USD/hour", RATES, "key") == pytest.approx(10000 / 720)
    assert magnitude(ten_thousand, "USD/hour", Rates({}, 365 / 12), "key") == pytest.approx(10000 / 730)


def test_a_month_meets_a_month_without_a_length() -> None:
    assert magnitude(parse("20 USD/month", "key"), "cent/month", NO_RATES, "key") == pytest.approx(2000)


def test_units_multiply_and_cancel() -> None:
    product = reduced(parse("0.526 USD/hour", "a") * parse("1 s/query", "b"))
    assert shown(converted(product, "USD/query", NO_RATES, "key")) == "0.000146111111111 USD/query"
    servers = parse("3617 servers", "a") * parse("8 gpus/server", "b") * parse("1 USD/gpu/hour", "c")
    assert magnitude(reduced(servers), "USD/day", NO_RATES, "key") == pytest.approx(694_464)


def test_a_quantity_that_is_shown_is_read_back() -> None:
    for text in ("19.22 USD/server/hour", "0.02 USD/ktoken", "4 byte^2/s", "0.5 /year", "7"):
        assert shown(parse(shown(parse(text, "a")), "b")) == shown(parse(text, "a"))
    assert shown(quantity(2, "USD/1000 tokens")) == "2 USD/ktoken"


@given(st.one_of(st.text(max_size=40), st.text("0123456789.eE+-*/^ USDtokenhqry", max_size=40)))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        found = parse(text, "key")
    except InputError:
        return
    again = parse(shown(found), "key")
    assert again.dimensionality == found.dimensionality
    assert again.magnitude == pytest.approx(found.magnitude, rel=1e-11)
