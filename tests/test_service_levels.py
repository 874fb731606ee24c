"""What an event does to service levels: judged statistics, the worst stretch, recovery, saturation; how it is told."""

from __future__ import annotations

import numpy as np
import pytest

import planner
from planner.deployment.service_levels import LEAST_STRETCH, worst_stretch
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.simulation.limits import held_among, held_settling, stretches
from planner.simulation.outcome import Latencies
from planner.simulation.service import only
from planner.specs import Limit
from planner.summary.failures import failure_lines, failure_sentence
from tests.failing_fleets import SHORT_ANSWERS

P95 = Limit("ttft", "p95", 95.0, 100.0)
SCENARIO = SHORT_ANSWERS


def latencies(ttft_ms: list[float] | np.ndarray) -> Latencies:
    """One-token answers, one a second."""
    values = np.array(ttft_ms, np.float64)
    return Latencies(values, values, values, np.zeros(0), np.zeros(0, np.int64))


def told(ttft_ms: np.ndarray, begins_s: float) -> dict:
    """The worst of one query a second, around an event."""
    at_s = np.arange(len(ttft_ms), dtype=np.float64)
    return worst_stretch((P95,), latencies(ttft_ms), at_s, at_s < begins_s, at_s >= begins_s, begins_s)


def test_a_hump_is_found_and_so_is_its_end():
    """Of 800 queries after the event the second 200 are late; the 200 after them are not."""
    ttft_ms = np.full(1400, 50.0)
    ttft_ms[800:1000] = 300.0
    row = told(ttft_ms, 600.0)
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


BEFORE = [60.0, 100.0, 60.0, 100.0]  # ms; their standard deviation is 23.09 ms, three of them 69.3 ms
EXCESS = [
    (BEFORE, 160.0, False, "60 ms beyond the limit of 100 ms is within three standard deviations"),
    (BEFORE, 175.0, True, "75 ms is not, though of the mean before it that is no three deviations"),
    (BEFORE, 90.0, False, "nothing is broken"),
    ([60.0, 60.0, 60.0], 101.0, True, "what never varied does not by chance"),
    ([60.0, 100.0], 500.0, None, "two stretches tell no spread"),
    ([60.0, 100.0], 90.0, False, "nothing is broken, whatever the spread"),
    ([60.0, np.inf, 60.0, 60.0], 500.0, None, "nor does one in which too many failed"),
    (BEFORE, np.inf, True, "too many failed in it"),
]


@pytest.mark.parametrize(("before_ms", "value_ms", "beyond", "because"), EXCESS, ids=[row[-1] for row in EXCESS])
def test_an_excess_is_held_against_what_chance_did_before(before_ms, value_ms, beyond, because):
    row = told(np.repeat([*before_ms, value_ms, 60.0], LEAST_STRETCH), float(len(before_ms) * LEAST_STRETCH))
    assert beyond is row["worst"]["beyond_chance"], because


def test_the_spread_is_that_of_the_limit_that_is_exceeded():
    """E2E varied by 100 ms before, TTFT not at all: 10 ms too much of TTFT are no chance."""
    limits = (P95, Limit("e2e", "p95", 95.0, 10_000.0))
    ttft_ms, e2e_ms = (
        np.repeat([90.0] * 4 + [110.0], LEAST_STRETCH),
        np.repeat([100.0, 300.0] * 2 + [100], LEAST_STRETCH),
    )
    every = Latencies(ttft_ms, ttft_ms, e2e_ms, np.zeros(0), np.zeros(0, np.int64))
    at_s = np.arange(len(ttft_ms), dtype=np.float64)
    row = worst_stretch(limits, every, at_s, at_s < 800, at_s >= 800, 800.0)
    assert row["worst"]["beyond_chance"] is True


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
    assert held_settling(mean, ttft_ms, 1).upper_ms == pytest.approx(59.5)
    assert held_settling(mean, ttft_ms, 0).upper_ms > 100.0


def test_of_some_queries_alone_an_itl_limit_is_held_against_their_mean_gaps():
    every = Latencies(*(np.array([1.0, 2.0]),) * 3, np.array([10.0, 20.0]), np.array([0, 1]))
    check = held_among(Limit("itl", "mean", None, 12.0), every)
    assert ("TPOT", 15.0, False) == (check.judged_by, check.value_ms, check.met)
    assert "own statistic" == held_among(P95, every).judged_by
    none = held_among(Limit("itl", "mean", None, 12.0), latencies([1.0, 2.0]))
    assert (None, True) == (none.value_ms, none.met)  # nobody has a second token


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
    assert 20 <= first["worst"]["from_s"] < first["worst"]["to_s"] < 60
    assert first["worst"]["limits"][0]["met"] is True
    assert second["worst"]["limits"][0]["met"] is False
    assert second["factor"] == 6
    assert [(60.0, None, []), (None, None, [])] == [
        tuple(event[key] for key in ("told_to_s", "overlapped_by", "within")) for event in (first, second)
    ]


def test_before_an_event_are_none_that_it_met():
    """All replicas four times slower: what was in hand is, too, and was well before."""
    slow = {"slow": {"replicas": 3, "at_s": 60, "for_s": 40, "factor": 4}}
    scenario = (
        Scenario.from_dict(SCENARIO | {"slo": {"p95_tpot_ms": "<=20"}})
        .with_values({"fleet.failures": [slow], "traffic.peak_qps": 20, "query.stages[0].output_tokens": 1000})
        .with_values({"query.stages[0].prompt_tokens": 300})
    )
    document = planner.simulate(scenario, requests=3000).as_dict()
    (event,) = document["failures"]["events"]
    before, under_way = (event[when]["limits"][0] for when in ("before", "under_way"))
    assert before["value_ms"] < 10
    assert under_way["value_ms"] > 20
    assert (True, True) == (event["held_before"], event["worst"]["beyond_chance"])
    assert "nor just before it" not in failure_sentence(document["failures"])
    assert any("(under way)" in line and "FAILS" in line for line in failure_lines(document["failures"]))


def test_an_overlapping_event_does_not_charge_the_one_before():
    """One of four stops for 20 s, which does nothing; from 15 s on all are eight times slower."""
    stop = {"stop": {"replicas": 1, "at_s": 60, "back_after_s": 20}}
    slow = {"slow": {"replicas": 4, "at_s": 75, "for_s": 30, "factor": 8}}
    document = asked([stop, slow], replicas=4)
    first, second = document["failures"]["events"]
    assert (75.0, "fleet.failures[1]", [], None) == tuple(
        first[key] for key in ("told_to_s", "overlapped_by", "within", "after")
    )
    assert first["during"]["limits"][0]["met"] is first["worst"]["limits"][0]["met"] is True
    assert (None, ["fleet.failures[0]"]) == (second["overlapped_by"], second["within"])
    sentence = failure_sentence(document["failures"])
    assert "Does NOT hold from 4 replicas 8 × slower at 75 s on (with stop of 1 replica under way):" in sentence
    assert "from stop" not in sentence
    said = " ".join(" ".join(failure_lines(document["failures"])).split())
    assert "Stop of 1 replica at 60 s: overlapped by 4 replicas 8 × slower at 75 s, told up to then." in said


def test_events_of_one_instant_are_not_told_apart():
    """The last has the figures of both, and says whose they are."""
    stop, slow = {"stop": {"replicas": 1, "at_s": 60}}, {"slow": {"replicas": 3, "at_s": 60, "for_s": 40, "factor": 8}}
    document = asked([stop, slow])
    first, second = document["failures"]["events"]
    assert [None] * 4 == [first[key] for key in ("during", "after", "worst", "under_way")]
    assert first["in_hand"]["queries"] > 0
    assert second["before"]["queries"] > 1000
    assert ["fleet.failures[0]"] == second["within"]
    said = " ".join(" ".join(failure_lines(document["failures"])).split())
    assert "Stop of 1 replica at 60 s: overlapped by 3 replicas 8 × slower at 60 s, not told apart." in said
    assert "(with stop of 1 replica under way)" in failure_sentence(document["failures"])


def test_what_cannot_be_told_from_chance_is_told_with_that_doubt():
    """The event comes so early that hardly anybody was there before it."""
    document = asked([{"slow": {"replicas": 3, "at_s": 8, "for_s": 40, "factor": 8}}])
    (event,) = document["failures"]["events"]
    assert event["worst"]["beyond_chance"] is None
    assert "(too few came before it to say whether by chance)" in failure_sentence(document["failures"])


def test_the_tables_of_an_itl_limit_name_the_tpot_that_they_show():
    scenario = Scenario.from_dict(SCENARIO | {"slo": {"p99_itl_ms": "<=1"}})
    document = planner.simulate(scenario.with_values({"fleet.failures": [{"stop": {"at_s": 30}}]}), requests=4000)
    failures = document.as_dict()["failures"]
    assert "p99 TPOT, for ITL" in failure_lines(failures)[0]
    assert "p99 TPOT, for ITL" in failure_sentence(failures)
    assert {"TPOT"} == {limit["judged_by"] for limit in failures["events"][0]["worst"]["limits"]}


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
