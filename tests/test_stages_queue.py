"""Queries of two stages against queueing theory: a queue that everybody joins a second time.

Both stages are served by the same replicas, so two stages are no chain of two stations but feedback: who ends the first
call joins the queue anew. With Poisson queries, exponential service and replicas drawn at random that is an open
network of Jackson's (1957): every replica is M/M/1 at twice its share of the queries, and by the arrival theorem either
visit lasts 1 / (μ − λ) on average, though the calls that come are no Poisson stream any more.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import F64, Load, Stage
from planner.specs import SchedulerConfig

BATCHES = 50
STEPS = 200  # of a mean service of 1 s: lengths are geometric, whose variance is then 0.5 % below the exponential's
QUERIES = 300_000
TWO = (Stage("rewrite"), Stage("answer"))


def run(rate_qps: float, replicas: int, stages: tuple[Stage, ...]) -> FleetRun:
    """One seat a replica; a call is served in 1 s on average, its tokens a step each."""
    calls = QUERIES * sum(stage.requests for stage in stages)
    rng = np.random.default_rng(11)
    outputs = rng.geometric(1.0 / STEPS, calls).astype(np.int32)
    longest = int(outputs.max()) + 1
    config = SchedulerConfig(
        num_blocks=2 + longest // 64,
        block_size=64,
        max_num_seqs=1,
        max_num_batched_tokens=1,
        max_model_len=longest + 1,
        enable_prefix_caching=False,
    )
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_qps, QUERIES))
    load = Load(arrival_s, np.ones(calls, np.int32), outputs, stages=stages)
    cost = StepCost(np.full(2, 1.0 / STEPS), np.zeros(2))
    return run_fleet(load, config, cost, replicas, "random", np.random.default_rng(7))


def visits_s(done: FleetRun) -> F64:
    """[Q, 2] how long a query's calls were in the system, from when they were sent to the last token."""
    ends = done.last_token_s.reshape(-1, 2)
    return np.diff(np.column_stack((done.arrival_s, ends)), axis=1)


def check(expected: float, values: F64, most_error: float) -> None:
    """Within four standard errors by batch means, which are at most that share of what is expected."""
    batches = values[: len(values) // BATCHES * BATCHES].reshape(BATCHES, -1).mean(axis=1)
    error = float(batches.std(ddof=1)) / math.sqrt(BATCHES)
    assert error < most_error * expected
    assert expected == pytest.approx(float(values.mean()), abs=4 * error)


@pytest.mark.parametrize(("replicas", "utilisation"), [(1, 0.5), (1, 0.75), (3, 0.75)])
def test_either_visit_lasts_as_in_m_m_1(replicas: int, utilisation: float):
    visits = visits_s(run(utilisation * replicas / 2, replicas, TWO))
    expected = 1.0 / (1.0 - utilisation)
    check(expected, visits[:, 0], most_error=0.02)
    check(expected, visits[:, 1], most_error=0.02)


def test_a_visit_is_exponential_to_its_tail():
    """P(visit > t) = e^(−(μ − λ)t): at its p50, p90 and p99 as the law has them."""
    visits = visits_s(run(0.3, 1, TWO))
    for stage in range(2):
        for share in (0.5, 0.9, 0.99):
            limit_s = -math.log(1.0 - share) / (1.0 - 0.6)
            check(1.0 - share, (visits[:, stage] > limit_s).astype(float), most_error=0.08)


def test_a_second_stage_waits_behind_those_who_came_before_its_first_had_ended():
    """By hand: one seat, calls of 2 s, queries at 0 s and 1 s. The second call of the first queues behind the other."""
    load = Load(np.array([0.0, 1.0]), np.ones(4, np.int32), np.full(4, 2, np.int32), stages=TWO)
    config = SchedulerConfig(8, 16, 1, 1, 64, enable_prefix_caching=False)
    cost = StepCost(np.ones(2), np.zeros(2))
    done = run_fleet(load, config, cost, 1, "least_loaded", np.random.default_rng(0))
    np.testing.assert_allclose(done.last_token_s.reshape(2, 2), [[2.0, 6.0], [4.0, 8.0]])
