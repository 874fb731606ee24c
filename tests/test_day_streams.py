"""Days in bins: percentiles against exact ones, streams of single replicas against the whole fleet."""

from __future__ import annotations

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.autoscaler import Wishes
from planner.simulation.day_bins import BIN_ERROR, empty_bins, fold, statistic_ms, strictest_s
from planner.simulation.day_streams import DayFold, run_stream, run_streams
from planner.simulation.day_whole import run_whole
from planner.simulation.fleet import run_fleet
from planner.simulation.kernel_state import make_gaps
from planner.simulation.load import Load, Stage
from planner.simulation.outcome import quantile, summarise
from planner.specs import Limit, SchedulerConfig

ENGINE = SchedulerConfig(4000, 16, 64, 2048, 2048)
COST = StepCost(
    tokens_s=0.02 + 2e-5 * np.arange(2049), requests_s=1e-5 * np.arange(65), decode_token_s=1e-7, frontend_s=0.005
)
NO_LIMITS = strictest_s(())
LIMITS = (Limit("ttft", "p99", 99.0, 300.0), Limit("tpot", "p99", 99.0, 30.0), Limit("itl", "mean", None, 28.0))


def load(rate_qps: float, hours: float, seed: int = 0, samples: int = 1) -> Load:
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_qps * 3600.0 * hours)
    arrival_s = np.sort(3600.0 * hours * rng.random(count))
    prompt, output = (rng.integers(*span, count).astype(np.int32) for span in ((20, 400), (1, 60)))
    spread = [np.repeat(values, samples) for values in (prompt, output)]
    return Load(arrival_s, *spread, (Stage("answer", samples=samples),))


def stream(arriving: Load, hours: int, limits: tuple[Limit, ...] = ()) -> DayFold:
    return run_stream(arriving, ENGINE, COST, hours, strictest_s(limits))


def nothing(what: str, done: int, total: int) -> None:
    assert 0 < done <= total


# --- bins ---


@pytest.mark.parametrize("samples", [1, 3])
def test_percentiles_of_bins_are_those_of_the_values(samples):
    """Every statistic of every metric within a bin's half width, the mean exactly; good queries to the last one."""
    arriving = load(2.0, 1.0, samples=samples)
    run = run_fleet(arriving, ENGINE, COST, 1, "least_loaded", np.random.default_rng(0))
    outcome = summarise(run, LIMITS, steady=False)
    folded = stream(arriving, 1, LIMITS)
    for metric in ("ttft", "tpot", "e2e"):
        values = getattr(outcome.latencies, f"{metric}_ms")
        for percentile in (1.0, 50.0, 90.0, 99.0, 100.0):
            found = statistic_ms(folded.bins, folded.gaps, 0, metric, percentile)
            assert quantile(values, percentile) == pytest.approx(found, rel=BIN_ERROR * 1.001)
        assert values.mean() == pytest.approx(statistic_ms(folded.bins, folded.gaps, 0, metric, None))
    itl = outcome.figures["itl_ms"]
    assert itl["mean"] == pytest.approx(statistic_ms(folded.bins, folded.gaps, 0, "itl", None))
    assert itl["p99"] == pytest.approx(statistic_ms(folded.bins, folded.gaps, 0, "itl", 99.0), rel=2 * BIN_ERROR)
    assert arriving.queries == folded.bins.queries[0]
    good = outcome.figures["goodput_share"] * arriving.queries
    assert 0 < good < arriving.queries
    assert round(good) == folded.bins.good[0]
    assert outcome.figures["ledger"]["busy_s"] == pytest.approx(folded.busy_s.sum(), rel=1e-3)


def test_a_query_belongs_to_the_hour_in_which_it_arrived():
    arriving = Load(np.array([3590.0, 3599.9, 3600.0, 9000.0]), np.full(4, 100, np.int32), np.full(4, 50, np.int32))
    folded = stream(arriving, 3)
    assert [2, 1, 1] == folded.bins.queries.tolist()
    assert 0 == folded.bins.lost.sum()
    assert [3600.0] * 3 == folded.paid_s.tolist() == folded.served_s.tolist()


@pytest.mark.parametrize(
    ("failed", "percentile", "finite"),
    [(0, 99.0, True), (1, 90.0, True), (1, 99.0, False), (2, 80.0, True), (2, 81.0, False), (1, None, False)],
)
def test_failed_queries_stand_above_all_others(failed, percentile, finite):
    """Ten queries of 1 s each; so many of them failed."""
    arrival_s = np.arange(10.0)
    arriving = Load(arrival_s, np.full(10, 5, np.int32), np.full(10, 5, np.int32))
    bins, lost = empty_bins(1), np.arange(10) < failed
    fold(bins, arriving, arrival_s, lost, (arrival_s + 1.0, np.where(lost, np.nan, arrival_s + 2.0)), NO_LIMITS)
    found = statistic_ms(bins, make_gaps(), None, "ttft", percentile)
    assert finite == np.isfinite(found)
    assert 10 - failed == bins.good[0]
    if finite:
        assert 1000.0 == pytest.approx(found, rel=BIN_ERROR)


def test_an_hour_without_queries_has_no_figures():
    folded = stream(load(1.0, 0.5), 2)
    assert None is statistic_ms(folded.bins, folded.gaps, 1, "ttft", 99.0)
    assert None is statistic_ms(folded.bins, folded.gaps, 1, "itl", None)


# --- streams ---


def test_streams_of_single_replicas_are_a_fleet_under_random_routing():
    """Four replicas that each draw a quarter of the rate for themselves, against one fleet with random routing: hourly
    p50 and p90 of TTFT, TPOT and E2E within 3 % (some 29,000 queries an hour), busy time within 1 %.
    """
    hours, qps = 2, 8.0
    whole = load(qps, hours, seed=1)
    routed, _ = run_whole(whole, ENGINE, COST, 4, "random", np.random.default_rng(0), hours, NO_LIMITS, None)
    apart = run_streams(lambda r: load(qps / 4, hours, seed=10 + r), 4, ENGINE, COST, hours, NO_LIMITS, nothing)
    assert whole.queries == routed.bins.queries.sum() == pytest.approx(apart.bins.queries.sum(), rel=0.03)
    for hour in range(hours):
        for metric in ("ttft", "tpot", "e2e"):
            for percentile in (50.0, 90.0):
                expected, found = (
                    statistic_ms(fold.bins, fold.gaps, hour, metric, percentile) for fold in (routed, apart)
                )
                assert expected == pytest.approx(found, rel=0.03), (hour, metric, percentile)
        assert routed.busy_s[hour] == pytest.approx(apart.busy_s[hour], rel=0.01)
    assert [4 * 3600.0] * 2 == apart.paid_s.tolist() == routed.paid_s.tolist()


def test_one_replica_is_the_same_alone_and_on_the_common_clock():
    """Times may differ in the last bits, where a jump is cut at another place: so sums to nine digits, counts exactly
    but for values on the edge of a bin.
    """
    arriving, hours = load(3.0, 3.0, seed=2), 3
    alone = stream(arriving, hours, LIMITS)
    on_clock, wishes = run_whole(
        arriving, ENGINE, COST, 1, "least_loaded", np.random.default_rng(0), hours, strictest_s(LIMITS), None
    )
    assert Wishes() == wishes
    assert alone.bins.queries.tolist() == on_clock.bins.queries.tolist()
    np.testing.assert_allclose(alone.bins.sum_s, on_clock.bins.sum_s, rtol=1e-9)
    np.testing.assert_allclose(alone.busy_s, on_clock.busy_s, rtol=1e-3)  # a step at the hour counts whole, or in part
    assert np.abs(alone.bins.counts - on_clock.bins.counts).sum() <= 1e-4 * alone.bins.counts.sum()
    assert alone.gaps.count.sum() == on_clock.gaps.count.sum()


def test_streams_repeat_to_the_bit_whatever_thread_is_first():
    runs = [run_streams(lambda r: load(2.0, 1.0, seed=r), 5, ENGINE, COST, 1, NO_LIMITS, nothing) for _ in range(2)]
    for one, two in zip(runs[0].bins, runs[1].bins, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(runs[0].busy_s, runs[1].busy_s)


def test_a_request_that_never_fits_is_refused():
    arriving = Load(np.zeros(1), np.array([2000], np.int32), np.array([10], np.int32))
    with pytest.raises(MisfitError, match="KV blocks"):
        run_stream(arriving, SchedulerConfig(100, 16, 64, 2048, 2048), COST, 1, NO_LIMITS)
