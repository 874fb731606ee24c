"""Case files worked out: references between steps, inputs of every kind, variants, sensitivity, printed figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.economics.cases import is_case, named_after, read, shipped, work_out
from planner.economics.cases.evaluate import Run
from planner.economics.cases.variation import variation
from planner.economics.models import MODELS
from planner.errors import InputError, ScenarioError, UnknownNameError
from planner.studies.simulated_cases import ALL_MODELS
from tests.case_specimens import CASE, answer, case, step


def test_a_case_of_ones_own_is_worked_out() -> None:
    mine = answer()
    assert mine.value("server.requests_per_s") == 10
    assert mine.value("fleet.servers") == 5  # 25 ÷ (10 · 0.5)
    assert mine.value("fleet.usd_per_hour") == 50  # 7200 USD ÷ 720 h, five times
    assert mine.value("fleet.usd_per_query") == pytest.approx(50 / 3600 / 25)
    assert mine.unit("fleet.usd_per_query") == "USD/query"
    assert mine.as_dict()["answer"] == "5 servers at $0.000556/query, half idle: 5 servers"


def test_steps_may_stand_in_any_order() -> None:
    assert answer(steps=list(reversed(CASE["steps"]))).value("fleet.servers") == 5


def test_the_document_has_every_input_and_every_output() -> None:
    document = answer().as_dict()
    fleet = document["steps"][1]
    assert {item["name"]: (item["value"], item["unit"], item["origin"], item["given"]) for item in fleet["inputs"]} == {
        "queries_per_s": (25, "query/s", "given", "25 queries/s"),
        "requests_per_s": (10, "request/s/server", "reference", "$server.requests_per_s"),
        "usd_per_server_hour": (pytest.approx(10), "USD/server/hour", "given", "7200 USD/server/month"),
        "utilisation": (0.5, "", "given", 0.5),
        "cache_hit_rate": (0.0, "", "default", None),
        "requests_per_query": (1.0, "request/query", "default", None),
    }
    assert [item["name"] for item in fleet["outputs"]] == ["servers", "usd_per_hour", "usd_per_query"]
    assert document["headline"][0] == {"output": "fleet.servers", "value": 5, "unit": "server"}


def test_inputs_that_were_not_given_are_listed_as_assumed_with_their_reason() -> None:
    rows = {row["what"]: row for row in answer().as_dict()["provenance"]}
    assert rows["fleet.cache_hit_rate"]["kind"] == "assumed"
    assert rows["fleet.cache_hit_rate"]["source"] == "not given: every query reaches the model"
    assert "fleet.utilisation" not in rows


def test_what_the_case_calls_assumed_is_listed_with_its_value() -> None:
    rows = answer(assumed={"fleet.utilisation": "a guess"}).as_dict()["provenance"]
    assert [(row["value"], row["source"]) for row in rows if row["what"] == "fleet.utilisation"] == [("0.5", "a guess")]


def test_a_step_may_take_another_cases_output() -> None:
    steps = [*CASE["steps"], step("more", "product", of=[2, "$two-stage-search-summarizer:cost.cost"])]
    assert answer(steps=steps).value("more.value") == pytest.approx(2 * 0.06556666666666668)


def test_a_variant_changes_inputs_for_one_output_only() -> None:
    variants = [{"id": "busy", "changes": {"fleet.utilisation": 1}, "of": "fleet.servers"}]
    mine = answer(variants=variants)
    assert (mine.value("variant:busy"), mine.value("fleet.servers")) == (3, 5)  # ceil(2.5)


def test_sensitivity_tells_elasticities_and_break_even_values() -> None:
    asked = {
        "of": "server.usd_per_request",
        "equals": "0.0001 USD/request",
        "inputs": ["server.batch", "server.seconds", "server.usd_per_server_hour", "server.gpus"],
    }
    mine = answer(sensitivity=asked)
    base = 10 / 3600 / 10  # USD a request: rent · seconds ÷ batch
    assert mine.value("elasticity:server.batch") == pytest.approx(-1, rel=1e-6)
    assert mine.value("elasticity:server.seconds") == pytest.approx(1, rel=1e-6)
    assert mine.value("elasticity:server.gpus") == pytest.approx(0, abs=1e-9)
    assert mine.value("break_even:server.batch") == pytest.approx(100 * base / 0.0001, rel=1e-9)
    assert mine.value("break_even:server.seconds") == pytest.approx(10 * 0.0001 / base, rel=1e-9)
    assert mine.value("break_even:server.gpus") is None  # no number of GPUs changes a server's rent


def test_a_break_even_outside_the_inputs_range_does_not_exist() -> None:
    steps = [
        step("cost", "served_cost", usd_per_query="1 USD/query", cache_hit_rate=0.5, gross_margin=0.5),
    ]
    asked = {"of": "cost.cost", "equals": "2 USD/query", "inputs": ["cost.cache_hit_rate", "cost.gross_margin"]}
    mine = answer(steps=steps, sensitivity=asked, answer="{cost.cost}")
    assert mine.value("break_even:cost.cache_hit_rate") is None  # even without a cache it is 0.5
    assert mine.value("break_even:cost.gross_margin") == pytest.approx(-3)  # sold below cost: 0.5·(1 − m) = 2


def test_an_answer_of_whole_servers_has_no_elasticity_where_it_jumps_and_a_target_in_a_step_is_jumped_over() -> None:
    """25 queries a second at 10 requests a second and half utilisation: exactly 5 servers, and 6 just above."""
    asked = {"of": "fleet.servers", "equals": "5.5 servers", "inputs": ["fleet.queries_per_s"]}
    mine = answer(sensitivity=asked)
    (row,) = mine.as_dict()["sensitivity"]["rows"]
    assert row["elasticity"] is None
    assert row["break_even"] is None
    assert row["jumps_over"]
    assert "jumps over it" in str(mine)


def test_a_target_that_is_never_reached_is_not_jumped_over() -> None:
    asked = {"of": "server.usd_per_request", "equals": "0.0001 USD/request", "inputs": ["server.gpus"]}
    mine = answer(sensitivity=asked)
    assert mine.as_dict()["sensitivity"]["rows"][0]["jumps_over"] is False
    assert "never" in str(mine)


FLEET: dict[str, Any] = {
    "id": "gpus",
    "model": "planned_fleet",
    "inputs": {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "queries_per_s": "5 queries/s",
        "prompt_tokens": "200 tokens/request",
        "output_tokens": "50 tokens/request",
        "p99_ttft": "2 s",
        "p99_tpot": "0.1 s",
        "usd_per_gpu_hour": "2 USD/gpu/hour",
        "tensor_parallel_size": [1],
        "max_model_len": "2048 tokens/request",
        "queries": "1000 queries",
    },
}


def simulated(**inputs: Any) -> dict[str, Any]:
    return {**FLEET, "inputs": FLEET["inputs"] | inputs}


def test_what_needs_a_simulation_is_not_varied_a_hundred_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.studies.simulated_cases.plan", lambda *_, **__: pytest.fail("it was simulated"))
    twice = step("twice", "product", of=[2, "$gpus.usd_per_query"])
    asked = {"of": "twice.value", "inputs": ["gpus.queries_per_s"]}
    mine = case(steps=[twice, FLEET], answer="nothing", sensitivity=asked)
    with pytest.raises(InputError, match=r"sensitivity\.of \(=twice\.value\): needs gpus, which simulates") as refused:
        variation(Run(mine, ALL_MODELS, shipped))
    assert "variants" in str(refused.value)


def test_a_step_beside_the_answer_may_simulate() -> None:
    asked = {"of": "server.usd_per_request", "inputs": ["server.seconds"]}
    mine = case(steps=[*CASE["steps"], FLEET], sensitivity=asked)
    found = variation(Run(mine, ALL_MODELS, shipped))
    assert found is not None
    assert found.rows[0].elasticity == pytest.approx(1, rel=1e-6)


def test_no_more_than_50_inputs_are_varied() -> None:
    with pytest.raises(ScenarioError, match=r"sensitivity\.inputs"):
        case(sensitivity={"of": "fleet.servers", "inputs": ["server.gpus"] * 51})


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"model": "../../etc/passwd"}, "gpus.model (=../../etc/passwd): must be a model's name of the catalogue"),
        ({"model": "config.json"}, "gpus.model (=config.json): must be a model's name of the catalogue"),
        ({"model": "llama-3.1-8"}, "nearest: llama-3.1-8b"),
        ({"quantization": "fp7"}, "steps.gpus.engine.quantization (=fp7)"),
        ({"hardware": "h100-sxm-90gb"}, "gpus.hardware (=h100-sxm-90gb)"),
    ],
)
def test_an_error_inside_a_step_names_the_step(inputs: dict[str, Any], says: str) -> None:
    mine = case(steps=[simulated(**inputs)], answer="nothing")
    with pytest.raises(InputError) as refused:
        work_out(mine, ALL_MODELS, shipped)
    assert says in str(refused.value)


def test_a_printed_figure_is_reproduced_only_where_it_agrees_and_should() -> None:
    printed = [
        {"output": "fleet.servers", "value": "5 servers", "tolerance": 0, "agrees": True},
        {"output": "fleet.servers", "value": "6 servers", "tolerance": 0, "agrees": True},
        {"output": "fleet.servers", "value": "6 servers", "tolerance": 0, "agrees": False},
        {"output": "fleet.servers", "value": "5 servers", "tolerance": 0, "agrees": False},
    ]
    rows = answer(printed=printed).as_dict()["printed"]
    assert [row["verdict"] for row in rows] == [
        "reproduced",
        "does not reproduce",
        "does not reproduce",
        "within the tolerance, but not by the document's own reading",
    ]


def test_a_printed_figure_may_be_in_another_unit_than_ours() -> None:
    printed = [{"output": "fleet.usd_per_query", "value": "0.0556 cents/query", "tolerance": 0.0001, "agrees": True}]
    row = answer(printed=printed).as_dict()["printed"][0]
    assert (row["verdict"], row["unit"], row["ours"]) == ("reproduced", "cents/query", pytest.approx(50 / 900))


def test_values_can_be_changed_as_by_set() -> None:
    changed = case().with_values({"fleet.utilisation": "1", "fleet.cache_hit_rate": 0.6, "days_per_month": 28})
    mine = work_out(changed, MODELS, shipped)
    assert mine.value("fleet.servers") == 1
    assert mine.value("fleet.usd_per_hour") == pytest.approx(7200 / (28 * 24))


def test_an_unknown_shipped_case_is_told_its_nearest() -> None:
    with pytest.raises(UnknownNameError, match="nearest: copilot-subscription"):
        shipped("copilot-subscriptions")


def test_a_long_chain_of_steps_is_no_deep_recursion() -> None:
    chain = [step(f"s{index}", "product", of=[f"$s{index + 1}.value", 2]) for index in range(198)]
    assert answer(steps=[*chain, step("s198", "product", of=[1])], answer="{s0.value}").value("s0.value") == 2.0**198


def test_a_file_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "My Server.yaml"
    path.write_text("version: 1\nsteps: [{id: a, model: product, inputs: {of: [1, 2]}}]\nanswer: '{a.value}'\n")
    data = read(path)
    assert is_case(data)
    assert named_after(data, path)["name"] == "my-server"
    with pytest.raises(ScenarioError, match="case file"):
        read(tmp_path / "missing.yaml")
