"""The models behind the cases: formulas say what is computed, defaults say why, units are read, traps are pinned."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from planner.economics.cases import CaseAnswer, names, shipped, signature
from planner.economics.models import MODELS
from planner.economics.models.fields import Given
from planner.economics.models.revenue import usage_tail
from planner.economics.models.sensitivity import Solution, elasticity, solve
from planner.economics.quantity import magnitude, quantity
from planner.errors import InputError
from planner.studies.simulated_cases import ALL_MODELS, answer_case
from tests.case_specimens import answer as worked_out
from tests.case_specimens import step as a_step

OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
FUNCTIONS: dict[str, Callable[..., float]] = {"ceil": math.ceil, "floor": math.floor, "ln": math.log}


def computed(formula: str, numbers: dict[str, float]) -> float:
    """The value of a formula as the cases show it."""
    text = formula.replace("×", "*").replace("÷", "/").replace("−", "-").replace("^", "**")

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return FUNCTIONS[node.func.id](*map(value, node.args))
        if isinstance(node, ast.Name):
            return numbers[node.id]
        assert isinstance(node, ast.Constant), ast.dump(node)
        return float(node.value)  # type: ignore[arg-type]

    return value(ast.parse(text, mode="eval").body)


@cache
def answer(case: str) -> CaseAnswer:
    return answer_case(shipped(case))


def numbers_of(step: dict[str, Any], case: str) -> dict[str, float]:
    """A step's numbers by name; those with a unit of their own in the unit of the first such."""
    items = [item for item in [*step["inputs"], *step["outputs"]] if isinstance(item["value"], float | int)]
    own = [item["unit"] for item in items if item.get("own_unit")]
    return {
        item["name"]: magnitude(quantity(item["value"], item["unit"]), own[0], shipped(case).rates, item["name"])
        if item.get("own_unit")
        else item["value"]
        for item in items
    }


@pytest.mark.parametrize("case", names())
def test_every_formula_that_is_shown_gives_the_number_that_is_shown(case: str) -> None:
    for step in answer(case).as_dict()["steps"]:
        formulas = [item for item in step["outputs"] if item["formula"]]
        numbers = numbers_of(step, case) if formulas else {}
        for item in formulas:
            expected = pytest.approx(item["value"], rel=1e-9, abs=1e-12)
            assert computed(item["formula"], numbers) == expected, (step["id"], item["name"])


def test_every_model_is_used_by_a_case_or_is_a_plain_operation() -> None:
    used = {step.model for name in names() for step in shipped(name).steps}
    assert set(ALL_MODELS) - used == {"electricity"}


@pytest.mark.parametrize("name", sorted(ALL_MODELS))
def test_a_models_signature_is_one_that_a_case_can_use(name: str) -> None:
    signed = signature(ALL_MODELS[name])
    assert signed.summary.endswith((".", ":")) or "." in signed.summary
    assert signed.outputs
    for item in signed.inputs.values():
        quantity(1, item.given.unit)  # raises on an unknown unit
        assert item.required or item.why, f"{name}.{item.name}: a default must say why"
    for output in signed.outputs.values():
        if output.made is not None:
            quantity(1, output.made.unit)


def test_a_formula_names_only_inputs_and_outputs_of_its_model() -> None:
    for name, model in ALL_MODELS.items():
        signed = signature(model)
        known = {*signed.inputs, *signed.outputs, *FUNCTIONS}
        for output in signed.outputs.values():
            if output.made is not None:
                assert set(re.findall(r"[a-z_][a-z0-9_]*", output.made.formula)) <= known, (name, output.name)


def test_a_signature_that_no_case_can_use_is_a_defect() -> None:
    def wrong(x: int) -> Any: ...

    with pytest.raises(TypeError, match="a case has no value of type"):
        signature(wrong)


# --- traps of the source documents ---


def changed(case: str, **values: Any) -> CaseAnswer:
    return answer_case(shipped(case), {key.replace("__", "."): value for key, value in values.items()})


def test_a_month_of_730_hours_gives_0_297_cents() -> None:
    """The document counts 30 days; another month is another figure, and none is silent."""
    month = changed("gpt3-batch128-server", days_per_month=365 / 12)
    assert month.value("server.usd_per_1000_output_tokens") * 100 == pytest.approx(0.297, abs=0.0005)
    assert answer("gpt3-batch128-server").value("server.usd_per_1000_output_tokens") * 100 == pytest.approx(
        0.301, abs=5e-4
    )


def test_counting_the_prompt_too_halves_the_price_of_a_token() -> None:
    server = answer("gpt3-batch128-server")
    assert server.value("server.usd_per_1000_output_tokens") == pytest.approx(
        2 * server.value("server.usd_per_1000_tokens")
    )


def test_gib_are_not_gb() -> None:
    assert answer("training-memory").value("gpt3.gpus") == 44
    assert changed("training-memory", gpt3__gb_per_gpu="80 GiB/gpu").value("gpt3.gpus") == 41
    assert answer("gpt3-batch128-server").value("memory.most_requests") == 119
    assert changed("gpt3-batch128-server", memory__gb_per_gpu="80 GiB/gpu").value("memory.most_requests") == 142


def test_an_exchange_rate_is_each_cases_own() -> None:
    assert shipped("a100-for-ten-days").exchange_rates == {"CNY": 7.0}
    assert shipped("training-programme-cny").exchange_rates == {"CNY": 6.8}
    assert shipped("dense-500b").exchange_rates == {"CNY": 7.1}
    other = changed("a100-for-ten-days", exchange_rates__CNY=6.8)
    assert other.value("capex_cny.value") == pytest.approx(108.3e6 * 6.8)


def test_the_same_cost_is_17_or_51_per_cent_by_whose_count_of_searches() -> None:
    assert answer("optimisation-ladder").value("share.ratio") == pytest.approx(0.172, abs=0.0005)
    assert answer("google-search-2024-2025").value("share.ratio") == pytest.approx(0.509, abs=0.0005)


def test_545_per_cent_is_profit_over_cost_and_84_5_of_revenue() -> None:
    fleet = answer("deepseek-fleet")
    assert fleet.value("on_cost.ratio") == pytest.approx(5.45, abs=0.006)
    assert fleet.value("on_price.gross_margin") == pytest.approx(0.845, abs=0.0005)


def test_only_the_committed_tpu_price_reproduces_the_training_table() -> None:
    palm = answer("training-palm")
    assert palm.value("training.usd") == pytest.approx(11.2e6, abs=0.05e6)
    assert palm.value("variant:on_demand") > 17e6


def test_cached_queries_share_the_fleets_cost() -> None:
    """With 30 % cached fewer servers are needed, and their cost is divided by all queries, not by seven tenths."""
    fleet = answer("gpt3-batch128-server")
    per_hour, per_query = fleet.value("fleet_70_cached.usd_per_hour"), fleet.value("fleet_70_cached.usd_per_query")
    assert per_query == pytest.approx(per_hour / 3600 / 100)


def test_the_documents_figure_of_a_query_is_34_times_below_the_flop_basis() -> None:
    assert answer("aws-query-cost").value("times.ratio") == pytest.approx(33.7, abs=0.05)


def test_a_mixture_needs_its_active_parameters_computed_and_all_of_them_stored() -> None:
    yuan = answer("yuan2-m32-moe")
    assert yuan.value("compute.ratio") == pytest.approx(18.9, abs=0.05)
    assert yuan.value("memory.ratio") == 1.75
    # Simulated: between the two, since decoding reads weights and a step has overheads that do not shrink.
    assert 1.0 < yuan.value("gpus.ratio") < yuan.value("compute.ratio")
    assert yuan.value("cost.ratio") == pytest.approx(yuan.value("gpus.ratio"))


# --- pure functions that no table covers ---


def test_electricity_of_a_700_w_gpu() -> None:
    """0.7 kW · 1.3 · 0.10 USD = 0.091 USD an hour; 8,760 hours a year."""
    result = MODELS["electricity"](watts=700, usd_per_kwh=0.1, pue=1.3)
    assert result.usd_per_hour == pytest.approx(0.091)
    assert result.usd_per_year == pytest.approx(0.091 * 8760)


def test_a_tail_of_usage_by_hand() -> None:
    """With cv → 0 nobody costs more than he pays; at the median's price half do; shares fall as the price rises."""
    assert usage_tail(5.0, 10.0, 0.01).losing_users == pytest.approx(0, abs=1e-9)
    sigma = math.sqrt(math.log(2))  # cv = 1
    median = 5.0 * math.exp(-(sigma**2) / 2)
    assert usage_tail(5.0, median, 1.0).losing_users == pytest.approx(0.5)
    assert usage_tail(5.0, 5.0 * math.exp(sigma**2 / 2), 1.0).cost_of_losing_users == pytest.approx(0.5)


def test_elasticity_and_root_by_hand() -> None:
    assert elasticity(lambda x: x**3, 2.0) == pytest.approx(3, rel=1e-9)
    assert elasticity(lambda x: x, 0.0) is None
    assert solve(lambda x: x * x, 9.0, 1.0, 0.0, math.inf).at == pytest.approx(3, rel=1e-12)
    assert solve(lambda x: x * x, -1.0, 1.0, -math.inf, math.inf) == Solution(None, jumps_over=False)
    assert solve(lambda x: 1 / x, 1e-6, 1.0, 0.0, math.inf).at == pytest.approx(1e6, rel=1e-9)
    assert solve(lambda x: 2 - x, 2.0, 0.5, 0.0, 1.0).at == pytest.approx(0, abs=1e-12)


# answer, where it stands, its elasticity, because
STEEP_AND_STEPPED = [
    (lambda x: float(math.ceil(x)), 4.999, None, "1 % more takes one server more, a millionth none"),
    (lambda x: float(math.ceil(x)), 5.0, None, "whole servers, full: a millionth more takes another"),
    (lambda x: float(math.ceil(x)), 4.5, 0.0, "neither step takes another"),
    (lambda x: 1 / (1 - x), 0.98, 49.0, "steep, but smooth"),
    (lambda x: x**-10.0, 3.0, -10.0, "likewise"),
    (lambda x: x if x <= 1 else None, 0.995, 1.0, "the wide step leaves the range, the narrow one does not"),
]


@pytest.mark.parametrize(("answer", "at", "expected", "because"), STEEP_AND_STEPPED)
def test_an_elasticity_is_told_of_what_bends_and_not_of_what_jumps(answer, at, expected, because):  # type: ignore[no-untyped-def]
    found = elasticity(answer, at)
    assert expected == (None if found is None else pytest.approx(found, rel=1e-3)), because


def test_a_target_inside_a_step_is_jumped_over_and_one_on_a_step_is_met() -> None:
    assert solve(lambda x: float(math.ceil(x)), 5.5, 3.2, 0.0, math.inf) == Solution(None, jumps_over=True)
    assert solve(lambda x: float(math.ceil(x)), 4.0, 3.7, 0.0, math.inf).at == 3.7
    assert solve(lambda x: None if x == 2 else 1 / (x - 2), 1.0, 1.1, 0.0, 10.0).at == pytest.approx(3)


# cached tokens, their price, USD of a query of 1,800 + 100 tokens at 0.75 and 3 USD a million, because
CACHED = [
    ({}, 0.00165, "1,800 · 0.75 + 100 · 3: nothing cached"),
    ({"cached_tokens": "1000 tokens/query"}, 0.00165, "no price of its own: billed as other input, not given away"),
    (
        {"cached_tokens": "1000 tokens/query", "usd_per_million_cached": "0.1 USD/Mtoken"},
        0.001,
        "800 · 0.75 + 1,000 · 0.1 + 100 · 3: the input holds the cached ones",
    ),
    (
        {"cached_tokens": "1800 tokens/query", "usd_per_million_cached": "0 USD/Mtoken"},
        0.0003,
        "a price of 0 that is given is a price",
    ),
]
CALL = {"input_tokens": "1800 tokens/query", "output_tokens": "100 tokens/query"}
CALL |= {"usd_per_million_input": "0.75 USD/Mtoken", "usd_per_million_output": "3 USD/Mtoken"}


def call(**inputs: Any) -> CaseAnswer:
    steps = [a_step("query", "api_call", **CALL, **inputs)]
    return worked_out(steps=steps, answer="{query.usd_per_query}")


@pytest.mark.parametrize(("inputs", "usd", "because"), CACHED, ids=[row[2] for row in CACHED])
def test_cached_input_is_a_part_of_the_input_and_never_free_by_default(inputs, usd, because):  # type: ignore[no-untyped-def]
    found = call(**inputs)
    assert found.value("query.usd_per_query") == pytest.approx(usd, rel=1e-12), because
    told = {row["what"]: row["source"] for row in found.as_dict()["provenance"]}
    billed_alike = "not given: cached input billed as other"
    assert ("usd_per_million_cached" not in inputs) == (told.get("query.usd_per_million_cached") == billed_alike)


def test_a_days_tokens_and_a_querys_are_billed_alike() -> None:
    """`api_revenue` and `api_call` count cached tokens within the input."""
    of_query = MODELS["api_call"](1800, 100, 0.75, 3.0, 1000, 0.1)
    of_day = MODELS["api_revenue"](1800, 1000, 100, 0.1, 0.75, 3.0)
    assert of_query.llm_usd_per_query == of_day.usd_per_day


def test_more_cached_than_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"query\.cached_tokens \(=5000\.0\): must be at most input_tokens \(= 1800\)"):
        call(cached_tokens="5000 tokens/query")


def test_what_is_not_given_cannot_be_varied() -> None:
    asked = {"of": "query.usd_per_query", "inputs": ["query.usd_per_million_cached"]}
    with pytest.raises(InputError, match="cannot be varied: it is not given"):
        worked_out(steps=[a_step("query", "api_call", **CALL)], answer="x", sensitivity=asked)


def test_ranges_are_those_of_the_signature() -> None:
    assert signature(MODELS["served_cost"]).inputs["gross_margin"].given == Given("", -math.inf, 1)


def test_a_shipped_file_names_itself() -> None:
    assert [shipped(name).name for name in names()] == list(names())
