"""Data-parallel ranks that share their experts: they begin and end every step together.

Twin: reference schedulers in lock step, in plain Python. Costs are dyadic, so times must be equal to the last bit.
Laws: what a group of ranks may and may not change.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep import grouped, lockstep
from test_kernel_twins import LEDGER, ordinary, unit_cost, worlds

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet import run_fleet
from planner.simulation.load import Load, Stage
from planner.specs import SchedulerConfig

World = tuple[Load, SchedulerConfig, StepCost]


@st.composite
def groups(draw: st.DrawFn, counts: tuple[int, ...] = (2, 4), asynchronous: bool = False) -> tuple[World, list[int]]:
    """A small world with nobody who gives up, a group to serve it, and the rank of each request."""
    load, config, cost = draw(worlds())
    load = replace(load, timeout_s=np.inf)
    config = replace(config, async_scheduling=asynchronous and draw(st.booleans()))
    ranks = draw(st.sampled_from(counts))
    some = draw(st.integers(1, ranks))  # the others stay idle
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        part = 2.0**-12 * draw(st.integers(0, 7)) * np.arange(len(cost.tokens_s))
        cost = replace(cost, tokens_s=cost.tokens_s + part, ranks_tokens_s=part)
    return (load, config, cost), [ranks, *rng.integers(0, some, load.requests).tolist()]


def fits(world: World) -> bool:
    """Whether one replica can end the load at all."""
    try:
        run_fleet(*world, 1, "round_robin", np.random.default_rng(0))
    except MisfitError:
        return False
    return True


# --- the twin ---


@settings(max_examples=200, deadline=None)
@given(groups())
def test_a_group_is_reference_schedulers_in_lock_step(case: tuple[World, list[int]]):
    world, (ranks, *rank) = case
    fast = grouped(*world, ranks, rank)
    if fast.stuck:
        return
    slow = lockstep(*world, ranks, rank)
    np.testing.assert_array_equal(slow.last_token_s, fast.last_token_s)
    np.testing.assert_array_equal(slow.first_token_s, fast.first_token_s)
    assert slow.steps == fast.ledger["steps"].tolist()
    assert (fast.ledger["busy_s"] <= fast.ledger["now"]).all()


def test_the_twins_worlds_hold_what_they_are_meant_to_hold():
    """Ranks of four that work, that only show, that preempt and that hit, in one fixed world."""
    rng = np.random.default_rng(5)
    load, config, _ = ordinary(1, 160)
    config = replace(config, num_blocks=160)
    cost = replace(unit_cost(config), decode_token_s=2.0**-20, ranks_tokens_s=np.zeros(513))
    rank = rng.integers(0, 3, load.requests).tolist()
    slow, fast = lockstep(load, config, cost, 4, rank), grouped(load, config, cost, 4, rank)
    assert slow.steps == fast.ledger["steps"].tolist()
    assert 0 == slow.steps[3] < min(slow.steps[:3])
    assert max(slow.shows[:3]) > 0
    assert fast.ledger["preemptions"].sum() > 0
    np.testing.assert_allclose(fast.last_token_s, slow.last_token_s, rtol=1e-12)


# --- laws ---


@settings(max_examples=100, deadline=None)
@given(groups(counts=(2, 3), asynchronous=True))
def test_a_rank_among_idle_ones_is_one_replica_to_the_last_bit(case: tuple[World, list[int]]):
    """What the idle ones compute for show is never the slowest; what hangs on all tokens is left out here."""
    (load, config, cost), (ranks, *_) = case
    cost = replace(cost, ranks_tokens_s=np.zeros(0))
    if not fits((load, config, cost)):
        return
    alone = run_fleet(load, config, cost, 1, "round_robin", np.random.default_rng(0))
    group = grouped(load, config, cost, ranks, [ranks - 1] * load.requests)
    np.testing.assert_array_equal(alone.last_token_s, group.last_token_s)
    np.testing.assert_array_equal(alone.first_token_s, group.first_token_s)
    for name in LEDGER:
        assert alone.ledger[0][name] == group.ledger[-1][name], name


@settings(max_examples=100, deadline=None)
@given(groups(counts=(2, 4), asynchronous=True))
def test_ranks_with_equal_loads_are_one_replica_each(case: tuple[World, list[int]]):
    """Also where a part hangs on all ranks' tokens: the mean of equals is each."""
    (load, config, cost), (ranks, *_) = case
    if not fits((load, config, cost)):
        return
    alone = run_fleet(replace(load, prefixes=None), config, cost, 1, "round_robin", np.random.default_rng(0))
    often = Load(
        arrival_s=np.repeat(load.arrival_s, ranks),
        prompt_tokens=np.repeat(load.prompt_tokens, ranks),
        output_tokens=np.repeat(load.output_tokens, ranks),
    )
    group = grouped(often, config, cost, ranks, list(range(ranks)) * load.requests)
    for rank in range(ranks):
        np.testing.assert_array_equal(alone.last_token_s, group.last_token_s[rank::ranks])
        for name in LEDGER:
            assert alone.ledger[0][name] == group.ledger[rank][name], name


@settings(max_examples=100, deadline=None)
@given(groups(counts=(3, 4), asynchronous=True), st.integers(1, 40))
def test_no_rank_leaves_the_others_clock_and_stops_change_nothing(case: tuple[World, list[int]], stops: int):
    world, (ranks, *rank) = case
    whole = grouped(*world, ranks, rank)
    if whole.stuck:
        return
    until = np.linspace(0.0, float(np.nanmax(whole.last_token_s)), stops + 1)[1:]
    cut = grouped(*world, ranks, rank, until)
    assert all(len(set(clocks)) <= 1 for clocks in cut.clocks)
    np.testing.assert_allclose(cut.last_token_s, whole.last_token_s, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(groups(counts=(2, 4), asynchronous=True))
def test_no_request_is_faster_in_a_group_than_on_a_rank_of_its_own(case: tuple[World, list[int]]):
    """All are there at the start: then a rank's decisions do not hang on time, and waiting can only make them later."""
    (load, config, cost), (ranks, *rank) = case
    load = Load(np.zeros(load.queries), load.prompt_tokens, load.output_tokens)
    cost = replace(cost, ranks_tokens_s=np.zeros(0))
    group = grouped(load, config, cost, ranks, rank)
    if group.stuck:
        return
    for at in set(rank):
        mine = np.flatnonzero(np.array(rank) == at)
        part = Load(load.arrival_s[mine], load.prompt_tokens[mine], load.output_tokens[mine])
        alone = grouped(part, config, cost, 1, [0] * len(mine))
        assert (alone.last_token_s <= group.last_token_s[mine]).all()
        assert alone.ledger[0]["steps"] == group.ledger[at]["steps"]


# --- routing among ranks, and the fleet ---

ONE_SEAT = SchedulerConfig(
    num_blocks=11, block_size=4, max_num_seqs=1, max_num_batched_tokens=64, max_model_len=64, async_scheduling=False
)
CHOICES = [
    ([0.0], [(4, 5)], [0], "the search begins at the first"),
    ([0.0, 0.1, 0.2], [(4, 5)] * 3, [0, 1, 0], "the fewest unfinished; of equals the next in turn"),
    ([0.0, 0.1, 2.5], [(4, 9), (4, 1), (4, 1)], [0, 1, 1], "who is done, from 2 on, counts no more"),
    (
        [0.0, 0.1, 1.5],
        [(4, 9), (4, 1), (4, 1)],
        [0, 1, 0],
        "whose last step is in hand, up to 2, does: the turn decides",
    ),
    (
        [0.0, 0.1, 0.2, 0.3, 1.5],
        [(36, 5), (4, 9), (4, 1), (4, 1), (4, 1)],
        [0, 1, 0, 1, 1],
        "two on each, one waiting: the first rank's cache is nine tenths full, which adds 6 · 1 · 0.4 to its 2",
    ),
    (
        [0.0, 0.1, 0.2, 0.3, 1.5],
        [(16, 3), (4, 9), (4, 1), (4, 1), (4, 1)],
        [0, 1, 0, 1, 0],
        "the same, but both caches are at most half full: the turn decides",
    ),
]


@pytest.mark.parametrize(("arrival_s", "tokens", "chosen", "because"), CHOICES, ids=[row[-1] for row in CHOICES])
def test_a_request_goes_to_the_rank_that_vllm_chooses(arrival_s, tokens, chosen, because):
    prompt, output = np.array(tokens, np.int32).T
    load = Load(np.array(arrival_s), prompt, output)
    run = run_fleet(load, ONE_SEAT, unit_cost(ONE_SEAT), 2, "random", np.random.default_rng(0), ranks_in_step=2)
    assert chosen == run.replica.tolist(), because


@pytest.mark.parametrize("routing", ["random", "round_robin", "least_loaded"])
def test_a_fleet_of_groups_keeps_each_replicas_ranks_in_step_and_apart_from_other_replicas(routing):
    """Three replicas of two ranks: each is the group that `advance_group` makes of the requests sent there."""
    load, config, cost = ordinary(3)
    run = run_fleet(load, config, cost, 6, routing, np.random.default_rng(2), ranks_in_step=2)
    assert set(range(6)) == set(run.replica.tolist())
    for endpoint in range(3):
        mine = np.flatnonzero(run.replica // 2 == endpoint)
        part = Load(load.arrival_s[mine], load.prompt_tokens[mine], load.output_tokens[mine])
        group = grouped(part, config, cost, 2, (run.replica[mine] % 2).tolist())
        np.testing.assert_allclose(group.last_token_s, run.last_token_s[mine], rtol=1e-12)
        for name in ("steps", "prefill_tokens", "decode_tokens", "preemptions"):
            assert group.ledger[name].tolist() == run.ledger[name][2 * endpoint : 2 * endpoint + 2].tolist(), name


def test_replicas_take_turns_and_the_least_loaded_is_asked_for_all_its_ranks():
    """At 5.5 two of the first replica's three are unfinished (the last waits for a seat), one of the second's."""
    arrival_s = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 5.5, 5.6])
    load = Load(arrival_s, np.full(8, 4, np.int32), np.array([9, 1, 1, 9, 1, 1, 9, 9], np.int32))
    endpoints = {
        routing: run_fleet(
            load, ONE_SEAT, unit_cost(ONE_SEAT), 4, routing, np.random.default_rng(0), ranks_in_step=2
        ).replica
        // 2
        for routing in ("round_robin", "least_loaded")
    }
    assert [0, 1, 0, 1, 0, 1, 0, 1] == endpoints["round_robin"].tolist()
    assert [0, 1, 0, 1, 0, 1, 1, 0] == endpoints["least_loaded"].tolist()


def test_samples_of_a_call_share_a_rank():
    load = Load(
        arrival_s=np.array([0.0, 0.1]),
        prompt_tokens=np.full(6, 40, np.int32),
        output_tokens=np.full(6, 5, np.int32),
        stages=(Stage("answer", calls=1, samples=3),),
    )
    config = SchedulerConfig(num_blocks=50, block_size=8, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=100)
    run = run_fleet(load, config, unit_cost(config), 4, "least_loaded", np.random.default_rng(0), ranks_in_step=2)
    assert [0, 0, 0, 2, 2, 2] == run.replica.tolist()


def test_a_load_whose_arrivals_wait_for_answers_is_routed_to_each_rank():
    """A closed loop: as documented, its ranks do not wait for each other."""
    load, config, cost = ordinary(4)
    closed = replace(load, clients=8)
    apart = run_fleet(closed, config, cost, 4, "least_loaded", np.random.default_rng(0))
    asked = run_fleet(closed, config, cost, 4, "least_loaded", np.random.default_rng(0), ranks_in_step=4)
    np.testing.assert_array_equal(apart.last_token_s, asked.last_token_s)


def test_a_lone_prompt_pays_for_the_tokens_that_there_are():
    """Four ranks, 1 ms a step and 1 ms for each of the mean tokens: a lone prompt of 40 is 40 + 3 tokens over four."""
    config = SchedulerConfig(num_blocks=50, block_size=8, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=100)
    part = 0.001 * np.arange(65.0)
    cost = StepCost(0.001 + part, np.zeros(5), ranks_tokens_s=part)
    load = Load(np.zeros(1), np.array([40], np.int32), np.ones(1, np.int32))
    lone = run_fleet(load, config, cost, 4, "round_robin", np.random.default_rng(0), ranks_in_step=4)
    assert lone.last_token_s[0] == pytest.approx(0.001 + 0.001 * 43 / 4, rel=1e-12)
    four = Load(np.zeros(4), np.full(4, 40, np.int32), np.ones(4, np.int32))
    together = run_fleet(four, config, cost, 4, "round_robin", np.random.default_rng(0), ranks_in_step=4)
    np.testing.assert_allclose(together.last_token_s, 0.041, rtol=1e-12)
