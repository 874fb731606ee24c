"""Near the collapse of the prefix cache one run is one of two states: it is said, and a plan looks at both."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import Scenario, plan, simulate
from planner.deployment.collapse import Pause, collapse_warnings, other_seeds, size_warnings, touched_tokens
from planner.planning import Plan
from planner.simulation.load import Load
from tests.session_loads import FIVE_TURNS

EXAMPLE = Path(__file__).parents[1] / "examples" / "routing-sessions.yaml"


def chat(**changes: Any) -> Scenario:
    return Scenario.from_dict(FIVE_TURNS).with_values({key.replace("__", "."): value for key, value in changes.items()})


# two turns in the mean of 300 tokens, 2 turns/s, 10 s of pause and 2 s of answer: 24 turns between two of a session
TOUCHED = [
    ({}, 1, 7200, "24 turns of 300 tokens"),
    ({}, 4, 1800, "a quarter of the turns come to each of four engines"),
    ({"shared_prefix": {"tokens": 90}}, 1, 24 * 210 + 90, "what all begin with is there once"),
    ({"shared_prefix": {"tokens": 90, "groups": 5}}, 1, 24 * 210 + 5 * 90, "once for each of its groups"),
    ({"shared_prefix": {"tokens": 90, "groups": 100}}, 1, 24 * 300, "of many groups each turn meets another"),
]


@pytest.mark.parametrize(("stage", "engines", "expected", "because"), TOUCHED, ids=[row[-1] for row in TOUCHED])
def test_what_a_pause_touches_by_hand(stage: dict[str, Any], engines: int, expected: float, because: str):
    load = Load(np.zeros(2), np.array([100, 400], np.int32), np.array([50, 50], np.int32))
    asked = chat(**{f"query__stages[0]__{key}": value for key, value in stage.items()})
    assert expected == pytest.approx(touched_tokens(asked, load, engines, 2.0)), because


def test_without_sessions_nothing_pauses():
    load = Load(np.zeros(2), np.array([100, 400], np.int32), np.array([50, 50], np.int32))
    with pytest.raises(ValueError, match="no sessions"):
        touched_tokens(chat(**{"query__stages[0]__turns": 1, "query__stages[0]__think_s": 0}), load, 1, 2.0)


NEAR = [
    (0.5, 0.5, False, "all fits with room to spare"),
    (0.75, 0.72, True, "chance may bring it over the edge"),
    (1.0, 0.98, True, "at the edge"),
    (1.5, 1.08, True, "collapsed; if everything was found it would be at the edge"),
    (1.5, 0.6, True, "slow answers alone bring it over the edge: cold it stays cold, warm it would stay warm"),
    (1.7, 1.3, False, "no state has room"),
]


@pytest.mark.parametrize(("share", "idle", "near", "because"), NEAR, ids=[row[-1] for row in NEAR])
def test_near_is_where_both_states_may_last(share: float, idle: float, near: bool, because: str):
    pause = Pause(1000 * share, 1000 * idle, 1000)
    assert near == pause.near, because
    assert near == bool(collapse_warnings(pause, 0))
    collapsed = [text for text in collapse_warnings(pause, 0) if "has collapsed" in text]
    assert bool(collapsed) == (near and share > 1.1), because
    assert near == bool(size_warnings(pause, 3, [0, 1, 2], None))


def test_a_run_near_the_collapse_says_so_and_one_far_from_it_does_not():
    far, near = (simulate(chat(traffic__peak_qps=qps), requests=2000) for qps in (2, 6))
    assert far.as_dict()["session_pause"]["share"] == pytest.approx(near.as_dict()["session_pause"]["share"] / 3, 0.1)
    assert [False, True] == [run.as_dict()["session_pause"]["near_collapse"] for run in (far, near)]
    assert [] == far.as_dict()["warnings"]
    (said,) = near.as_dict()["warnings"]
    pause = near.as_dict()["session_pause"]
    assert 47_984 == pause["cache_tokens"]
    assert pause["share"] == pytest.approx(pause["touched_tokens"] / pause["cache_tokens"])
    assert f"touches {100 * pause['share']:.0f} % of the KV cache" in said
    assert "try --seed 1 or --seed 2, or one replica more" in said
    assert "near the collapse" in " ".join(str(near).split())


def test_twice_the_replicas_halve_what_a_pause_touches_of_each():
    one, two = (simulate(chat(fleet__replicas=count), requests=2000).as_dict()["session_pause"] for count in (1, 2))
    assert one["idle_share"] == pytest.approx(2 * two["idle_share"], rel=1e-12)


# each: what is changed, and why there is no pause to speak of
NO_PAUSE = [
    ({"query__stages[0]__turns": 1, "query__stages[0]__think_s": 0}, "no sessions"),
    ({"engine__enable_prefix_caching": False}, "nothing is cached"),
    ({"fleet__replicas": 2, "fleet__failures": [{"stop": {"at_s": 100}}]}, "replicas come and go"),
]


@pytest.mark.parametrize(("changes", "because"), NO_PAUSE, ids=[row[-1] for row in NO_PAUSE])
def test_where_no_cache_can_collapse_nothing_is_said(changes: dict[str, Any], because: str):
    document = simulate(chat(traffic__peak_qps=6, **changes), requests=2000).as_dict()
    assert "session_pause" not in document, because
    assert [] == document["warnings"]


# --- plan ---


@cache
def flipping() -> Plan:
    """Four replicas hold in the run of seed 0 and fail in that of seed 1."""
    asked = Scenario.load(EXAMPLE).with_values({"query.stages[0].think_s": 30, "traffic.peak_qps": 18})
    return plan(asked, requests=10_000, worlds=0)


def tried(document: dict[str, Any]) -> dict[tuple[int, int | None], bool]:
    rows = [row for row in document["capacity_curve"] if row["full_length"]]
    return {(row["serving"], row.get("other_seed")): row["met"] for row in rows}


def test_a_size_that_fails_on_another_seed_is_not_taken():
    document = flipping().as_dict()
    assert {(4, None): True, (4, 1): False, (5, None): True, (5, 1): True, (5, 2): True} == tried(document)
    assert 5 == document["fleet"]["replicas"]
    assert document["at_peak"]["session_pause"]["near_collapse"]
    assert document["at_peak"]["slo_met"]


def test_one_fewer_is_the_run_that_fails():
    document = flipping().as_dict()
    fewer = document["one_fewer"]
    assert 1 == fewer["other_seed"]
    assert not fewer["slo_met"]
    assert document["one_fewer_gap"].endswith("(seed 1)")
    asked = Scenario.from_dict(document["scenario"]).with_values({"fleet.replicas": 4})
    assert not simulate(asked, seed=1, requests=10_000).as_dict()["slo_met"]
    assert simulate(asked, seed=0, requests=10_000).as_dict()["slo_met"]


def test_the_answer_says_on_which_seeds_it_stands():
    (said,) = flipping().as_dict()["warnings"]
    assert "5 serving replicas hold on seeds 0, 1, 2; 4 serving replicas hold on seed 0 but not on seed 1" in said
    text = " ".join(str(flipping()).split())
    assert "One replica fewer (4 serving) FAILS on seed 1: p95 TTFT" in text
    assert "4 fails, 5 holds" in text


def test_the_table_of_probes_keeps_the_other_seeds():
    table = flipping().probes
    assert {1, 2} == set(table["other_seed"].dropna())
    assert 3 == table["other_seed"].notna().sum()


def test_the_last_row_of_a_size_is_what_the_size_is_judged_by():
    last = {row["serving"]: row for row in flipping().as_dict()["capacity_curve"]}
    assert (False, 1) == (last[4]["met"], last[4]["other_seed"])
    assert (True, None) == (last[5]["met"], last[5].get("other_seed"))
    assert last[5]["p95_ttft_ms"] == flipping().as_dict()["at_peak"]["ttft_ms"]["p95"]


def test_a_size_far_from_the_collapse_is_run_on_its_own_seed_alone():
    document = plan(chat(slo={"p95_ttft_ms": "<=500"}), requests=2000, worlds=0).as_dict()
    assert not document["at_peak"]["session_pause"]["near_collapse"]
    assert [] == document["warnings"]
    assert {None} == {seed for _, seed in tried(document)}


def test_other_seeds_are_not_the_own():
    assert [8, 9] == other_seeds(7)


@pytest.mark.parametrize(("routing", "said"), [("least_loaded", True), ("session_affinity", False)])
def test_three_replicas_that_strew_their_sessions_have_collapsed_and_are_told_of_routing(routing: str, said: bool):
    """docs/fleet.md: on three replicas `session_affinity` finds 74 %, `least_loaded` next to nothing."""
    asked = Scenario.load(EXAMPLE).with_values({"fleet.routing": routing, "fleet.replicas": 3})
    texts = [text for text in simulate(asked, requests=10_000).as_dict()["warnings"] if "KV cache" in text]
    assert said == bool(texts)
    for text in texts:
        assert "the prefix cache has collapsed" in text
        assert "fleet.routing session_affinity or prefix_aware sends a turn where its history is" in text
