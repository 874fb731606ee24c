"""The 67 worked examples of the source documents' arithmetic: every figure computed by a shipped case.

`tests/data/worked_examples.csv` has one row a figure: which case and output computes it, the exact value, and what
the document prints. The rule: |ours − exact| <= rtol·|exact| always; where `agrees` is yes also
|ours − printed| <= tolerance; where it is no (a control, or an error of the document) ours must lie outside.
`from` = input marks figures that a document only states, or that repeat an input by identity: a case carries them
unharmed, within the tolerance of what is printed too, and may not call them reproduced.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from planner.economics.cases import CaseAnswer, names, shipped, work_out
from planner.economics.models import MODELS
from planner.economics.quantity import NO_RATES, magnitude, quantity
from planner.studies.simulated_cases import ALL_MODELS

TABLE = Path(__file__).parent / "data" / "worked_examples.csv"
EDGE = 1e-12  # relative: 0.0105 against 0.010 ± 0.0005 is a tie that rounding must not decide


class Row(NamedTuple):
    """One figure."""

    id: str
    case: str
    output: str
    exact: float
    unit: str
    rtol: float
    printed: float | None
    tolerance: float | None
    agrees: bool | None
    only_input: bool


def _rows() -> list[Row]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [
            Row(
                row["id"],
                row["case"],
                row["output"],
                float(row["exact"]),
                row["unit"],
                float(row["rtol"]),
                float(row["printed"]) if row["printed"] else None,
                float(row["tolerance"]) if row["tolerance"] else None,
                {"yes": True, "no": False, "": None}[row["agrees"]],
                {"case": False, "input": True}[row["from"]],
            )
            for row in csv.DictReader(file)
        ]


ROWS = _rows()


@cache
def answer(case: str) -> CaseAnswer:
    return work_out(shipped(case), ALL_MODELS, shipped)


def ours(row: Row) -> float:
    """The case's figure in the row's unit; a figure of another kind cannot be brought into it."""
    found, value = answer(row.case), answer(row.case).value(row.output)
    return magnitude(quantity(float(value), found.unit(row.output)), row.unit, NO_RATES, f"{row.case}:{row.output}")


def test_the_table_has_all_67_examples_and_uses_all_30_cases() -> None:
    assert len({row.id for row in ROWS}) == 67
    assert {row.case for row in ROWS} == set(names())
    assert len(names()) == 30


def test_a_figure_that_is_printed_has_its_tolerance_and_its_verdict() -> None:
    assert {(True, True, True), (False, False, False)} == {
        (row.printed is not None, row.tolerance is not None, row.agrees is not None) for row in ROWS
    }


def test_the_shipped_cases_are_those_that_were_asked_for() -> None:
    asked = (
        "chatgpt-equivalent-search, two-stage-search-summarizer, api-list-price, gpt3-a100-flops, gpt3-tpuv4-flops, "
        "optimisation-ladder, training-gpt3, training-palm, training-others, training-memory, mfu-table, "
        "chinchilla-parity, hardware-trajectory, cost-since-2020, jasper-saas, gpt3-batch128-server, "
        "training-programme-cny, continuous-batching, openai-daily-bill, ernie-4, a100-for-ten-days, aws-query-cost, "
        "copilot-subscription, chatgpt-plus, yuan2-m32-moe, dense-500b, compute-share, cost-decline, "
        "google-search-2024-2025, deepseek-fleet"
    )
    assert sorted(asked.split(", ")) == sorted(names())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.id}:{row.case}:{row.output}")
def test_a_case_computes_the_exact_figure(row: Row) -> None:
    assert abs(ours(row) - row.exact) <= row.rtol * abs(row.exact)


@pytest.mark.parametrize("row", [row for row in ROWS if row.agrees], ids=lambda row: f"{row.id}:{row.output}")
def test_what_should_agree_with_the_printed_figure_does(row: Row) -> None:
    assert row.printed is not None
    assert row.tolerance is not None
    assert abs(ours(row) - row.printed) <= row.tolerance + EDGE * abs(row.printed)


@pytest.mark.parametrize("row", [row for row in ROWS if row.agrees is False], ids=lambda row: f"{row.id}:{row.output}")
def test_controls_and_the_documents_errors_do_not_agree(row: Row) -> None:
    assert row.printed is not None
    assert row.tolerance is not None
    assert abs(ours(row) - row.printed) > row.tolerance


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.printed is not None and not row.only_input],
    ids=lambda row: f"{row.id}:{row.output}",
)
def test_every_printed_figure_stands_in_its_case_with_the_same_verdict(row: Row) -> None:
    """So that the command's text says of each what the table says."""
    told = {
        (printed["agrees"], printed["verdict"])
        for printed in answer(row.case).document["printed"]
        if printed["output"] == row.output
        and magnitude(quantity(printed["value"], printed["unit"]), row.unit, NO_RATES, row.id)
        == pytest.approx(row.printed, rel=1e-9)
    }
    assert told == {(row.agrees, "reproduced" if row.agrees else "does not reproduce")}


@pytest.mark.parametrize("row", [row for row in ROWS if row.only_input], ids=lambda row: f"{row.id}:{row.output}")
def test_what_is_only_stated_is_not_called_reproduced(row: Row) -> None:
    assert row.agrees is not False
    assert row.output not in [printed["output"] for printed in answer(row.case).document["printed"]]


def test_a_case_takes_anothers_figures_by_reference() -> None:
    """The hardware's share of the fall since 2020 is that of the trajectory, and moves with it."""
    steps = answer("cost-since-2020").document["steps"]
    given = [item["given"] for step in steps for item in step["inputs"] if step["id"] == "inference"]
    assert [["$params.ratio", "$hardware-trajectory:saved.left"]] == given


VERDICTS = ("does not pay", "pays", "is better", "no gain", "larger part", ", not ")


@pytest.mark.parametrize("name", names())
def test_an_answer_has_no_verdict_that_other_inputs_would_make_false(name: str) -> None:
    assert [] == [words for words in VERDICTS if words in shipped(name).answer]


def test_deepseeks_profit_follows_its_revenue() -> None:
    """Without any output sold the fleet earns some 194,000 USD a day (266 G tokens at 0.55, 342 G at 0.14)."""
    case = shipped("deepseek-fleet").with_values({"revenue.output_tokens": "0 tokens/day"})
    found = work_out(case, ALL_MODELS, shipped)
    earned = 0.55 * 266_000 + 0.14 * 342_000
    assert found.value("profit.value") == pytest.approx(earned - 87_072)
    assert found.value("on_price.gross_margin") == pytest.approx(1 - 87_072 / earned)
    assert "printed_" not in shipped("deepseek-fleet").answer


def test_no_shipped_case_calls_a_control_or_an_error_reproduced() -> None:
    for name in names():
        for printed in answer(name).document["printed"]:
            assert printed["within"] == printed["agrees"], (name, printed)
            assert (printed["verdict"] == "reproduced") == printed["agrees"], (name, printed)


def test_arithmetic_cases_need_no_simulation() -> None:
    """All but three cases work without the models that simulate."""
    simulating = {"continuous-batching", "yuan2-m32-moe", "dense-500b"}
    for name in set(names()) - simulating:
        assert work_out(shipped(name), MODELS, shipped).document["steps"] == answer(name).document["steps"]


# --- claims that are not point values ---


def test_the_chinchilla_order_of_losses() -> None:
    loss = {
        name: answer("chinchilla-parity").value(f"{name}.loss") for name in ("chinchilla", "trillion", "gopher", "gpt3")
    }
    assert sorted(loss, key=lambda name: loss[name]) == ["chinchilla", "trillion", "gopher", "gpt3"]


def test_costs_since_2020_fell_by_more_than_80_per_cent() -> None:
    assert answer("cost-since-2020").value("inference.reduction") > 0.8
    assert answer("cost-since-2020").value("training.reduction") > 0.8


def test_single_digit_cents_a_chat() -> None:
    assert 0.001 <= answer("chatgpt-equivalent-search").value("cost.cost") < 0.1


def test_added_cost_of_the_industry_is_above_ten_billion() -> None:
    assert answer("optimisation-ladder").value("added.value") > 10e9
    assert answer("optimisation-ladder").value("added_15.value") > 10e9


def test_ai_systems_labour_stays_below_a_tenth_of_the_programme() -> None:
    assert answer("training-programme-cny").value("low.labour_share") < 0.1
    assert answer("training-programme-cny").value("high.labour_share") < 0.1


def test_the_elasticities_order_as_in_a_tornado() -> None:
    rows = answer("two-stage-search-summarizer").document["sensitivity"]["rows"]
    swing = {row["input"]: abs(row["elasticity"]) for row in rows if row["input"] != "optimised.model_factor"}
    assert sorted(swing, key=lambda name: -swing[name])[:1] == ["cost.gross_margin"]
    assert sorted(swing, key=lambda name: -swing[name])[2:] == [
        "budget.fan_out",
        "budget.section_words",
        "cost.cache_hit_rate",
        "budget.response_words",
        "budget.query_words",
    ]
