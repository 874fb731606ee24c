"""The option waterfall: what it takes away, that its rows add up, and what it says of options that are not used."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, plan
from planner.planning import Plan
from planner.studies.waterfall import waterfall, with_waterfall
from planner.studies.waterfall_option import Option
from planner.studies.waterfall_options import options_of
from planner.summary.waterfall import waterfall_lines

REQUESTS = 2000
BASE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 60.0},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}},
                "output_tokens": 60,
                "shared_prefix": {"tokens": 300},
            }
        ],
        "response_cache": {"hit_rate": 0.4},
    },
    "slo": {"p90_ttft_ms": "<=1500", "p90_tpot_ms": "<=90"},
    "prices": {"gpu_hour_usd": 1.0},
}
STEPS = [
    "baseline",
    "response cache",
    "prefix cache",
    "FP8",
    "batching limits",
    "mixture of experts",
    "data-parallel ranks",
    "routing",
    "admission",
    "spare replicas",
    "autoscaler",
]


def scenario(**changes: Any) -> Scenario:
    return Scenario.from_dict(BASE).with_values({key.replace("__", "."): value for key, value in changes.items()})


def with_rows(asked: Scenario) -> tuple[Plan, list[dict[str, Any]]]:
    answer = with_waterfall(plan(asked, requests=REQUESTS, worlds=0), asked, requests=REQUESTS)
    return answer, answer.as_dict()["waterfall"]


@pytest.fixture(scope="module")
def answered() -> tuple[Plan, list[dict[str, Any]]]:
    return with_rows(scenario())


def test_rows_stand_in_the_stated_order_with_the_baseline_first(answered: tuple[Plan, list[dict[str, Any]]]):
    assert STEPS == [row["step"] for row in answered[1]]


def test_what_the_rows_remove_adds_up_to_the_baseline_less_the_plan(answered: tuple[Plan, list[dict[str, Any]]]):
    answer, rows = answered
    document = answer.as_dict()
    removed = [row["removed"] for row in rows if row["removed"] is not None]
    assert len(removed) == 4
    assert rows[0]["gpus"] - document["fleet"]["gpus"] == sum(part["gpus"] for part in removed)
    saved = rows[0]["usd_per_query"] - document["cost"]["usd_per_query"]
    assert saved == pytest.approx(sum(part["usd_per_query"] for part in removed), rel=1e-12)
    assert saved > 0


def test_the_last_row_is_the_plan_itself(answered: tuple[Plan, list[dict[str, Any]]]):
    answer, rows = answered
    last = [row for row in rows if row["feasible"]][-1]
    assert answer.as_dict()["fleet"]["gpus"] == last["gpus"]
    assert answer.as_dict()["cost"]["usd_per_query"] == last["usd_per_query"]


def test_the_baseline_is_a_plan_of_the_scenario_without_its_options(answered: tuple[Plan, list[dict[str, Any]]]):
    bare = scenario(
        query__response_cache=None,
        engine__enable_prefix_caching=False,
        engine__quantization="bf16",
        engine__max_num_seqs=None,
    )
    expected = plan(bare, requests=REQUESTS, worlds=0).as_dict()
    assert expected["fleet"]["gpus"] == answered[1][0]["gpus"]
    assert expected["cost"]["usd_per_query"] == answered[1][0]["usd_per_query"]


def test_an_option_alone_is_a_plan_of_the_baseline_with_it(answered: tuple[Plan, list[dict[str, Any]]]):
    rows = {row["step"]: row for row in answered[1]}
    alone = scenario(
        query__response_cache=None, engine__enable_prefix_caching=False, engine__max_num_seqs=None
    )  # FP8 stays
    expected = plan(alone, requests=REQUESTS, worlds=0).as_dict()
    row = rows["FP8"]
    assert expected["fleet"]["gpus"] == row["alone"]["gpus"]
    assert rows["baseline"]["gpus"] - row["alone"]["gpus"] == row["alone"]["removed"]["gpus"]


def test_interaction_is_what_the_order_removes_less_what_the_option_removes_alone(
    answered: tuple[Plan, list[dict[str, Any]]],
):
    told = [row for row in answered[1] if row["interaction"] is not None]
    assert len(told) == 4
    for row in told:
        for key, value in row["interaction"].items():
            assert row["removed"][key] - row["alone"]["removed"][key] == pytest.approx(value, rel=1e-12, abs=1e-15)
    assert told[0]["interaction"] == {"gpus": 0, "usd_per_query": 0.0}  # the first is alone on the baseline


def test_a_response_cache_that_answers_four_in_ten_removes_some_four_in_ten_gpus(
    answered: tuple[Plan, list[dict[str, Any]]],
):
    """Fewer queries need fewer replicas, nearly in proportion: pooling and rounding leave a fifth of doubt."""
    rows = {row["step"]: row for row in answered[1]}
    removed = rows["response cache"]["removed"]["gpus"] / rows["baseline"]["gpus"]
    assert removed == pytest.approx(0.4, abs=0.08)


def test_a_baseline_that_does_not_fit_is_a_row_and_the_next_that_fits_is_the_base():
    """70 billion parameters in bf16 do not fit one H200; in FP8 they do."""
    asked = scenario(model="llama-3.3-70b", hardware="h200", traffic__peak_qps=6, engine__max_num_seqs=64)
    answer, rows = with_rows(asked)
    found = {row["step"]: row for row in rows}
    for step in ("baseline", "response cache", "prefix cache"):
        assert found[step]["feasible"] is False
        assert "does not fit" in found[step]["reason"]
        assert found[step]["removed"] is None
    assert found["FP8"]["feasible"]
    assert found["FP8"]["removed"] is None
    assert found["FP8"]["alone"] is None
    last = found["batching limits"]
    assert found["FP8"]["gpus"] - answer.as_dict()["fleet"]["gpus"] == last["removed"]["gpus"]
    assert last["alone"]["removed"] == last["removed"]  # the next after the base: alone on it, nothing interacts
    text = " ".join("\n".join(waterfall_lines(rows)).split())
    assert "no fleet fits" in text
    assert "does not fit" in text


def test_a_mixture_of_experts_is_held_against_the_dense_model_nearest_in_size_and_that_is_an_assumption():
    asked = scenario(model="qwen3-30b-a3b", hardware="h100", traffic__peak_qps=150, engine__max_num_seqs=64)
    answer, rows = with_rows(asked)
    found = {row["step"]: row for row in rows}
    assert found["baseline"]["model"] == "qwen3-32b"
    assert found["mixture of experts"]["model"] == "qwen3-30b-a3b"
    assert "32.8 B against 30.5 B" in found["mixture of experts"]["what"]
    assert found["mixture of experts"]["removed"]["gpus"] > 0
    said = [row for row in answer.as_dict()["provenance"] if row["what"] == "waterfall: dense model"]
    assert [("assumed", "qwen3-32b")] == [(row["kind"], row["value"]) for row in said]


def test_the_format_of_a_quantised_mixture_is_credited_to_the_format_not_to_the_experts():
    """`auto` is FP8 for the mixture and bf16 for the dense model: the dense rows must be told the format."""
    changes = {"engine__quantization": None, "engine__max_num_seqs": 64, "query__response_cache": None}
    asked = scenario(model="qwen3-30b-a3b-fp8", hardware="h100", traffic__peak_qps=60, **changes)
    _, rows = with_rows(asked)
    found = {row["step"]: row for row in rows}
    assert ("qwen3-32b", "bf16") == (found["baseline"]["model"], found["baseline"]["quantization"])
    assert ("qwen3-32b", "fp8_block") == (found["FP8"]["model"], found["FP8"]["quantization"])
    assert found["FP8"]["removed"]["gpus"] > 0
    last = found["mixture of experts"]
    assert ("qwen3-30b-a3b-fp8", "fp8_block") == (last["model"], last["quantization"])
    assert last["set"]["engine.quantization"] == ["auto"]


def test_a_format_that_no_dense_model_can_be_planned_in_comes_back_with_the_experts():
    asked = scenario(model="kimi-k2.5", hardware="h200", engine__quantization=None)
    options = named(options_of(asked, {"model": {"name": "kimi-k2.5"}}))
    assert "no dense model can be planned in int4" in options["number format"].unused
    assert "the weights come in int4" in options["mixture of experts"].what
    cached = named(options_of(asked.with_values({"engine.kv_cache_dtype": "fp8"}), {"model": {"name": "kimi-k2.5"}}))
    assert {"engine.kv_cache_dtype": ["fp8"]} == cached["number format"].values


def test_a_dense_model_that_the_scenario_names_is_the_one_it_is_held_against():
    asked = scenario(model=["qwen3-30b-a3b", "llama-3.1-8b"], hardware="h100", traffic__peak_qps=20)
    options = named(options_of(asked, {"model": {"name": "qwen3-30b-a3b"}}))
    assert options["mixture of experts"].without == {"model": ["llama-3.1-8b"]}


# each: what is changed, the option, and why it is left out
UNUSED = [
    ({"query__response_cache": None}, "response cache", "has none"),
    ({"query__response_cache__hit_rate": 0}, "response cache", "has none"),
    ({"engine__enable_prefix_caching": False}, "prefix cache", "switches it off"),
    ({"query__stages[0]__shared_prefix": None}, "prefix cache", "no two prompts"),
    ({"engine__quantization": "bf16"}, "FP8", "bf16 weights only"),
    ({"engine__quantization": None}, "FP8", "bf16 weights only"),  # auto, and the checkpoint is bf16
    ({"engine__max_num_seqs": None}, "batching limits", "leaves them to vLLM"),
    ({}, "mixture of experts", "model is dense"),
    ({"model": "qwen3-235b-a22b"}, "mixture of experts", "no dense model of about as many parameters"),
    ({}, "routing", "leaves it to the default, least_loaded"),
    ({"fleet__routing": "least_loaded"}, "routing", "least_loaded, is the default"),
]


@pytest.mark.parametrize(("changes", "step", "why"), UNUSED)
def test_an_option_that_the_scenario_does_not_use_says_why(changes: dict[str, Any], step: str, why: str):
    asked = scenario(**changes)
    option = named(options_of(asked, {"model": {"name": asked.model[0]}}))[step]
    assert why in option.unused
    assert option.values == {}


# each: what one stage shares, and what the option says of it
SHARED = [
    ({"shared_prefix": {"tokens": 9}}, "a beginning that prompts share is computed once"),
    ({"document": {"tokens": 9, "corpus": 5}}, "a document that calls share is computed once"),
    ({"samples": 2}, "the prompt of a call's samples is computed once"),
    ({"turns": 2}, "what a session has said is computed once"),
    (
        {"shared_prefix": {"tokens": 9}, "document": {"tokens": 9, "corpus": 5}, "samples": 2},
        "a beginning that prompts share and a document that calls share and the prompt of a call's samples are",
    ),
]


@pytest.mark.parametrize(("stage", "what"), SHARED, ids=[" and ".join(row[0]) for row in SHARED])
def test_the_prefix_cache_is_an_option_of_whatever_prompts_share(stage: dict[str, Any], what: str):
    lengths = {"name": "answer", "prompt_tokens": 600, "output_tokens": 60}
    asked = scenario(query__response_cache=None, query__stages=[{**lengths, **stage}])
    option = named(options_of(asked, {"model": {"name": "llama-3.1-8b"}}))["prefix cache"]
    assert option.what.startswith(what)
    assert option.without == {"engine.enable_prefix_caching": False}


def named(options: list[Option]) -> dict[str, Option]:
    return {option.step: option for option in options}


def test_options_that_are_left_out_are_no_part_of_the_baseline():
    asked = scenario(query__response_cache=None, engine__enable_prefix_caching=True)
    answer, rows = with_rows(asked.with_values({"query.stages[0].shared_prefix": None}))
    found = {row["step"]: row for row in rows}
    assert found["response cache"]["feasible"] is None
    assert found["response cache"]["set"] == {}
    assert "engine.enable_prefix_caching" not in found["baseline"]["set"]
    assert found["baseline"]["gpus"] - answer.as_dict()["fleet"]["gpus"] == sum(
        row["removed"]["gpus"] for row in rows if row["removed"]
    )


def test_a_scenario_without_options_has_its_plan_as_the_baseline():
    changes = {
        "query.response_cache": None,
        "query.stages[0].shared_prefix": None,
        "engine.quantization": "bf16",
        "engine.max_num_seqs": None,
    }
    answer, rows = with_rows(scenario().with_values(changes))
    assert [row["step"] for row in rows if row["feasible"]] == ["baseline"]
    assert rows[0]["gpus"] == answer.as_dict()["fleet"]["gpus"]


def test_a_plan_that_no_fleet_fits_has_no_waterfall():
    asked = scenario(fleet__max_gpus=1)
    answer = plan(asked, requests=REQUESTS, worlds=0)
    assert not answer.feasible
    assert waterfall(asked, answer.as_dict(), requests=REQUESTS) == []


def test_rows_choose_among_few_kinds_of_hardware_and_say_so():
    names = ["l4-24gb", "l40s-48gb", "h100-sxm-80gb", "h200-sxm-141gb"]
    asked = scenario(hardware=names, traffic__peak_qps=5, prices__gpu_hour_usd={"rate_card": "on-demand"})
    answer, rows = with_rows(asked)
    assert "every row chooses among" in rows[0]["what"]
    assert rows[0]["what"].count("gb") == 3
    assert answer.as_dict()["fleet"]["hardware"] in rows[0]["what"]


def test_without_a_price_the_waterfall_counts_gpus_alone():
    asked = scenario(prices__gpu_hour_usd=None)
    _, rows = with_rows(asked)
    assert rows[0]["usd_per_query"] is None
    assert rows[1]["removed"]["usd_per_query"] is None
    assert rows[1]["removed"]["gpus"] > 0
    assert "$" not in "".join(waterfall_lines(rows)).replace("$/query", "")


def test_the_text_shows_every_row_and_what_they_come_to(answered: tuple[Plan, list[dict[str, Any]]]):
    text = str(answered[0])
    rows = answered[1]
    assert "Option waterfall" in text
    for row in rows:
        assert row["step"] in text
    last = answered[0].as_dict()["fleet"]["gpus"]
    assert f"All together: {rows[0]['gpus']} to {last} GPUs" in text
    assert "left out: the scenario's model is dense" in text
    assert max(map(len, text.splitlines())) <= 100


def test_progress_is_told_to_the_end():
    told: list[tuple[str, int, int]] = []
    asked = scenario()
    answer = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    waterfall(asked, answer, requests=REQUESTS, progress=lambda *step: told.append(step))
    assert {step[2] for step in told} == {8}  # four options, in order and alone
    assert all(0 <= done < total for _, done, total in told)
