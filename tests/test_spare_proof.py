"""The proof of the spare replicas: whom it judges, by what, over how long a run, on which seeds, and how it is told."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.deployment import Deployment, Length, deploy, make_load, only_candidate, run
from planner.scenario import Scenario
from planner.simulation.kernel_state import Gaps
from planner.simulation.limits import Check, held_gaps, windows_around
from planner.simulation.load import Load, as_far_as
from planner.simulation.service import Service
from planner.sizing import spare
from planner.sizing.spare import spare_proof, verdict_of
from planner.specs import Limit
from planner.summary.failures import spare_lines
from tests.failing_fleets import LONG_ANSWERS

SESSIONS = Path(__file__).parents[1] / "examples" / "routing-sessions.yaml"
SCENARIO = LONG_ANSWERS
STEADY = SCENARIO | {
    "engine": {"quantization": "fp8", "max_model_len": 8192},
    "traffic": {"peak_qps": 60},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 1200, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 200, "cv": 0.5}},
            }
        ]
    },
    "slo": {"p99_ttft_ms": "<=250"},
    "fleet": {"spare_replicas": 1},
}


def loaded(scenario: Scenario, length: Length, seed: int = 0) -> tuple[Deployment, Load]:
    deployment = deploy(only_candidate(scenario, "simulate"))
    return deployment, make_load(scenario, deployment.config.max_model_len, seed, length)


def proved(scenario: Scenario, length: Length, replicas: int = 3) -> dict[str, Any]:
    deployment, load = loaded(scenario, length)
    proof = spare_proof(deployment, scenario, load, replicas, 0)
    assert proof is not None
    return proof


def row_after(deployment: Deployment, scenario: Scenario, load: Load, seed: int) -> dict[str, Any]:
    """The first limit of a proof of one of four, by a run of this load."""
    proof = spare_proof(deployment, scenario, load, 4, seed)
    assert proof is not None
    return dict(proof["after"]["limits"][0])


def said_of(proof: dict[str, Any]) -> str:
    return " ".join(" ".join(spare_lines(proof)).split())


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many queries each run had that a proof made."""
    seen: list[int] = []
    through = spare.run_through

    def noted(deployment: Deployment, load: Load, *rest: Any) -> Any:
        seen.append(load.queries)
        return through(deployment, load, *rest)

    monkeypatch.setattr(spare, "run_through", noted)
    return seen


# --- whom it judges ---


@pytest.mark.parametrize("counted", [2000, 5000, 20_000])
def test_the_verdict_does_not_hang_on_the_length_of_the_run(counted: int):
    """Some thirty are in hand at the stop whatever it is, far beyond the limit; three replicas hold it by a quarter."""
    proof = proved(Scenario.from_dict(STEADY), Length(counted, 1000, 200), 4)
    assert "holds" == proof["verdict"]
    assert proof["after"]["limits"][0]["value_ms"] < 210
    assert proof["in_hand"]["limits"][0]["value_ms"] > 1000


def test_every_counted_query_is_told_once_and_nine_tenths_are_judged():
    proof = proved(Scenario.from_dict(STEADY), Length(8000, 1000, 200), 4)
    told = [proof[name]["queries"] for name in ("before", "in_hand", "under_way", "after")]
    assert 0.97 * 8000 < sum(told) < 8000, "but for those who came after the oldest under way and were over"
    assert told[-1] / 8000 == pytest.approx(0.9, abs=0.01)
    assert proof["in_hand"]["retried"] == proof["retried"] == told[1] > 0
    assert (False, 0) == (proof["before"]["censored"], proof["under_way"]["shared"])


def test_those_that_the_stop_lost_are_told_and_not_judged():
    scenario = Scenario.from_dict(SCENARIO).with_values({"fleet.spare_replicas": 2, "fleet.retry": False})
    lost = proved(scenario, Length(700, 50, 0))
    hit = lost["in_hand"]
    assert (True, 0) == (lost["slo_met_after"], lost["after"]["failed"])
    assert hit["failed"] == hit["queries"] > 1
    assert f"those that the stopped ones had in hand: {hit['queries']} queries were lost." in said_of(lost)
    again = proved(scenario.with_values({"fleet.retry": True}), Length(700, 50, 0))
    assert (True, 0) == (again["slo_met_after"], again["in_hand"]["failed"])
    assert "queries began again elsewhere (median TTFT" in said_of(again)


# --- by what ---


def test_the_proof_shows_what_each_limit_judges():
    """p95 TTFT and the mean of ITL, before and after, each with the end of its interval."""
    slo = {"p95_ttft_ms": "<=300", "mean_itl_ms": "<=60"}
    proof = proved(Scenario.from_dict(SCENARIO | {"slo": slo}), Length(8000, 500, 60))
    assert ("holds", True, False) == tuple(proof[key] for key in ("verdict", "slo_met_after", "saturated_after"))
    for row in (proof["before"], proof["after"]):
        assert ["p95_ttft_ms", "mean_itl_ms"] == [limit["key"] for limit in row["limits"]]
    for limit in proof["after"]["limits"]:
        assert limit["value_ms"] < limit["upper_ms"] <= limit["limit_ms"]
    assert f"Over the {proof['after']['queries']:,} queries that came afterwards every limit still" in said_of(proof)
    assert "p95 TTFT ≤ 300 ms" in said_of(proof)


def test_an_itl_limit_is_judged_by_the_gaps_and_not_by_their_means():
    """Prompts of 3,000 tokens stop the others' tokens: gaps of 61 ms while a request's mean is 12 ms."""
    changes = {"query.stages[0].prompt_tokens": 3000, "query.stages[0].output_tokens": 100}
    scenario = Scenario.from_dict(STEADY | {"traffic": {"peak_qps": 12}, "slo": {"p99_itl_ms": "<=40"}})
    scenario = scenario.with_values(changes)
    proof = proved(scenario, Length(4000, 500, 100))
    deployment, load = loaded(scenario, Length(4000, 500, 100))
    (without,) = run(deployment, scenario, load, 2, 0).checks
    (after,) = proof["after"]["limits"]
    assert ("fails", False, "interval") == (proof["verdict"], without.met, after["judged_by"])
    assert after["value_ms"] == pytest.approx(without.value_ms, rel=0.03)
    assert proof["before"]["limits"][0]["value_ms"] > 40 > proof["after"]["tpot_ms"]["p99"]
    assert ("TPOT", True) == tuple(proof["under_way"]["limits"][0][key] for key in ("judged_by", "met"))


GAPS = Gaps(np.array([[4.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]), np.array([4.0, 4.0, 6.0, 8.0]), 10.0, 5.0)
AROUND = [
    (15.0, slice(1), slice(1, None), "where a window begins"),
    (15.0 + 1e-12, slice(1), slice(1, None), "but for rounding"),
    (17.0, slice(1), slice(2, None), "the window in which it lies belongs to neither"),
    (5.0, slice(0), slice(0, None), "before them all"),
    (99.0, slice(3), slice(3, None), "the last one is open at its end"),
]


@pytest.mark.parametrize(("at_s", "ended", "begun", "because"), AROUND, ids=[row[-1] for row in AROUND])
def test_windows_are_before_or_after_an_instant(at_s: float, ended: slice, begun: slice, because: str):
    assert (ended, begun) == windows_around(GAPS, at_s), because


def test_of_a_single_window_nothing_is_known_about_the_spread():
    whole = GAPS._replace(count=GAPS.count.sum(axis=0, keepdims=True), total_s=np.array([22.0]), window_s=inf)
    assert (slice(0), slice(0, None)) == windows_around(whole, 99.0)


def test_gaps_of_some_windows_by_hand():
    """Means of 2, 3 and 4 s in three windows; a failed query makes a mean infinite, one of another group does not."""
    five = np.zeros(5)
    failed = np.array([True, False, False, False, False])
    load = Load(five, five.astype(np.int32) + 1, five.astype(np.int32) + 1)
    ended_s = np.array([12.0, 16.0, 21.0, 26.0, 99.0])
    service = Service(load, five, five, failed, ended_s, five, five, GAPS)
    limit, among = Limit("itl", "mean", None, 3500.0), ~failed
    held = held_gaps(limit, service, among, slice(1, None), steady=False)
    assert (3000.0, True, "own statistic") == (held.value_ms, held.met, held.judged_by)
    settled = held_gaps(limit, service, among, slice(1, None), steady=True, settling=1)
    assert settled.upper_ms == pytest.approx(3000.0 + 12.706205 * np.std([3000, 4000], ddof=1) / np.sqrt(2))
    assert inf == held_gaps(limit, service, failed | among, slice(0, None), steady=False).value_ms


# --- over how long a run ---


@pytest.mark.parametrize("limit", ["<=1", "<=60000"], ids=["fails", "holds"])
def test_all_of_the_load_is_run_once_whatever_it_shows(limit: str, lengths: list[int]):
    proof = proved(Scenario.from_dict(SCENARIO | {"slo": {"p99_e2e_ms": limit}}), Length(4000, 500, 60))
    assert {"<=1": "fails", "<=60000": "holds"}[limit] == proof["verdict"]
    assert [4560] == lengths
    assert proof["after"]["queries"] > 3500


@pytest.mark.parametrize(("seed", "verdict"), [(0, "holds"), (4, "holds"), (8, "undecided"), (9, "undecided")])
def test_near_a_limit_the_verdict_is_that_of_all_queries(seed: int, verdict: str):
    """The limit lies between the upper end of the load's first half and that of all of it: they do not agree."""
    scenario = Scenario.from_dict(STEADY)
    deployment, load = loaded(scenario, Length(20_000, 1000, 200), seed)
    whole, half = (row_after(deployment, scenario, part, seed) for part in (load, as_far_as(load, 11_200)))
    limit_ms = (whole["upper_ms"] + half["upper_ms"]) / 2
    assert (verdict == "holds") == (half["upper_ms"] > limit_ms), "the half says the opposite"
    asked = scenario.with_values({"slo.p99_ttft_ms": f"<={limit_ms:.4f}"})
    proof = spare_proof(deployment, asked, load, 4, seed)
    assert proof is not None
    assert (verdict, whole["upper_ms"]) == (proof["verdict"], proof["after"]["limits"][0]["upper_ms"])


def test_a_limit_within_the_error_of_its_figure_is_undecided():
    """The whole load, its limit put at the judged value: neither side of the interval clears it."""
    scenario = Scenario.from_dict(SCENARIO)
    failing = proved(scenario.with_values({"slo.p99_e2e_ms": "<=1"}), Length(4000, 500, 60))
    value_ms = failing["after"]["limits"][0]["value_ms"]
    proof = proved(scenario.with_values({"slo.p99_e2e_ms": f"<={value_ms - 0.001:.4f}"}), Length(4000, 500, 60))
    assert ("undecided", None) == (proof["verdict"], proof["slo_met_after"])
    assert "undecided" in said_of(proof)


def test_a_fleet_that_is_too_small_after_the_stop_is_said_to_be():
    """Two of three gone under a load that one cannot carry: the backlog grows, whatever the limit allows."""
    scenario = Scenario.from_dict(SCENARIO | {"traffic": {"peak_qps": 60}, "slo": {"p50_e2e_ms": "<=1e7"}})
    scenario = scenario.with_values({"fleet.spare_replicas": 2})
    deployment = deploy(only_candidate(scenario, "simulate"))
    proof = spare_proof(deployment, scenario, make_load(scenario, 8192, 0, Length(8000, 500, 100)), 3, 0)
    assert proof is not None
    assert ("fails", True) == (proof["verdict"], proof["saturated_after"])
    assert "the backlog grows" in " ".join(" ".join(spare_lines(proof)).split())


@pytest.mark.parametrize(
    ("value_ms", "upper_ms", "verdict"),
    [(90, 99, "holds"), (90, 101, "undecided"), (110, 125, "undecided"), (110, 115, "fails"), (90, inf, "undecided"),
     (inf, inf, "fails")],
)  # fmt: skip
def test_a_verdict_is_as_wide_as_the_interval(value_ms: float, upper_ms: float, verdict: str):
    assert verdict == verdict_of(Check("k", 100.0, value_ms, upper_ms, "interval", upper_ms <= 100.0))


WORST = [
    ("undecided", False, False, "one of many stretches is bad by chance"),
    ("undecided", None, False, "too few came before the stop to say"),
    ("holds", True, True, "chance does not do that"),
    ("fails", False, True, "a limit is broken anyway: this is where"),
]


@pytest.mark.parametrize(("verdict", "beyond", "told", "because"), WORST, ids=[row[-1] for row in WORST])
def test_the_worst_stretch_is_told_with_its_seconds_unless_chance_may_have_done_it(verdict, beyond, told, because):
    row = {"key": "p99_ttft_ms", "limit_ms": 250.0, "value_ms": 600.0, "upper_ms": None, "met": False}
    after = {"queries": 44_928, "limits": [row | {"value_ms": 251.0, "upper_ms": 300.0, "verdict": verdict}]}
    worst = {"from_s": 384.3, "to_s": 400.44, "queries": 998, "limits": [row], "beyond_chance": beyond}
    proof = {"replicas": 6, "stopped": 1, "verdict": verdict, "after": after, "worst": worst, "recovered_s": 401.0}
    said = "Who came from 384 s to 400 s after the stop: p99 TTFT 600 ms over 250 ms in the worst 998 queries"
    assert told == (said in said_of(proof)), because
    assert told == ("worst" in said_of(proof)), because


# --- on which seeds ---


def sessions(**changes: Any) -> Scenario:
    base = {"query.stages[0].think_s": 30, "traffic.peak_qps": 18, "fleet.spare_replicas": 1}
    return Scenario.load(SESSIONS).with_values(base | changes)


def test_near_the_collapse_of_a_cache_it_holds_only_if_it_does_on_other_seeds(lengths: list[int]):
    """Four of five hold on seeds 0 and 1, and collapse on seed 2."""
    proof = proved(sessions(), Length(10_419, 2589, 702), 5)
    assert ("fails", [0, 1, 2], 2) == tuple(proof[key] for key in ("verdict", "seeds", "seed"))
    assert [13_710] * 3 == lengths
    alone = sessions()
    deployment, load = loaded(alone, Length(10_419, 2589, 702), 2)
    own = spare_proof(deployment, alone, load, 5, 2)
    assert own is not None
    assert (own["after"], [2]) == (proof["after"], own["seeds"])  # no other is tried where the own does not hold
    assert "the limits do NOT hold, on seed 2 (run on seeds 0, 1, 2: near the collapse" in said_of(proof)


def test_where_all_seeds_hold_it_says_so():
    asked = sessions(**{"query.stages[0].think_s": 10, "traffic.peak_qps": 36})
    proof = proved(asked, Length(10_000, 2658, 1404), 5)
    assert ("holds", [0, 1, 2], 0) == tuple(proof[key] for key in ("verdict", "seeds", "seed"))
    assert "every limit still holds, on seeds 0, 1, 2 (near the collapse" in said_of(proof)


def test_far_from_the_collapse_the_own_seed_decides():
    proof = proved(Scenario.from_dict(SCENARIO), Length(2000, 500, 60))
    assert ([0], 0) == (proof["seeds"], proof["seed"])
    assert "seed" not in said_of(proof)


def test_sessions_that_do_not_hold_are_run_on_no_other_seed(lengths: list[int]):
    proof = proved(sessions(**{"slo": {"p95_ttft_ms": "<=1"}}), Length(4000, 1000, 300), 5)
    assert "fails" == proof["verdict"]
    assert [5300] == lengths
