"""What nobody tells is null and said, never zero; what cannot be is named; parts still add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from drift_specimens import ENDED_UNIX_S, demo, demo_model, document, truth, window
from test_drift import part

from planner.drift import Drift, drift, fleet_model
from planner.drift.actual import planned_rate
from planner.drift.compare import OF_ALL
from planner.drift.model import FleetModel
from planner.drift.service_levels import INTERPOLATED, levels_of
from planner.observed import Trouble
from planner.planned import planned

MODEL = "model"


@pytest.fixture(scope="module")
def model() -> FleetModel:
    return demo_model()


def assumed(found: Drift) -> set[str]:
    return {row["figure"] for row in found.document["assumed"]}


def told(found: Drift) -> dict[str, Any]:
    return {row["cause"]: row["usd_per_query"] for row in found.document["parts"]}


def test_a_fleet_that_tells_all_has_nothing_assumed_but_revenue(model: FleetModel) -> None:
    assert {"revenue.usd_per_query"} == assumed(drift(demo(), truth(demo()), model))


@pytest.mark.parametrize(
    ("changes", "causes", "figures"),
    [
        ({"queries_per_s": None}, {"response_hit_rate"}, {"queries_per_s", "response_cache.hit_rate"}),
        ({"prompt_tokens": None, "output_tokens": None}, {"token_lengths"}, {"prompt_tokens", "output_tokens"}),
        ({"prefix_hit_rate": None}, {"prefix_hit_rate"}, {"prefix_cache_hit_rate"}),
        ({"latencies_ms": {}}, {"step_speed"}, {"step_speed"}),
        ({"cost_usd_per_hour": None}, {"price"}, {"gpu_hour_usd"}),
    ],
)
def test_what_is_not_told_is_null_and_taken_from_the_plan(
    model: FleetModel, changes: dict[str, Any], causes: set[str], figures: set[str]
) -> None:
    """The fleet's truth is another traffic, so that there is a whole to add up to."""
    found = drift(demo(), replace(truth(demo(), qps=0.7), **changes), model)
    parts = told(found)
    assert causes == {cause for cause, usd in parts.items() if usd is None}
    assert figures == assumed(found) - {"revenue.usd_per_query"}
    whole = found.document["total"]["usd_per_query"]
    assert math.isclose(math.fsum(usd for usd in parts.values() if usd is not None), whole, rel_tol=1e-9)
    assert "not told" in str(found)


def test_half_of_the_token_counts_is_used_and_the_rest_assumed(model: FleetModel) -> None:
    seen = replace(truth(demo()), prompt_tokens=None, output_tokens=60.0)
    found = drift(demo(), seen, model)
    assert "prompt_tokens" in assumed(found)
    assert part(found, "token_lengths")["factor"] != 1.0
    assert told(found)["token_lengths"] is not None


def test_no_query_is_no_cost_per_query(model: FleetModel) -> None:
    """Not infinite, not zero; prices, capacity and what was asked of the plan are still told."""
    found = drift(demo(), window(demo(), queries_per_s=0.0, requests_per_s=0.0), model)
    assert dict.fromkeys(told(found)) == told(found)
    assert (None, None) == (found.document["cost"]["usd_per_query"], found.document["total"]["fraction"])
    assert 4.0 == found.document["cost"]["usd_per_hour"]
    assert found.document["capacity"]["qps"] > 0
    assert not found.within
    assert "cannot be told" in str(found)


def test_no_query_where_hardly_one_is_expected_is_as_planned(model: FleetModel) -> None:
    """30 queries/s over 0.05 s: 1.5 expected, and none came."""
    found = drift(demo(), window(demo(), queries_per_s=0.0, requests_per_s=0.0, window_s=0.05), model)
    assert found.within


@pytest.mark.parametrize("replicas", [None, 0.0])
def test_no_replica_is_no_bill(model: FleetModel, replicas: float | None) -> None:
    found = drift(demo(), window(demo(), replicas=replicas, cost_usd_per_hour=None), model)
    assert found.document["cost"]["usd_per_hour"] is None
    assert found.document["total"]["fraction"] is None
    assert found.document["capacity"]["qps"] == (None if replicas is None else 0.0)
    assert not found.within


def test_more_model_calls_than_queries_make_are_named(model: FleetModel) -> None:
    found = drift(demo(), window(demo(), requests_per_s=45.0), model)
    assert 0.0 == part(found, "response_hit_rate")["actual"]
    assert any("1.5 times as often" in note for note in found.document["notes"])


def test_hits_beyond_the_prompt_are_not_attributed(model: FleetModel) -> None:
    found = drift(demo(), replace(truth(demo(), qps=0.5), prefix_hit_rate=0.999), model)
    assert "the rest is not attributed" in part(found, "prefix_hit_rate")["note"]


@pytest.mark.parametrize("itl_ms", [0.01, 1e6])
def test_an_itl_that_cannot_be_is_said(model: FleetModel, itl_ms: float) -> None:
    seen = truth(demo(), qps=0.5)
    found = drift(demo(), replace(seen, latencies_ms={"itl_ms.mean": itl_ms}), model)
    assert told(found)["step_speed"] is None
    assert "however fast" in part(found, "step_speed")["note"]


def test_tokens_that_no_context_holds_are_said(model: FleetModel) -> None:
    """A mean of 9,000 tokens in a context of 4,096: the capacity model cannot follow, and nothing fails."""
    found = drift(demo(), window(demo(), prompt_tokens=9000.0, output_tokens=40.0), model)
    assert "no scale has a mean of" in part(found, "token_lengths")["note"]
    assert told(found)["token_lengths"] is None
    assert 0.0 == pytest.approx(found.document["total"]["fraction"])


@pytest.mark.parametrize(
    "changes",
    [
        {"queries_per_s": 1e12, "requests_per_s": 1e12},
        {"queries_per_s": 1e-12, "requests_per_s": 1e-12},
        {"queries_per_s": 1e12, "requests_per_s": 1e-9},
        {"queries_per_s": 1e-9, "requests_per_s": 1e9},
        {"replicas": 1e12},
        {"replicas": 0.2},
        {"cost_usd_per_hour": 0.0},
        {"cost_usd_per_hour": 1e15},
        {"prompt_tokens": 0.0, "output_tokens": 0.0},
        {"prompt_tokens": 1e15, "output_tokens": 1e-9},
        {"prompt_tokens": 1.0, "output_tokens": 1.0},
        {"prefix_hit_rate": 1.0, "latencies_ms": {"itl_ms.mean": 0.0}},
        {"window_s": 1e-3, "ended_unix_s": 0.0},
        {"window_s": 1e15},
        {"revenue_usd_per_s": -1e15, "busy_share": 0.0},
    ],
)
def test_absurd_figures_are_answered(model: FleetModel, changes: dict[str, Any]) -> None:
    """No traceback, nothing endless, no number that JSON has not; the parts add up wherever there is a whole."""
    found = drift(demo(), window(demo(), **changes), model)
    assert found.document == json.loads(json.dumps(found.document, allow_nan=False))
    whole = found.document["total"]["usd_per_query"]
    if whole is not None:
        parts = [usd for usd in told(found).values() if usd is not None]
        assert math.isclose(math.fsum(parts), whole, rel_tol=1e-9, abs_tol=1e-9 * max(map(abs, parts)))
    assert "Demo, a support bot" in str(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"asked": 5, "answered": 4}, "4 of 5 addresses answered"),
        ({"running": 40.0, "waiting": 90.0}, "saturated: 90 requests wait while 40 run"),
        (
            {"failed_per_s": 90.0},
            "90 model calls a second were aborted or failed, 75.0 % of those that ended",
        ),
        ({"restarts": 2}, "2 counters began anew"),
        ({"queries_per_s": 0.5, "requests_per_s": 0.5}, "only 300 queries in 600 s"),
    ],
)
def test_what_a_reader_must_know_is_said(model: FleetModel, changes: dict[str, Any], words: str) -> None:
    found = drift(demo(), window(demo(), **changes), model)
    assert any(words in note for note in found.document["notes"])
    assert words[1:] in " ".join(str(found).split())


def test_a_part_of_a_fleet_judges_neither_traffic_nor_utilisation(model: FleetModel) -> None:
    """Nor does it say how many replicas are wanted: what the silent ones carry is not known."""
    found = drift(
        demo(), window(demo(), asked=2, answered=1, replicas=1.0, queries_per_s=6.0, requests_per_s=6.0), model
    )
    assert {"asked": 2, "answered": 1} == found.document["sources"]
    assert [(None, None)] * 2 == [(part(found, cause)["holds"], part(found, cause)["mend"]) for cause in OF_ALL]
    assert part(found, "price")["holds"] is not None
    assert (None, None) == (found.document["capacity"]["qps"], found.document["capacity"]["replicas"]["wanted"])
    assert not found.within


@pytest.mark.parametrize(
    ("latencies_ms", "several", "expected", "because"),
    [
        ({"ttft_ms.p95": 800.0, "tpot_ms.p95": 60.1}, False, [True, False], "a limit itself is within"),
        ({"ttft_ms.p99": 2000.0}, False, [None, None], "another percentile is no answer"),
        ({"ttft_ms.p95": 700.0, "tpot_ms.p95": 59.0}, True, [None, True], "a call's TTFT is at most its query's"),
        ({"ttft_ms.p95": 900.0}, True, [False, None], "and a miss of calls one of queries"),
    ],
)
def test_a_service_level_is_met_missed_or_not_told(
    latencies_ms: dict[str, float], several: bool, expected: list[bool | None], because: str
) -> None:
    plan = replace(demo(), requests_per_query=2 if several else 1)
    rows, notes = levels_of(plan, window(plan, latencies_ms=latencies_ms))
    assert expected == [row["met"] for row in rows], because
    assert (INTERPOLATED in notes) == any(row["actual_ms"] is not None for row in rows)


def test_a_told_zero_of_tokens_is_said(model: FleetModel) -> None:
    found = drift(demo(), window(demo(), prompt_tokens=298.0, output_tokens=0.0), model)
    sources = {row["figure"]: row["from"] for row in found.document["assumed"]}
    assert sources["output_tokens"].endswith("the fleet tells 0, which no call has")
    assert "output as planned, not told" in part(found, "token_lengths")["note"]


def test_troubles_are_kept(model: FleetModel) -> None:
    trouble = Trouble("10.0.0.7:8000", "slow", "no answer within 5 s")
    found = drift(demo(), window(demo(), troubles=(trouble,)), model)
    assert [{"source": "10.0.0.7:8000", "reason": "slow", "text": "no answer within 5 s"}] == found.document["troubles"]
    assert "10.0.0.7:8000: no answer within 5 s (slow)" in str(found)


# --- plans of other kinds ---


def test_without_a_price_shares_are_told_and_dollars_are_not() -> None:
    plan = planned(document(prices__gpu_hour_usd=None))
    found = drift(
        plan, window(plan, queries_per_s=15.0, requests_per_s=15.0, cost_usd_per_hour=None), fleet_model(plan)
    )
    assert dict.fromkeys(told(found)) == told(found)
    assert 1.0 == pytest.approx(found.document["total"]["fraction"])
    assert 1.0 == pytest.approx(part(found, "traffic")["share"])
    assert found.document["cost"]["usd_per_query"] is None
    assert "share of the GPUs" in str(found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"traffic__peak_qps": None, "traffic__arrivals": {"closed": {"concurrency": 16}}},
            "a plan for closed demand has no rate to vary",
        ),
        (
            {"traffic__peak_qps": None, "traffic__arrivals": {"offline": {"requests": 500}}},
            "a plan for offline demand has no rate to vary",
        ),
    ],
)
def test_demand_without_a_rate_tells_what_needs_no_capacity_model(settings: dict[str, Any], words: str) -> None:
    """Traffic, price and utilisation are told; work is not."""
    plan = planned(document(**settings))
    found = drift(plan, replace(window(plan), queries_per_s=plan.queries_per_s[0] / 2), fleet_model(plan))
    assert {"token_lengths", "prefix_hit_rate", "step_speed"} == {
        cause for cause, usd in told(found).items() if usd is None
    }
    assert 1.0 == pytest.approx(found.document["total"]["fraction"])
    assert words in " ".join(str(found).split())
    assert (None, None) == (found.document["capacity"]["qps"], found.document["capacity"]["replicas"]["wanted"])


def test_hits_of_sessions_are_not_attributed() -> None:
    stage = {"name": "chat", "prompt_tokens": 100, "output_tokens": 20, "turns": 3, "think_s": 1.0}
    plan = planned(document(query__stages=[stage], traffic__peak_qps=8))
    seen = replace(window(plan), prefix_hit_rate=0.05)
    found = drift(plan, seen, fleet_model(plan))
    assert told(found)["prefix_hit_rate"] is None
    assert "not attributed" in part(found, "prefix_hit_rate")["note"]


# --- the hour ---

DAY = [0.5, *[1.0] * 22, 0.25]


@pytest.mark.parametrize(
    ("ended_s", "window_s", "offset_h", "expected", "hour", "because"),
    [
        (0.0 + 1800, 600.0, 0.0, 15.0, 0, "within the first hour, at half the peak"),
        (3600.0, 600.0, 0.0, 15.0, 0, "it ended as the second hour began"),
        (3900.0, 600.0, 0.0, 22.5, 1, "half of it in each: the mean of 15 and 30"),
        (300.0, 600.0, 0.0, 11.25, 0, "across midnight: the mean of 7.5 and 15"),
        (1800.0, 600.0, -1.0, 7.5, 23, "an hour west of UTC it is the day before"),
        (1800.0, 600.0, 5.5, 30.0, 5, "half hours count"),
        (7200.0, 7200.0, 0.0, 22.5, 1, "two hours"),
        (1800.0, 86_400.0, 0.0, 30 * 22.75 / 24, None, "a day: its mean"),
        (1800.0, 200_000.0, 0.0, 30 * 22.75 / 24, None, "more than a day: its mean too"),
    ],
)
def test_the_plan_is_that_of_the_windows_hours(
    ended_s: float, window_s: float, offset_h: float, expected: float, hour: int | None, because: str
) -> None:
    plan = replace(demo(), queries_per_s=tuple(30.0 * share for share in DAY))
    plan = replace(plan, scenario=plan.scenario.with_values({"monitor.utc_offset_h": offset_h}))
    rate, found = planned_rate(plan, 86_400.0 * 19_000 + ended_s, window_s)
    assert (pytest.approx(expected), hour) == (rate, found), because


def test_cost_is_held_against_the_plan_of_this_hour(model: FleetModel) -> None:
    """At 22:13 UTC the day's share is a half: a query costs twice the peak's, and that is as planned."""
    day = [1.0] * 24
    day[22] = 0.5
    plan = planned(document(traffic__day=day))
    half = window(plan, queries_per_s=15.0, requests_per_s=15.0)
    found = drift(plan, half, fleet_model(plan))
    assert (ENDED_UNIX_S, 22) == (found.document["ended_unix_s"], found.document["hour"])
    assert 0.0 == pytest.approx(found.document["total"]["fraction"], abs=1e-12)
    assert found.document["planned"]["usd_per_query"] == pytest.approx(4.0 / 3600 / 15)
    assert found.document["planned"]["day_usd_per_query"] == pytest.approx(4.0 * 24 / (3600 * 30 * 23.5))
