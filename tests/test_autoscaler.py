"""The autoscaler's rule by hand, and what a scaled fleet must obey: seconds add up, every query is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.simulation.autoscaler import Rule, Scaling, recommended, scheduled, stabilised
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_scaling import Watch
from planner.simulation.load import Load, Stage
from planner.simulation.operations import Control
from planner.specs import SchedulerConfig

HOUR = 3600.0
# One seat, one output token of a prompt of one token: a request takes 10 s of a replica.
ENGINE = SchedulerConfig(50, 16, 1, 16, 100, enable_prefix_caching=False)
COST = StepCost(tokens_s=np.full(17, 10.0), requests_s=np.zeros(2))
RULE = Rule("requests", 2.0, least=1, most=8, interval_s=15.0, delay_s=300.0, tolerance=0.1, startup_s=120.0)


def load(arrival_s: np.ndarray, **changes: object) -> Load:
    tokens = np.ones(len(arrival_s), np.int32)
    return Load(np.asarray(arrival_s, np.float64), tokens, tokens, **changes)


def run(arriving: Load, hours: int, rule: Rule | None, serving: int = 1, places: int = 12) -> tuple[FleetRun, Watch]:
    control = Control(serving=serving, scaling=Scaling(hours, rule))
    found = run_fleet(arriving, ENGINE, COST, places, "least_loaded", np.random.default_rng(0), control=control)
    assert found.watch is not None
    return found, found.watch


def poisson(qps: float, hours: float, begin_s: float = 0.0, seed: int = 0) -> np.ndarray:
    count = np.random.default_rng(seed).poisson(qps * hours * HOUR)
    return np.sort(begin_s + hours * HOUR * np.random.default_rng(seed + 1).random(count))


# --- the rule ---


@pytest.mark.parametrize(
    ("total", "target", "replicas", "tolerance", "wanted", "because"),
    [
        (30.0, 10.0, 1, 0.1, 3, "thirty at ten each"),
        (31.0, 10.0, 1, 0.1, 4, "rounded up"),
        (31.0, 10.0, 3, 0.1, 3, "3 % above the target is within the tolerance"),
        (32.9, 10.0, 3, 0.1, 3, "just below 10 % is within it too"),
        (33.1, 10.0, 3, 0.1, 4, "more is not"),
        (28.0, 10.0, 3, 0.1, 3, "7 % below it"),
        (26.0, 10.0, 3, 0.1, 3, "13 % below, but two would not carry it"),
        (19.0, 10.0, 3, 0.1, 2, "two carry it"),
        (0.0, 10.0, 3, 0.1, 0, "no load wants nobody: the least is applied afterwards"),
        (31.0, 10.0, 3, 0.0, 4, "no tolerance"),
        (0.3 * 3, 0.3, 5, 0.1, 3, "the last bit of 0.9 does not make a fourth"),
    ],
)
def test_the_recommendation(total, target, replicas, tolerance, wanted, because):
    assert wanted == recommended(total, target, replicas, tolerance), because


@pytest.mark.parametrize(
    ("wish", "replicas", "recent", "wanted", "because"),
    [
        (5, 3, [3], 5, "up at once"),
        (5, 3, [9, 3], 5, "an old peak does not raise it further"),
        (2, 4, [4, 3], 4, "four were wanted lately"),
        (2, 4, [3, 2], 3, "down to the most that was wanted lately"),
        (2, 4, [9], 4, "never more than there are"),
        (2, 4, [], 2, "nothing was wanted lately"),
        (3, 3, [5], 3, "nothing to do"),
    ],
)
def test_down_is_held_back_and_up_is_not(wish, replicas, recent, wanted, because):
    assert wanted == stabilised(wish, replicas, recent), because


def test_a_schedule_goes_round_with_the_day():
    hours = tuple(range(1, 25))
    assert [1, 1, 2, 24, 1] == [scheduled(hours, t) for t in (0.0, 3599.0, 3600.0, 86_399.0, 86_400.0)]


# --- a fleet on a schedule, by hand ---


def test_a_schedule_in_replica_seconds():
    """Hours of 1, 3, 1 and 2 replicas. A start is asked for at the first look of the hour, 0 s into it, takes 120 s and
    is paid for; a stop comes when the last look that wanted more is 300 s ago: 285 s into the hour.
    """
    rule = replace(RULE, kind="schedule", schedule=(1, 3, 1, 2, *[1] * 20))
    # An arrival each 1000 s, served at once.
    _, watch = run(load(np.arange(0.0, 4 * HOUR, 1000.0)), 4, rule)
    assert [(3600.0, 3), (7485.0, 1), (10800.0, 2)] == watch.changes
    served = [3600.0, 3600.0 + 2 * 3480.0, 3600.0 + 2 * 285.0, 3600.0 + 3480.0]
    paid = [3600.0, 3 * 3600.0, 3600.0 + 2 * 285.0, 2 * 3600.0]
    assert served == pytest.approx(np.diff(watch.served_s, prepend=0.0).tolist())
    assert paid == pytest.approx(np.diff(watch.paid_s, prepend=0.0).tolist())
    assert [[1, 1], [1, 3], [1, 3], [1, 2]] == watch.serving.tolist()


def test_a_replica_that_is_not_wanted_any_more_while_it_starts_never_serves():
    """Startup takes longer than the burst is remembered: started at 15 s, when 5 are unfinished; a second is last
    wanted at 45 s, when 2 are; given up 300 s after that.
    """
    rule = replace(RULE, startup_s=1000.0, target=1.0)
    found, watch = run(load(np.append(np.zeros(6), 3000.0)), 1, rule)
    assert [(15.0, 5), (345.0, 1)] == [watch.changes[0], watch.changes[-1]]
    assert HOUR == pytest.approx(watch.served_s[-1])
    assert [[1, 1]] == watch.serving.tolist()
    assert np.isfinite(found.last_token_s).all()


def test_a_wish_that_finds_no_place_is_one_wish():
    """Two places for the four that sixty queries want at 15 s: tried again at each look, and noted once."""
    rule = replace(RULE, most=4, delay_s=0.0)
    found, watch = run(load(np.zeros(60)), 1, rule, places=2)
    assert (15.0, 4) == watch.changes[0]
    assert [wanted for _, wanted in watch.changes] == sorted({wanted for _, wanted in watch.changes}, reverse=True)
    assert watch.held_back > 5
    assert np.isfinite(found.last_token_s).all()
    assert 2 == watch.serving[0, 1]


def test_starts_that_come_to_nothing_are_counted():
    """Five more are wanted for a burst of six and given up while they start; one is wanted as the hour ends."""
    rule = replace(RULE, startup_s=1000.0, target=1.0)
    _, watch = run(load(np.append(np.zeros(6), np.full(2, 3580.0))), 1, rule)
    assert [4, 1, 0] == [watch.given_up, watch.unfinished, watch.held_back]


# --- laws ---


@pytest.mark.parametrize("kind", ["queue", "utilisation", "requests"])
def test_seconds_add_up_and_every_query_is_answered(kind):
    """Busy = 10 s a query; what serves is paid for, as each replica's record has it; nothing that drains is lost."""
    target = {"queue": 1.0, "utilisation": 0.6, "requests": 2.0}[kind]
    arrival_s = np.concatenate((poisson(0.1, 1.0), poisson(0.45, 1.0, HOUR), poisson(0.05, 0.9, 2 * HOUR)))
    found, watch = run(load(arrival_s), 4, replace(RULE, kind=kind, target=target))
    assert np.isfinite(found.last_token_s).all()
    assert not found.failed.any()
    assert found.last_token_s.max() < 4 * HOUR
    assert len(watch.changes) > 3
    assert 10.0 * len(arrival_s) == pytest.approx(watch.busy_s[-1])
    assert (watch.served_s <= watch.paid_s + 1e-6).all()
    assert found.on_s.sum() == pytest.approx(watch.paid_s[-1])
    assert (found.on_s >= 0).all()
    # Replica-seconds are the integral of the replicas that serve: never outside the range of their hour.
    served = np.diff(watch.served_s, prepend=0.0) / HOUR
    assert (served >= watch.serving[:, 0] - 1e-9).all()
    assert (served <= watch.serving[:, 1] + 1e-9).all()
    assert (watch.serving >= 1).all()
    assert (watch.serving <= 8).all()


def test_under_an_even_load_it_settles():
    """Two queries a minute each take 10 s, evenly: a third of a replica. From 4 replicas it comes to 1 and stays."""
    _, watch = run(load(np.arange(0.0, 3 * HOUR, 30.0)), 3, RULE, serving=4)
    assert [(300.0, 1)] == watch.changes
    assert [[1, 4], [1, 1], [1, 1]] == watch.serving.tolist()


def test_a_step_of_the_load_is_met_a_startup_after_the_next_look():
    """From 1000 s on three queries come together each 10 s. The look at 1005 s sees 3 unfinished, ⌈3 ÷ 0.95⌉ = 4
    replicas' worth; until they serve, 120 s later, the queue grows and more are wanted; then it is worked off, and the
    fleet comes back to the 4 that three queries of 10 s each 10 s need.
    """
    arrival_s = np.concatenate((np.arange(0.0, 1000.0, 20.0), np.repeat(np.arange(1000.0, HOUR, 10.0), 3)))
    found, watch = run(load(arrival_s), 1, replace(RULE, target=0.95))
    assert (1005.0, 4) == watch.changes[0]
    begun_elsewhere = found.first_token_s[found.replica != 0].min() - 10.0
    assert 1005.0 + 120.0 <= begun_elsewhere <= 1005.0 + 120.0 + 10.0
    assert [8, 4] == [watch.serving[0, 1], watch.changes[-1][1]]
    waits = found.first_token_s - found.arrival_s
    assert waits[(arrival_s >= 1000.0) & (arrival_s < 1200.0)].max() > 60.0
    assert 10.0 == pytest.approx(waits[arrival_s >= 2700.0].max())


def test_without_a_rule_the_fleet_is_only_watched():
    arrival_s = poisson(0.2, 2.0)
    watched, watch = run(load(arrival_s), 2, None, serving=3, places=3)
    plain = run_fleet(load(arrival_s), ENGINE, COST, 3, "least_loaded", np.random.default_rng(0))
    assert plain.last_token_s.tolist() == pytest.approx(watched.last_token_s.tolist())
    assert plain.replica.tolist() == watched.replica.tolist()
    assert [3 * HOUR, 6 * HOUR] == watch.paid_s.tolist() == watch.served_s.tolist()
    assert [] == watch.changes


def test_stages_and_deadlines_are_scaled_too():
    """Two stages of one call each: a query takes 20 s; none of them waits as long as its deadline."""
    arrival_s = poisson(0.1, 1.5)
    tokens = np.ones(2 * len(arrival_s), np.int32)
    arriving = Load(arrival_s, tokens, tokens, (Stage("look"), Stage("answer")), timeout_s=3000.0)
    found, watch = run(arriving, 2, RULE)
    assert not found.failed.any()
    assert 20.0 * len(arrival_s) == pytest.approx(watch.busy_s[-1])
    assert len(watch.changes) > 0


def test_hours_without_load_pass_too():
    """All is over after 50 s; the replica that was started is stopped, and the last two hours are still told."""
    found, watch = run(load(np.zeros(5)), 3, RULE)
    assert [1.0, 1.0] == (np.diff(watch.paid_s) / HOUR).tolist()
    assert watch.paid_s[-1] == pytest.approx(found.on_s.sum())
    assert (15.0, 2) == watch.changes[0]
    assert 50.0 == pytest.approx(watch.busy_s[0])
