"""A training bill in the plan: beside cost and break-even, in the JSON, in the words, and early where it is wrong."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner

from planner import Scenario, plan
from planner.cli.app import cli
from planner.errors import UnknownNameError
from planner.studies.scenario_economics import economics
from planner.summary import plan_text

BASE: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 20.0},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 300, "output_tokens": 100}]},
    "slo": {"p90_ttft_ms": "<=3000"},
    "prices": {"gpu_hour_usd": 1.0},
    "revenue": {"ads": {"usd_per_query": 0.001}},
}
RECKONED = {"params": 8e9, "tokens": 1e12, "mfu": 0.4, "gpu": "h100-sxm-80gb", "usd_per_gpu_hour": 2.5, "months": 24}
# A bill of 10 M$ in a year: the queries of a year earn 631,000 $.
LARGE = {"usd": 1e7, "months": 12}


@cache
def planned(training: tuple[tuple[str, Any], ...] = ()) -> dict[str, Any]:
    scenario = Scenario.from_dict(BASE)
    if training:
        scenario = scenario.with_values({"prices.training": dict(training)})
    return plan(scenario, requests=1500, worlds=0).as_dict()


def bearing(training: dict[str, Any]) -> dict[str, Any]:
    return planned(tuple(training.items()))


@pytest.mark.parametrize("training", [{"usd": 2e5, "months": 12}, RECKONED])
def test_break_even_after_training_stands_beside_the_other(training: dict[str, Any]):
    plain, document = planned(), bearing(training)
    assert plain["break_even_after_training"] is None
    assert plain["break_even"] == document["break_even"]
    after, cost = document["break_even_after_training"], document["cost"]
    usd = training.get("usd", 6 * 8e9 * 1e12 / (989e12 * 0.4) / 3600 * 2.5)
    assert usd == pytest.approx(after["training_usd"])
    per_day = usd / (training["months"] * 365 / 12)
    assert per_day / (20 * 86_400) == pytest.approx(cost["amortised_training_usd_per_query"])
    assert 1000 * cost["usd_per_query_with_training"] == pytest.approx(after["rpm_usd"])
    day = 24 * cost["usd_per_hour"]
    assert document["break_even"]["qps"] * (day + per_day) / day == pytest.approx(after["qps"])
    gpu_hours = 24 * document["fleet"]["gpus"]
    assert document["break_even"]["gpu_hour_usd"] - per_day / gpu_hours == pytest.approx(after["gpu_hour_usd"])


def test_a_bill_that_takes_all_that_is_earned_is_told():
    document = bearing(LARGE)
    assert document["margin"]["usd_per_query"] > 0 > document["margin"]["after_training_usd_per_query"]
    after = document["break_even_after_training"]
    assert after["rpm_usd"] > 1 > document["break_even"]["rpm_usd"]
    assert after["qps"] > 20
    assert after["gpu_hour_usd"] is None
    said = " ".join(plan_text(document).split())
    assert "query RPM, the training bill borne too" in said
    assert "no GPU price bears the training bill too" in said


def test_without_a_bill_no_word_of_training():
    assert "training" not in plan_text(planned())


def test_a_reckoned_bill_says_what_it_is_made_of():
    listed = [row for row in bearing(RECKONED)["provenance"] if row["what"] == "prices.training"]
    assert [("assumed", "optimistic")] == [(row["kind"], row["errs"]) for row in listed]
    assert "4.8e+22 FLOP" in listed[0]["value"]
    assert [] == [row for row in bearing(LARGE)["provenance"] if row["what"] == "prices.training"]


def test_economics_has_it_too():
    scenario = Scenario.from_dict(BASE).with_values({"prices.training": RECKONED})
    answer = economics(scenario, requests=1500)
    assert bearing(RECKONED)["break_even_after_training"] == answer.document["break_even_after_training"]
    text = " ".join(str(answer).split())
    assert "by Hoffmann et al. 2022" in text
    assert "qwen3-4b 1.976" in text


def test_an_unknown_training_gpu_is_refused_before_the_search():
    told: list[str] = []
    scenario = Scenario.from_dict(BASE).with_values({"prices.training": RECKONED | {"gpu": "h100-smx"}})
    with pytest.raises(UnknownNameError, match=r"prices\.training\.gpu"):
        plan(scenario, progress=lambda what, done, total: told.append(what))
    assert told == []


def test_the_verb_refuses_a_half_given_bill_in_one_line():
    told = CliRunner().invoke(cli, ["plan", "ai-search", "--set", "prices.training={params: 8e9, months: 12}"])
    assert told.exit_code == 2
    assert "prices.training.tokens: is required beside params" in told.stderr
