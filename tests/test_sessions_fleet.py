"""Sessions on a fleet, worked out by hand on steps of one second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from planner.errors import ScenarioError
from planner.simulation.fleet import without_cooldown
from planner.simulation.outcome import summarise
from tests.session_loads import NEVER, THREE, TWO, run, sessions


class Row(NamedTuple):
    because: str
    load: dict[str, Any]
    given: dict[str, Any]
    prompts: list[int]
    due_s: list[float]
    last_s: list[float]
    queried: int
    hit: int


BY_HAND = [
    Row(
        "two sessions of three turns: each is due 3 s after the end of the one before, and sends it again",
        {"begins_s": [0, 1], "said": [THREE, THREE], "think_s": 3},
        {},
        [4, 4, 10, 10, 16, 16],
        [0, 1, 5, 6, 10, 11],
        [2, 3, 7, 8, 12, 13],
        2 * (4 + 10 + 16),
        # a turn computes all but its last token: 5, then 11, which fill 1 and 2 blocks of 4
        2 * (0 + 4 + 8),
    ),
    Row(
        "one seat: the second session's turns wait, and its later turns are due later",
        {"begins_s": [0, 1], "said": [TWO, TWO], "think_s": 3},
        {"seats": 1},
        [4, 4, 10, 10],
        [0, 1, 5, 7],
        [2, 4, 7, 9],
        2 * (4 + 10),
        2 * 4,
    ),
    Row(
        "an answer that ends with a block: its last token is not computed, so that block is not there",
        {"begins_s": [0], "said": [[(4, 4), (4, 4), (4, 1)]]},
        {},
        [4, 12, 20],
        [0, 4, 8],
        [4, 8, 9],
        4 + 12 + 20,
        0 + 4 + 12,  # of 8 and 16 tokens said 7 and 15 were computed
    ),
    Row(
        "one token more, and the block of generated tokens can be hit",
        {"begins_s": [0], "said": [[(4, 5), (4, 1)]]},
        {},
        [4, 13],
        [0, 5],
        [5, 6],
        4 + 13,
        8,
    ),
    Row(
        "what all sessions begin with is sent once a session, and hit by the second",
        {"begins_s": [0, 10], "said": [[(9, 1), (2, 1)], [(9, 1), (2, 1)]], "prefix": 8},
        {},
        [9, 12, 9, 12],
        [0, 1, 10, 11],
        [1, 2, 11, 12],
        2 * (9 + 12),
        (0 + 8) + (8 + 8),
    ),
    Row(
        "without the prefix cache nothing is hit, and nothing asked",
        {"begins_s": [0, 1], "said": [THREE, THREE], "think_s": 3},
        {"caching": False},
        [4, 4, 10, 10, 16, 16],
        [0, 1, 5, 6, 10, 11],
        [2, 3, 7, 8, 12, 13],
        0,
        0,
    ),
    Row(
        "on two replicas in turn every turn of the second meets the other's history: nothing is there",
        {"begins_s": [0], "said": [THREE], "think_s": 3},
        {"replicas": 2},
        [4, 10, 16],
        [0, 5, 10],
        [2, 7, 12],
        4 + 10 + 16,
        0 + 0 + 4,  # the third comes to the first replica, where only the first turn was
    ),
    Row(
        "a turn that fails at its deadline is followed all the same; what it computed is there",
        {"begins_s": [0], "said": [[(4, 9), (4, 1)]], "think_s": 2, "timeout_s": 6.0},
        {},
        [4, 17],
        [0, 8],
        [NEVER, 9],
        4 + 17,
        8,  # 4 of the prompt and 5 of the 6 answered tokens
    ),
    Row(
        "one in flight: a turn that is due while another is served waits at the client",
        {"begins_s": [0, 1], "said": [TWO, TWO], "think_s": 1, "max_in_flight": 1},
        {},
        [4, 10, 4, 10],
        [0, 3, 1, 5],
        [2, 6, 4, 8],
        2 * (4 + 10),
        2 * 4,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", BY_HAND, ids=[row.because for row in BY_HAND])
def test_sessions_by_hand(row: Row):
    load = sessions(**row.load)
    done = run(load, **row.given)
    assert row.prompts == load.prompt_tokens.tolist()
    np.testing.assert_array_equal(row.due_s, done.arrival_s)
    np.testing.assert_array_equal(row.last_s, done.last_token_s)
    assert (row.queried, row.hit) == (done.ledger["queried_tokens"].sum(), done.ledger["hit_tokens"].sum())


def test_latency_runs_from_when_a_turn_is_due():
    """Of the one-seat row above: the second session waits 1 s, its next turn is due at 7 and served at once."""
    done = run(sessions([0, 1], [TWO, TWO], 3), seats=1)
    figures = summarise(done, (), steady=False)
    np.testing.assert_array_equal([1000, 2000, 1000, 1000], figures.latencies.ttft_ms)
    np.testing.assert_array_equal([2000, 3000, 2000, 2000], figures.latencies.e2e_ms)


def test_means_are_taken_from_the_first_counted_query_to_the_last_sessions_begin():
    """A and B as in the first row, and C, which begins at 20 and finds nothing running: 3 + 3 + 3 of 20 s are busy."""
    load = sessions([0, 1, 20], [THREE, THREE, THREE], 3)
    figures = summarise(run(load), (), steady=True).figures
    assert 9 / 20 == figures["utilisation"]
    assert 24 / 60 == figures["prefix_cache_hit_rate"]
    counted = summarise(run(replace(load, warmup=2)), (), steady=True).figures  # from where the third stands: at 3 s
    assert 6 / 17 == counted["utilisation"]
    assert 24 / 52 == counted["prefix_cache_hit_rate"]
    assert 7 == counted["requests"]


def test_a_cooldown_is_cut_off_with_who_follows_whom():
    load = sessions([0, 1, 20], [THREE, THREE, THREE], 3, cooldown=2)
    kept = without_cooldown(run(load))
    assert [-1, -1, 0, 1, 2, 3, -1] == kept.load.follows.tolist()
    assert 7 == len(kept.last_token_s) == kept.load.queries


REFUSED = [
    ({"follows": np.array([-1, -1, 5, 1])}, "must follow an earlier one", "a later one"),
    ({"follows": np.array([-1, 1, 0, 1])}, "must follow an earlier one", "itself"),
    ({"follows": np.array([-1, -1, 0])}, "must follow an earlier one", "one for each query"),
    ({"follows": np.array([-1, -1, 0, 0])}, "at most one query may follow another", "two follow one"),
    ({"think_s": None}, "needs a finite time", "nobody says when"),
    ({"think_s": np.array([0, 0, 1, np.nan])}, "needs a finite time", "at no time"),
    ({"think_s": np.array([0, 0, 1, -1.0])}, "needs a finite time", "before it ends"),
    ({"clients": 2}, "there may be no clients", "a closed loop has successors of its own"),
]


@pytest.mark.parametrize(("change", "rule", "because"), REFUSED, ids=[row[2] for row in REFUSED])
def test_sessions_that_make_no_sense_are_refused_by_name(change: dict[str, Any], rule: str, because: str):
    with pytest.raises(ScenarioError, match=rule):
        run(replace(sessions([0, 1], [TWO, TWO], 3), **change))
