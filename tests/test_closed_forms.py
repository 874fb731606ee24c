"""The simulator against queueing theory.

A request of one token on one seat is served in one step of D seconds: an M/D/1 queue. Longer outputs make the service
O·D: M/G/1. Several seats and exponential lengths cut into short steps come near M/M/c.

Waits of neighbours depend on each other, so the standard error of a mean is taken from batch means: 50 batches, each
of them thousands of times longer than the queue remembers. A mean may be off by four standard errors; with the seeds
fixed here it is off by less, today and always. A test also says how small the error is, lest it allow everything.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, Routing, run_fleet
from planner.simulation.load import Load
from planner.specs import SchedulerConfig

F64 = NDArray[np.float64]
BATCHES = 50


def run(
    arrival_s: F64,
    outputs: NDArray[np.int64],
    step_s: float,
    seats: int = 1,
    replicas: int = 1,
    routing: Routing = "round_robin",
) -> FleetRun:
    """Every step takes `step_s`, whatever it holds, and the cache has room for all seats."""
    longest = int(outputs.max()) + 1
    config = SchedulerConfig(
        num_blocks=1 + seats * (longest // 64 + 1),
        block_size=64,
        max_num_seqs=seats,
        max_num_batched_tokens=seats,
        max_model_len=longest + 1,
        enable_prefix_caching=False,
    )
    load = Load(arrival_s, np.ones(len(outputs), np.int32), outputs.astype(np.int32))
    cost = StepCost(np.full(seats + 1, step_s), np.zeros(seats + 1))
    return run_fleet(load, config, cost, replicas, routing, np.random.default_rng(7))


def poisson(rate_qps: float, queries: int, seed: int) -> F64:
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_qps, queries))


def wait_s(done: FleetRun, step_s: float) -> F64:
    """Seconds in the queue: what is left of the time to the last token when the steps of service are taken off."""
    return done.last_token_s - done.arrival_s - done.load.output_tokens * step_s


def mean_and_error(values: F64) -> tuple[float, float]:
    """The mean, and its standard error by batch means."""
    batches = values[: len(values) // BATCHES * BATCHES].reshape(BATCHES, -1).mean(axis=1)
    return float(values.mean()), float(batches.std(ddof=1) / math.sqrt(BATCHES))


def check(expected: float, values: F64, most_error: float) -> None:
    """Within four standard errors, and the standard error is at most that share of the expected mean."""
    mean, error = mean_and_error(values)
    assert error < most_error * expected
    assert expected == pytest.approx(mean, abs=4 * error)


def erlang_c(servers: int, offered: float) -> float:
    """The share of arrivals that find all servers of an M/M/c queue busy (Erlang 1917)."""
    busy = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return busy / (sum(offered**k / math.factorial(k) for k in range(servers)) + busy)


# --- one server ---


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.9])
def test_one_seat_and_one_token_wait_as_in_m_d_1(utilisation: float):
    step_s, queries = 0.02, 400_000
    done = run(poisson(utilisation / step_s, queries, 1), np.ones(queries, np.int64), step_s)
    # Pollaczek 1930: ρD / 2(1 − ρ)
    check(utilisation * step_s / (2 * (1 - utilisation)), wait_s(done, step_s), most_error=0.02)
    assert done.ledger[0]["busy_s"] == pytest.approx(queries * step_s)
    np.testing.assert_allclose(done.ledger[0]["waiting_s"], wait_s(done, step_s).sum(), rtol=1e-6)


LENGTHS = {
    "two lengths": ([2, 30], [0.8, 0.2]),
    "mostly short": ([1, 100], [0.97, 0.03]),
    "equal": ([10], [1.0]),
    "a spread": (list(range(1, 41)), [1 / 40] * 40),
}


@pytest.mark.parametrize(("lengths", "shares"), LENGTHS.values(), ids=LENGTHS)
def test_one_seat_with_mixed_lengths_waits_as_pollaczek_and_khinchine_say(lengths: list[int], shares: list[float]):
    step_s, utilisation, queries = 0.01, 0.7, 400_000
    outputs = np.random.default_rng(2).choice(lengths, queries, p=shares)
    service_s, square = step_s * np.dot(lengths, shares), step_s**2 * np.dot(np.square(lengths), shares)
    rate_qps = utilisation / service_s
    done = run(poisson(rate_qps, queries, 3), outputs, step_s)
    check(rate_qps * square / (2 * (1 - utilisation)), wait_s(done, step_s), most_error=0.04)


def test_a_request_that_starts_alone_waits_for_nothing():
    step_s = 0.01
    done = run(np.arange(1000) * 1.0, np.full(1000, 50), step_s)
    np.testing.assert_allclose(wait_s(done, step_s), 0.0, atol=1e-9)


# --- many servers: the step is the only difference from M/M/c, and it goes with its length ---


def wait_in_steps(parts: int) -> tuple[float, float]:
    """Mean wait and its error over four seats with exponential service of mean 1 s, cut into steps of 1/`parts` s.

    All `parts` share their arrivals and services, so their differences are the steps' doing.
    """
    queries, seats, utilisation = 200_000, 4, 0.8
    service_s = np.random.default_rng(4).exponential(1.0, queries)
    outputs = np.ceil(service_s * parts).astype(np.int64)
    done = run(poisson(seats * utilisation, queries, 5), outputs, 1.0 / parts, seats)
    return mean_and_error(wait_s(done, 1.0 / parts))


def test_with_short_steps_seats_wait_as_erlang_says():
    expected = erlang_c(4, 3.2) / (4 - 3.2)
    wait, error = wait_in_steps(1000)
    assert error < 0.04 * expected
    assert expected == pytest.approx(wait, abs=4 * error)


def test_what_steps_add_to_erlangs_wait_goes_with_their_length():
    fine = wait_in_steps(1000)[0]
    tenth, hundredth = (wait_in_steps(parts)[0] / fine - 1 for parts in (10, 100))
    print(tenth, hundredth)
    assert 0 < hundredth < tenth / 5


# --- many replicas ---


def test_random_routing_makes_of_one_poisson_stream_one_for_each_replica():
    """Thinning: each of four replicas is an M/D/1 queue of a quarter of the rate, and independent of the others."""
    step_s, utilisation, replicas, queries = 0.02, 0.7, 4, 1_000_000
    arrival_s = poisson(replicas * utilisation / step_s, queries, 6)
    done = run(arrival_s, np.ones(queries, np.int64), step_s, replicas=replicas, routing="random")
    waits = wait_s(done, step_s)
    for r in range(replicas):
        check(utilisation * step_s / (2 * (1 - utilisation)), waits[done.replica == r], most_error=0.02)
    # How many waits of one replica fall into a second must tell nothing of another's.
    second = (arrival_s // 1.0).astype(np.int64)
    rows = [np.bincount(second[done.replica == r], waits[done.replica == r], second[-1] + 1) for r in range(replicas)]
    correlation = np.corrcoef(rows)[np.triu_indices(replicas, 1)]
    assert np.abs(correlation).max() < 4 / math.sqrt(second[-1]) * 2


def test_the_more_a_router_knows_the_shorter_the_wait():
    """Deterministic service: taking turns evens the arrivals out, and looking at the queues is better still."""
    step_s, replicas, queries = 0.02, 4, 400_000
    arrival_s = poisson(replicas * 0.8 / step_s, queries, 8)
    mean_s, error_s = {}, {}
    for routing in ("random", "round_robin", "least_loaded"):
        done = run(arrival_s, np.ones(queries, np.int64), step_s, replicas=replicas, routing=routing)
        mean_s[routing], error_s[routing] = mean_and_error(wait_s(done, step_s))
    assert mean_s["least_loaded"] + 4 * error_s["least_loaded"] < mean_s["round_robin"]
    assert mean_s["round_robin"] + 4 * error_s["round_robin"] < mean_s["random"] / 2


def test_one_queue_before_four_servers_is_a_bound_that_least_loaded_comes_near():
    """Least loaded with one seat a replica is not M/M/4 (who waits has chosen), but close; random is M/M/1."""
    queries, parts, utilisation = 200_000, 100, 0.8
    outputs = np.ceil(np.random.default_rng(4).exponential(1.0, queries) * parts).astype(np.int64)
    arrival_s = poisson(4 * utilisation, queries, 5)
    routed = mean_and_error(wait_s(run(arrival_s, outputs, 1 / parts, 1, 4, "least_loaded"), 1 / parts))[0]
    pooled = mean_and_error(wait_s(run(arrival_s, outputs, 1 / parts, 4, 1), 1 / parts))[0]
    print(pooled, routed)
    assert pooled < routed < 2 * pooled
