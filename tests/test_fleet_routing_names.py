"""Routing by its rules: by hand on steps of one second, laws of balance, what keeping sessions together is worth."""

from __future__ import annotations

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Prefixes, Stage
from planner.simulation.operations import NO_CONTROL, Change, Control
from planner.simulation.prefix_index import forget_replica, make_index
from planner.specs import SchedulerConfig
from tests.session_loads import sessions

STEP = StepCost(np.ones(65), np.zeros(5))


def asked(load: Load, replicas: int, routing: str, *, blocks: int = 400, control: Control = NO_CONTROL) -> FleetRun:
    config = SchedulerConfig(blocks, 4, 4, 64, 64, enable_prefix_caching=True)
    return run_fleet(load, config, STEP, replicas, routing, np.random.default_rng(0), control=control)


def groups_load(groups: list[int], gap_s: float, shared: int = 12) -> Load:
    """Prompts of 16 tokens, of which `shared` are those of a group, answered by one token."""
    chains = np.array(groups, np.int32)
    tokens = np.full(max(groups) + 1, shared, np.int32)
    count = len(groups)
    prefixes = Prefixes(np.arange(count + 1), chains, tokens)
    return Load(np.arange(count) * gap_s, np.full(count, 16, np.int32), np.ones(count, np.int32), prefixes=prefixes)


def test_prefix_aware_goes_where_the_prompt_was_sent_before():
    done = asked(groups_load([0, 1, 2, 1, 0, 2, 2, 0], 3.0), 3, "prefix_aware")
    assert [0, 1, 2, 1, 0, 2, 2, 0] == done.replica.tolist()
    assert 5 * 12 == done.ledger["hit_tokens"].sum()


@pytest.mark.parametrize(
    ("shared", "most", "because"),
    [(8, 12, "a queue (2) outweighs half a prompt (1.5)"), (12, 24, "three quarters (2.25) outweigh a queue")],
)
def test_a_hot_prefix_spreads_if_it_is_less_than_two_thirds_of_the_prompt(shared: int, most: int, because: str):
    """24 at once on three replicas of 4 seats: the weights are 3 for the prompt's share, 2 for the queue."""
    done = asked(groups_load([0] * 24, 0.0, shared), 3, "prefix_aware")
    served = np.bincount(done.replica, minlength=3)
    assert (most == 24) == (served.max() == 24), because
    assert served.max() <= most


def test_the_router_forgets_the_oldest_prompt_when_its_index_is_full():
    """An index of 8 blocks holds two prompts of 4; the cache is as small."""
    first_again = groups_load([0, 1, 2, 0], 3.0)
    done = asked(first_again, 1, "prefix_aware", blocks=9)
    assert 0 == done.ledger["hit_tokens"].sum()
    again = asked(groups_load([0, 1, 1, 0], 3.0), 2, "prefix_aware", blocks=400)
    assert [0, 1, 1, 0] == again.replica.tolist()


def test_an_index_forgets_a_replica_and_nothing_else():
    index = make_index(70, 5, 8)
    index.masks[:, :] = ~np.uint64(0)
    forget_replica(index, 65)
    assert ~np.uint64(0) == index.masks[3, 0]
    assert ~np.uint64(0) ^ (np.uint64(1) << np.uint64(1)) == index.masks[3, 1]


def chat(rate: float, turns: int = 4, count: int = 60) -> Load:
    rng = np.random.default_rng(3)
    return sessions(np.cumsum(rng.exponential(1 / rate, count)).tolist(), [[(8, 4)] * turns] * count, think_s=6.0)


@pytest.mark.parametrize("routing", ["session_affinity", "prefix_aware"])
def test_sessions_kept_together_hit_as_one_engine_does(routing: str):
    """One engine finds all but the last block of each turn; n of them as much, if turns stay where they began."""
    load = chat(0.25)
    one = asked(load, 1, "round_robin").ledger
    kept = asked(load, 4, routing).ledger
    strewn = asked(load, 4, "random").ledger
    rate, rates = one["hit_tokens"].sum() / one["queried_tokens"].sum(), []
    for ledger in (kept, strewn):
        rates.append(ledger["hit_tokens"].sum() / ledger["queried_tokens"].sum())
    assert rates[0] == pytest.approx(rate, abs=0.02)
    assert rates[1] < 0.6 * rate


def test_turns_of_a_session_go_to_one_replica_and_come_back_to_it():
    load = chat(0.25)
    done = asked(load, 4, "session_affinity")
    begin = np.arange(load.queries)
    for query in range(load.queries):
        if load.follows[query] >= 0:
            begin[query] = begin[load.follows[query]]
    home = done.replica[begin]
    assert home.tolist() == done.replica.tolist()
    assert 4 == len(set(home.tolist()))
    gone = asked(load, 4, "session_affinity", control=Control((Change(60.0, 2, "stop"), Change(120.0, 2, "start"))))
    away = (gone.sent_s >= 60.0) & (gone.sent_s < 120.0)
    assert home[~away & (home != 2)].tolist() == gone.replica[~away & (home != 2)].tolist()
    assert 2 not in gone.replica[away]
    others = set(gone.replica[away & (home == 2)].tolist())
    assert len(others) > 1, "the sessions of one that is gone go to several"
    late = gone.sent_s > 125.0
    assert home[late].tolist() == gone.replica[late].tolist()


@pytest.mark.parametrize(
    ("groups", "spread", "because"),
    [
        ([1, 1], [True, True], "each stage has one system prompt: nothing to keep together in either"),
        ([1, 3], [True, False], "the second has three: they stay together, the first's calls go as they come"),
        ([3, 3], [False, False], "three each: those of one stage are not those of the other"),
        ([3, 0], [False, True], "the second has none"),
    ],
)
def test_affinity_without_sessions_goes_by_the_groups_of_each_stage(
    groups: list[int], spread: list[bool], because: str
):
    """120 queries of two calls and one; the k-th takes system prompt k modulo the stage's number of them."""
    count, stages = 120, (Stage("gather", calls=2), Stage("answer"))
    mine = [[k % groups[0]] * 2 + [groups[0] + k % groups[1] if groups[1] else -1] for k in range(count)]
    segments = np.array(mine).ravel()
    starts = np.concatenate(([0], np.cumsum(segments >= 0)))
    prefixes = Prefixes(starts, segments[segments >= 0].astype(np.int32), np.full(sum(groups), 8, np.int32))
    prompts, outputs = np.full(3 * count, 12, np.int32), np.ones(3 * count, np.int32)
    load = Load(np.arange(count) * 3.0, prompts, outputs, stages=stages, prefixes=prefixes)
    replica = asked(load, 6, "session_affinity").replica.reshape(count, 3)
    for calls, number, strewn in zip((replica[:, :2], replica[:, 2:]), groups, spread, strict=True):
        if strewn:
            shares = np.bincount(calls.ravel(), minlength=6)
            # four standard deviations of a binomial share of a sixth
            assert np.abs(shares - calls.size / 6).max() < 4 * np.sqrt(calls.size * 5 / 36), because
        else:
            assert [1] * number == [len(set(calls[k::number].ravel().tolist())) for k in range(number)], because


def test_a_random_choice_among_those_that_serve_is_even():
    count = 6000
    load = Load(np.arange(count) * 2.0, np.full(count, 4, np.int32), np.ones(count, np.int32))
    for routing in ("random", "power_of_two", "session_affinity"):
        done = asked(load, 5, routing, control=Control((Change(0.0, 3, "stop"),)))
        shares = np.bincount(done.replica, minlength=5)
        assert 0 == shares[3]
        # four standard deviations of a binomial share of a quarter
        assert np.abs(shares[[0, 1, 2, 4]] - count / 4).max() < 4 * np.sqrt(count * 0.25 * 0.75)


# --- queueing theory: 1 token, 1 seat, so a replica is a server; service ends on steps of a hundredth of its mean ---


def waits(routing: str, servers: int, load: float, count: int = 20_000) -> float:
    """Mean time from arrival to the answer in units of the mean service; service is exponential in whole steps."""
    rng = np.random.default_rng(11)
    arrival_s = np.cumsum(rng.exponential(1 / (servers * load), count))
    output = np.maximum(np.ceil(rng.exponential(100.0, count)), 1.0).astype(np.int32)
    config = SchedulerConfig(20_000, 16, 1, 16, 10_000)
    cost = StepCost(np.full(17, 0.01), np.zeros(2))
    made = Load(arrival_s, np.ones(count, np.int32), output)
    done = run_fleet(made, config, cost, servers, routing, np.random.default_rng(0))
    return float((done.last_token_s - arrival_s)[count // 10 :].mean())


def erlang_c_stay(servers: int, load: float) -> float:
    """Mean stay in M/M/c with mean service 1: 1 + C / (c (1 − ρ)), C by Erlang's recursion."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = servers * load * blocked / (k + servers * load * blocked)
    delayed = blocked / (1 - load * (1 - blocked))
    return 1 + delayed / (servers * (1 - load))


def test_power_of_two_stays_between_random_and_least_loaded_which_stay_above_one_queue():
    """Least-loaded routing cannot beat one common queue (Erlang C), random is M/M/1 (1 / (1 − ρ))."""
    servers, load = 8, 0.8
    stay = {routing: waits(routing, servers, load) for routing in ("random", "power_of_two", "least_loaded")}
    assert 0.98 * erlang_c_stay(servers, load) < stay["least_loaded"] < stay["power_of_two"] < stay["random"]
    assert stay["random"] == pytest.approx(1 / (1 - load), rel=0.15)
    # Two choices: Σ ρ^(2^i − 2) for many servers (Mitzenmacher 2001), which few servers exceed a little.
    many_servers = sum(load ** (2**i - 2) for i in range(1, 12))
    assert many_servers * 0.95 < stay["power_of_two"] < many_servers * 1.15
