"""Static batching: by hand, against the reference scheduler where both must agree, and step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.errors import InputError, MisfitError
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.replay import replay
from planner.specs import SchedulerConfig
from planner.studies.batching import compare_batching
from planner.studies.simulated_cases import planned_fleet, static_against_continuous
from planner.studies.static_batching import static_batches


def load(arrival_s: list[float], prompt: list[int], output: list[int]) -> Load:
    return Load(np.array(arrival_s, float), np.array(prompt, np.int32), np.array(output, np.int32))


def config(**changes: Any) -> SchedulerConfig:
    settings = {
        "num_blocks": 10_001,
        "block_size": 1,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 1000,
        "max_model_len": 500,
    }
    return SchedulerConfig(**(settings | changes))


def one_second_a_step(tokens: int = 1001, seats: int = 9) -> StepCost:
    return StepCost(tokens_s=np.ones(tokens), requests_s=np.zeros(seats))


def real_cost(window: int = 0, seed: int = 0) -> StepCost:
    """Every term present, none like another."""
    generator = np.random.default_rng(seed)
    return StepCost(
        tokens_s=np.cumsum(generator.uniform(0, 1e-3, 1001)),
        requests_s=np.cumsum(generator.uniform(0, 1e-4, 9)),
        decode_attention_s=3e-3,
        decode_token_s=2e-5,
        window=window,
        window_token_s=1e-5 if window else 0.0,
        prefill_token2_s=1e-7,
        prefill_step_s=2e-3,
    )


def test_nobody_joins_a_running_batch_by_hand() -> None:
    """Two requests of 2 and 4 tokens start at 0: a prompt step, then three decode steps of one second each. The third
    comes at 1.5 s, waits for the longer of the two to end at 4 s, and is then alone.
    """
    run = static_batches(load([0, 0, 1.5], [10, 10, 10], [2, 4, 2]), config(), one_second_a_step())
    assert run.first_token_s.tolist() == [1, 1, 5]
    assert run.last_token_s.tolist() == [2, 4, 6]
    assert (run.batches, run.busy_s) == (2, 6)
    assert run.seat_s == 2 + 4 + 2  # unfinished requests, over time
    assert run.reserved_s == 2 * 4 + 1 * 2  # seats held until the longest answer ended


def test_a_batch_takes_no_more_than_the_seats() -> None:
    run = static_batches(load([0, 0, 0], [10] * 3, [1] * 3), config(max_num_seqs=2), one_second_a_step())
    assert run.last_token_s.tolist() == [1, 1, 2]


def test_a_batch_takes_no_more_than_fits_the_cache_with_its_longest_answer() -> None:
    """Room for 60 tokens: 20 + 10 for each of two requests fill it, a third waits although there is a seat."""
    tight = config(num_blocks=61)
    run = static_batches(load([0, 0, 0], [20] * 3, [10, 2, 2]), tight, one_second_a_step())
    assert run.first_token_s.tolist() == [1, 1, 11]


def test_long_prompts_are_computed_in_chunks_of_the_token_budget() -> None:
    """30 and 10 tokens at a budget of 16: steps of 16, then 14 + 2, then 8; the first prompt is done in the second."""
    run = static_batches(load([0, 0], [30, 10], [1, 1]), config(max_num_batched_tokens=16), one_second_a_step())
    assert run.last_token_s.tolist() == [2, 3]


def test_time_in_the_api_server_comes_before_the_engine_sees_a_request() -> None:
    cost = StepCost(np.ones(1001), np.zeros(9), frontend_s=0.5, frontend_token_s=0.01)
    run = static_batches(load([1.0], [10], [1]), config(), cost)
    assert run.last_token_s[0] == pytest.approx(1.0 + 0.5 + 0.1 + 1.0)


@pytest.mark.parametrize("window", [0, 40])
def test_answers_of_equal_length_that_start_together_take_what_continuous_batching_takes(window: int) -> None:
    """Then nobody could have joined and nobody leaves early: the reference scheduler must give the same times."""
    together = load([0.0] * 6, [30, 70, 20, 90, 10, 50], [25] * 6)
    static = static_batches(together, config(), real_cost(window))
    continuous = replay(together, config(), real_cost(window))
    np.testing.assert_allclose(static.first_token_s, continuous.first_token_s, rtol=1e-12)
    np.testing.assert_allclose(static.last_token_s, continuous.finish_s, rtol=1e-12)
    assert static.busy_s == pytest.approx(continuous.ledger.busy_s)


@pytest.mark.parametrize("window", [0, 40])
def test_one_batch_of_different_answers_takes_what_continuous_batching_takes_without_newcomers(window: int) -> None:
    """A single batch that is there from the start: shorter answers leave, their part of a step's cost with them."""
    together = load([0.0] * 7, [30, 70, 20, 90, 10, 50, 5], [25, 1, 60, 2, 40, 41, 33])
    static = static_batches(together, config(), real_cost(window, seed=1))
    continuous = replay(together, config(), real_cost(window, seed=1))
    np.testing.assert_allclose(static.last_token_s, continuous.finish_s, rtol=1e-12)


def test_on_a_stream_of_arrivals_nobody_begins_while_another_batch_runs() -> None:
    generator = np.random.default_rng(3)
    arrivals = np.cumsum(generator.exponential(0.3, 200))
    stream = load(arrivals.tolist(), generator.integers(5, 100, 200).tolist(), generator.integers(1, 80, 200).tolist())
    run = static_batches(stream, config(), real_cost())
    assert np.all(run.first_token_s > stream.arrival_s)
    assert np.all(run.last_token_s >= run.first_token_s)
    assert run.seat_s <= run.reserved_s <= run.busy_s * 8
    first, last = np.sort(run.first_token_s), np.sort(run.last_token_s)
    assert run.busy_s <= last[-1] - arrivals[0] + 1e-9
    assert np.all(np.diff(first) >= 0)


def test_a_request_that_never_fits_is_refused() -> None:
    with pytest.raises(MisfitError, match="do not fit a KV cache of 60 tokens"):
        static_batches(load([0.0], [50], [11]), config(num_blocks=61), one_second_a_step())


# --- both ways of batching on a real model ---


def served(output_cv: float, limit_s: float = 60.0) -> Any:
    output = {"lognormal": {"mean": 200, "cv": output_cv}} if output_cv else 200
    stage = {"name": "answer", "prompt_tokens": 200, "output_tokens": output}
    scenario = Scenario.from_dict(
        {
            "version": 1,
            "model": "llama-2-13b",
            "hardware": "a100-sxm-80gb",
            "engine": {"max_num_seqs": 64, "max_model_len": 2048},
            "traffic": {"peak_qps": 1},
            "query": {"stages": [stage]},
        }
    )
    return compare_batching(scenario, limit_s, 1500, 0)


def test_with_answers_of_equal_length_continuous_batching_gains_little() -> None:
    """A full static batch of equal answers is as good as any: the gain at saturation is the prompts' overlap."""
    both = served(0)
    assert both.continuous.saturated_qps == pytest.approx(both.static.saturated_qps, rel=0.1)
    assert both.static.seats_in_use > 0.95


def test_the_more_answers_differ_the_more_continuous_batching_gains() -> None:
    gains = [both.continuous.saturated_qps / both.static.saturated_qps for both in map(served, (0.3, 0.7, 1.2))]
    assert gains == sorted(gains)
    assert gains[-1] > 1.5


def test_a_rate_within_the_limit_is_never_above_what_the_server_serves() -> None:
    both = served(0.7, limit_s=1000.0)
    for way in (both.static, both.continuous):
        assert way.limit_qps <= way.saturated_qps
    assert 0 < both.static.seats_in_use < both.continuous.seats_in_use <= 1


def test_a_limit_that_an_idle_server_breaks_is_refused() -> None:
    with pytest.raises(InputError, match="p95_e2e_limit"):
        served(0.7, limit_s=0.01)


BATCHED: dict[str, Any] = {
    "model": "llama-2-13b", "hardware": "a100-sxm-80gb", "tensor_parallel_size": 1.0, "max_num_seqs": 64.0,
    "max_model_len": 2048.0, "prompt_tokens": 200.0, "prompt_cv": 0.0, "output_tokens": 200.0, "output_cv": 0.5,
    "p95_e2e_limit": 60.0, "queries": 1000.0,
}  # fmt: skip
PLANNED: dict[str, Any] = {
    "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb", "queries_per_s": 20.0, "prompt_tokens": 500.0,
    "output_tokens": 100.0, "p99_ttft": 1.0, "p99_tpot": 0.05, "usd_per_gpu_hour": 3.0, "tensor_parallel_size": (1.0,),
    "max_model_len": 4096.0, "queries": 2000.0,
}  # fmt: skip


def test_the_same_seed_gives_the_same_case() -> None:
    assert static_against_continuous(**BATCHED) == static_against_continuous(**BATCHED)
    assert static_against_continuous(**BATCHED, seed=1.0) != static_against_continuous(**BATCHED)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tensor_parallel_size", 1.5, "must be a whole number"),
        ("model", "llama-2-13", "nearest: llama-2-13b"),
        ("hardware", "a100", None),
        ("prompt_tokens", 200.5, "must be a whole number"),
        ("max_model_len", 100.0, "longer than max_model_len"),
    ],
)
def test_bad_input_of_a_comparison_is_refused(key: str, value: Any, says: str | None) -> None:
    with pytest.raises(InputError, match=says):
        static_against_continuous(**BATCHED | {key: value})


def test_a_planned_fleet_is_what_plan_answers() -> None:
    fleet = planned_fleet(**PLANNED)
    assert fleet.gpus == fleet.replicas * fleet.gpus_per_replica
    assert fleet.usd_per_hour == pytest.approx(3.0 * fleet.gpus)
    assert fleet.usd_per_query == pytest.approx(fleet.usd_per_hour / 3600 / 20)
    assert all(row.kind == "assumed" for row in fleet.provenance)


def test_service_levels_that_no_fleet_holds_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="no fleet of h100-sxm-80gb holds these service levels"):
        planned_fleet(**PLANNED | {"p99_tpot": 0.0001})
