"""Levers when a query does not pay: shorter answers, smaller models, no model for queries that earn too little."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from planner import Scenario, plan
from planner.scenario import Lognormal, Normal, Uniform
from planner.studies.answer_length import margin_after_training, shorter_answers
from planner.studies.chosen import pinned
from planner.studies.fleet_runs import fleet_runs
from planner.studies.levers import levers, marginal_cost, skip_llm, smaller
from planner.studies.token_counts import mean_of, scaled

REQUESTS = 2000
BASE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": ["l4-24gb", "l40s-48gb"],
    "engine": {"quantization": ["bf16", "fp8"], "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 40.0, "day": [0.5] * 12 + [1.0] * 12},
    "query": {
        "stages": [
            {"name": "look", "prompt_tokens": 200, "output_tokens": 8},
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 300, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 200, "cv": 0.5}},
            },
        ],
        "response_cache": {"hit_rate": 0.25},
    },
    "slo": {"p90_ttft_ms": "<=3000", "p90_e2e_ms": "<=30000"},
    "prices": {"gpu_hour_usd": 1.0, "retrieval_usd_per_query": 0.00001},
    "revenue": {"ads": {"usd_per_query": 0.01}},
}


def quiet(what: str, done: int, total: int) -> None:
    pass


@cache
def planned(**changes: Any) -> tuple[Scenario, Scenario, dict[str, Any]]:
    """The scenario, what its plan chose, and the plan's document."""
    asked = Scenario.from_dict(BASE).with_values({key.replace("__", "."): value for key, value in changes.items()})
    document = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    return asked, pinned(asked, document), document


def test_what_a_plan_chose_is_a_scenario_without_lists_that_plans_to_the_same_fleet():
    _, chosen, document = planned()
    assert chosen.choices() == {}
    again = plan(chosen, requests=REQUESTS, worlds=0).as_dict()
    assert document["fleet"] == again["fleet"]
    assert document["cost"] == again["cost"]


def test_a_version_that_looks_like_a_number_stays_text_when_it_is_pinned():
    _, chosen, document = planned(engine__vllm_version='["0.30", "0.31"]')
    assert document["fleet"]["engine"]["vllm_version"] in ("0.30", "0.31")
    assert chosen.engine.vllm_version == (document["fleet"]["engine"]["vllm_version"],)


# --- shorter answers ---

# distribution, factor, mean before, what it becomes, because
SCALED = [
    (100, 0.25, 100.0, 25, "a count"),
    (1, 0.1, 1.0, 1, "no answer is shorter than a token"),
    (Uniform(uniform=(10, 30)), 0.5, 20.0, {"uniform": [5, 15]}, "both ends"),
    (
        Lognormal.model_validate({"lognormal": {"mean": 300, "cv": 0.7}}),
        0.9,
        300.0,
        {"lognormal": {"mean": 270.0, "cv": 0.7}},
        "the mean; the relative spread stays",
    ),
    (
        Normal.model_validate({"normal": {"mean": 80, "sd": 20, "min": 40, "max": 160}}),
        0.5,
        80.0,
        {"normal": {"mean": 40.0, "sd": 10.0, "min": 20, "max": 80}},
        "mean, spread and both bounds",
    ),
]


@pytest.mark.parametrize(("distribution", "factor", "mean", "expected", "because"), SCALED)
def test_a_distribution_is_scaled_whole(distribution: Any, factor: float, mean: float, expected: Any, because: str):
    assert mean == mean_of(distribution), because
    assert expected == scaled(distribution, factor), because
    changed = Scenario.from_dict(BASE).with_values({"query.stages[1].output_tokens": expected})
    assert mean_of(changed.query.stages[1].output_tokens) == pytest.approx(max(factor * mean, 1.0))


def test_shorter_answers_are_plans_of_their_own():
    _, chosen, document = planned()
    found = shorter_answers(chosen, document, 0, REQUESTS, quiet)
    assert [0.10, 0.25, 0.50] == [row["shorter_by"] for row in found["rows"]]
    assert [180.0, 150.0, 100.0] == pytest.approx([row["output_tokens"] for row in found["rows"]])
    half = chosen.with_values({"query.stages[1].output_tokens": {"lognormal": {"mean": 100, "cv": 0.5}}})
    expected = plan(half, requests=REQUESTS, worlds=0).as_dict()
    row = found["rows"][-1]
    assert expected["fleet"]["gpus"] == row["gpus"]
    assert document["fleet"]["gpus"] - row["gpus"] == row["removed"]["gpus"]
    saved = document["cost"]["usd_per_query"] - row["usd_per_query"]
    assert saved == row["removed"]["usd_per_query"] == pytest.approx(row["gained_usd_per_query"])
    assert saved > 0


def test_half_the_answer_is_not_half_the_fleet_where_prompts_take_their_part():
    _, chosen, document = planned()
    found = shorter_answers(chosen, document, 0, REQUESTS, quiet)
    assert found["rows"][-1]["gpus"] > document["fleet"]["gpus"] / 2


def test_the_break_even_length_of_a_query_that_does_not_pay_lies_between_one_that_does_and_one_that_does_not():
    """The revenue is 80 % of the cost: half the answer pays, the whole one does not."""
    _, _, rich = planned()
    earns = 0.8 * rich["cost"]["usd_per_query"]
    _, chosen, document = planned(revenue__ads__usd_per_query=earns)
    assert document["margin"]["usd_per_query"] < 0
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert 0 < end["output_tokens"] < 200
    at = {row["output_tokens"]: row["margin_usd_per_query"] for row in end["tried"]}
    assert at[end["output_tokens"]] >= 0
    above = min(tokens for tokens in at if tokens > end["output_tokens"])
    assert at[above] < 0
    assert above - end["output_tokens"] <= max(1.0, 0.02 * end["output_tokens"])


def test_the_break_even_length_of_a_query_that_pays_is_longer():
    _, _, rich = planned()
    earns = 1.3 * rich["cost"]["usd_per_query"]
    _, chosen, document = planned(revenue__ads__usd_per_query=earns)
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert end["output_tokens"] >= 200
    assert "margin is below 0" in end["note"]


def test_a_query_that_earns_much_pays_at_any_length_that_was_tried():
    _, chosen, document = planned()
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert end["output_tokens"] is None
    assert "4 times as long, pay too" in end["note"]


def test_a_query_whose_prompts_cost_more_than_it_earns_pays_at_no_length():
    _, chosen, document = planned(revenue__ads__usd_per_query=0.000011)
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert end["output_tokens"] is None
    assert "no shorter answer" in end["note"]
    assert all(row["margin_usd_per_query"] < 0 for row in end["tried"])


def test_without_revenue_lengths_are_priced_but_nothing_breaks_even():
    _, chosen, document = planned(revenue=None)
    found = shorter_answers(chosen, document, 0, REQUESTS, quiet)
    assert found["break_even"] is None
    assert found["rows"][0]["gained_usd_per_query"] is None
    assert found["rows"][0]["removed"]["usd_per_query"] is not None


# --- smaller models ---


def test_smaller_models_are_planned_on_the_chosen_gpu_and_their_quality_is_said_to_be_unknown():
    asked, chosen, document = planned()
    rows = smaller(asked, chosen, document, 0, REQUESTS, quiet)["rows"]
    assert [row["model"] for row in rows] == ["qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"]
    expected = plan(chosen.with_values({"model": "qwen3-0.6b"}), requests=REQUESTS, worlds=0).as_dict()
    assert expected["fleet"]["gpus"] == rows[-1]["gpus"]
    assert expected["cost"]["usd_per_query"] == rows[-1]["usd_per_query"] < document["cost"]["usd_per_query"]
    assert {row["quality"] for row in rows} == {"quality not modelled"}


def test_the_smallest_model_of_the_catalogue_has_no_smaller_one():
    asked, chosen, document = planned(model="qwen3-0.6b")
    found = smaller(asked, chosen, document, 0, REQUESTS, quiet)
    assert found["rows"] == []
    assert "no smaller model than qwen3-0.6b" in found["reason"]


# --- no model for queries that earn too little ---


def test_the_marginal_cost_is_a_replicas_day_over_the_queries_it_carries_plus_retrieval():
    _, chosen, document = planned()
    runs = fleet_runs(chosen, 0, REQUESTS)
    found = marginal_cost(chosen, document, runs)
    hourly = document["fleet"]["gpus_per_replica"] * 1.0
    per_query = 24 * hourly / (found.replica_qps * 3600 * 18)  # the day holds 12 whole and 12 half hours
    assert per_query + 0.00001 == pytest.approx(found.usd_per_query, rel=1e-12)
    serving = document["fleet"]["replicas"]
    held, over = (runs.at_rate(found.replica_qps * serving / 0.75 * factor, serving).met for factor in (1.0, 1.03))
    assert held  # it carries that rate within the limits
    assert not over  # and no more than a few per cent above it


def test_the_marginal_cost_of_a_query_through_the_model_is_no_more_than_the_average_one():
    """The planned fleet has whole replicas and carries its peak at least."""
    _, chosen, document = planned()
    found = marginal_cost(chosen, document, fleet_runs(chosen, 0, REQUESTS))
    average = (document["cost"]["usd_per_query"] - 0.75 * 0.00001) / 0.75
    assert 0.5 * average < found.usd_per_query - 0.00001 <= average * 1.0001


def test_staff_is_no_part_of_one_more_query():
    own = {"capex_usd_per_gpu": 20000, "life_years": 4, "staff_usd_per_year": 0}
    changes: dict[str, Any] = {"prices": {"own": own, "energy": {"usd_per_kwh": 0.1}}, "hardware": "l4-24gb"}
    asked = Scenario.from_dict(BASE | changes)
    staffed = asked.with_values({"prices.own.staff_usd_per_year": 500_000})
    costs = []
    for scenario in (asked, staffed):
        document = plan(scenario, requests=REQUESTS, worlds=0).as_dict()
        chosen = pinned(scenario, document)
        costs.append(
            (document["cost"]["usd_per_query"], marginal_cost(chosen, document, fleet_runs(chosen, 0, REQUESTS)))
        )
    assert costs[0][0] < costs[1][0]
    assert costs[0][1] == costs[1][1]


def test_leaving_out_queries_without_ads_is_a_plan_for_the_others():
    _, chosen, document = planned(revenue__ads__commercial_share=0.5)
    row = skip_llm(chosen, document, fleet_runs(chosen, 0, REQUESTS), REQUESTS, quiet)
    assert row["earned_usd_per_query"] == pytest.approx(0.01)
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.005)
    half = plan(chosen.with_values({"traffic.peak_qps": 20.0}), requests=REQUESTS, worlds=0).as_dict()
    others = row["without_others"]
    queries = sum(hour["queries"] for hour in document["day"])
    assert half["fleet"]["gpus"] == others["gpus"]
    assert half["cost"]["usd_per_query"] / 2 == pytest.approx(others["usd_per_query"])
    saved = document["cost"]["usd_per_query"] * queries - others["usd_per_day"]
    assert saved == pytest.approx(others["saved_usd_per_day"])
    assert saved > 0


def test_the_value_of_a_query_with_ads_is_less_those_who_leave_the_model():
    """A quarter is cached and stays, so of those that reach the model a third more leave than of all."""
    changes = {"revenue__abandonment": '{"metric": "e2e", "per_100ms": 0.005}', "revenue__ads__commercial_share": 0.5}
    _, chosen, document = planned(**changes)
    lost = document["revenue"]["abandonment"]["lost_share"]
    assert lost > 0.05
    assert document["revenue"]["usd_per_query"] == pytest.approx(0.005 * (1 - lost))
    row = skip_llm(chosen, document, fleet_runs(chosen, 0, REQUESTS), REQUESTS, quiet)
    assert row["earned_usd_per_query"] == pytest.approx(0.01 * (1 - lost / 0.75))


def test_a_query_pays_only_with_its_share_of_the_training_bill():
    """Without the bill it earns 0.01 $ and costs a tenth of it; the bill alone is more than 0.01 $ a query."""
    _, _, free = planned()
    queries = sum(hour["queries"] for hour in free["day"])
    bill = {"usd": 0.02 * queries * 365, "months": 12}
    asked, chosen, document = planned(prices__training=json.dumps(bill))
    assert document["margin"]["usd_per_query"] > 0
    assert margin_after_training(document) == pytest.approx(document["margin"]["usd_per_query"] - 0.02)
    found = levers(asked, chosen, document, fleet_runs(chosen, 0, REQUESTS), requests=REQUESTS)
    assert found["pays"] is False
    end = found["shorter_answers"]["break_even"]
    assert end["output_tokens"] is None
    assert all(row["margin_usd_per_query"] < 0 for row in end["tried"])


def test_where_the_context_has_no_room_no_longer_answer_is_said_to_pay():
    changed = {"engine__max_model_len": 1024, "query__stages[1]__output_tokens": 600}
    _, chosen, document = planned(**changed)
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert end["output_tokens"] is None
    assert "the context leaves no room" in end["note"]
    assert "1 times as long" not in end["note"]
    assert [600.0] == [row["output_tokens"] for row in end["tried"]]


def test_no_answer_is_shorter_than_a_token_and_the_length_that_was_planned_is_told():
    changes = {"query__stages[1]__output_tokens": 2, "revenue__ads__usd_per_query": 0.000011}
    _, chosen, document = planned(**changes)
    end = shorter_answers(chosen, document, 0, REQUESTS, quiet)["break_even"]
    assert [1.0, 2.0] == [row["output_tokens"] for row in end["tried"]]
    assert "down to 1 tokens" in end["note"]


def test_a_load_that_is_given_whole_says_what_cannot_be_told():
    changes: dict[str, Any] = {
        "traffic": {"arrivals": {"offline": {"requests": 300}}},
        "query.response_cache": None,
        "slo": {"mean_e2e_ms": "<=600000"},
    }
    asked = Scenario.from_dict(BASE).with_values(changes)
    document = plan(asked, worlds=0).as_dict()
    chosen = pinned(asked, document)
    found = levers(asked, chosen, document, fleet_runs(chosen, 0, None))
    assert "has no rate" in found["skip_llm"]["reason"]
    assert found["skip_llm"]["threshold_usd_per_query"] is None
    assert found["pays"]
    assert len(found["shorter_answers"]["rows"]) == 3
