"""Which list price a query is held against, until when it holds, and what is left of it after a seller's margin."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import prod
from typing import Any

import pytest

from planner import Scenario
from planner.catalogue import token_prices
from planner.catalogue.token_prices import token_price
from planner.cli import economics_scenario
from planner.cli.economics_scenario import _with_margin
from planner.economics.bases import Chip, ListPrice, QueryTokens, list_price
from planner.economics.basis_gaps import list_to_flops
from planner.errors import DataFileError, InputError
from planner.studies.list_prices import asked_price, ended, public_price
from tests.bad_scenarios import GOOD

CHIP = Chip("h100-sxm-80gb", 989e12, 3.0)
FOUR_ANSWERS = QueryTokens(4000.0, 1200.0, 1000.0, cached=3400.0, uncached_share=0.7)

ON = [
    # day, $/1M in, $/1M out, because
    (None, 0.75, 3.75, "the day on which the prices were listed, whatever today is"),
    ("2026-12-31", 0.75, 3.75, "the last day of the promotion"),
    ("2027-01-01", 1.50, 7.50, "twice that from the next day on"),
]


@pytest.mark.parametrize(("day", "input_usd", "output_usd", "because"), ON)
def test_a_list_price_holds_for_its_days(day: str | None, input_usd: float, output_usd: float, because: str) -> None:
    found = token_price(day)
    assert (input_usd, output_usd) == (found.usd_per_million_input, found.usd_per_million_output), because


def test_a_day_without_a_price_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = {"model": "m", "usd_per_million_input": "1", "usd_per_million_output": "2", "from": "2020-01-01"}
    rows = ({**old, "until": "2020-12-31", "source": "s", "date": "2020-06-01", "note": ""},)
    monkeypatch.setattr(token_prices, "read_rows", lambda name: rows)
    assert token_price().usd_per_million_output == 2
    with pytest.raises(DataFileError, match="has none for 2021-01-01"):
        token_price("2021-01-01")


def test_a_public_price_that_has_ended_is_told_with_its_last_day() -> None:
    assert ended("2026-12-31") is None
    late = ended("2027-01-01")
    assert late is not None
    assert late.startswith("the list price taken, 0.75,3.75 of Gemini 3.6 Flash, ended on 2026-12-31")


API = {"api": {"usd_per_million_input": 1.0, "usd_per_million_output": 4.0, "usd_per_million_cached_input": 0.1}}
ASKED: list[tuple[dict[str, Any], ListPrice | None, ListPrice, str]] = [
    ({"revenue": API}, ListPrice(2.0, 8.0), ListPrice(2.0, 8.0), "the one given stands before all"),
    ({"revenue": API}, None, ListPrice(1.0, 4.0, 0.1), "then what the scenario sells tokens for"),
    ({}, None, public_price(), "then a public one"),
]


@pytest.mark.parametrize(("more", "given", "expected", "because"), ASKED, ids=[row[3] for row in ASKED])
def test_the_price_asked_for(more: dict[str, Any], given: ListPrice | None, expected: ListPrice, because: str) -> None:
    assert expected == asked_price(Scenario.from_dict(GOOD | more), given), because


def test_the_command_warns_of_a_price_that_has_ended_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Late(date):
        @classmethod
        def today(cls) -> Late:
            return cls(2027, 1, 1)

    monkeypatch.setattr(economics_scenario, "date", Late)
    scenario = Scenario.from_dict(GOOD)
    assert replace(public_price(), provider_margin=0.2) == _with_margin(scenario, None, 0.2)
    assert capsys.readouterr().err.startswith("Warning: the list price taken, 0.75,3.75 of Gemini 3.6 Flash, ended on")
    assert ListPrice(2.0, 8.0) == _with_margin(scenario, ListPrice(2.0, 8.0), None)
    assert ("", "") == capsys.readouterr()


def test_a_public_price_says_whose_it_is_and_until_when() -> None:
    price = public_price()
    assert "Gemini 3.6 Flash until 2026-12-31, as listed on 2026-09-07" in price.assumed
    left = list_to_flops(FOUR_ANSWERS, price, 8e9, CHIP, 0.4).factors[-1]
    assert "Gemini 3.6 Flash is another model" in left.because


@pytest.mark.parametrize("cached_usd", [None, 0.1])
def test_a_bill_is_its_prices_by_the_tokens_of_every_answer(cached_usd: float | None) -> None:
    """Four answers to one prompt: 4,000 prompt tokens are counted on every basis, 1,000 of them are billed."""
    basis = list_price(FOUR_ANSWERS, ListPrice(0.75, 3.75, cached_usd))
    by_prices = (4000 * basis.usd_per_1k_input + 1200 * basis.usd_per_1k_output) / 1000
    assert 0.7 * by_prices == pytest.approx(basis.usd_per_query, rel=1e-12)
    assert "counted for each of them" in basis.how
    assert "counted for each" not in list_price(replace(FOUR_ANSWERS, prompt=1000.0, cached=0.0), public_price()).how


@pytest.mark.parametrize("margin", [0.0, 0.35, 0.9])
def test_a_sellers_margin_is_a_factor_of_its_own(margin: float) -> None:
    plain = ListPrice(0.75, 3.75, 0.1)
    before = list_to_flops(FOUR_ANSWERS, plain, 8e9, CHIP, 0.4)
    after = list_to_flops(FOUR_ANSWERS, replace(plain, provider_margin=margin), 8e9, CHIP, 0.4)
    factors = {factor.name: factor for factor in after.factors}
    assert before.ratio == after.ratio
    assert after.ratio == pytest.approx(prod(factor.value for factor in after.factors), rel=1e-9)
    assert (1 - margin) == pytest.approx(factors["seller's margin"].value if margin else 1.0)
    left = before.factors[-1]
    assert left.value / (1 - margin) == pytest.approx(after.factors[-1].value, rel=1e-12)
    assert "the seller's margin" in left.because
    assert "the seller's margin" not in after.factors[-1].because


def test_with_a_margin_the_price_is_told_beside_the_sellers_cost() -> None:
    basis = list_price(QueryTokens(1000.0, 0.5, 1000.0), ListPrice(1.0, 2.0, provider_margin=0.4))
    assert pytest.approx(0.001001) == basis.usd_per_query
    assert "with a margin of 40.0 % such a query costs the seller $0.000601" in basis.how


@pytest.mark.parametrize("margin", [-0.1, 1.0, 30.0, float("nan")])
def test_a_margin_that_is_no_share_below_one_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match=r"^provider_margin .*0\.3 for 30 %"):
        ListPrice(1.0, 2.0, provider_margin=margin)
