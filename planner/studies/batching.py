"""Static against continuous batching: the same model, GPU, step cost and arrivals, another rule for who may join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, Length, deploy, make_load, only_candidate, run
from planner.errors import InputError
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.studies.static_batching import static_batches
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
RATE_TOLERANCE = 0.01
LEAST_RATE_QPS = 1e-4
WARMUP_SHARE = 10  # a tenth of the queries is simulated first and not counted
PERCENTILE = 95.0


@dataclass(frozen=True)
class Served:
    """One way of batching: the most it serves, the most within the limit, and how well its seats are used.

    `saturated_qps`: queries per second while others wait. `limit_qps`: the highest rate of Poisson
    arrivals whose p95 E2E is within the limit. `seats_in_use`: unfinished requests ÷ seats while it is saturated.
    """

    saturated_qps: float
    limit_qps: float
    seats_in_use: float


@dataclass(frozen=True)
class Batching:
    """Both ways under the same load."""

    static: Served
    continuous: Served
    deployment: Deployment


def compare_batching(scenario: Scenario, limit_s: float, queries: int, seed: int) -> Batching:
    """Serve the same queries both ways on one replica.

    `limit_s` is the p95 of E2E that both must hold; `queries` are counted in each run. Raises InputErrors, also where
    the limit is below what an idle server takes.
    """
    deployment = deploy(only_candidate(scenario, "simulate"))
    seats = deployment.config.max_num_seqs

    def load_at(rate_qps: float) -> Load:
        at = scenario.with_values({"traffic.peak_qps": rate_qps})
        return make_load(at, deployment.config.max_model_len, seed, Length(queries, queries // WARMUP_SHARE, 0))

    def static_e2e_s(load: Load) -> float:
        done = static_batches(load, deployment.config, deployment.cost)
        return _percentile((done.last_token_s - load.arrival_s)[load.warmup :])

    def continuous_e2e_s(load: Load) -> float:
        outcome = run(deployment, scenario, load, 1, seed)
        return _percentile(outcome.latencies.e2e_ms / MS_PER_S)

    at_once = load_at(1.0)
    at_once = replace(at_once, arrival_s=np.zeros(at_once.queries), warmup=0)
    offline = {"traffic.arrivals": {"offline": {"requests": at_once.queries}}, "traffic.peak_qps": None}
    static = static_batches(at_once, deployment.config, deployment.cost)
    outcome = run(deployment, scenario.with_values(offline), at_once, 1, seed)
    first_s, last_s = outcome.latencies.ttft_ms / MS_PER_S, outcome.latencies.e2e_ms / MS_PER_S
    continuous = outcome.figures
    static_most = _while_queued(static.first_token_s, static.last_token_s)
    continuous_most = _while_queued(first_s, last_s)
    return Batching(
        static=Served(
            static_most,
            _most_rate(lambda rate: static_e2e_s(load_at(rate)) <= limit_s, static_most, limit_s),
            static.seat_s / (static.busy_s * seats),
        ),
        continuous=Served(
            continuous_most,
            _most_rate(lambda rate: continuous_e2e_s(load_at(rate)) <= limit_s, continuous_most, limit_s),
            continuous["ledger"]["running_mean"] / continuous["utilisation"] / seats,
        ),
        deployment=deployment,
    )


def _while_queued(first_s: F64, last_s: F64) -> float:
    """Queries per second that end before the last one has begun: with everything waiting from time 0, until then the
    queue is never empty; what is still running empties the server and says nothing of its rate.
    """
    begun = float(first_s.max())
    return float(np.count_nonzero(last_s <= begun)) / begun


def _percentile(seconds: F64) -> float:
    return float(np.percentile(seconds, PERCENTILE, method="higher"))


def _most_rate(holds: Callable[[float], bool], saturated_qps: float, limit_s: float) -> float:
    """The highest rate that holds, to within 1 %, and never more than the server serves when it is saturated.

    A run of finite length would hold its limit a little above that too, while its queue grows.
    """
    low = saturated_qps
    if holds(low):
        return low
    while not holds(low):
        low /= 2
        if low < LEAST_RATE_QPS:
            raise InputError("p95_e2e_limit", limit_s, "is below what one query alone takes")
    high = 2 * low
    while high / low > 1 + RATE_TOLERANCE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
