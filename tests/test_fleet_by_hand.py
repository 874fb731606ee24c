"""What crosses replicas, worked out by hand. Every step takes one second, so times can be counted on fingers.

A request with O output tokens that is alone runs O steps: the prompt's gives its first token, each other one more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.errors import MisfitError, ScenarioError
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Prefixes, Stage
from planner.specs import SchedulerConfig

NEVER = float("nan")


def run(
    arrival_s: list[float],
    outputs: list[int],
    *,
    prompts: list[int] | int = 4,
    replicas: int = 1,
    routing: str = "least_loaded",
    seats: int = 4,
    frontend_s: float = 0.0,
    lagged: bool = False,
    think_s: list[float] | None = None,
    **load: Any,
) -> FleetRun:
    """The fleet on steps of one second."""
    config = SchedulerConfig(200, 4, seats, 64, 64, async_scheduling=lagged)
    return run_fleet(
        Load(
            np.array(arrival_s, np.float64),
            np.broadcast_to(prompts, len(outputs)).astype(np.int32),
            np.array(outputs, np.int32),
            think_s=None if think_s is None else np.array(think_s),
            **load,
        ),
        config,
        StepCost(np.ones(65), np.zeros(seats + 1), frontend_s=frontend_s),
        replicas,
        routing,
        np.random.default_rng(0),
    )


# --- who serves ---


class Routed(NamedTuple):
    arrival_s: list[float]
    outputs: list[int]
    replicas: int
    routing: str
    replica: list[int]
    last_s: list[float]
    because: str


ROUTED = [
    Routed([0, 0, 0], [2, 1, 1], 2, "least_loaded", [0, 1, 0], [2, 1, 1], "one each, and the third finds a tie"),
    Routed([0, 10, 20], [1, 1, 1], 2, "least_loaded", [0, 1, 0], [1, 11, 21], "a tie goes round, from where it was"),
    Routed([0, 10, 20, 30], [1] * 4, 3, "least_loaded", [0, 1, 2, 0], [1, 11, 21, 31], "and begins again"),
    Routed([0, 1, 3], [10, 1, 1], 2, "least_loaded", [0, 1, 1], [10, 2, 4], "replica 0 still has one, replica 1 none"),
    Routed([0, 0, 2], [5, 2, 1], 2, "least_loaded", [0, 1, 1], [5, 2, 3], "what ends at that instant has ended"),
    Routed([0, 0, 1.5], [5, 2, 1], 2, "least_loaded", [0, 1, 0], [5, 2, 3], "its last step still runs: a tie"),
    Routed([0, 0, 0, 0], [9, 1, 1, 1], 2, "round_robin", [0, 1, 0, 1], [9, 1, 1, 1], "in turn, whatever they do"),
    Routed([0, 1, 3], [10, 1, 1], 2, "round_robin", [0, 1, 0], [10, 2, 4], "even to the busy one"),
]  # fmt: skip


@pytest.mark.parametrize("limits", [{}, {"max_in_flight": 99}], ids=["", "event by event"])
@pytest.mark.parametrize("row", ROUTED, ids=[f"{row.routing}: {row.because}" for row in ROUTED])
def test_routing_by_hand(row: Routed, limits: dict[str, int]):
    done = run(row.arrival_s, row.outputs, replicas=row.replicas, routing=row.routing, **limits)
    assert (row.replica, row.last_s) == (done.replica.tolist(), done.last_token_s.tolist())


def test_samples_follow_the_first_of_their_call_and_the_next_call_finds_them_there():
    two = Prefixes(np.arange(5), np.array([0, 0, 1, 1], np.int32), np.array([12, 12], np.int32))
    done = run([0, 0.5], [9, 9, 9, 9], prompts=12, replicas=2, stages=(Stage("answer", samples=2),), prefixes=two)
    assert [0, 0, 1, 1] == done.replica.tolist()
    # Of three blocks of 4 the last is always computed again; both samples come in the same step.
    assert [8, 8] == done.ledger["hit_tokens"].tolist()


# --- when it is sent, when it ends ---


class Timed(NamedTuple):
    because: str
    given: dict[str, Any]
    sent_s: list[float]
    first_s: list[float]
    last_s: list[float]
    failed: list[int] = []  # noqa: RUF012  queries


FAN = (Stage("gather", calls=3), Stage("answer"))
TIMED = [
    Timed(
        "the answer waits for the slowest of three",
        {"arrival_s": [0], "outputs": [1, 2, 3, 1], "stages": FAN},
        [0], [1, 1, 1, 4], [1, 2, 3, 4],
    ),
    Timed(
        "every call passes the front end anew",
        {"arrival_s": [0], "outputs": [1, 2, 3, 1], "stages": FAN, "frontend_s": 0.5},
        [0], [1.5, 1.5, 1.5, 5], [1.5, 2.5, 3.5, 5],
    ),
    Timed(
        "with one seat the three take turns",
        {"arrival_s": [0], "outputs": [1, 2, 3, 1], "stages": FAN, "seats": 1},
        [0], [1, 2, 4, 7], [1, 3, 6, 7],
    ),
    Timed(
        "two replicas share the three, and the answer goes on from the one after the last choice",
        {"arrival_s": [0], "outputs": [1, 2, 3, 1], "stages": FAN, "seats": 1, "replicas": 2},
        [0], [1, 1, 2, 5], [1, 2, 4, 5],
    ),
    Timed(
        "a client thinks after an answer",
        {"arrival_s": [0, 0, 0], "outputs": [2, 1, 1], "clients": 1, "think_s": [2, 0.5, 7]},
        [0, 4, 5.5], [1, 5, 6.5], [2, 5, 6.5],
    ),
    Timed(
        "each client has its own list: the third query is the first client's",
        {"arrival_s": [0] * 4, "outputs": [5, 1, 1, 1], "clients": 2, "per_client": True},
        [0, 0, 5, 1], [1, 1, 6, 2], [5, 1, 6, 2],
    ),
    Timed(
        "one list for all: whoever is free takes the next",
        {"arrival_s": [0] * 4, "outputs": [5, 1, 1, 1], "clients": 2},
        [0, 0, 1, 2], [1, 1, 2, 3], [5, 1, 2, 3],
    ),
    Timed(
        "of more clients than queries some have nothing to do",
        {"arrival_s": [0], "outputs": [2], "clients": 3},
        [0], [1], [2],
    ),
    Timed(
        "one in flight: the second waits at the client, the third behind it",
        {"arrival_s": [0, 0.5, 0.75], "outputs": [2, 1, 1], "max_in_flight": 1},
        [0, 2, 3], [1, 3, 4], [2, 3, 4],
    ),
    Timed(
        "a query of two stages is in flight until its second ends",
        {"arrival_s": [0, 0], "outputs": [2, 1, 1, 1], "max_in_flight": 1, "stages": (Stage("a"), Stage("b"))},
        [0, 3], [1, 3, 4, 5], [2, 3, 4, 5],
    ),
    Timed(
        "a timeout frees the seat at the next boundary",
        {"arrival_s": [0, 2], "outputs": [10, 1], "seats": 1, "timeout_s": 3.0},
        [0, 2], [1, 4], [NEVER, 4], [0],
    ),
    Timed(
        "who times out within a step leaves at its end",
        {"arrival_s": [0, 2], "outputs": [10, 1], "seats": 1, "timeout_s": 3.5},
        [0, 2], [1, 5], [NEVER, 5], [0],
    ),
    Timed(
        "the step in hand still ends a request for the engine, too late for its client",
        {"arrival_s": [0], "outputs": [4], "timeout_s": 3.5},
        [0], [1], [4], [0],
    ),
    Timed(
        "what ends at the deadline is in time",
        {"arrival_s": [0], "outputs": [4], "timeout_s": 4.0},
        [0], [1], [4],
    ),
    Timed(
        "a client goes on at its deadline, not when the step in hand ends",
        {"arrival_s": [0, 0], "outputs": [4, 1], "clients": 1, "timeout_s": 3.5},
        [0, 3.5], [1, 5], [4, 5], [0],
    ),
    Timed(
        "who times out in the queue never has a token",
        {"arrival_s": [0, 1], "outputs": [4, 1], "seats": 1, "timeout_s": 4.5},
        [0, 1], [1, 5], [4, 5],
    ),
    Timed(
        "and is not waited for",
        {"arrival_s": [0, 1, 1], "outputs": [9, 1, 1], "seats": 1, "timeout_s": 3.0},
        [0, 1, 1], [1, 4, NEVER], [NEVER, 4, NEVER], [0, 2],
    ),
    Timed(
        "a request given up in the front end reaches no engine",
        {"arrival_s": [0], "outputs": [1], "frontend_s": 5.0, "timeout_s": 3.0},
        [0], [NEVER], [NEVER], [0],
    ),
    Timed(
        "a stage that times out has no successor; the others of its calls may have ended",
        {"arrival_s": [0], "outputs": [1, 2, 9, 1], "stages": FAN, "timeout_s": 4.0},
        [0], [1, 1, 1, NEVER], [1, 2, NEVER, NEVER], [0],
    ),
    Timed(
        "the timeout is the query's: its second stage has what the first left of it",
        {"arrival_s": [0], "outputs": [3, 3], "stages": (Stage("a"), Stage("b")), "timeout_s": 4.0},
        [0], [1, 4], [3, NEVER], [0],
    ),
    Timed(
        "and just enough of it is enough",
        {"arrival_s": [0], "outputs": [3, 3], "stages": (Stage("a"), Stage("b")), "timeout_s": 6.0},
        [0], [1, 4], [3, 6],
    ),
    Timed(
        "a first stage that ends at the deadline has no successor",
        {"arrival_s": [0], "outputs": [3, 3], "stages": (Stage("a"), Stage("b")), "timeout_s": 3.0},
        [0], [1, NEVER], [3, NEVER], [0],
    ),
    Timed(
        "after a timeout its client goes on",
        {"arrival_s": [0, 0], "outputs": [9, 1], "clients": 1, "think_s": [1, 0], "timeout_s": 2.0},
        [0, 3], [1, 4], [NEVER, 4], [0],
    ),
    Timed(
        "and a query that was held back is sent",
        {"arrival_s": [0, 1], "outputs": [9, 1], "max_in_flight": 1, "timeout_s": 2.0},
        [0, 2], [1, 3], [NEVER, 3], [0],
    ),
    Timed(
        "an arrival within a step comes into the next one",
        {"arrival_s": [0, 0.5], "outputs": [5, 1]},
        [0, 0.5], [1, 2], [5, 2],
    ),
    Timed(
        "asynchronous: that one is already decided, so it misses one more",
        {"arrival_s": [0, 0.5], "outputs": [5, 1], "lagged": True},
        [0, 0.5], [1, 3], [5, 3],
    ),
    Timed(
        "asynchronous: what was there when the last step began is seen",
        {"arrival_s": [0, 1], "outputs": [5, 1], "lagged": True},
        [0, 1], [1, 3], [5, 3],
    ),
    Timed(
        "asynchronous: an engine that has run empty starts at once",
        {"arrival_s": [0, 0.5, 7.25], "outputs": [1, 1, 1], "lagged": True},
        [0, 0.5, 7.25], [1, 2, 8.25], [1, 2, 8.25],
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", TIMED, ids=[row.because for row in TIMED])
def test_times_by_hand(row: Timed):
    done = run(**row.given)
    np.testing.assert_array_equal(row.sent_s, done.sent_s)
    np.testing.assert_array_equal(row.first_s, done.first_token_s)
    np.testing.assert_array_equal(row.last_s, done.last_token_s)
    assert row.failed == np.flatnonzero(done.failed).tolist()


def test_who_never_reaches_an_engine_has_no_replica_and_costs_nothing():
    done = run([0], [1], frontend_s=5.0, timeout_s=3.0)
    assert ([-1], 0) == (done.replica.tolist(), done.ledger["steps"].sum())


def test_generated_tokens_are_hit_by_a_prompt_that_repeats_them():
    # A's prompt of 4 and 9 outputs leave 12 computed tokens; B's prompt is those 12 and computes its last block.
    chain = Prefixes(np.array([0, 1, 2]), np.zeros(2, np.int32), np.array([12], np.int32))
    done = run([0, 20], [9, 1], prompts=[4, 12], prefixes=chain)
    assert (16, 8) == (done.ledger["queried_tokens"].sum(), done.ledger["hit_tokens"].sum())


def test_the_ledger_by_hand():
    # One seat. A runs 0 to 2 and B, here at 1, runs 2 to 3 after waiting 1 s; prompts of 4 and 5 take 1 and 2 blocks,
    # and A's second step computes its fifth token, the first of another block.
    done = run([0, 1], [2, 1], prompts=[4, 5], seats=1)
    expected = {
        "steps": 3, "busy_s": 3, "running_s": 3, "waiting_s": 1, "kv_block_s": 1 + 2 + 2, "kv_peak_blocks": 2,
        "prefill_tokens": 9, "decode_tokens": 1, "context_tokens": 4, "preemptions": 0,
    }  # fmt: skip
    assert expected == {name: done.ledger[0][name] for name in expected}


# --- what would never end is refused ---

FOUR = np.full(4, 4, np.int32)
REFUSED = [
    ({"arrival_s": np.zeros(0), "prompt_tokens": FOUR[:0], "output_tokens": FOUR[:0]}, ScenarioError, "no query"),
    ({"arrival_s": np.array([0, 2, 1, 3.0])}, ScenarioError, "ascending"),
    ({"arrival_s": np.array([0, 1, 2, np.inf])}, ScenarioError, "finite"),
    ({"arrival_s": np.array([-1.0, 1, 2, 3])}, ScenarioError, "not negative"),
    ({"stages": (Stage("a", calls=3),)}, ScenarioError, "3 requests a query"),
    ({"output_tokens": np.array([4, 4, 0, 4], np.int32)}, ScenarioError, "at least 1"),
    ({"prompt_tokens": np.array([4, 4, 0, 4], np.int32)}, ScenarioError, "at least 1"),
    ({"prompt_tokens": np.array([4, 64, 4, 4], np.int32)}, ScenarioError, "max_model_len"),
    ({"prompt_tokens": np.array([4, 50, 4, 4], np.int32)}, MisfitError, "KV blocks"),
    (
        {
            "arrival_s": np.zeros(2),
            "stages": (Stage("a", samples=2),),
            "prompt_tokens": np.array([4, 4, 4, 5], np.int32),
        },
        ScenarioError,
        "same prompt",
    ),
]


@pytest.mark.parametrize(("change", "error", "rule"), REFUSED, ids=[rule for _, _, rule in REFUSED])
def test_a_load_that_makes_no_sense_is_refused_by_name(change: dict[str, Any], error: type[Exception], rule: str):
    fields = {"arrival_s": np.arange(4.0), "prompt_tokens": FOUR, "output_tokens": FOUR} | change
    config = SchedulerConfig(12, 4, 4, 64, 64)
    with pytest.raises(error, match=rule):
        run_fleet(
            Load(**fields), config, StepCost(np.ones(65), np.zeros(5)), 1, "round_robin", np.random.default_rng(0)
        )
