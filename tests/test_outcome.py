"""From times to statistics: by hand, and against numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Stage
from planner.simulation.outcome import batch_means_upper, gap_quantile_s, quantile, summarise
from planner.specs import Limit, SchedulerConfig

ONE_SECOND = SchedulerConfig(num_blocks=101, block_size=16, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=99)
STEP = StepCost(np.ones(65), np.zeros(5))


def simulated(replicas: int = 1, config: SchedulerConfig = ONE_SECOND, cost: StepCost = STEP, **load: Any) -> FleetRun:
    shape = {"prompt_tokens": np.int32, "output_tokens": np.int32, "arrival_s": np.float64}
    columns = {key: np.array(load.pop(key), dtype) for key, dtype in shape.items()}
    return run_fleet(Load(**columns, **load), config, cost, replicas, "round_robin", np.random.default_rng(0))


def limit(metric: Any, limit_ms: float, percentile: float | None = None) -> Limit:
    return Limit(metric, "mean" if percentile is None else f"p{percentile:g}", percentile, limit_ms)


def test_latencies_of_one_query_by_hand():
    run = simulated(arrival_s=[0.5], prompt_tokens=[10], output_tokens=[4])
    figures = summarise(run, (), steady=False).figures
    # an idle engine starts at once; the prompt takes one step of a second, three more tokens a second each
    assert figures["ttft_ms"]["mean"] == 1000.0
    assert figures["e2e_ms"]["p99"] == 4000.0
    assert figures["tpot_ms"]["p50"] == 1000.0
    assert figures["itl_ms"]["mean"] == pytest.approx(1000.0)
    assert figures["duration_s"] == 4.0
    assert figures["output_throughput"] == 1.0
    assert figures["total_token_throughput"] == 14 / 4
    assert figures["slo_met"] is None


def test_ttft_is_that_of_the_last_stage_and_counts_from_the_scheduled_arrival():
    stages = (Stage("summaries", calls=2), Stage("answer"))
    run = simulated(arrival_s=[0.0], prompt_tokens=[4, 4, 4], output_tokens=[3, 5, 2], stages=stages)
    figures = summarise(run, (), steady=False).figures
    # both summaries run together and the longer one takes 5 s; the answer's first token comes a step later
    assert figures["ttft_ms"]["mean"] == 6000.0
    assert figures["e2e_ms"]["mean"] == 7000.0
    assert figures["requests"] == 3
    assert figures["itl_ms"]["mean"] == pytest.approx(1000.0)


def test_a_one_token_answer_has_no_tpot_and_no_gap():
    run = simulated(arrival_s=[0.0], prompt_tokens=[4], output_tokens=[1])
    outcome = summarise(run, (limit("tpot", 1.0), limit("itl", 1.0)), steady=False)
    assert outcome.figures["tpot_ms"] is None
    assert outcome.figures["itl_ms"] is None
    assert [check.value_ms for check in outcome.checks] == [None, None]
    assert outcome.slo_met


def test_a_query_that_timed_out_misses_every_limit_and_has_no_latency():
    run = simulated(arrival_s=[0.0, 0.0], prompt_tokens=[4, 4], output_tokens=[2, 9], timeout_s=4.0)
    outcome = summarise(run, (limit("e2e", 1e9, 50.0), limit("e2e", 1e9, 99.0)), steady=False)
    assert outcome.figures["failed"] == 1
    assert outcome.figures["e2e_ms"]["mean"] == 2000.0
    assert [check.met for check in outcome.checks] == [True, False]
    assert outcome.figures["goodput_share"] == 0.5


def test_waiting_at_the_client_counts_in_ttft_but_not_from_send():
    run = simulated(arrival_s=[0.0, 0.0], prompt_tokens=[4, 4], output_tokens=[3, 3], max_in_flight=1)
    figures = summarise(run, (), steady=False).figures
    assert figures["ttft_ms"]["p99"] == 4000.0
    assert figures["ttft_from_send_ms"]["p99"] == 1000.0


def test_more_than_is_served_is_saturated_and_less_is_not():
    slow = StepCost(np.full(65, 0.1), np.zeros(5))
    rng = np.random.default_rng(3)
    gaps = np.cumsum(rng.exponential(1.0, 4000))
    one_seat = SchedulerConfig(101, 16, 1, 64, 99)
    for load, expected in ((0.9, False), (1.2, True)):
        run = simulated(
            config=one_seat, cost=slow, arrival_s=gaps * 0.1 / load, prompt_tokens=[4] * 4000, output_tokens=[1] * 4000
        )
        outcome = summarise(run, (limit("ttft", 1e12),), steady=True)
        assert outcome.saturated is expected
        assert outcome.slo_met is not expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9]))
def test_quantile_is_numpys_inverted_cdf(values: list[float], percentile: float):
    expected = np.percentile(values, percentile, method="inverted_cdf")
    assert expected == quantile(np.array(values), percentile)


def test_batch_means_interval_by_hand():
    # four batches 1 2 3 4: s = 1.290994, t(0.975, 3) = 3.182446, half width = t·s/2
    assert batch_means_upper(2.5, [1.0, 2.0, 3.0, 4.0]) == pytest.approx(2.5 + 3.182446 * 1.290994 / 2, rel=1e-6)


def test_an_unknown_batch_leaves_the_interval_open():
    assert batch_means_upper(2.5, [1.0, None, 2.0]) == math.inf
    assert batch_means_upper(2.5, [1.0]) == math.inf


def test_the_interval_covers_the_true_mean_about_19_times_in_20():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(400):
        sample = rng.exponential(1.0, 2000)
        upper = batch_means_upper(float(sample.mean()), [float(part.mean()) for part in np.split(sample, 20)])
        covered += upper >= 1.0
    # one-sided use of a two-sided 95 % interval: 97.5 % of 400, give or take three standard deviations
    assert 0.975 * 400 - 3 * math.sqrt(400 * 0.975 * 0.025) <= covered <= 400


def test_an_empty_histogram_has_no_quantile():
    assert gap_quantile_s(np.zeros(10), 0.5) is None


def test_utilisation_is_busy_time_over_elapsed_time():
    run = simulated(arrival_s=[0.0, 9.0], prompt_tokens=[4, 4], output_tokens=[1, 1])
    assert summarise(run, (), steady=False).figures["utilisation"] == pytest.approx(2 / 10)


def test_utilisation_of_an_open_load_is_up_to_the_last_arrival_whatever_limits_it_has():
    """One replica is idle every other second up to 8; then an answer of 40 s is no part of it."""
    asked = {"arrival_s": [0.0, 2.0, 4.0, 6.0, 8.0], "prompt_tokens": [4] * 5, "output_tokens": [1, 1, 1, 1, 40]}
    two = {"arrival_s": [0.0, 8.0], "prompt_tokens": [4] * 4, "output_tokens": [2, 2, 2, 40]}
    for load in (asked, asked | {"timeout_s": 99.0}, asked | {"max_in_flight": 3}):
        assert summarise(simulated(**load), (), steady=True).figures["utilisation"] == pytest.approx(0.5)
    staged = simulated(**two, stages=(Stage("draft"), Stage("answer")))
    assert summarise(staged, (), steady=True).figures["utilisation"] == pytest.approx(4 / 8)
