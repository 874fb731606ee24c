"""The fleet size with the most margin when users who wait leave: the search, the money of a size, and what is said."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import Scenario, plan
from planner.studies.best_slo import best_slo, climb
from planner.studies.fleet_runs import fleet_runs

REQUESTS = 3000
BASE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": "l4-24gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096, "max_num_seqs": 48},
    "traffic": {"peak_qps": 60.0, "day": [0.25] * 12 + [1.0] * 12},
    "query": {
        "stages": [
            {"name": "answer", "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}}, "output_tokens": 60},
        ],
        "response_cache": {"hit_rate": 0.25},
    },
    "slo": {"p90_ttft_ms": "<=1500", "p90_tpot_ms": "<=90"},
    "fleet": {"spare_replicas": 1},
    "prices": {"gpu_hour_usd": 1.0, "retrieval_usd_per_query": 0.0001},
    "revenue": {
        "ads": {"usd_per_query": 0.004},
        "abandonment": {"metric": "e2e", "after_ms": 1000, "per_100ms": 0.01},
    },
}


@cache
def found(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan's document and the best size, for changes of the base with `__` for a dot."""
    asked = Scenario.from_dict(BASE).with_values({key.replace("__", "."): value for key, value in changes.items()})
    document = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    answer = best_slo(asked, document, fleet_runs(asked, 0, REQUESTS))
    assert answer is not None
    return document, answer


def test_the_best_size_has_the_most_margin_of_all_that_were_tried_and_its_neighbours_were():
    _, answer = found()
    sizes = {size["serving"]: size for size in answer["sizes"]}
    margins = [size["margin_usd_per_day"] for size in sizes.values() if size["margin_usd_per_day"] is not None]
    assert answer["best"]["margin_usd_per_day"] == max(margins)
    assert {answer["best"]["serving"] - 1, answer["best"]["serving"] + 1} <= set(sizes)


def test_the_plans_own_size_is_one_of_them_with_the_plans_own_cost():
    document, answer = found()
    own = answer["own"]
    queries = sum(hour["queries"] for hour in document["day"])
    assert document["fleet"]["gpus"] == own["gpus"]
    assert document["fleet"]["replicas"] - 1 == own["serving"]
    assert document["cost"]["usd_per_query"] * queries == pytest.approx(own["cost_usd_per_day"], rel=1e-12)


@pytest.mark.parametrize("changes", [{}, {"fleet__spare_replicas": 0}, {"revenue__abandonment__metric": "ttft"}])
def test_a_plan_has_one_revenue_and_one_margin_whichever_answer_tells_it(changes: dict[str, Any]):
    document, answer = found(**changes)
    own, gone = answer["own"], document["revenue"]["abandonment"]
    queries = sum(hour["queries"] for hour in document["day"])
    assert gone["lost_share"] == pytest.approx(own["lost_share"], rel=1e-12)
    assert gone["lost_share_at_peak"] == pytest.approx(own["lost_share_at_peak"], rel=1e-12)
    assert document["revenue"]["usd_per_query"] * queries == pytest.approx(own["revenue_usd_per_day"], rel=1e-12)
    assert document["margin"]["usd_per_query"] * queries == pytest.approx(own["margin_usd_per_day"], rel=1e-9)


def test_quieter_hours_count_with_their_own_latencies():
    _, answer = found()
    own = answer["own"]
    assert 0 < own["lost_share"] < own["lost_share_at_peak"]


def test_margin_is_revenue_less_cost_and_revenue_is_of_those_who_stay():
    document, answer = found()
    queries = sum(hour["queries"] for hour in document["day"])
    for size in answer["sizes"]:
        if size["saturated"]:
            assert size["margin_usd_per_day"] is None
            continue
        revenue = 0.004 * queries * (1 - size["lost_share"])
        assert revenue == pytest.approx(size["revenue_usd_per_day"], rel=1e-9)
        assert revenue - size["cost_usd_per_day"] == pytest.approx(size["margin_usd_per_day"], rel=1e-9)
    gained = answer["best"]["margin_usd_per_day"] - answer["own"]["margin_usd_per_day"]
    assert gained == answer["gained_usd_per_day"]
    assert gained >= 0


def test_the_staff_is_paid_once_whatever_the_size():
    own = {"capex_usd_per_gpu": 4000, "life_years": 4, "hosting_usd_per_gpu_month": 30}
    prices = {"gpu_hour_usd": None, "own": own, "energy": {"usd_per_kwh": 0.1}, "compute_share": 0.8}
    asked = Scenario.from_dict(BASE).with_values({f"prices.{key}": value for key, value in prices.items()})
    sizes = []
    for staff in (0, 365_000):
        scenario = asked.with_values({"prices.own.staff_usd_per_year": staff})
        document = plan(scenario, requests=REQUESTS, worlds=0).as_dict()
        answer = best_slo(scenario, document, fleet_runs(scenario, 0, REQUESTS))
        assert answer is not None
        sizes.append({size["serving"]: size["cost_usd_per_day"] for size in answer["sizes"]})
    without, staffed = sizes
    assert len(without) > 2
    assert without.keys() == staffed.keys()
    for serving, cost in without.items():
        assert cost + 365_000 / 365 / 0.8 == pytest.approx(staffed[serving], rel=1e-9)


def test_users_who_never_leave_want_the_smallest_fleet_that_is_not_overrun():
    _, answer = found(revenue__abandonment__per_100ms=0)
    sizes = {size["serving"]: size for size in answer["sizes"]}
    best = answer["best"]
    assert best["lost_share"] == 0
    assert best["serving"] == 1 or sizes[best["serving"] - 1]["saturated"]


def test_dearer_users_want_more_replicas_and_a_shorter_wait():
    _, cheap = found()
    _, dear = found(revenue__ads__usd_per_query=0.4)
    assert dear["best"]["serving"] > cheap["best"]["serving"]
    assert dear["slo"]["p90_e2e_ms"] < cheap["slo"]["p90_e2e_ms"]


def test_the_level_worth_asking_for_is_told_under_the_keys_of_slo():
    _, answer = found()
    assert {"p90_ttft_ms", "p90_tpot_ms", "p50_e2e_ms", "p90_e2e_ms", "p99_e2e_ms"} == set(answer["slo"])
    assert answer["slo"] == answer["best"]["latencies"]


def test_max_gpus_ends_the_search():
    document, _ = found()
    cap = document["fleet"]["gpus"]
    _, answer = found(revenue__ads__usd_per_query=0.4, fleet__max_gpus=cap)
    assert max(size["gpus"] for size in answer["sizes"]) <= cap
    assert any("fleet.max_gpus" in words for words in answer["ends"])


def test_min_replicas_ends_the_search_and_is_said():
    _, free = found(revenue__abandonment__per_100ms=0)
    least = free["best"]["serving"] + 2
    _, answer = found(revenue__abandonment__per_100ms=0, fleet__min_replicas=least + 1)  # one of them is the spare
    assert least == min(size["serving"] for size in answer["sizes"])
    assert least == answer["best"]["serving"]
    assert f"{least} serving replicas are the fewest that fleet.min_replicas allows" in answer["ends"]


def test_without_abandonment_nothing_is_told():
    asked = Scenario.from_dict(BASE).with_values({"revenue.abandonment": None})
    document = plan(asked, requests=REQUESTS, worlds=0).as_dict()
    assert best_slo(asked, document, fleet_runs(asked, 0, REQUESTS)) is None


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500))
def test_climb_finds_the_top_of_whatever_rises_and_then_falls(top: int, start: int, most: int):
    most, start = max(most, start), min(start, most)
    tried: set[int] = set()

    def height(point: int) -> float:
        tried.add(point)
        return -(abs(point - top) ** 1.5)

    assert min(top, most) == climb(height, start, 1, most)
    assert all(1 <= point <= most for point in tried)


def test_climb_leaves_a_cliff_alone():
    """Left of 7 nothing is served: no height at all."""
    assert climb(lambda point: float("-inf") if point < 7 else -float(point), 20, 1, 100) == 7
