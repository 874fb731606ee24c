"""Replicas that stop, drain, start and slow down, and a router that turns away: by hand, then laws.

By hand every step takes one second: a request with O output tokens that is alone runs O steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.errors import ScenarioError
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_record import LOST, REJECTED, TIMED_OUT
from planner.simulation.kernel_tables import LEDGER
from planner.simulation.load import Load, Stage
from planner.simulation.operations import Change, Control
from planner.specs import SchedulerConfig
from tests.fleet_worlds import COST, ROUTINGS, SHAPES, World, assert_same, limited, many, worlds

NEVER = float("nan")


def run(
    arrival_s: list[float], outputs: list[int], control: Control, *, replicas: int = 2, seats: int = 4, **load: Any
) -> FleetRun:
    """The fleet on steps of one second, least_loaded."""
    config = SchedulerConfig(200, 4, seats, 64, 64)
    prompts = np.full(len(outputs), 4, np.int32)
    return run_fleet(
        Load(np.array(arrival_s, np.float64), prompts, np.array(outputs, np.int32), **load),
        config,
        StepCost(np.ones(65), np.zeros(seats + 1)),
        replicas,
        "least_loaded",
        np.random.default_rng(0),
        control=control,
    )


class Row(NamedTuple):
    because: str
    arrival_s: list[float]
    outputs: list[int]
    control: Control
    replica: list[int]
    first_s: list[float]
    last_s: list[float]
    failed: list[int]
    on_s: list[float]


STOP = Change(2.0, 0, "stop")
ROWS = [
    Row(
        "replica 0 stops at 2: its two begin again on replica 1, which still has its own",
        [0, 0, 0], [4, 6, 4], Control((STOP,)),
        [1, 1, 1], [3, 1, 3], [6, 6, 6], [0, 0, 0], [2, 6],
    ),
    Row(
        "without a retry their queries are lost; the tokens that were streamed stay told",
        [0, 0, 0], [4, 6, 4], Control((STOP,), retry=False),
        [-1, 1, -1], [1, 1, 1], [NEVER, 6, NEVER], [LOST, 0, LOST], [2, 6],
    ),
    Row(
        "sent again 3 s later",
        [0, 0, 0], [4, 6, 4], Control((STOP,), retry_after_s=3.0),
        [1, 1, 1], [6, 1, 6], [9, 6, 9], [0, 0, 0], [2, 9],
    ),
    Row(
        "it stops within a step: what would have ended with the step has not",
        [0, 0], [3, 1], Control((Change(2.5, 0, "stop"),)),
        [1, 1], [3.5, 1], [5.5, 1], [0, 0], [2.5, 5.5],
    ),
    Row(
        "it stops at the instant at which its last step ends: that is done",
        [0, 0], [3, 1], Control((Change(3.0, 0, "stop"),)),
        [0, 1], [1, 1], [3, 1], [0, 0], [3, 3],
    ),
    Row(
        "both are off from 1 to 5: who comes at 2 waits at the router, who was cut off too",
        [0, 2], [3, 1], Control((Change(1.0, 0, "stop"), Change(1.0, 1, "stop"), Change(5.0, 1, "start"))),
        [1, 1], [6, 6], [8, 6], [0, 0], [1, 4],
    ),
    Row(
        "a drain: it gets nothing new, finishes its own, and is off then",
        [0, 0, 1, 1], [5, 2, 1, 1], Control((Change(1.0, 0, "drain"),)),
        [0, 1, 1, 1], [1, 1, 2, 2], [5, 2, 2, 2], [0, 0, 0, 0], [5, 5],
    ),
    Row(
        "a restart: drained at 3, started 2 s later (paid for meanwhile), and it serves again",
        [0, 0, 4, 6], [3, 9, 9, 1],
        Control((Change(1.0, 0, "drain", then=1), Change(np.inf, 0, "boot", then=2, then_s=2.0),
                 Change(np.inf, 0, "start"))),
        [0, 1, 1, 0], [1, 1, 5, 7], [3, 9, 13, 7], [0, 0, 0, 0], [13, 13],
    ),
    Row(
        "steps of replica 0 take twice as long from 2 to 6, from the next step on",
        [0], [6], Control((Change(2.0, 0, "pace", 2.0), Change(6.0, 0, "pace"))),
        [0], [1], [8], [0], [8, 8],
    ),
    Row(
        "room for one each: the third is turned away at once, the fourth finds room again",
        [0, 0, 1, 4], [3, 3, 1, 1], Control(room=1),
        [0, 1, -1, 0], [1, 1, NEVER, 5], [3, 3, NEVER, 5], [0, 0, REJECTED, 0], [5, 5],
    ),
    Row(
        "one of two serves from the start",
        [0, 0], [2, 2], Control(serving=1),
        [0, 0], [1, 1], [2, 2], [0, 0], [2, 0],
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.because for row in ROWS])
def test_what_happens_to_replicas_by_hand(row: Row):
    done = run(row.arrival_s, row.outputs, row.control)
    np.testing.assert_array_equal(row.replica, done.replica)
    np.testing.assert_array_equal(row.first_s, done.first_token_s)
    np.testing.assert_array_equal(row.last_s, done.last_token_s)
    np.testing.assert_array_equal(row.failed, done.why_failed)
    np.testing.assert_array_equal(row.on_s, done.on_s)


def test_a_stop_throws_away_what_was_computed_and_cuts_the_step_off():
    done = run([0, 0], [3, 1], Control((Change(2.5, 0, "stop"),)))
    # Its third step would have ended at 3 with the request: prompt 4 + 2 of 3 answers computed.
    assert [6, 0] == done.lost_tokens.tolist()
    assert [2.5, 3.0] == [done.ledger["busy_s"][0], done.ledger["busy_s"][1] - 1.0]
    assert [1, 0] == done.retried.tolist()


def test_samples_of_a_call_stay_together_when_they_begin_again():
    stop = Control((Change(1.5, 0, "stop"),))
    done = run([0], [9, 9, 9], stop, replicas=4, stages=(Stage("answer", samples=3),))
    assert 1 == len(set(done.replica.tolist()))
    assert [12.0 - 1.5 - 9.0] == sorted(set((done.last_token_s - 9.0).tolist()))


def test_a_query_whose_call_finds_no_room_gives_up_its_other_calls():
    two = (Stage("gather", calls=2), Stage("answer"))
    done = run([0, 1], [4, 4, 1, 4, 4, 1], Control(room=1), stages=two)
    assert [0, REJECTED] == done.why_failed.tolist()
    assert 1.0 == done.failed_s[1]
    assert 10 == done.ledger["decode_tokens"].sum() + done.ledger["prefill_tokens"].sum() - 12 + 4  # of the first alone


def test_timeouts_go_on_while_nobody_serves():
    done = run([0, 2], [9, 9], Control((Change(1.0, 0, "stop"), Change(1.0, 1, "stop"))), timeout_s=4.0)
    assert [TIMED_OUT, TIMED_OUT] == done.why_failed.tolist()
    assert [4.0, 6.0] == done.ended_s.tolist()


REFUSED = [
    (Control((Change(1, 5, "stop"),)), "fleet.failures (=5)", "no such replica"),
    (Control((Change(-1, 0, "stop"),)), "fleet.failures (=-1)", "before the run"),
    (Control((Change(1, 0, "stop"), Change(1, 1, "stop"))), "fleet.failures (=2): no replica is left", "for ever"),
    (Control(room=1), "fleet.admission.max_requests_per_replica (=1)", "two samples of a call go to one replica"),
]


@pytest.mark.parametrize(("control", "starts", "because"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_cannot_be_done_to_a_fleet_is_refused(control: Control, starts: str, because: str):
    with pytest.raises(ScenarioError) as caught:
        run([0], [1, 1], control, stages=(Stage("answer", samples=2),))
    assert str(caught.value).startswith(starts)


# --- laws ---


@st.composite
def troubled(draw: st.DrawFn) -> tuple[World, Control]:
    """A world and what happens in it; replica 0 always comes back, so that every query ends."""
    world = draw(limited())
    world = world._replace(routing=draw(st.sampled_from(ROUTINGS)))
    changes: list[Change] = []
    for _ in range(draw(st.integers(0, 4))):
        at_s, r = draw(st.integers(0, 80)) / 8, draw(st.integers(0, world.replicas - 1))
        what = draw(st.sampled_from(["stop", "drain", "pace", "start"]))
        changes.append(Change(at_s, r, what, draw(st.sampled_from([0.5, 1.0, 2.0]))))
    changes.append(Change(draw(st.sampled_from([11.0, 40.0])), 0, "stop"))
    changes.append(Change(50.0, 0, "start"))
    most = max(stage.samples for stage in world.load.stages)
    room = draw(st.sampled_from([0, 0, most, most + 3]))
    return world, Control(tuple(changes), draw(st.booleans()), draw(st.sampled_from([0.0, 0.5])), room)


def through(world: World, control: Control) -> FleetRun:
    rng = np.random.default_rng(world.seed)
    return run_fleet(world.load, world.config, COST, world.replicas, world.routing, rng, control=control)


@many
@given(troubled())
def test_every_query_ends_answered_or_failed_whatever_happens(case: tuple[World, Control]):
    world, control = case
    done = through(world, control)
    assert np.isfinite(done.ended_s).all()
    answered = np.isfinite(done.last_token_s.reshape(-1, world.load.width)).all(axis=1)
    assert (answered | done.failed).all()
    assert set(done.why_failed.tolist()) <= {0, TIMED_OUT, REJECTED, LOST}
    if control.retry:
        assert LOST not in done.why_failed
    else:
        assert 0 == done.retried.sum()
    if control.room == 0:
        assert REJECTED not in done.why_failed
    assert (done.ledger["busy_s"] <= done.on_s + COST.step_s([], [(0, 24)]) + 1e-9).all()


@many
@given(worlds(), st.booleans())
def test_changes_that_come_after_the_last_query_change_nothing(world: World, retry: bool):
    late = Control((Change(1e6, 0, "stop"), Change(2e6, 0, "start")), retry)
    assert_same(world.run(max_in_flight=99), through(world, late))


@many
@given(worlds(), st.integers(0, 80))
def test_a_drain_loses_nothing_and_nothing_comes_after_it(world: World, eighths: int):
    world = world._replace(replicas=world.replicas + 1)
    at_s = eighths / 8
    done = through(world, Control((Change(at_s, 0, "drain"),)))
    assert not done.failed.any()
    assert 0 == done.retried.sum() == done.lost_tokens.sum()
    sent_s = done.sent_s.repeat(world.load.width)
    if len(world.load.stages) == 1:
        assert not ((done.replica == 0) & (sent_s >= at_s)).any()
    assert done.on_s[0] <= max(at_s, float(np.nanmax(done.last_token_s)))


@many
@given(worlds(), st.sampled_from(ROUTINGS), st.integers(1, 3))
def test_a_replica_that_does_not_serve_gets_nothing(world: World, routing: str, serving: int):
    world = world._replace(routing=routing)
    serving = min(serving, world.replicas)
    done = through(world, Control(serving=serving))
    assert (done.replica < serving).all()
    assert 0 == done.ledger["steps"][serving:].sum()
    assert 0 == done.on_s[serving:].sum()
    if routing not in {"power_of_two", "random", "session_affinity"}:  # a draw's first choice is made among all
        same = world._replace(replicas=serving)
        np.testing.assert_array_equal(through(same, Control(serving=serving)).last_token_s, done.last_token_s)


@many
@given(limited(), st.sampled_from(ROUTINGS), st.integers(0, 4))
def test_admission_keeps_every_replica_within_its_room(world: World, routing: str, more: int):
    room = max(stage.samples for stage in world.load.stages) + more
    world = world._replace(routing=routing)
    done = through(world, Control(room=room))
    load = world.load
    # A request is in a replica's hands from when it is routed, at the earliest when its query is sent, to its end.
    ended_s = np.fmin(done.last_token_s, done.ended_s.repeat(load.width))
    ended_s = np.where(np.isfinite(ended_s), ended_s, done.ended_s.repeat(load.width))
    if len(load.stages) == 1:
        ready_s = (done.sent_s.repeat(load.width) + COST.frontend_s) + COST.frontend_token_s * load.prompt_tokens
        for r in range(world.replicas):
            mine = (done.replica == r) & (ended_s > ready_s)
            times = np.concatenate((ended_s[mine], ready_s[mine]))
            change = np.repeat([-1, 1], mine.sum())
            assert np.cumsum(change[np.lexsort((change, times))]).max(initial=0) <= room


@many
@given(worlds(shapes=SHAPES[:1]), st.integers(0, 80), st.booleans())
def test_work_done_is_the_answers_work_and_what_was_thrown_away(world: World, eighths: int, retry: bool):
    """Without cache and preemption: prompt + output − 1 tokens for each answer, and for a stop what was computed."""
    config = replace(world.config, num_blocks=2000, enable_prefix_caching=False)
    world = world._replace(
        config=config, load=replace(world.load, prefixes=None, stages=(Stage("answer"),)), replicas=2
    )
    control = Control((Change(eighths / 8, 1, "stop"),), retry)
    done = through(world, control)
    assert 0 == done.ledger["preemptions"].sum()
    answers = np.isfinite(done.last_token_s)
    output = np.minimum(world.load.output_tokens, config.max_model_len - world.load.prompt_tokens)
    needed = (world.load.prompt_tokens + output - 1)[answers].sum()
    worked = done.ledger["prefill_tokens"].sum() + done.ledger["decode_tokens"].sum()
    assert needed + done.lost_tokens.sum() == worked


def test_a_stopped_replicas_ledger_is_kept_whole():
    before = run([0, 0], [5, 1], Control((Change(5.0, 0, "stop"),)))
    plain = run([0, 0], [5, 1], Control())
    for name in LEDGER:
        assert plain.ledger[name].tolist() == before.ledger[name].tolist(), name
