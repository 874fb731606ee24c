"""Queries that time out: one clock a query, a miss of every limit, and figures even where nothing completes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Stage
from planner.simulation.outcome import Outcome, summarise
from planner.specs import Limit, SchedulerConfig

NEVER = float("nan")
GENEROUS_MS = 1e12
METRICS = ("ttft", "tpot", "itl", "e2e")
FAN = (Stage("gather", calls=2), Stage("answer"))
TWO = (Stage("draft"), Stage("answer"))


def run(
    arrival_s: Any, outputs: Any, *, seats: int = 4, replicas: int = 1, step_s: float = 1.0, **load: Any
) -> FleetRun:
    """Prompts of 4 tokens on engines whose steps take `step_s`, whatever is in them."""
    arrays = np.array(arrival_s, np.float64), np.full(len(outputs), 4, np.int32), np.array(outputs, np.int32)
    config = SchedulerConfig(16 * seats + 1, 4, seats, 4 * seats, 64)
    cost = StepCost(np.full(4 * seats + 1, step_s), np.zeros(seats + 1))
    return run_fleet(Load(*arrays, **load), config, cost, replicas, "least_loaded", np.random.default_rng(0))


def limit(metric: Any, percentile: float | None = None, limit_ms: float = GENEROUS_MS) -> Limit:
    return Limit(metric, "mean" if percentile is None else f"p{percentile:g}", percentile, limit_ms)


# --- one clock a query ---

CLOCKS = [
    ("the step that crosses the deadline ends it too late", {"outputs": [4], "timeout_s": 3.5}, [4], [0]),
    ("the last token at the very deadline is in time", {"outputs": [4], "timeout_s": 4.0}, [4], []),
    ("the second stage has what the first left", {"outputs": [3, 3], "stages": TWO, "timeout_s": 4.0}, [3, NEVER], [0]),
    ("both stages are in time", {"outputs": [3, 3], "stages": TWO, "timeout_s": 6.0}, [3, 6], []),
    ("a stage that ends at the deadline has no successor", {"outputs": [3, 3], "stages": TWO, "timeout_s": 3.0},
     [3, NEVER], [0]),
    ("the slower of two calls fails both", {"outputs": [2, 9, 1], "stages": FAN, "timeout_s": 4.0},
     [2, NEVER, NEVER], [0]),
    ("both calls late in the same step", {"outputs": [4, 4, 1], "stages": FAN, "timeout_s": 3.5},
     [4, 4, NEVER], [0]),
]  # fmt: skip


@pytest.mark.parametrize(("because", "given", "last_s", "failed"), CLOCKS, ids=[row[0] for row in CLOCKS])
def test_a_query_has_one_deadline(because: str, given: dict[str, Any], last_s: list[float], failed: list[int]):
    done = run([0], **given)
    np.testing.assert_array_equal(last_s, done.last_token_s)
    assert failed == np.flatnonzero(done.failed).tolist(), because


def test_a_failed_query_ends_at_its_deadline_for_its_client_whatever_the_engine_still_does():
    closed = run([0, 0], [4, 1], clients=1, timeout_s=3.5)
    assert [0.0, 3.5] == closed.sent_s.tolist()
    held = run([0, 1], [4, 1], max_in_flight=1, timeout_s=3.5)
    assert [0.0, 3.5] == held.sent_s.tolist()
    assert [3.5, 5.0] == held.ended_s.tolist()


def test_the_clock_of_a_held_query_starts_when_it_leaves_the_client():
    held = run([0, 0], [9, 9], max_in_flight=1, timeout_s=3.0)
    assert [3.0, 6.0] == held.ended_s.tolist()


def test_what_ends_too_late_is_no_completed_work():
    figures = summarise(run([0, 0], [4, 2], timeout_s=3.5), (), steady=False).figures
    assert (1, 1, 2.0) == (figures["failed"], figures["requests"], figures["duration_s"])
    assert 2 / 2.0 == figures["output_throughput"]


# --- a miss of every limit ---


def mostly_in_time(share: float, steady: bool, percentile: float | None, metric: str) -> Outcome:
    """A thousand queries of 2 tokens, `share` of them, evenly spread, of 50: those time out."""
    queries = 1000
    outputs = np.full(queries, 2)
    outputs[:: round(1 / share)] = 50
    return summarise(
        run(10.0 * np.arange(queries), outputs, timeout_s=8.0), (limit(metric, percentile),), steady=steady
    )


@pytest.mark.parametrize("steady", [True, False], ids=["interval", "own statistic"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("percentile", "met", "because"),
    [
        (50.0, True, "half of the queries are in time"),
        (97.0, True, "so are 98 of 100"),
        (99.0, False, "the 99th is not"),
        (None, False, "a mean with one infinite value is infinite"),
    ],
)
def test_failed_queries_miss_every_limit(metric: str, percentile: float | None, met: bool, because: str, steady: bool):
    outcome = mostly_in_time(0.02, steady, percentile, metric)
    assert 20 == outcome.figures["failed"]
    assert met is outcome.checks[0].met, because
    assert met is outcome.slo_met is outcome.figures["slo_met"]
    assert pytest.approx(0.98) == outcome.figures["goodput_share"]
    json.dumps(outcome.figures, allow_nan=False)


@pytest.mark.parametrize("metric", METRICS)
def test_a_limit_without_a_value_holds_only_if_nothing_failed(metric: str):
    fine = summarise(run([0], [1], timeout_s=3.0), (limit(metric),), steady=False)
    lost = summarise(run([0], [1], timeout_s=0.5), (limit(metric),), steady=False)
    assert (True, False) == (fine.slo_met, lost.slo_met)


def test_failures_stand_above_all_gaps():
    # of 10 queries 1 fails: its p90 is the largest gap of the others, and the median their 5th ninth
    outputs = [2] * 9 + [60]
    done = run(100.0 * np.arange(10), outputs, timeout_s=20.0)
    wanted = [(50.0, 1000.0), (90.0, 1000.0), (91.0, None)]
    checks = summarise(done, tuple(limit("itl", p) for p, _ in wanted), steady=False).checks
    for (_, expected), check in zip(wanted, checks, strict=True):
        value = check.as_dict()["value_ms"]
        assert (expected is None) is (value is None)
        assert value is None or value == pytest.approx(expected, rel=0.003)


def test_a_check_says_what_judged_it():
    done = run(10.0 * np.arange(100), [2] * 100)
    own, interval = (summarise(done, (limit("e2e"),), steady=steady).checks[0] for steady in (False, True))
    assert ("own statistic", None) == (own.judged_by, own.upper_ms)
    assert ("interval", 2000.0) == (interval.judged_by, interval.upper_ms)
    few = summarise(run(10.0 * np.arange(5), [2] * 5), (limit("e2e"),), steady=True).checks[0].as_dict()
    assert ("interval", None, False) == (few["judged_by"], few["upper_ms"], few["met"])


# --- nothing completes ---


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize(
    ("queries", "given", "because"),
    [
        (1, {"timeout_s": 0.5}, "a single query"),
        (100, {"timeout_s": 0.5}, "all of many"),
        (3, {"timeout_s": 0.5, "max_in_flight": 1}, "one after the other"),
        (3, {"timeout_s": 0.5, "clients": 2}, "of two clients"),
    ],
)
def test_figures_without_a_completed_query(queries: int, given: dict[str, Any], because: str, steady: bool):
    done = run(2.0 * np.arange(queries) * ("clients" not in given), [3] * queries, **given)
    outcome = summarise(done, tuple(limit(metric, 99.0) for metric in METRICS), steady=steady)
    figures = outcome.figures
    assert (0, queries, None) == (figures["requests"], figures["failed"], figures["duration_s"]), because
    for name in ("request", "query", "output", "total_token"):
        assert 0.0 == figures[f"{name}_throughput"]
    assert figures["ttft_ms"] is figures["e2e_ms"] is figures["tpot_ms"] is None
    assert not outcome.slo_met
    json.dumps(figures | outcome.histograms(), allow_nan=False)


def test_figures_where_no_engine_ever_saw_a_request():
    config = SchedulerConfig(65, 4, 4, 64, 64)
    four = np.full(2, 4, np.int32)
    cost = StepCost(np.ones(65), np.zeros(5), frontend_s=1.0)
    load = Load(np.zeros(2), four, four, timeout_s=0.5)
    figures = summarise(
        run_fleet(load, config, cost, 2, "least_loaded", np.random.default_rng(0)), (), steady=True
    ).figures
    assert (0.0, 2, 0) == (figures["utilisation"], figures["failed"], figures["ledger"]["steps"])
    json.dumps(figures, allow_nan=False)


# --- saturation ---


def poisson(queries: int, rate_qps: float) -> Any:
    return np.cumsum(np.random.default_rng(3).exponential(1.0, queries)) / rate_qps


@pytest.mark.parametrize(
    ("rate_qps", "saturated", "because"),
    [(40.0, False, "50 a second can be served"), (60.0, True, "60 cannot, and the rest waits at the client")],
)
def test_a_queue_at_the_client_is_a_backlog_although_nobody_times_out_long_after_being_sent(
    rate_qps: float, saturated: bool, because: str
):
    # 100 in flight, each over 100 steps of 20 ms or timed out at 2 s: 50 a second and no more
    done = run(poisson(6000, rate_qps), [20] * 6000, seats=20, step_s=0.02, max_in_flight=100, timeout_s=2.0)
    assert saturated is summarise(done, (), steady=True).saturated, because


@pytest.mark.parametrize(
    ("queries", "rate_qps", "seats", "saturated", "because"),
    [
        (500, 100.0, 1000, False, "5 s of arrivals for queries of 10 s, and a seat for everyone"),
        (2500, 100.0, 3000, False, "25 s of arrivals: the fleet is full in the middle and steady from then on"),
        (500, 100.0, 50, True, "5 s of arrivals, but only 50 have a seat: the queue grows"),
        (4000, 6.0, 50, True, "50 seats serve 5 a second"),
        (4000, 4.0, 50, False, "and 4 are fewer"),
        (2, 1e20, 50, False, "two queries tell nothing"),
        (2000, 1e20, 50, True, "all at once, and nobody but the first 50 has a seat"),
    ],
)
def test_filling_an_empty_fleet_is_no_saturation(
    queries: int, rate_qps: float, seats: int, saturated: bool, because: str
):
    done = run(poisson(queries, rate_qps), [50] * queries, seats=seats, step_s=0.2)
    outcome = summarise(done, (limit("ttft", 99.0),), steady=True)
    assert saturated is outcome.saturated, because
    assert saturated is not outcome.slo_met or not outcome.checks[0].met


def test_gaps_of_the_densest_arrivals_fall_into_the_last_window():
    done = run(np.arange(100) * 1e-22, [3] * 100, seats=100)
    assert 200 == done.gaps.count.sum() == done.gaps.count[-1].sum()


def test_a_gap_of_ages_falls_into_the_last_bin():
    done = run([0], [3], step_s=1e300)
    assert 2 == done.gaps.count[0, -1]
