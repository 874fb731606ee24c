"""What an event does to service levels: judged statistics, the worst stretch, recovery, saturation; how it is told."""

from __future__ import annotations

import numpy as np
import pytest

import planner
from planner.deployment.service_levels import LEAST_STRETCH, worst_stretch
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.simulation.limits import held_among, stretches
from planner.simulation.outcome import Latencies
from planner.simulation.service import only
from planner.specs import Limit
from planner.summary.failures import failure_lines, failure_sentence

P95 = Limit("ttft", "p95", 95.0, 100.0)
SCENARIO = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"quantization": "fp8", "max_model_len": 4096},
    "traffic": {"peak_qps": 40},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1200, "output_tokens": 200}]},
    "slo": {"p95_ttft_ms": "<=1000"},
    "fleet": {"replicas": 3},
}


def latencies(ttft_ms: list[float] | np.ndarray) -> Latencies:
    """One-token answers, one a second."""
    values = np.array(ttft_ms, np.float64)
    return Latencies(values, values, values, np.zeros(0), np.zeros(0, np.int64))


def told(ttft_ms: np.ndarray, begins_s: float) -> dict:
    """The worst of one query a second, around an event."""
    at_s = np.arange(len(ttft_ms), dtype=np.float64)
    return worst_stretch((P95,), latencies(ttft_ms), at_s, (at_s < begins_s, at_s >= begins_s), begins_s)


def test_a_hump_is_found_and_so_is_its_end():
    """Of 800 queries after the event the second 200 are late; the 200 after them are not."""
    ttft_ms = np.full(1200, 50.0)
    ttft_ms[600:800] = 300.0
    row = told(ttft_ms, 400.0)
    assert (200.0, 399.0, LEAST_STRETCH) == tuple(row["worst"][key] for key in ("from_s", "to_s", "queries"))
    assert row["worst"]["limits"][0]["value_ms"] == 300.0
    assert (400.0, True, True) == (row["recovered_s"], row["held_before"], row["worst"]["beyond_chance"])


@pytest.mark.parametrize(
    ("late", "recovered_s", "because"),
    [
        (slice(400, 1200), None, "it never holds again"),
        (slice(0, 0), None, "there is nothing to recover from"),
        (slice(400, 600), 200.0, "the stretch after the event's first is well"),
    ],
)
def test_recovery_is_told_where_there_is_one(late: slice, recovered_s: float | None, because: str):
    ttft_ms = np.full(1200, 50.0)
    ttft_ms[late] = 300.0
    assert recovered_s == told(ttft_ms, 400.0)["recovered_s"], because


def test_a_stretch_that_is_bad_by_chance_is_said_to_be():
    """Stretches before have p95s of 60 and 100 ms; 110 ms afterwards is within their spread, 500 ms is not."""
    for value_ms, beyond in ((110.0, False), (500.0, True)):
        ttft_ms = np.repeat([60.0, 100.0, 60.0, 100.0, value_ms, 60.0], LEAST_STRETCH)
        row = told(ttft_ms, 4.0 * LEAST_STRETCH)
        assert (value_ms, beyond) == (row["worst"]["limits"][0]["value_ms"], row["worst"]["beyond_chance"])


def test_some_queries_alone_keep_their_own_requests():
    """Query 1 has one request of more than one token, query 2 has two; asked for in the order 2, 0, 1."""
    every = Latencies(*(np.array([1.0, 2.0, 3.0]),) * 3, np.array([10.0, 20.0, 21.0]), np.array([1, 2, 2]))
    some = only(every, np.array([2, 0, 1]))
    assert some.ttft_ms.tolist() == [3.0, 1.0, 2.0]
    assert (some.tpot_ms.tolist(), some.tpot_batch.tolist()) == ([20.0, 21.0, 10.0], [0, 0, 2])
    assert only(every, np.array([1])).tpot_ms.tolist() == [10.0]


def test_what_happened_in_settling_batches_counts_into_the_value_and_not_into_its_spread():
    """20 batches of 10; the first is at 1,000 ms, the others at 10 ms: the mean is 59.5 ms, beyond the first known."""
    mean = Limit("ttft", "mean", None, 100.0)
    ttft_ms = latencies(np.repeat([1000.0] + [10.0] * 19, 10))
    assert stretches(mean, ttft_ms, 20)[:2] == [1000.0, 10.0]
    assert held_among(mean, ttft_ms, steady=True, settling=1).upper_ms == pytest.approx(59.5)
    assert held_among(mean, ttft_ms, steady=True).upper_ms > 100.0
    itl = Limit("itl", "mean", None, 100.0)
    assert held_among(itl, ttft_ms, steady=True).value_ms is None  # nobody has a second token


def asked(failures: list, **fleet: object) -> dict:
    scenario = Scenario.from_dict(SCENARIO | {"fleet": {"replicas": 3, **fleet, "failures": failures}})
    return planner.simulate(scenario, requests=8000).as_dict()


def test_a_stop_for_good_that_leaves_too_few_saturates_the_fleet():
    """One replica cannot carry 40 queries/s: two of three gone for good, the backlog grows to the end."""
    document = asked([{"stop": {"replicas": 2, "at_s": 30}}])
    assert (True, False) == (document["saturated"], document["slo_met"])
    (event,) = document["failures"]["events"]
    assert (2, 30.0, None, None) == tuple(event[key] for key in ("replicas", "at_s", "until_s", "recovered_s"))
    assert "SATURATED" in str_of(document)


def test_a_stop_that_is_survived_does_not():
    document = asked([{"stop": {"replicas": 2, "at_s": 30, "back_after_s": 20}}])
    assert document["saturated"] is False
    (event,) = document["failures"]["events"]
    assert event["held_before"] is True
    (judged,) = event["during"]["limits"]
    assert ("p95_ttft_ms", False) == (judged["key"], judged["met"])
    assert 20 < event["recovered_s"] < 100
    headline = str_of(document).split("Limits")[0]
    assert "Does NOT hold from stop of 2 replicas at 30 s on: p95 TTFT" in headline
    assert "recovered after" in headline


def test_who_was_in_hand_is_told_apart():
    """Their first token comes from the second attempt."""
    (event,) = asked([{"stop": {"replicas": 1, "at_s": 30}}])["failures"]["events"]
    hit = event["in_hand"]
    assert hit["retried"] == hit["queries"] > 0
    assert hit["ttft_ms"]["p50"] > 3 * event["before"]["ttft_ms"]["p50"]


def test_an_event_without_end_is_told_up_to_the_next():
    """The second event slows all for a while; the first one's worst stretch lies before it."""
    stop, slow = {"stop": {"replicas": 1, "at_s": 20}}, {"slow": {"replicas": 3, "at_s": 60, "for_s": 40, "factor": 6}}
    first, second = asked([stop, slow])["failures"]["events"]
    assert first["worst"]["to_s"] < 40
    assert first["worst"]["limits"][0]["met"] is True
    assert second["worst"]["limits"][0]["met"] is False
    assert second["factor"] == 6


def test_failures_without_limits_are_told_by_percentiles():
    scenario = Scenario.from_dict(SCENARIO | {"slo": {}, "fleet": {"replicas": 3, "failures": [{"stop": {"at_s": 9}}]}})
    document = planner.simulate(scenario, requests=2000).as_dict()
    (event,) = document["failures"]["events"]
    assert (None, None) == (event["worst"], event["held_before"])
    assert "p99 E2E" in failure_lines(document["failures"])[0]
    assert failure_sentence(document["failures"]) == ""


def test_one_replica_that_nobody_asked_for_is_said():
    """The same fleet, asked for and not."""
    for fleet, said in (({}, True), ({"replicas": 1}, False)):
        scenario = Scenario.from_dict(SCENARIO | {"slo": {"p95_ttft_ms": "<=1"}, "fleet": fleet})
        assert said == ("fleet.replicas is not given" in str_of(planner.simulate(scenario, requests=500).as_dict()))


def test_failures_that_would_take_more_memory_than_there_is_are_refused():
    failures = [{"stop": {"replicas": 1, "at_s": 1e7}}]
    scenario = Scenario.from_dict(SCENARIO | {"fleet": {"replicas": 3, "failures": failures}})
    with pytest.raises(ScenarioError, match=r"fleet\.failures: make a run of .* model calls.*nearest: let all of them"):
        planner.simulate(scenario)


def str_of(document: dict) -> str:
    from planner.summary import simulation_text

    return simulation_text(document)
