"""Case files that are refused, each with what is wrong and where."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from planner.economics.cases import Case, shipped, work_out
from planner.economics.models import MODELS
from planner.errors import InputError, PlannerError, ScenarioError
from tests.case_specimens import CASE, answer, case, step, with_inputs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "version (=2): must be 1"),
        ({"setps": []}, "setps (=[]): unknown key; nearest: steps"),
        ({"steps": []}, "steps"),
        ({"name": "My Case"}, "name"),
        ({"source": {"document": "d", "grade": "sure"}}, "source.grade (=sure): must be one of"),
        ({"days_per_month": 45}, "days_per_month (=45): must be <= 31"),
        ({"exchange_rates": {"EUR": 1.1}}, "exchange_rates.EUR (=1.1): unknown currency"),
        ({"exchange_rates": {"CNY": -7}}, "exchange_rates.CNY (=-7): must be > 0"),
        ({"exchange_rates": {"CNY": "seven"}}, "exchange_rates.CNY (=seven): must be a number"),
        ({"exchange_rates": {"CNY": "7.1"}}, "exchange_rates.CNY (=7.1): must be a number without quotes: CNY: 7.1"),
        ({"steps": [CASE["steps"][0], CASE["steps"][0]]}, "the id server is given twice"),
        ({"steps": [{"id": "Server", "model": "ratio"}]}, "steps[0].id"),
        ({"steps": [{"id": "a", "model": "ratio", "inputs": {"of": True}}]}, "steps[0].inputs.of (=true): must be a"),
        ({"steps": [{"id": "a", "model": "ratio", "inputs": {"of": {"x": 1}}}]}, "must be a number, text"),
        ({"steps": [{"id": "a", "model": "ratio", "input": {}}]}, "steps[0].input (={}): unknown key; nearest: inputs"),
        ({"answer": None}, "answer: is required"),
        ({"answer": "{fleet.servers"}, "a brace belongs to {step.output}"),
        ({"answer": "{}"}, "a brace belongs to {step.output}"),
        ({"exchange_rates": 7.1}, "exchange_rates (=7.1): must be a mapping of keys"),
        ({"assumed": ["x"]}, "must be a mapping of keys"),
        ({"printed": [{"output": "a.b", "value": True, "tolerance": 0, "agrees": True}]}, "printed[0].value"),
        ({"variants": [{"id": "a", "changes": {}, "of": "fleet.servers"}]}, "variants[0].changes"),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        case(**changes)
    assert says in str(refused.value)


CIRCLE = [step("a", "product", of=["$b.value", 2]), step("b", "product", of=["$a.value", 2])]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"steps": with_inputs(1, requests_per_s="$servr.requests_per_s")},
            'no step is called "servr"; nearest: server',
        ),
        (
            {"steps": with_inputs(1, requests_per_s="$server.request_per_s")},
            'no output of server is called "request_per_s"; nearest: requests_per_s',
        ),
        ({"steps": with_inputs(1, requests_per_s="$server")}, "must be $step.output"),
        ({"steps": with_inputs(1, requests_per_s="$no-such-case:a.b")}, "no shipped case has this name"),
        (
            {"steps": with_inputs(1, utilization=0.5)},
            'no input of fleet_of_servers is called "utilization"; nearest: util',
        ),
        ({"steps": with_inputs(1, utilisation=None)}, "fleet.utilisation: is required by fleet_of_servers"),
        ({"steps": with_inputs(1, utilisation=1.5)}, "fleet.utilisation (=1.5): must be above 0 and at most 1"),
        ({"steps": with_inputs(1, utilisation=0)}, "fleet.utilisation (=0): must be above 0 and at most 1"),
        ({"steps": with_inputs(1, cache_hit_rate=-0.1)}, "fleet.cache_hit_rate (=-0.1): must be at least 0"),
        ({"steps": with_inputs(1, utilisation="50 %")}, '"%" is no unit'),
        ({"steps": with_inputs(1, utilisation=[0.5])}, "takes one value, not a list"),
        ({"steps": with_inputs(1, usd_per_server_hour="-5 USD/server/hour")}, "must be > 0"),
        ({"steps": with_inputs(1, usd_per_server_hour="5 CNY/server/hour")}, "give exchange_rates.CNY"),
        ({"steps": with_inputs(1, usd_per_server_hour="5 USD/gpu/hour")}, "is of another kind"),
        ({"steps": with_inputs(1, usd_per_server_hour=5)}, "needs a unit, as in 5 USD/server/hour"),
        ({"days_per_month": None}, "a month has no fixed length: give days_per_month"),
        ({"steps": [step("a", "raito", of=1, to=2)]}, 'no model is called "raito"; nearest: ratio'),
        ({"steps": [step("a", "ratio", of=1, to=0)]}, "a.to (=0): must not be 0"),
        ({"steps": [step("a", "ratio", of="1 USD", to="1 CNY")]}, "give exchange_rates.CNY"),
        ({"steps": [step("a", "total", of=["1 USD", "1 query"])]}, "is of another kind"),
        ({"steps": [step("a", "product", of=3)]}, "must be a list of 1 to 50"),
        ({"steps": [step("a", "product", of=[])]}, "must be a list of 1 to 50"),
        ({"steps": [step("a", "product", of=[1e200, 1e200])]}, "leave no finite"),
        ({"steps": [step("a", "rounded", of=3.7, digits=1.5)]}, "a.digits (=1.5): must be a whole number"),
        ({"steps": [step("a", "in_unit", of="3 USD", unit="token")]}, "is of another kind"),
        ({"steps": [step("a", "in_unit", of="3 USD", unit="USD/x y")]}, "is no unit"),
        ({"steps": CIRCLE}, "the steps refer to each other in a circle: a → b → a"),
        (
            {"answer": "{fleet.server}"},
            'answer (=fleet.server): no output of fleet is called "server"; nearest: servers',
        ),
        ({"answer": "{fleet}"}, "must be step.output; nearest: fleet"),
        (
            {"answer": "{fleet.usd_per_query%}"},
            "answer (={fleet.usd_per_query%}): per cent is of a plain number, and fleet.usd_per_query is in USD/query; "
            "nearest: {fleet.usd_per_query}",
        ),
        (
            {"printed": [{"output": "fleet.servers", "value": "5 servers", "tolerance": -1, "agrees": True}]},
            "printed[0].tolerance (=-1): must be >= 0",
        ),
        (
            {"printed": [{"output": "fleet.servers", "value": "5 servers", "tolerance": "-1 server", "agrees": True}]},
            "printed[0].tolerance (=-1 server): must be >= 0",
        ),
        ({"assumed": {"fleet.utilization": "x"}}, "must be step.input; nearest: fleet.utilisation"),
        (
            {"printed": [{"output": "fleet.servers", "value": "5 USD", "tolerance": 0, "agrees": True}]},
            "printed[0].value",
        ),
        (
            {"printed": [{"output": "variant:x", "value": 5, "tolerance": 0, "agrees": True}]},
            "the case has no such variant",
        ),
        (
            {"variants": [{"id": "v", "changes": {"fleet.utilisation": 7}, "of": "fleet.servers"}]},
            "variants.v.fleet.utilisation (=7): must be above 0",
        ),
        (
            {"variants": [{"id": "v", "changes": {"flet.x": 7}, "of": "fleet.servers"}]},
            "variants.v.flet.x: no such step",
        ),
        ({"sensitivity": {"of": "fleet.servers", "inputs": ["server.gpu"]}}, 'server has no input "gpu"'),
        ({"sensitivity": {"of": "fleet.servers", "inputs": ["server"]}}, "must be step.input"),
        (
            {"sensitivity": {"of": "fleet.servers", "inputs": ["server.gpus"], "equals": "3 USD"}},
            "sensitivity.equals (=3 USD)",
        ),
    ],
)
def test_a_case_that_cannot_be_worked_out_is_refused(changes: dict[str, Any], says: str) -> None:
    base = copy.deepcopy(CASE) | {"answer": "nothing"} | changes
    data = {key: value for key, value in base.items() if value is not None}
    with pytest.raises(PlannerError) as refused:
        work_out(Case.from_dict(data), MODELS, shipped)
    assert says in str(refused.value)
    assert isinstance(refused.value, InputError)


def test_a_choice_is_told_its_nearest() -> None:
    base = shipped("chatgpt-equivalent-search").with_values({"budget.query_billed": "one"})
    with pytest.raises(InputError, match=r"budget\.query_billed \(=one\): must be one of .*nearest: once"):
        work_out(base, MODELS, shipped)


def test_words_cannot_be_priced_as_tokens() -> None:
    """Document 003's translation says words where the original says tokens."""
    steps = [step("price", "list_price", tokens="2050 words/query", usd_per_1000_tokens="0.02 USD/1000 tokens")]
    with pytest.raises(InputError, match="words are not tokens"):
        answer(steps=steps, answer="nothing")


def test_a_case_cannot_refer_to_itself_through_another() -> None:
    loop = case(name="two", steps=[step("a", "product", of=["$one:b.value"])], answer="nothing")
    other = case(name="one", steps=[step("b", "product", of=["$two:a.value"])], answer="nothing")
    with pytest.raises(InputError, match="circle"):
        work_out(loop, MODELS, {"one": other, "two": loop}.__getitem__)


def test_a_number_beyond_floats_is_refused() -> None:
    with pytest.raises(InputError, match="must be a finite number"):
        answer(steps=[step("a", "ratio", of=10**400, to=2)], answer="{a.ratio}")
