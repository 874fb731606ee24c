"""Who belongs to an event: by the arrival alone, so that the slow are not dropped; who met the next one too is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import planner
from planner.deployment.failure_changes import Event
from planner.deployment.failures import unended_warnings
from planner.deployment.service_levels import Span, groups_of
from planner.scenario import Scenario
from planner.simulation.fleet_record import LOST
from planner.summary.failures import failure_lines, failure_sentence

SCENARIO = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 8192, "max_num_seqs": 32},
    "traffic": {"peak_qps": 14},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 1000, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 300, "cv": 0.5}},
            }
        ]
    },
    "slo": {"p99_e2e_ms": "<=12000"},
    "fleet": {"replicas": 2},
}
STOP = {"stop": {"at_s": 300, "replicas": 1, "back_after_s": 60}}


def harmless(at_s: float) -> dict[str, Any]:
    return {"slow": {"at_s": at_s, "for_s": 5, "replicas": 1, "factor": 1.01}}


def simulated(*failures: dict[str, Any]) -> dict[str, Any]:
    asked = Scenario.from_dict(SCENARIO).with_values({"fleet.failures": list(failures)})
    return planner.simulate(asked, requests=12_000).as_dict()


def said_of(document: dict[str, Any]) -> str:
    return " ".join(" ".join(failure_lines(document["failures"])).split())


# an event from 100 s to 200 s, the next one at 300 s; looked at from 50 s on
WHO = [
    (40.0, 45.0, 0, set(), "before what is looked at"),
    (60.0, 100.0, 0, {"before"}, "over as it began"),
    (60.0, 101.0, 0, {"under_way"}, "it met the event in part"),
    (40.0, 150.0, 0, {"under_way"}, "so did one that came long before"),
    (60.0, 130.0, 1, {"in_hand", "during"}, "it was cut off"),
    (60.0, 100.0, 1, {"in_hand", "during"}, "and lost at once"),
    (100.0, 110.0, 0, {"during"}, "it came with the event"),
    (199.0, 250.0, 0, {"during"}, "and ended after it"),
    (200.0, 300.0, 0, {"after"}, "it came as the event ended, and was over before the next"),
    (250.0, 301.0, 0, {"after", "shared"}, "it met the next event too"),
    (150.0, 301.0, 0, {"during", "shared"}, "so did this, which came in this one"),
    (60.0, 301.0, 0, {"under_way", "shared"}, "and this, which came before both"),
    (60.0, 301.0, 1, {"in_hand", "during", "shared"}, "and this, which was cut off"),
    (300.0, 310.0, 0, set(), "it came with the next"),
]


def record(arrived_s: object, ended_s: object, lost: object = ()) -> SimpleNamespace:
    """What `groups_of` reads of a run."""
    why = np.zeros(len(np.asarray(arrived_s)), np.int8)
    why[list(lost)] = LOST
    times = {"arrival_s": np.asarray(arrived_s), "ended_s": np.asarray(ended_s)}
    return SimpleNamespace(load=SimpleNamespace(warmup=0), why_failed=why, **times)


@pytest.mark.parametrize(("arrived_s", "ended_s", "calls", "expected", "because"), WHO, ids=[row[-1] for row in WHO])
def test_who_belongs_to_an_event(arrived_s, ended_s, calls, expected, because):
    groups = groups_of(record([arrived_s], [ended_s]), Span(50.0, 100.0, 200.0, 300.0), np.array([calls]))
    masks = {name: among for name, among in groups._asdict().items() if name != "censored"}
    assert expected == {name for name, among in masks.items() if among[0]}, because


def test_a_query_that_the_next_event_loses_at_once_met_it():
    run, nobody = record([250.0, 250.0], [300.0, 300.0], lost=[1]), np.zeros(2, np.int64)
    groups = groups_of(run, Span(50.0, 100.0, 200.0, 300.0), nobody)
    assert ([True, True], [False, True]) == (groups.after.tolist(), groups.shared.tolist())


def test_of_two_events_at_one_instant_the_first_has_but_what_it_cut_off():
    run = record([60.0, 60.0, 100.0], [150.0, 150.0, 110.0])
    groups = groups_of(run, Span(50.0, 100.0, np.inf, 100.0), np.array([1, 0, 0]))
    assert [1, 0, 0, 0] == [int(among.sum()) for among in (groups.in_hand, *groups[1:2], *groups[3:5])]


def test_the_slow_among_the_last_before_an_event_are_not_dropped_alone():
    """One a second up to 1,000 s; every tenth takes 95 s, the others one: all who come before 910 s are over by then.

    Whoever was over by 1,000 s would be 990 of them, the slow among the last 90 missing.
    """
    arrived_s = np.arange(1000.0)
    ended_s = arrived_s + np.where(arrived_s % 10 == 0, 95.0, 1.0)
    groups = groups_of(record(arrived_s, ended_s), Span(0.0, 1000.0, np.inf, np.inf), np.zeros(1000, np.int64))
    assert (910, 91, False) == (
        int(groups.before.sum()),
        int((ended_s - arrived_s)[groups.before].__eq__(95.0).sum()),
        groups.censored,
    )
    short = groups_of(record(arrived_s, ended_s), Span(800.0, 1000.0, np.inf, np.inf), np.zeros(1000, np.int64))
    assert (191, True) == (int(short.before.sum()), short.censored), (
        "110 in full are too few: whoever was over, and said"
    )
    early = groups_of(record(arrived_s[:50], arrived_s[:50]), Span(0.0, 1000.0, np.inf, np.inf), np.zeros(50, np.int64))
    assert (50, False) == (int(early.before.sum()), early.censored), "few, and nobody is missing"


def test_harmless_events_take_no_blame_off_a_stop():
    """A stop of 60 s, and every 12 s one replica 1 % slower for a while: what answers of 40 s waited for is told."""
    document = simulated(STOP, *(harmless(300 + 12 * k) for k in range(1, 9)))
    assert [False] == [limit["met"] for limit in document["slo"]]
    stop, *_ = events = document["failures"]["events"]
    slow = events[4]
    assert (348.0, True) == (slow["at_s"], slow["worst"]["shared"])
    assert slow["worst"]["limits"][0]["value_ms"] > 37_000, "as much as the stop alone makes of it"
    assert stop["during"]["queries"] > stop["during"]["shared"] > 0
    sentence = failure_sentence(document["failures"])
    first = "Does NOT hold from stop of 1 replica at 300 s on (in part under 1 replica 1.01 × slower at 312 s): p99 E2E"
    assert sentence.startswith(first)
    assert "slower at 348 s on (with stop of 1 replica under way; in part under 1 replica 1.01 × slower at 360 s)" in (
        sentence
    )
    assert "in part under 1 replica 1.01 × slower at 312 s), not recovered from by 312 s" in said_of(document)
    assert [False, True] == [event["before"]["censored"] for event in events[:2]], "nothing came before the stop"
    assert "before, in part" in said_of(document)


def test_who_came_in_an_event_belongs_to_it_however_late_the_end():
    """The next event begins with the stop's end, 60 s later: each who came in between is in `during`."""
    document = simulated(STOP, harmless(360))
    stop, slow = document["failures"]["events"]
    alone = simulated(STOP)["failures"]["events"][0]
    assert alone["during"]["queries"] == stop["during"]["queries"]
    assert alone["during"]["limits"][0]["value_ms"] == pytest.approx(stop["during"]["limits"][0]["value_ms"], rel=0.01)
    assert stop["during"]["shared"] == slow["under_way"]["queries"] > 100, "they met the next one too"
    assert (0, False) == (alone["during"]["shared"], alone["worst"]["shared"])
    assert "in part under" not in failure_sentence({"events": [alone]})


def test_a_broken_limit_is_told_where_no_event_is():
    """Nothing of the stretches is beyond chance, and the whole run breaks the limit all the same."""
    unmet = {"key": "p99_e2e_ms", "limit_ms": 12_000.0, "value_ms": 32_648.0, "upper_ms": None, "met": False}
    event = {"key": "fleet.failures[0]", "what": "stop", "replicas": 1, "at_s": 9.0, "worst": None}
    said = "Does NOT hold over the whole run: p99 E2E 32,648 ms over 12,000 ms, told apart by no event."
    assert said == failure_sentence({"events": [event], "unmet": [unmet]})
    assert "" == failure_sentence({"events": [event], "unmet": []})
    other = unmet | {"key": "p95_ttft_ms", "value_ms": 13_000.0}
    event["worst"] = {"queries": 200, "limits": [other], "beyond_chance": True}
    both = failure_sentence({"events": [event], "unmet": [unmet, other]})
    assert both.startswith("Does NOT hold from stop of 1 replica at 9 s on: p95 TTFT 13,000 ms")
    assert both.endswith(said), "a limit that the event's sentence does not name"
    met = simulated(harmless(300))
    assert ([True], [], "") == (
        [limit["met"] for limit in met["slo"]], met["failures"]["unmet"], failure_sentence(met["failures"])
    )  # fmt: skip


def test_what_the_whole_run_breaks_stands_among_the_failures():
    """Events of one instant late in a run that was too slow all along: the text is never silent."""
    asked = Scenario.from_dict(SCENARIO).with_values(
        {"fleet.failures": [harmless(60)], "slo": {"p99_e2e_ms": "<=5000", "p50_e2e_ms": "<=12000"}}
    )
    document = planner.simulate(asked, requests=2000).as_dict()
    assert ["p99_e2e_ms"] == [limit["key"] for limit in document["failures"]["unmet"]]
    assert [limit for limit in document["slo"] if not limit["met"]] == document["failures"]["unmet"]
    assert failure_sentence(document["failures"]).startswith("Does NOT hold ")


LONGER = [
    ("open", "a longer run (--duration) shows it", "its length can be asked for"),
    ("closed", "more of traffic.arrivals.closed.requests shows it", "--duration has no effect"),
    ("offline", "more of traffic.arrivals.offline.requests shows it", "likewise"),
    ("trace", "a longer trace shows it", "it is as long as it is"),
]


@pytest.mark.parametrize(("demand", "advice", "because"), LONGER, ids=[row[0] for row in LONGER])
def test_what_would_show_the_end_of_an_event_hangs_on_the_load(demand, advice, because):
    run, event = SimpleNamespace(changed_s=np.array([4.0, np.nan])), Event("fleet.failures[0]", "stop", 0, 1, True)
    (line,) = unended_warnings(run, [event], demand)
    assert line.endswith(f"not simulated; {advice}"), because
    assert [] == unended_warnings(run, [Event("fleet.failures[0]", "stop", 0, 0, True)], demand), "it ended"
