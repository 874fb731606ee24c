"""plan, simulate and capacity on small scenarios: what is promised about their answers."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

import planner
from planner import Scenario, capacity, plan, simulate
from planner.errors import InputError, MisfitError, ScenarioError, UnknownNameError

SMALL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 4096, "max_num_seqs": 64},
    "traffic": {"peak_qps": 60.0},
    "query": {
        "stages": [{"name": "answer", "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}}, "output_tokens": 120}]
    },
    "slo": {"p90_ttft_ms": "<=400", "mean_tpot_ms": "<=20"},
    "prices": {"gpu_hour_usd": 3.0},
    "revenue": {"ads": {"usd_per_query": 0.002}},
}
REQUESTS = 3000


def scenario(**changes: Any) -> Scenario:
    return Scenario.from_dict(SMALL).with_values(changes)


@pytest.fixture(scope="module")
def answer() -> planner.Plan:
    return plan(scenario(), requests=REQUESTS)


def test_the_accepted_size_meets_every_limit_with_confidence_and_one_fewer_does_not(answer: planner.Plan):
    document = answer.as_dict()
    assert document["feasible"]
    assert document["at_peak"]["slo_met"]
    assert all(check["upper_ms"] <= check["limit_ms"] for check in document["at_peak"]["slo"])
    assert document["fleet"]["replicas"] > 1
    assert not document["one_fewer"]["slo_met"]
    assert document["one_fewer_gap"]


def test_the_same_seed_gives_the_same_plan_to_the_bit(answer: planner.Plan):
    again = plan(scenario(), requests=REQUESTS).as_dict()
    assert timeless(answer.as_dict()) == timeless(again)


def timeless(document: dict[str, Any]) -> str:
    """The document without how long the simulator took."""
    return re.sub(r'"wall_s": [-+.e0-9]+', "", json.dumps(document, sort_keys=True))


def test_the_plan_is_plain_json_without_nan(answer: planner.Plan):
    assert json.loads(json.dumps(answer.as_dict(), allow_nan=False)) == answer.as_dict()


def test_cost_per_query_is_gpus_times_price_over_the_queries_of_the_day(answer: planner.Plan):
    document = answer.as_dict()
    expected = document["fleet"]["gpus"] * 3.0 * 24 / (60.0 * 86_400)
    assert document["cost"]["usd_per_query"] == pytest.approx(expected)
    assert document["margin"]["usd_per_query"] == pytest.approx(0.002 - expected)


def test_spare_replicas_are_paid_for_and_do_not_serve(answer: planner.Plan):
    spared = plan(scenario(**{"fleet.spare_replicas": 2}), requests=REQUESTS).as_dict()
    assert answer.as_dict()["fleet"]["replicas"] + 2 == spared["fleet"]["replicas"]
    assert answer.as_dict()["at_peak"]["ttft_ms"] == spared["at_peak"]["ttft_ms"]


def test_min_replicas_is_a_floor():
    document = plan(scenario(**{"fleet.min_replicas": 9, "traffic.peak_qps": 5.0}), requests=REQUESTS).as_dict()
    assert document["fleet"]["replicas"] == 9


def test_max_gpus_that_do_not_suffice_make_the_plan_infeasible_with_the_reason():
    document = plan(scenario(**{"fleet.max_gpus": 1}), requests=REQUESTS).as_dict()
    assert not document["feasible"]
    assert document["fleet"] is None
    assert "fleet.max_gpus" in document["alternatives"][0]["reason"]


def test_max_gpus_that_do_not_hold_one_replica_are_named_as_the_gate():
    changes = {"fleet.max_gpus": 2, "fleet.spare_replicas": 1, "engine.tensor_parallel_size": 2}
    document = plan(scenario(**changes), requests=REQUESTS).as_dict()
    assert not document["feasible"]
    assert "fleet.max_gpus (=2): does not hold one replica of 2 GPUs beside 1 spare" in str(document["alternatives"])


def test_a_limit_that_an_idle_replica_misses_rejects_the_candidate_by_name():
    document = plan(scenario(**{"slo": {"p90_ttft_ms": "<=1"}}), requests=REQUESTS).as_dict()
    assert not document["feasible"]
    assert "idle" in document["alternatives"][0]["reason"]
    assert "p90_ttft_ms" in document["alternatives"][0]["reason"]


def test_lists_are_searched_in_full_and_ranked_by_price():
    lists = scenario(**{"hardware": ["l4-24gb", "h100-sxm-80gb"], "engine.quantization": ["bf16", "fp8"]})
    document = plan(lists, requests=REQUESTS).as_dict()
    assert len(document["alternatives"]) == 4
    holding = [row for row in document["alternatives"] if row["feasible"]]
    assert [row["chosen"] for row in holding] == [True] + [False] * (len(holding) - 1)
    assert [row["usd_per_query"] for row in holding] == sorted(row["usd_per_query"] for row in holding)
    rejected = [row for row in document["alternatives"] if not row["feasible"]]
    assert all(row["reason"] for row in rejected)


def test_a_candidate_without_a_price_is_rejected_in_a_search_and_an_error_alone():
    card = {"prices.gpu_hour_usd": {"rate_card": "on-demand"}}
    document = plan(scenario(**card, hardware=["rtx-4090-24gb", "h100-sxm-80gb"]), requests=REQUESTS).as_dict()
    reasons = {row["hardware"]: row["reason"] for row in document["alternatives"]}
    assert "rate card has no such price" in reasons["rtx-4090-24gb"]
    with pytest.raises(UnknownNameError, match="rate card"):
        plan(scenario(**card, hardware="rtx-4090-24gb"), requests=REQUESTS)


def test_without_prices_the_fewest_gpus_win_and_cost_is_absent():
    bare = {key: value for key, value in SMALL.items() if key not in ("prices", "revenue")}
    document = plan(Scenario.from_dict(bare), requests=REQUESTS).as_dict()
    assert document["feasible"]
    assert document["cost"] is None
    assert document["margin"] is None
    assert any("price" in note for note in document["economics_notes"])


def test_a_search_that_must_prefer_the_cheaper_gpu_does():
    document = plan(
        scenario(hardware=["h100-sxm-80gb", "h200-sxm-141gb"], **{"prices.gpu_hour_usd": {"rate_card": "on-demand"}}),
        requests=REQUESTS,
    ).as_dict()
    rows = [row for row in document["alternatives"] if row["feasible"]]
    assert min(row["usd_per_hour"] for row in rows) == document["cost"]["usd_per_hour"]


def test_probes_are_a_table_with_every_simulated_point(answer: planner.Plan):
    assert {"serving", "met", "full_length", "p90_ttft_ms", "mean_tpot_ms"} <= set(answer.probes.columns)
    replicas = answer.as_dict()["fleet"]["replicas"]
    full = answer.probes[answer.probes["full_length"]]
    assert {replicas, replicas - 1} <= set(full["serving"])


def test_plan_without_service_levels_is_refused():
    bare = {key: value for key, value in SMALL.items() if key != "slo"}
    with pytest.raises(ScenarioError, match="slo"):
        plan(Scenario.from_dict(bare))


def test_plan_sizes_a_closed_loop_for_the_demand_as_given():
    closed = {key: value for key, value in SMALL.items() if key != "traffic"}
    closed["traffic"] = {"arrivals": {"closed": {"concurrency": 100, "requests_per_client": 4}}}
    document = plan(Scenario.from_dict(closed)).as_dict()
    assert document["feasible"]
    assert document["at_peak"]["requests"] == 400
    assert document["at_peak"]["slo"][0]["upper_ms"] is None


# --- simulate ---


def test_simulate_takes_one_value_where_a_list_stands():
    with pytest.raises(ScenarioError, match=r"engine\.quantization .*simulate takes one value"):
        simulate(scenario(**{"engine.quantization": ["bf16", "fp8"]}))


def test_twice_the_replicas_halve_the_work_of_each():
    one = simulate(scenario(**{"traffic.peak_qps": 5.0}), requests=REQUESTS).as_dict()
    two = simulate(scenario(**{"traffic.peak_qps": 10.0, "fleet.replicas": 2}), requests=REQUESTS).as_dict()
    assert one["utilisation"] == pytest.approx(two["utilisation"], rel=0.1)


def test_a_model_that_does_not_fit_is_refused_with_the_sum():
    with pytest.raises(MisfitError, match="GiB"):
        simulate(scenario(model="llama-3.1-70b"))


def test_num_gpu_blocks_override_wins_over_the_estimate():
    document = simulate(scenario(**{"engine.num_gpu_blocks_override": 1000}), requests=500).as_dict()
    assert document["kv_cache_tokens"] == 1000 * 16


def test_data_parallel_ranks_share_the_load():
    one = simulate(scenario(**{"traffic.peak_qps": 5.0}), requests=REQUESTS).as_dict()
    two = simulate(scenario(**{"engine.data_parallel_size": 2, "traffic.peak_qps": 5.0}), requests=REQUESTS).as_dict()
    assert two["fleet"]["gpus"] == 2
    assert two["utilisation"] < one["utilisation"]


def test_weakest_provenance_comes_first():
    kinds = [row["kind"] for row in simulate(scenario(), requests=500).as_dict()["provenance"]]
    assert kinds[0] == "assumed"


# --- capacity ---


def test_the_most_rate_holds_and_a_percent_more_does_not():
    document = capacity(scenario(), requests=REQUESTS).as_dict()
    rate = document["max_rate_qps"]
    assert document["at_max"]["slo_met"]
    broken = [probe for probe in document["probes"] if probe["full_length"] and not probe["met"]]
    assert any(rate < probe["rate_qps"] <= rate * 1.011 for probe in broken)


def test_two_replicas_carry_about_twice_the_rate_of_one():
    one = capacity(scenario(), requests=REQUESTS).as_dict()["max_rate_qps"]
    two = capacity(scenario(**{"fleet.replicas": 2}), requests=REQUESTS).as_dict()["max_rate_qps"]
    assert 1.9 < two / one < 2.4


def test_spare_replicas_carry_nothing():
    one = capacity(scenario(), requests=REQUESTS).as_dict()["max_rate_qps"]
    spared = capacity(scenario(**{"fleet.replicas": 2, "fleet.spare_replicas": 1}), requests=REQUESTS).as_dict()
    assert one == spared["max_rate_qps"]
    with pytest.raises(ScenarioError, match="leaves none"):
        capacity(scenario(**{"fleet.spare_replicas": 1}))


def test_the_most_clients_hold_and_one_more_does_not():
    closed = {key: value for key, value in SMALL.items() if key != "traffic"}
    closed["traffic"] = {"arrivals": {"closed": {"concurrency": 8, "requests_per_client": 4}}}
    document = capacity(Scenario.from_dict(closed), vary="concurrency").as_dict()
    clients = document["max_concurrency"]
    met = {probe["concurrency"]: probe["met"] for probe in document["probes"]}
    assert met[clients]
    assert not met[clients + 1]


def test_capacity_without_any_load_that_holds_answers_zero():
    document = capacity(scenario(**{"slo": {"p90_ttft_ms": "<=1"}}), requests=1000).as_dict()
    assert document["max_rate_qps"] == 0
    assert document["at_max"] is None
    assert "p90_ttft_ms" in document["limited_by"]


@pytest.mark.parametrize(
    ("changes", "vary", "because"),
    [
        ({}, "concurrency", "open arrivals have no clients"),
        ({"traffic": {"arrivals": {"closed": {"concurrency": 8}}}}, "rate", "a closed loop has no rate"),
    ],
)
def test_capacity_refuses_to_vary_what_is_not_there(changes: dict[str, Any], vary: Any, because: str):
    data = {**SMALL, **changes}
    with pytest.raises(ScenarioError):
        capacity(Scenario.from_dict(data), vary=vary)


# --- the door ---


def test_the_door_is_sorted_and_complete():
    assert planner.__all__ == sorted(planner.__all__)
    for name in planner.__all__:
        assert getattr(planner, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        planner.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "llama-3.1-9b"}, "llama-3.1-8b"),
        ({"hardware": "h100-sxm-81gb"}, "h100-sxm-80gb"),
        ({"engine.tensor_parallel_size": 3}, "tensor_parallel_size"),
        ({"engine.max_model_len": 999_999}, "131072"),
        ({"engine.max_num_batched_tokens": 16}, "max_num_seqs"),
        ({"engine.enable_expert_parallel": True}, "dense"),
        ({"engine.num_gpu_blocks_override": 10}, "max_model_len"),
        ({"engine.enable_chunked_prefill": False, "engine.max_num_batched_tokens": 512}, "max_model_len"),
        ({"prices.gpu_hour_usd": {"rate_card": "on-deman"}}, "on-demand"),
        ({"query.stages[0].prompt_tokens": 5000}, "max_model_len"),
    ],
)
def test_bad_input_is_one_line_with_the_nearest_choice(changes: dict[str, Any], says: str):
    with pytest.raises(InputError) as caught:
        plan(scenario(**changes), requests=1000)
    assert "\n" not in str(caught.value)
    assert says in str(caught.value)


def test_every_figure_of_a_simulation_is_finite_or_absent():
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(simulate(scenario(), requests=500).as_dict())
