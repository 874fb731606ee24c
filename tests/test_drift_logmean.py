"""The decomposition by itself: by hand, and its laws."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from drift_specimens import demo, window
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.drift.actual import Actual, actual_of
from planner.drift.attribution import attribution
from planner.drift.logmean import log_mean, parts_of
from planner.drift.queries import Shape
from planner.drift.work import Factor, Work

LN2, LN3 = math.log(2.0), math.log(3.0)
positive = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("before", "factors", "expected", "because"),
    [
        (1.0, {"a": 2.0}, {"a": 1.0}, "one cause makes the whole change: 2 − 1"),
        (6.0, {"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, "nothing moved"),
        (1.0, {"a": 2.0, "b": 0.5}, {"a": LN2, "b": -LN2}, "they cancel: L(1, 1) = 1, each ± 1 · ln 2"),
        (1.0, {"a": 2.0, "b": 2.0}, {"a": 1.5, "b": 1.5}, "equal causes halve 4 − 1"),
        (2.0, {"a": 2.0, "b": 4.0}, {"a": 14 / 3, "b": 28 / 3}, "16 − 2, and ln 4 is twice ln 2"),
        (1.0, {"a": 3.0, "b": 2.0}, {"a": 5 * LN3 / (LN2 + LN3), "b": 5 * LN2 / (LN2 + LN3)}, "6 − 1 by logarithms"),
        (10.0, {"a": 0.9}, {"a": -1.0}, "a fall is negative"),
    ],
)
def test_parts_by_hand(before: float, factors: dict[str, float], expected: dict[str, float], because: str) -> None:
    assert expected == pytest.approx(parts_of(before, factors)), because


@pytest.mark.parametrize(
    ("one", "other", "expected", "because"),
    [
        (5.0, 5.0, 5.0, "the limit at equality"),
        (math.e, 1.0, math.e - 1.0, "(e − 1) / 1"),
        (1.0, math.e, math.e - 1.0, "it is symmetric"),
        (1.0 + 1e-13, 1.0, 1.0, "nearly equal: no digits are lost to a difference"),
    ],
)
def test_logarithmic_mean_by_hand(one: float, other: float, expected: float, because: str) -> None:
    assert expected == pytest.approx(log_mean(one, other), rel=1e-12), because


@given(positive, st.lists(st.floats(0.05, 20.0), min_size=1, max_size=7))
def test_parts_add_up_to_the_change(before: float, ratios: list[float]) -> None:
    factors = {str(index): ratio for index, ratio in enumerate(ratios)}
    parts = parts_of(before, factors)
    after = before * math.prod(ratios)
    assert math.isclose(math.fsum(parts.values()), after - before, rel_tol=1e-9, abs_tol=1e-12 * (before + after))
    for name, part in parts.items():
        assert part == 0 if factors[name] == 1 else (part > 0) == (factors[name] > 1)


@given(positive, st.dictionaries(st.sampled_from("abcdef"), st.floats(0.05, 20.0), min_size=1))
def test_exchanging_plan_and_truth_turns_every_sign(before: float, factors: dict[str, float]) -> None:
    there = parts_of(before, factors)
    after = before * math.prod(factors.values())
    back = parts_of(after, {name: 1.0 / factor for name, factor in factors.items()})
    assert {name: -part for name, part in there.items()} == pytest.approx(back, rel=1e-9, abs=1e-9 * (before + after))


# --- in dollars ---


def worked(lengths: float, prefix: float, speed: float) -> Work:
    return Work(Factor(lengths, True), Factor(prefix, True), Factor(speed, True), Shape(), Shape(), 1.0, None, (), ())


def actual(**changes: float) -> Actual:
    return actual_of(demo(), window(demo(), **changes))


@settings(deadline=None)
@given(
    *(st.floats(0.1, 10.0) for _ in range(3)),
    st.floats(0.01, 1e3),
    st.floats(0.01, 1.0),
    st.floats(0.5, 500.0),
    st.floats(0.01, 1e4),
    st.floats(0.0, 0.01),
)
def test_parts_in_dollars_add_up_to_the_departure(
    lengths: float,
    prefix: float,
    speed: float,
    qps: float,
    uncached: float,
    replicas: float,
    usd: float,
    retrieval: float,
) -> None:
    plan = replace(demo(), retrieval_usd_per_query=retrieval)
    seen = actual(queries_per_s=qps, requests_per_s=qps * uncached, replicas=replicas, cost_usd_per_hour=usd)
    whole = attribution(plan, seen, worked(lengths, prefix, speed))
    expected = usd / (3600 * qps) + retrieval * uncached - whole.planned_per_query
    size = usd / (3600 * qps) + whole.planned_per_query
    assert whole.parts is not None
    assert whole.actual_per_query is not None
    assert math.isclose(math.fsum(whole.parts.values()), expected, rel_tol=1e-9, abs_tol=1e-10 * size)
    assert math.isclose(whole.actual_per_query - whole.planned_per_query, expected, rel_tol=1e-9, abs_tol=1e-10 * size)


@settings(deadline=None)
@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_doubling_every_price_doubles_every_part(lengths: float, speed: float) -> None:
    plan = replace(demo(), retrieval_usd_per_query=0.001)
    doubled = replace(plan, retrieval_usd_per_query=0.002, usd_per_hour=2 * (plan.usd_per_hour or 0))
    one = attribution(plan, actual(queries_per_s=20.0, cost_usd_per_hour=5.0), worked(lengths, 1.0, speed))
    two = attribution(doubled, actual(queries_per_s=20.0, cost_usd_per_hour=10.0), worked(lengths, 1.0, speed))
    assert one.parts is not None
    assert {name: 2 * part for name, part in one.parts.items()} == pytest.approx(two.parts)
    assert one.departure == pytest.approx(two.departure)


@pytest.mark.parametrize(
    ("changes", "cause", "share", "because"),
    [
        ({"cost_usd_per_hour": 8.0}, "price", 1.0, "the same five GPUs at twice the bill"),
        ({"queries_per_s": 15.0, "requests_per_s": 15.0}, "traffic", 1.0, "half the queries share the same bill"),
        ({"queries_per_s": 60.0, "requests_per_s": 60.0}, "traffic", -0.5, "twice the queries"),
        ({"replicas": 10.0, "cost_usd_per_hour": 8.0}, "utilisation", 1.0, "twice the GPUs for the same work"),
    ],
)
def test_one_cause_makes_the_whole_departure(changes: dict[str, float], cause: str, share: float, because: str) -> None:
    whole = attribution(demo(), actual(**changes), worked(1.0, 1.0, 1.0))
    assert whole.parts is not None
    found = {name: part / whole.planned_per_query for name, part in whole.parts.items()}
    assert {name: share if name == cause else 0.0 for name in found} == pytest.approx(found), because


def test_retrieval_is_the_response_caches() -> None:
    """No price of GPUs is small beside 1 USD a retrieval: half the queries are answered before it."""
    plan = replace(demo(), retrieval_usd_per_query=1.0)
    whole = attribution(plan, actual(queries_per_s=30.0, requests_per_s=15.0), worked(1.0, 1.0, 1.0))
    assert whole.parts is not None
    assert -0.5 == pytest.approx(whole.parts["response_hit_rate"], abs=1e-4)
    assert -0.5 == pytest.approx(whole.departure, abs=1e-4)
