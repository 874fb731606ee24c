"""What happens to a replica to which something else is happening already: by hand, on steps of one second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.deployment.failure_changes import stops, with_failures
from planner.scenario import Scenario
from planner.simulation.autoscaler import Rule, Scaling
from planner.simulation.fleet import NO_MARKS, FleetRun, run_fleet
from planner.simulation.fleet_record import LOST, TIMED_OUT
from planner.simulation.load import Load
from planner.simulation.operations import NO_CONTROL, Change, Control
from planner.simulation.timeline import timeline
from planner.specs import SchedulerConfig
from tests.fleet_worlds import COST, World, limited, many

SCENARIO = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 1},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 4, "output_tokens": 8}]},
}


def answers(arrival_s: list[float], outputs: list[int], **more: Any) -> Load:
    """Prompts of 4 tokens: alone, an answer of O tokens takes O steps."""
    prompts = np.full(len(outputs), 4, np.int32)
    return Load(np.array(arrival_s, np.float64), prompts, np.array(outputs, np.int32), **more)


def run(
    load: Load,
    control: Control,
    *,
    replicas: int = 2,
    seats: int = 4,
    lagged: bool = False,
    marks_s: Any = NO_MARKS,
) -> FleetRun:
    config = SchedulerConfig(200, 4, seats, 64, 64, async_scheduling=lagged)
    cost, rng = StepCost(np.ones(65), np.zeros(seats + 1)), np.random.default_rng(0)
    return run_fleet(load, config, cost, replicas, "least_loaded", rng, control=control, marks_s=marks_s)


def failing(load: Load, failures: list[dict[str, Any]], replicas: int, startup_s: float = 2.0) -> Control:
    """`fleet.failures` of a scenario as what is done to a run of `load`, counted from its first query."""
    fleet = {"replicas": replicas, "startup_s": startup_s, "failures": failures}
    control, _ = with_failures(NO_CONTROL, Scenario.from_dict(SCENARIO | {"fleet": fleet}), load, replicas)
    return control


# --- replicas that are slow ---


class Spells(NamedTuple):
    because: str
    slow: list[dict[str, float]]
    token_s: list[float]  # when each of eight tokens is out


SLOW = [
    Spells(
        "twice as slow from 2 to 8, three times from 4 to 20: six times from 4 to 8, and then three times",
        [{"at_s": 2, "for_s": 6, "factor": 2}, {"at_s": 4, "for_s": 16, "factor": 3}],
        [1, 2, 4, 10, 13, 16, 19, 22],
    ),
    Spells(
        "one within another: its end gives back its own factor alone",
        [{"at_s": 1, "for_s": 10, "factor": 2}, {"at_s": 3, "for_s": 4, "factor": 2}],
        [1, 3, 7, 9, 11, 12, 13, 14],
    ),
    Spells(
        "one begins at the instant at which the other ends: they do not overlap, whichever is written first",
        [{"at_s": 4, "for_s": 4, "factor": 3}, {"at_s": 2, "for_s": 2, "factor": 2}],
        [1, 2, 4, 7, 10, 11, 12, 13],
    ),
    Spells(
        "two begin and end together",
        [{"at_s": 2, "for_s": 4, "factor": 2}, {"at_s": 2, "for_s": 4, "factor": 2}],
        [1, 2, 6, 7, 8, 9, 10, 11],
    ),
]


@pytest.mark.parametrize("row", SLOW, ids=[row.because for row in SLOW])
def test_slow_spells_of_one_replica_that_overlap_multiply(row: Spells):
    for tokens, expected_s in enumerate(row.token_s, 1):
        load = answers([0], [tokens])
        done = run(load, failing(load, [{"slow": one} for one in row.slow], 1), replicas=1)
        assert expected_s == done.last_token_s[0], tokens


# --- a restart that meets a stop ---


class Restart(NamedTuple):
    because: str
    failures: list[dict[str, Any]]
    serves_until_s: list[float]  # [R] time for which each of three was on


ROLLING = {"rolling_restart": {"at_s": 4, "wait_s": 1}}
RESTARTS = [
    Restart("nothing stops: each is on all the time, its start is paid for", [ROLLING], [60, 60, 60]),
    Restart("the last one is off for good before its turn", [{"stop": {"at_s": 2}}, ROLLING], [60, 60, 2]),
    Restart("the last one stops for good while it starts, at 11", [{"stop": {"at_s": 11}}, ROLLING], [60, 60, 11]),
    Restart(
        "it stops while it starts and is back at 20, as the stop says: neither sooner nor twice",
        [{"stop": {"at_s": 11, "back_after_s": 9}}, ROLLING],
        [60, 60, 51],
    ),
    Restart(
        "it is off at its turn and comes back later", [{"stop": {"at_s": 2, "back_after_s": 28}}, ROLLING], [60, 60, 32]
    ),
]


@pytest.mark.parametrize("row", RESTARTS, ids=[row.because for row in RESTARTS])
def test_a_restart_brings_back_nobody_who_stopped(row: Restart):
    """Idle replicas are restarted at 4, 7 and 10, for 2 s each; one query comes at 0, another lasts from 50 to 60."""
    load = answers([0, 50], [1, 10])
    control = failing(load, row.failures, 3)
    done = run(load, control, replicas=3)
    assert row.serves_until_s == done.on_s.tolist()
    assert np.isfinite(done.changed_s).all(), "what is passed over is over"


def test_a_restart_goes_on_to_the_next_where_one_is_off_or_stops_while_it_drains():
    """Replica 2 has a long answer in hand at its turn and stops in it; of replica 1 nothing is left by then."""
    load = answers([0, 0, 0, 40], [2, 1, 30, 9])
    stops = (Change(1.5, 1, "stop"), Change(20.0, 2, "stop"))
    turns = [
        Change(3.0, 1, "drain", then=3), Change(np.inf, 1, "boot", then=4, then_s=2.0),
        Change(np.inf, 1, "start", then=5, then_s=1.0),
        Change(np.inf, 2, "drain", then=6), Change(np.inf, 2, "boot", then=7, then_s=2.0),
        Change(np.inf, 2, "start", then=8, then_s=1.0),
        Change(np.inf, 0, "drain", then=9), Change(np.inf, 0, "boot", then=10, then_s=2.0),
        Change(np.inf, 0, "start"),
    ]  # fmt: skip
    done = run(load, Control((*stops, *turns)), replicas=3)
    assert [1.5, 20.0] + [3.0] * 3 + [3.0, 20.0, 20.0] == done.changed_s[:8].tolist()
    # Replica 0 drains from 20 on, what replica 2 had waits at the router: it is off at once, and serves at 22.
    assert [20.0, 20.0, 22.0] == done.changed_s[8:].tolist()
    assert [2.0, 1.0, 52.0, 49.0] == done.last_token_s.tolist()
    assert [52.0, 1.5, 20.0] == done.on_s.tolist()


def test_nobody_is_left_where_all_stop_and_a_restart_comes_later():
    load = answers([0, 9], [1, 1])
    rolling = failing(load, [ROLLING], 2)
    done = run(load, replace(rolling, changes=(*rolling.changes, *stops([0, 1], 3.0, None))), replicas=2)
    assert [0, LOST] == done.why_failed.tolist()


# --- a step that is cut off ---


@pytest.mark.parametrize("lagged", [False, True])
@pytest.mark.parametrize("marks_s", [[0.0, 2.25, 5.0], [0.0, 2.1, 2.25, 2.75, 2.9, 5.0], [0.0, 2.0, 2.5, 3.0, 5.0]])
def test_a_step_that_a_stop_cuts_off_ends_there_for_whoever_looked_at_it(marks_s: list[float], lagged: bool):
    """Two seats of replica 0 run from 0 on, the third waits; at 2.5 it stops in its third step, and one ends there."""
    load = answers([0, 0, 0, 0], [3, 1, 9, 1])
    at = np.array(marks_s)
    done = run(load, Control((Change(2.5, 0, "stop"),), retry=False), seats=1, lagged=lagged, marks_s=at)
    over = timeline(done, at)
    busy, spans = over.busy_share[:, 0], np.diff(np.clip(np.maximum(at, done.marks["now"][:, 0]), 0, None))
    assert np.nanmin(busy) >= 0.0
    assert np.nanmax(busy) <= 1.0
    assert 2.5 == np.nansum(busy * spans)
    assert 2.5 == np.nansum(over.running[:, 0] * spans)
    assert 2.5 == np.nansum(over.waiting[:, 0] * spans)
    assert (np.nan_to_num(over.kv_usage[:, 0]) >= 0.0).all()
    assert 2.5 == done.ledger["busy_s"][0] == done.ledger["running_s"][0]


@many
@given(limited(), st.lists(st.tuples(st.integers(0, 320), st.integers(0, 3), st.booleans()), min_size=1, max_size=4))
def test_what_a_replica_has_done_never_gets_less(world: World, stops: list[tuple[int, int, bool]]):
    """Whatever stops and comes back, and whoever looks at it when: ledgers and clocks only grow."""
    changes = [Change(50.0, 0, "stop"), Change(51.0, 0, "start")]  # so that somebody is there in the end
    for at, r, comes_back in stops:
        changes.append(Change(at / 32, r % world.replicas, "stop"))
        if comes_back:
            changes.append(Change(at / 32 + 0.125, r % world.replicas, "start"))
    at_s, rng = np.arange(0.0, 12.0, 0.3), np.random.default_rng(world.seed)
    fixed = (world.load, world.config, COST, world.replicas, world.routing, rng)
    done = run_fleet(*fixed, control=Control(tuple(changes)), marks_s=at_s)
    stood = np.concatenate((done.marks, done.ledger[None, :]))
    for name in ("now", "busy_s", "running_s", "waiting_s", "kv_block_s", "steps", "prefill_tokens"):
        assert (np.diff(stood[name].astype(np.float64), axis=0) >= -1e-9).all(), name
    over = timeline(done, at_s)
    assert np.nanmax(over.busy_share, initial=0.0) <= 1.0 + 1e-9


# --- who waits for nobody ---


def test_an_autoscaler_does_not_count_who_has_given_up_at_the_router():
    """One replica serves and stops at 12 while another starts: five wait at the router, and give up before 20."""
    load = answers([9, 9, 13, 13, 13], [60] * 5, timeout_s=5.0)
    rule = Rule("requests", 1.0, 1, 4, 10.0, 1.0, 0.1, 60.0)
    done = run(load, Control((Change(12.0, 0, "stop"),), serving=1, scaling=Scaling(1, rule)), replicas=4)
    assert [TIMED_OUT] * 5 == done.why_failed.tolist()
    assert done.watch is not None
    assert (10.0, 2) == done.watch.changes[0]
    assert 4 not in [wanted for _, wanted in done.watch.changes]


def test_a_seat_that_an_ended_answer_keeps_is_nobody_who_waits_less():
    """Asynchronous, one seat each: at 2.5 the long prompt has its last token under way and nobody behind it.

    So the fourth call goes there, and not to the replica with one more in its queue and a little less in its cache.
    """
    load = answers([0, 0, 0.5, 2.5], [3, 9, 9, 1])
    load.prompt_tokens[0] = 40
    config = SchedulerConfig(21, 4, 1, 64, 64, async_scheduling=True)
    cost = StepCost(np.ones(65), np.zeros(2))
    done = run_fleet(load, config, cost, 2, "prefix_aware", np.random.default_rng(0))
    assert [0, 1, 1, 0] == done.replica.tolist()


def test_an_autoscaler_counts_who_waits_behind_a_seat_that_an_ended_answer_keeps():
    """Asynchronous, one seat each: at 10 the first answer's last step is under way, and the third call waits for it."""
    rule = Rule("queue", 0.25, 2, 4, 10.0, 1.0, 0.1, 60.0)
    control = Control(serving=2, scaling=Scaling(1, rule))
    done = run(answers([0.5, 0.5, 0.5], [10, 60, 9]), control, replicas=4, seats=1, lagged=True)
    assert [0, 1, 0] == done.replica.tolist()
    assert done.watch is not None
    assert (10.0, 4) == done.watch.changes[0]
