"""docs/does-it-pay.md: made of kept results, whose cheap figures a plan of today still gives."""

from __future__ import annotations

import copy
import json
import re
import shlex
from typing import Any

import pytest
from PIL import Image

from planner.catalogue.prices import gpu_hour
from planner.cli.options import read_scenario
from planner.scenario import Scenario
from tools.does_it_pay import results
from tools.does_it_pay.__main__ import KEPT, PAGE, PICTURE
from tools.does_it_pay.page import page
from tools.does_it_pay.picture import bars, picture
from tools.does_it_pay.words import CANNOT, DOES_NOT, PAYS, verdict

FOUND = json.loads(KEPT.read_text(encoding="utf-8"))
OPTIONS = {option["model"]: option for option in FOUND["options"]}
STALE = "stale: python -m tools.does_it_pay"
COST_TOLERANCE = 1e-6  # relative: the same seed gives the same plan, and only arithmetic may differ between machines


def changed(chances: list[float]) -> dict[str, Any]:
    """The kept results with other probabilities that the margin is above 0."""
    found = copy.deepcopy(FOUND)
    for option, chance in zip(found["options"], chances, strict=True):
        option["uncertainty"]["p_margin_positive"] = chance
    return found


def said(found: dict[str, Any]) -> str:
    """The first sentence in bold of a page."""
    bold = re.search(r"\*\*(.+?)\*\*", page(found), re.DOTALL)
    assert bold is not None
    return " ".join(bold[1].split())


# --- the page is what the kept results say ---


def test_the_page_is_what_the_tool_makes_of_the_kept_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(FOUND), STALE


def test_the_picture_lies_beside_the_page_is_small_and_named_in_it() -> None:
    assert f"]({PICTURE.name})" in PAGE.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size < 100_000
    with Image.open(PICTURE) as image:
        assert image.width > image.height


def test_the_picture_draws_the_intervals_of_the_results_on_a_logarithmic_axis() -> None:
    (axes,) = picture(FOUND).axes
    spans = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    expected = [(low, high) for option in FOUND["options"] for _, _, low, high in bars(option)]
    assert (expected, "log") == (spans, axes.get_xscale())
    for option in FOUND["options"]:
        for name, planned, low, high in bars(option):
            assert low < planned < high, (option["model"], name)


@pytest.mark.parametrize(
    ("chance", "expected", "because"),
    [
        (1.0, PAYS, "every draw"),
        (0.9, PAYS, "the bound itself belongs to the verdict"),
        (0.8999, CANNOT, "just below the bound"),
        (0.5, CANNOT, "a coin"),
        (0.1001, CANNOT, "just above the other bound"),
        (0.1, DOES_NOT, "as sure as at 0.9, of the contrary"),
        (0.0, DOES_NOT, "no draw"),
    ],
)
def test_the_verdict_follows_its_rule(chance: float, expected: str, because: str) -> None:
    assert expected == verdict(chance), because


@pytest.mark.parametrize(
    ("chances", "begins"),
    [
        ([0.95, 0.99, 0.92], "Yes: "),
        ([0.05, 0.01, 0.1], "No: "),
        ([0.5, 0.4, 0.6], "That cannot be said: "),
        ([0.95, 0.05, 0.5], "It depends on the model, "),
    ],
)
def test_the_answer_is_worked_out_from_the_probabilities(chances: list[float], begins: str) -> None:
    assert said(changed(chances)).startswith(begins)


def test_an_answer_that_depends_names_every_model_with_its_verdict() -> None:
    sentence = said(changed([0.95, 0.05, 0.5]))
    assert [f"{model}: {word}" in sentence for model, word in zip(OPTIONS, (PAYS, DOES_NOT, CANNOT), strict=True)] == [
        True
    ] * 3


def test_a_model_that_loses_money_at_a_revenue_is_named_there() -> None:
    found = copy.deepcopy(FOUND)
    dearest = found["options"][2]
    dearest["retrieval"][0]["usd_per_query"] = 0.02  # more than the two lowest revenues bring
    assert page(FOUND).count(f"**not {dearest['model']}**") == 0
    assert page(found).count(f"**not {dearest['model']}**") == 2


def test_every_number_of_the_answer_moves_with_the_results() -> None:
    found = copy.deepcopy(FOUND)
    for option in found["options"]:
        option["fleet"]["gpus"] = 7777
        option["break_even"]["rpm_usd"] = 8.88
    text = page(found)
    assert ("7,777" in text, "must earn $8.88:" in " ".join(text.split())) == (True, True)


# --- the kept results are one story ---


@pytest.mark.parametrize("model", OPTIONS)
def test_the_plans_of_an_option_agree_with_each_other(model: str) -> None:
    option = OPTIONS[model]
    cached, bought = option["response_cache"][1], option["retrieval"][1]
    assert cached["gpus"] == bought["gpus"] == option["fleet"]["gpus"]
    assert cached["usd_per_query"] == pytest.approx(option["usd_per_query"], rel=1e-9)
    assert bought["usd_per_query"] == pytest.approx(option["usd_per_query"], rel=1e-9)
    search = option["uncached_share"] * bought["values"]["prices.retrieval_usd_per_query"]
    assert option["gpu_usd_per_query"] + search == pytest.approx(option["usd_per_query"], rel=1e-9)
    assert option["break_even"]["rpm_usd"] == pytest.approx(1000 * option["usd_per_query"], rel=1e-9)
    left = option["revenue_usd_per_query"] - option["usd_per_query"]
    assert left == pytest.approx(option["margin"]["usd_per_query"], rel=1e-9)


@pytest.mark.parametrize("model", OPTIONS)
def test_less_revenue_makes_a_margin_less_likely(model: str) -> None:
    option = OPTIONS[model]
    assert option["least_revenue"]["usd_per_query"] < option["revenue_usd_per_query"]
    assert option["least_revenue"]["p_margin_positive"] < option["uncertainty"]["p_margin_positive"]


# --- and of today: a plan, the rate card, the cases and the example still say the same ---


@pytest.mark.parametrize("option", results.OPTIONS, ids=lambda option: option.model)
def test_a_short_plan_of_today_gives_the_kept_gpus_and_cost(option: results.Option) -> None:
    """GPUs exactly, cost within `COST_TOLERANCE`. A miss means that every figure of the page may have moved."""
    kept, today = OPTIONS[option.model]["quick"], results.quick(option)
    assert kept["gpus"] == today["gpus"], STALE
    assert kept["usd_per_query"] == pytest.approx(today["usd_per_query"], rel=COST_TOLERANCE), STALE


def test_the_scenario_is_the_examples() -> None:
    assert Scenario.from_dict(FOUND["scenario"], results.EXAMPLE.parent) == Scenario.load(results.EXAMPLE), STALE
    assert FOUND["uncertainty"] == results.UNCERTAINTY, STALE


def test_the_price_is_the_rate_cards_and_varies_as_its_offers_do() -> None:
    price = gpu_hour("h100-sxm-80gb", "on-demand")
    assert (FOUND["price"]["usd"], FOUND["price"]["date"]) == (price.usd, price.date), STALE
    assert results.UNCERTAINTY["price_cv"] == pytest.approx(results.offers_cv(), abs=0.05)


def test_revenues_and_prices_of_searches_are_the_cases() -> None:
    kept = {row["step"]: row["usd_per_query"] for row in FOUND["revenues"]}
    today = {row["step"]: row["usd_per_query"] for row in results.revenues()}
    assert kept == pytest.approx(today, rel=1e-12)
    assert FOUND["retrieval"] == results.retrieval_prices()
    assert [0.0, 0.005, 0.014] == [fee["usd"] for fee in FOUND["retrieval"]]


def test_the_commands_of_the_page_are_read_by_the_planner() -> None:
    block = PAGE.read_text(encoding="utf-8").rpartition("## The commands")[2].split("```")[1]
    lines = [shlex.split(line) for line in block.split("\n") if line.startswith("planner ")]
    for _, verb, source, *rest in lines:
        settings = [value for flag, value in zip(rest[::2], rest[1::2], strict=True) if flag == "--set"]
        assert verb in ("plan", "sweep", "economics")
        assert read_scenario(source, settings).hardware == ("h100-sxm-80gb",)
    asked = {read_scenario(line[2], line[4::2]).model for line in lines if line[1] == "plan"}
    assert asked == {(model,) for model in OPTIONS}
