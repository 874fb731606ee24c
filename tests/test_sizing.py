"""The search for a size: its bounds, its ranking, and that sizes follow the load."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, plan
from planner.sizing.replicas import _fewest

BASE: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 8192, "max_num_seqs": 256},
    "traffic": {"peak_qps": 300},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 800, "cv": 0.6}},
                "output_tokens": {"lognormal": {"mean": 200, "cv": 0.7}},
            }
        ]
    },
    "slo": {"p90_ttft_ms": "<=1000", "p90_tpot_ms": "<=40"},
    "prices": {"gpu_hour_usd": 2},
}


def base(**changes: Any) -> Scenario:
    return Scenario.from_dict(BASE).with_values(changes)


def test_replicas_grow_in_proportion_to_the_load():
    few, many = (
        plan(base(**{"traffic.peak_qps": qps}), requests=10_000).as_dict()["fleet"]["replicas"] for qps in (200, 2000)
    )
    # a larger fleet pools better and rounds less: up to a tenth fewer replicas a query, never more
    assert 0.85 < many / (10 * few) <= 1.0


def test_a_short_run_at_a_high_rate_is_not_taken_for_saturated():
    document = plan(base(**{"traffic.peak_qps": 1000, "fleet.min_replicas": 100}), requests=1000).as_dict()
    assert document["feasible"]
    assert not document["at_peak"]["saturated"]


def test_calls_that_spread_over_replicas_are_not_judged_on_one():
    fan_out = {"query.stages[0].calls": 60, "query.stages[0].output_tokens": 20, "engine.max_num_seqs": 1}
    fan_out |= {"slo": {"p90_e2e_ms": "<=900"}, "traffic.peak_qps": 0.5}
    document = plan(base(**fan_out), requests=1000).as_dict()
    assert document["feasible"]
    assert document["fleet"]["replicas"] > 10


def test_a_batch_goes_to_the_fleet_with_the_cheapest_query():
    changes: dict[str, Any] = {
        "traffic": {"arrivals": {"offline": {"requests": 1000}}},
        "slo": {"mean_e2e_ms": "<=10000000"},
        "hardware": ["l4-24gb", "a100-sxm-80gb", "h100-sxm-80gb"],
        "prices.gpu_hour_usd": {"rate_card": "on-demand"},
    }
    rows = plan(base(**changes)).as_dict()["alternatives"]
    assert rows[0]["chosen"]
    assert rows[0]["usd_per_query"] == min(row["usd_per_query"] for row in rows)


def test_min_replicas_above_the_queries_of_a_batch_still_stand():
    changes = {"traffic": {"arrivals": {"offline": {"requests": 2}}}, "fleet.min_replicas": 3}
    document = plan(base(**changes, slo={"mean_e2e_ms": "<=100000"})).as_dict()
    assert document["fleet"]["replicas"] == 3
    assert document["one_fewer"] is not None


def test_a_floor_above_the_cap_is_named():
    document = plan(base(**{"fleet.min_replicas": 9, "fleet.max_gpus": 8}), requests=1000).as_dict()
    assert not document["feasible"]
    assert "min_replicas" in document["alternatives"][0]["reason"]


@pytest.mark.parametrize("answer", [1, 2, 3, 7, 50, 99, 100])
@pytest.mark.parametrize("first", [1, 3, 40, 100, 500])
def test_the_fewest_is_found_from_wherever_the_search_begins(answer: int, first: int):
    tried: list[int] = []

    def holds(n: int) -> bool:
        tried.append(n)
        return n >= answer

    assert answer == _fewest(holds, first, 1, 100)
    assert all(1 <= n <= 100 for n in tried)


def test_nothing_is_found_where_nothing_holds():
    assert _fewest(lambda n: False, 3, 1, 100) is None


def test_the_search_stays_between_its_bounds():
    assert _fewest(lambda n: True, 1, 6, 100) == 6
    assert _fewest(lambda n: True, 50, 6, 6) == 6
