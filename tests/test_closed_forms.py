"""The simulator against queueing theory.

A request of one token on one seat is served in one step of D seconds: an M/D/1 queue. Longer outputs make the service
O·D: M/G/1. Several seats and exponential lengths cut into short steps come near M/M/c.

Waits of neighbours depend on each other, so the standard error of a mean is taken from batch means: 50 batches of
thousands of requests, many times longer than the queue remembers. A mean may be off by four standard errors, and each
test says how large that error may be, lest it allow everything. Seeds are fixed.
"""

from __future__ import annotations

import math
from itertools import pairwise

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


@pytest.mark.parametrize(("utilisation", "most_error"), [(0.3, 0.01), (0.7, 0.02), (0.9, 0.04)])
def test_one_seat_and_one_token_wait_as_in_m_d_1(utilisation: float, most_error: float):
    step_s, queries = 0.02, 400_000
    done = run(poisson(utilisation / step_s, queries, 1), np.ones(queries, np.int64), step_s)
    # Pollaczek 1930: ρD / 2(1 − ρ)
    check(utilisation * step_s / (2 * (1 - utilisation)), wait_s(done, step_s), most_error)
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


def geometric(parts: int, queries: int) -> NDArray[np.int64]:
    """Output lengths of mean `parts`, memoryless in steps as the exponential is in time, all from the same draws."""
    share = np.random.default_rng(4).random(queries)
    return np.ceil(np.log1p(-share) / math.log1p(-1.0 / parts)).astype(np.int64)


def wait_in_steps(parts: int, utilisation: float = 0.7, seats: int = 4, queries: int = 1_000_000) -> F64:
    """Waits before four seats where the mean service of 1 s is `parts` steps.

    All `parts` share their arrivals and draws, so their differences are the steps' doing.
    """
    arrival_s = poisson(seats * utilisation, queries, 5)
    return wait_s(run(arrival_s, geometric(parts, queries), 1.0 / parts, seats), 1.0 / parts)


@pytest.mark.parametrize("utilisation", [0.6, 0.8])
def test_with_short_steps_seats_wait_as_erlang_says(utilisation: float):
    expected = erlang_c(4, 4 * utilisation) / (4 - 4 * utilisation)
    check(expected, wait_in_steps(1000, utilisation), most_error=0.02)


def test_what_steps_add_to_erlangs_wait_goes_with_their_length():
    """Who finds a seat free in a busy engine still waits for the step in hand, half of one in the mean.

    That makes 8 % of the wait at steps of a tenth of the mean service, and a tenth of that at a hundredth.
    """
    fine = wait_in_steps(1000).mean()
    tenth, hundredth = (wait_in_steps(parts).mean() / fine - 1 for parts in (10, 100))
    assert 0.04 < tenth < 0.12
    assert tenth / 20 < hundredth < tenth / 5


# --- many replicas ---


def test_random_routing_makes_of_one_poisson_stream_one_for_each_replica():
    """Thinning: each of four replicas is an M/D/1 queue of a quarter of the rate, and independent of the others."""
    step_s, utilisation, replicas, queries = 0.02, 0.7, 4, 1_000_000
    arrival_s = poisson(replicas * utilisation / step_s, queries, 6)
    done = run(arrival_s, np.ones(queries, np.int64), step_s, replicas=replicas, routing="random")
    waits = wait_s(done, step_s)
    for r in range(replicas):
        check(utilisation * step_s / (2 * (1 - utilisation)), waits[done.replica == r], most_error=0.02)
    # What one replica's requests wait within a second tells nothing of another's: N seconds give correlations of
    # about 1/√N, and as a queue remembers a second or two, there are only about half as many that count.
    second = arrival_s.astype(np.int64)
    rows = [np.bincount(second[done.replica == r], waits[done.replica == r], second[-1] + 1) for r in range(replicas)]
    correlation = np.corrcoef(rows)[np.triu_indices(replicas, 1)]
    assert np.abs(correlation).max() < 4 / math.sqrt(second[-1] / 2)


def test_random_routing_over_seats_with_memoryless_service_is_m_m_1():
    """In discrete time: E[O²] = parts²·(2 − 1/parts), and Pollaczek and Khinchine's formula with it."""
    queries, parts, utilisation, replicas = 1_000_000, 100, 0.6, 3
    arrival_s = poisson(replicas * utilisation, queries, 9)
    done = run(arrival_s, geometric(parts, queries), 1 / parts, 1, replicas, "random")
    check(utilisation * (2 - 1 / parts) / (2 * (1 - utilisation)), wait_s(done, 1 / parts), most_error=0.02)


def test_the_more_a_router_knows_the_shorter_the_wait():
    """Memoryless service over four replicas of one seat.

    Taking turns evens the arrivals out; looking at the queues is better still; best is one queue that nobody has to
    choose (M/M/4), and least loaded comes near it.
    """
    queries, parts = 400_000, 100
    arrival_s, outputs = poisson(4 * 0.8, queries, 5), geometric(parts, queries)
    routings: tuple[Routing, ...] = ("least_loaded", "round_robin", "random")
    runs = [run(arrival_s, outputs, 1 / parts, seats=4)]
    runs += [run(arrival_s, outputs, 1 / parts, replicas=4, routing=routing) for routing in routings]
    pooled, *routed = (mean_and_error(wait_s(one, 1 / parts)) for one in runs)
    for (better, better_error), (worse, worse_error) in pairwise([pooled, *routed]):
        assert better + 3 * math.hypot(better_error, worse_error) < worse
    assert routed[0][0] < 1.4 * pooled[0]
