"""What must hold for any fleet under any load: routing, stages, closed loops, limits of the client, timeouts.

Durations are sums of a few powers of two, so nothing is rounded and equality can be asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_loops import run_alone, run_least_loaded
from planner.simulation.kernel_state import (
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, Prefixes, Stage, shared_blocks
from planner.simulation.replay import replay
from planner.specs import SchedulerConfig

MODEL_LEN, BUDGET = 40, 24
BASE_S, TOKEN_S, CONTEXT_S, FRONTEND_S, FRONTEND_TOKEN_S = 0.25, 2.0**-5, 2.0**-7, 0.125, 2.0**-8
COST = StepCost(
    tokens_s=BASE_S + TOKEN_S * np.arange(BUDGET + 1),
    requests_s=np.zeros(9),
    decode_token_s=CONTEXT_S,
    frontend_s=FRONTEND_S,
    frontend_token_s=FRONTEND_TOKEN_S,
)
ROUTINGS = ("random", "round_robin", "least_loaded")
SHAPES = (
    (Stage("answer"),),
    (Stage("answer"),),
    (Stage("answer", samples=3),),
    (Stage("gather", calls=3), Stage("answer")),
    (Stage("draft", calls=2, samples=2), Stage("judge"), Stage("answer", samples=2)),
)
IN_TIME = {"busy_s", "running_s", "waiting_s", "kv_block_s"}
COUNTS = {
    *("steps", "kv_peak_blocks", "prefill_tokens", "decode_tokens", "context_tokens", "preemptions"),
    *("queried_tokens", "hit_tokens", "requeried_tokens", "rehit_tokens"),
}
LEDGER = sorted(IN_TIME | COUNTS)

many = settings(max_examples=200, deadline=None)


class World(NamedTuple):
    load: Load
    config: SchedulerConfig
    replicas: int
    routing: str
    seed: int

    def run(self, cost: StepCost = COST, **changes: object) -> FleetRun:
        load = replace(self.load, **changes)
        return run_fleet(load, self.config, cost, self.replicas, self.routing, np.random.default_rng(self.seed))


@st.composite
def configs(draw: st.DrawFn) -> SchedulerConfig:
    """An engine that the longest request just fits, or with some room to spare."""
    size = draw(st.sampled_from([2, 4, 8]))
    return SchedulerConfig(
        num_blocks=1 + MODEL_LEN // size + draw(st.sampled_from([0, 1, 6, 40])),
        block_size=size,
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(8, BUDGET)),
        max_model_len=MODEL_LEN,
        enable_prefix_caching=draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 5])),
        scheduler_reserve_full_isl=draw(st.booleans()),
    )


def one_prompt_a_call(stages: tuple[Stage, ...], prompts: NDArray[np.int32]) -> tuple[NDArray[np.int32], Prefixes]:
    """Prompts of whole queries, and chains that say: the samples of a call have the same one."""
    first = call_first(stages)
    prompts = prompts.reshape(-1, len(first))[:, first].ravel()
    leader = np.arange(len(prompts)).reshape(-1, len(first))[:, first].ravel()
    return prompts, Prefixes(np.arange(len(prompts) + 1), leader.astype(np.int32), prompts)


def call_first(stages: tuple[Stage, ...]) -> list[int]:
    """For each place in a query the place of the first sample of its call."""
    first: list[int] = []
    for stage in stages:
        for _ in range(stage.calls):
            first += [len(first)] * stage.samples
    return first


@st.composite
def worlds(
    draw: st.DrawFn, routings: tuple[str, ...] = ROUTINGS, shapes: tuple[tuple[Stage, ...], ...] = SHAPES
) -> World:
    """Open arrivals, no limits: up to 12 queries on up to 4 replicas."""
    stages = draw(st.sampled_from(shapes))
    queries, width = draw(st.integers(1, 12)), sum(stage.requests for stage in stages)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 0.5, 4.0, 40.0]))
    prompts = rng.integers(1, MODEL_LEN - 1, queries * width).astype(np.int32)
    prompts, prefixes = one_prompt_a_call(stages, prompts)
    load = Load(
        arrival_s=np.sort(rng.integers(0, 65, queries) / 64 * spread),
        prompt_tokens=prompts,
        output_tokens=rng.integers(1, draw(st.sampled_from([2, 30])), queries * width).astype(np.int32),
        stages=stages,
        prefixes=draw(st.sampled_from([None, prefixes])),
    )
    return World(
        load, draw(configs()), draw(st.integers(1, 4)), draw(st.sampled_from(routings)), draw(st.integers(0, 99))
    )


@st.composite
def limited(draw: st.DrawFn, timeouts: bool = True) -> World:
    """The same with what a client may do: closed loops, a limit in flight, timeouts."""
    world = draw(worlds())
    load = replace(world.load, max_in_flight=draw(st.sampled_from([0, 0, 1, 2, 5])))
    if draw(st.booleans()):
        think_s = np.array([draw(st.sampled_from([0.0, 0.25, 3.0])) for _ in range(load.queries)])
        load = replace(
            load,
            arrival_s=np.zeros(load.queries),
            clients=draw(st.integers(1, 5)),
            per_client=draw(st.booleans()),
            think_s=draw(st.sampled_from([None, think_s])),
        )
    if timeouts:
        load = replace(load, timeout_s=draw(st.sampled_from([np.inf, 0.0625, 1.0, 3.0, 10.0])))
    return world._replace(load=load)


def outputs(load: Load) -> NDArray[np.int64]:
    """Tokens that each request generates if nobody gives it up."""
    return np.minimum(load.output_tokens, MODEL_LEN - load.prompt_tokens).astype(np.int64)


def stage_slices(load: Load) -> list[slice]:
    ends = np.cumsum([stage.requests for stage in load.stages])
    return [slice(end - stage.requests, end) for stage, end in zip(load.stages, ends, strict=True)]


def by_query(run: FleetRun, column: NDArray[np.float64]) -> NDArray[np.float64]:
    return column.reshape(run.load.queries, run.load.width)


def stage_sent_s(run: FleetRun) -> NDArray[np.float64]:
    """When each request's stage was sent: the first with the query, each other when all before it had ended."""
    sent, last = np.empty((run.load.queries, run.load.width)), by_query(run, run.last_token_s)
    at = run.sent_s
    for place in stage_slices(run.load):
        sent[:, place] = at[:, None]
        at = last[:, place].max(axis=1)
    return sent.ravel()


def ready_s(run: FleetRun) -> NDArray[np.float64]:
    """When each request had passed the front end."""
    return stage_sent_s(run) + FRONTEND_S + FRONTEND_TOKEN_S * run.load.prompt_tokens


def most_outstanding(run: FleetRun) -> int:
    """Most queries between sending and end at once; what ends at an instant makes room at that instant."""
    times = np.concatenate((run.ended_s, run.sent_s))
    change = np.repeat([-1, 1], run.load.queries)
    return int(np.cumsum(change[np.lexsort((change, times))]).max())


def totals(run: FleetRun) -> dict[str, float]:
    return {name: run.ledger[name].sum().item() for name in LEDGER}


def assert_same(expected: FleetRun, actual: FleetRun, scale: float = 1.0) -> None:
    for name in ("arrival_s", "sent_s", "first_token_s", "last_token_s"):
        np.testing.assert_array_equal(scale * getattr(expected, name), getattr(actual, name), name)
    np.testing.assert_array_equal(expected.replica, actual.replica)
    np.testing.assert_array_equal(expected.failed, actual.failed)
    for name in LEDGER:
        factor = scale if name in IN_TIME else 1
        if name == "kv_block_s":  # within a jump an average, and two paths need not jump alike
            np.testing.assert_allclose(factor * expected.ledger[name], actual.ledger[name], rtol=0.2)
        else:
            np.testing.assert_array_equal(factor * expected.ledger[name], actual.ledger[name], name)


# --- everyone leaves ---


@many
@given(limited(timeouts=False))
def test_without_timeouts_every_request_gets_all_its_tokens(world: World):
    run = world.run()
    assert np.isfinite(run.last_token_s).all()
    assert not run.failed.any()
    assert (run.first_token_s <= run.last_token_s).all()
    assert ((run.first_token_s == run.last_token_s) == (outputs(world.load) == 1)).all()


@many
@given(limited())
def test_every_replica_ends_empty(world: World):
    ledger = world.run().ledger
    for name in ("outstanding", "n_running", "n_waiting", "n_preempted", "n_decoding", "n_prefilling", "heap_size"):
        assert not ledger[name].any(), name
    assert (ledger["plain_free"] + ledger["cached_free"] == world.config.usable_blocks).all()
    assert (ledger["kv_peak_blocks"] <= world.config.usable_blocks).all()
    assert (ledger["unseen"] == -1).all()


@many
@given(limited())
def test_a_query_has_all_its_answers_within_its_timeout_or_has_failed(world: World):
    run = world.run()
    last_s, deadline_s = by_query(run, run.last_token_s), run.sent_s + run.load.timeout_s
    in_time = last_s <= deadline_s[:, None]  # not so where it never ended
    np.testing.assert_array_equal(in_time.all(axis=1), ~run.failed)
    began = np.isfinite(by_query(run, run.first_token_s))
    whole = np.ones(run.load.queries, bool)
    for place in stage_slices(run.load):
        assert not began[~whole, place].any(), "no stage follows one that did not end in time"
        whole &= in_time[:, place].all(axis=1)


@many
@given(limited())
def test_nobody_is_served_beyond_a_timeout_by_more_than_the_step_in_hand(world: World):
    run = world.run()
    longest_step_s = BASE_S + BUDGET * TOKEN_S + world.config.seats * MODEL_LEN * CONTEXT_S
    latest_s = by_query(run, run.last_token_s) - (run.sent_s + world.load.timeout_s)[:, None]
    assert not (latest_s > longest_step_s).any()


@many
@given(limited(timeouts=False))
def test_a_timeout_that_nobody_reaches_changes_nothing(world: World):
    if world.load.clients == world.load.max_in_flight == 0:  # else both runs take the same path
        assert_same(world.run(), world.run(timeout_s=2.0**20))
    assert_same(world.run(max_in_flight=99), world.run(max_in_flight=99, timeout_s=2.0**20))


# --- work ---


@many
@given(limited(timeouts=False))
def test_tokens_are_conserved_unless_somebody_is_preempted(world: World):
    got = totals(world.run())
    prompts, decodes = int(world.load.prompt_tokens.sum()), int((outputs(world.load) - 1).sum())
    if got["preemptions"] == 0:
        assert (prompts, decodes) == (got["prefill_tokens"] + got["hit_tokens"], got["decode_tokens"])
    else:
        assert got["decode_tokens"] <= decodes
        computed = sum(got[name] for name in ("prefill_tokens", "decode_tokens", "hit_tokens", "rehit_tokens"))
        assert computed >= prompts + decodes
    assert got["queried_tokens"] == (prompts if world.config.enable_prefix_caching else 0)


@many
@given(limited())
def test_busy_time_is_the_price_list_times_the_work(world: World):
    ledger = world.run().ledger
    tokens = ledger["prefill_tokens"] + ledger["decode_tokens"]
    price = ledger["steps"] * BASE_S + tokens * TOKEN_S + ledger["context_tokens"] * CONTEXT_S
    np.testing.assert_array_equal(price, ledger["busy_s"])
    assert (ledger["busy_s"] <= ledger["now"]).all()


@many
@given(limited(timeouts=False))
def test_little_the_integrals_over_the_queues_are_the_sum_of_the_times_in_the_engine(world: World):
    """No tautology: the left side adds queue lengths step by step, the right side knows only single requests' times."""
    run = world.run()
    got = totals(run)
    assert got["running_s"] + got["waiting_s"] == (run.last_token_s - ready_s(run)).sum()


@many
@given(limited(timeouts=False))
def test_nobody_has_a_token_before_a_step_after_being_ready(world: World):
    run = world.run()
    cheapest_step_s = BASE_S + TOKEN_S
    assert (run.first_token_s >= ready_s(run) + cheapest_step_s).all()


@many
@given(limited(timeouts=False))
def test_a_request_with_o_tokens_takes_at_least_o_steps(world: World):
    run = world.run()
    steps = outputs(world.load) - 1
    assert (run.last_token_s - run.first_token_s >= steps * (BASE_S + TOKEN_S + CONTEXT_S)).all()


# --- time ---


@many
@given(limited())
def test_doubling_every_duration_doubles_every_answer(world: World):
    slower = replace(
        COST,
        tokens_s=2 * COST.tokens_s,
        decode_token_s=2 * COST.decode_token_s,
        frontend_s=2 * COST.frontend_s,
        frontend_token_s=2 * COST.frontend_token_s,
    )
    think_s = None if world.load.think_s is None else 2 * world.load.think_s
    longer = world.run(slower, arrival_s=2 * world.load.arrival_s, think_s=think_s, timeout_s=2 * world.load.timeout_s)
    assert_same(world.run(), longer, scale=2.0)


@many
@given(worlds(shapes=SHAPES[:3]), st.integers(1, 11))
def test_what_arrives_later_changes_nothing_that_ended_before(world: World, keep: int):
    keep = min(keep, world.load.queries)
    requests = keep * world.load.width
    fewer = replace(
        world.load,
        arrival_s=world.load.arrival_s[:keep],
        prompt_tokens=world.load.prompt_tokens[:requests],
        output_tokens=world.load.output_tokens[:requests],
        prefixes=None
        if world.load.prefixes is None
        else replace(
            world.load.prefixes,
            chain_start=world.load.prefixes.chain_start[: requests + 1],
            chain_segment=world.load.prefixes.chain_segment[:requests],
        ),
    )
    whole, part = world.run(), world._replace(load=fewer).run()
    until_s = world.load.arrival_s[keep] if keep < world.load.queries else np.inf
    ended = whole.last_token_s[:requests] <= until_s
    np.testing.assert_array_equal(whole.replica[:requests][ended], part.replica[ended])
    np.testing.assert_array_equal(whole.last_token_s[:requests][ended], part.last_token_s[ended])


# --- the client ---


@many
@given(limited())
def test_outstanding_queries_stay_within_the_clients_limits(world: World):
    run, load = world.run(), world.load
    assert most_outstanding(run) <= (load.max_in_flight or load.queries)
    assert most_outstanding(run) <= (load.clients or load.queries)
    assert (run.sent_s >= run.arrival_s).all()
    if load.max_in_flight == 0:
        np.testing.assert_array_equal(run.arrival_s, run.sent_s)


@many
@given(limited())
def test_an_open_query_leaves_late_only_while_the_limit_is_reached(world: World):
    world = world._replace(load=replace(world.load, clients=0, think_s=None, max_in_flight=2))
    run = world.run()
    np.testing.assert_array_equal(np.sort(run.sent_s), run.sent_s, "first come, first sent")
    ends = run.ended_s
    for query in np.flatnonzero(run.sent_s > run.arrival_s):
        assert run.sent_s[query] in ends
        earlier = np.arange(run.load.queries) < query
        there = earlier & (run.sent_s <= run.arrival_s[query]) & (ends > run.arrival_s[query])
        assert there.sum() == 2 or (run.sent_s[earlier] > run.arrival_s[query]).any()


@many
@given(worlds(), st.integers(1, 5), st.sampled_from([0.0, 0.25, 3.0]), st.sampled_from([np.inf, 1.0, 3.0]))
def test_a_client_sends_its_next_query_when_it_has_thought_about_the_last(
    world: World, clients: int, think_s: float, timeout_s: float
):
    queries = world.load.queries
    closed = {"clients": clients, "think_s": np.full(queries, think_s), "arrival_s": np.zeros(queries)}
    world = world._replace(load=replace(world.load, timeout_s=timeout_s))
    own = world.run(**closed, per_client=True)
    np.testing.assert_array_equal(np.zeros(min(clients, queries)), own.sent_s[:clients])
    np.testing.assert_array_equal((own.ended_s + think_s)[: max(queries - clients, 0)], own.sent_s[clients:])
    shared = world.run(**closed)
    ready = np.sort(shared.ended_s + think_s)[: max(queries - clients, 0)]
    np.testing.assert_array_equal(ready, shared.sent_s[clients:], "whoever is ready first takes the next")


# --- routing ---


@many
@given(limited())
def test_the_samples_of_a_call_are_on_one_replica(world: World):
    run = world.run()
    replica = by_query(run, run.replica)
    np.testing.assert_array_equal(replica[:, call_first(world.load.stages)], replica)
    assert ((run.replica >= 0) | ~np.isfinite(run.last_token_s)).all()
    assert (run.replica < world.replicas).all()


@many
@given(worlds(routings=("round_robin",)), st.booleans())
def test_round_robin_gives_each_replica_as_many_calls_within_one(world: World, one_by_one: bool):
    run = world.run(max_in_flight=int(one_by_one))
    leads = np.unique(call_first(world.load.stages))
    calls = np.bincount(by_query(run, run.replica)[:, leads].ravel(), minlength=world.replicas)
    assert calls.max() - calls.min() <= 1


@many
@given(worlds(shapes=SHAPES[:3]))
def test_known_arrivals_and_event_by_event_give_the_same_answer(world: World):
    """Open arrivals of one stage take a shorter path; a limit that is never reached sends them down the long one."""
    assert_same(world.run(), world.run(max_in_flight=99))


@many
@given(worlds(shapes=SHAPES[:3]))
def test_one_replica_is_the_same_under_any_routing_and_by_any_path(world: World):
    alone = world._replace(replicas=1)
    for routing in ROUTINGS:
        other = alone._replace(routing=routing)
        assert_same(alone.run(), other.run())
        assert_same(alone.run(), other.run(max_in_flight=99))


@many
@given(worlds(shapes=SHAPES[:1]))
def test_least_loaded_over_one_replica_is_that_replica_alone(world: World):
    config, load = world.config, world.load
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    options, costs, gaps = make_settings(config, shared), make_costs(COST), make_gaps()
    rows = []
    for loop in ("alone", "routed"):
        requests = make_requests(
            load.arrival_s, load.prompt_tokens, load.output_tokens, shared, np.zeros(load.requests, np.uint8), MODEL_LEN
        )
        state = make_replicas(1, options, shared.contents)
        order = np.arange(load.requests)
        if loop == "routed":
            run_least_loaded(state, requests, options, costs, gaps, order, order, np.zeros(load.requests, np.int64))
            order = order[:0]
        run_alone(state, requests, options, costs, gaps, 0, order, np.inf)
        assert (requests.rows["status"] == 1).all()
        rows.append((requests.rows["first_token_s"], requests.rows["last_token_s"], state.scalars["steps"]))
    for alone, routed in zip(*rows, strict=True):
        np.testing.assert_array_equal(alone, routed)


@many
@given(worlds(shapes=SHAPES[2:3]), st.sampled_from([np.inf, np.inf, 1.0, 3.0]))
def test_one_replica_is_the_references_samples_and_evictions_included(world: World, timeout_s: float):
    """More different prompts than blocks: what the kernel finds by the low bits of a number it must tell apart."""
    prompts, prefixes = one_prompt_a_call(world.load.stages, world.load.prompt_tokens)
    load = replace(world.load, prompt_tokens=prompts, prefixes=prefixes, timeout_s=timeout_s)
    world = world._replace(load=load, replicas=1, config=replace(world.config, enable_prefix_caching=True))
    fast, slow = world.run(), replay(world.load, world.config, COST)
    np.testing.assert_array_equal(slow.finish_s, fast.last_token_s)
    expected = {name: getattr(slow.ledger, name) for name in LEDGER if name != "kv_block_s"}
    assert expected == {name: fast.ledger[0][name] for name in expected}


@many
@given(worlds(routings=("round_robin", "random"), shapes=SHAPES[:1]))
def test_replicas_that_know_nothing_of_each_other_are_single_replicas(world: World):
    """Each replica's share, run by the reference alone, ends at the same times."""
    run = world.run()
    ready = ready_s(run)
    for r in range(world.replicas):
        mine = np.flatnonzero(run.replica == r)
        mine = mine[np.argsort(ready[mine], kind="stable")]
        if len(mine) == 0:
            assert run.ledger["steps"][r] == 0
            continue
        share = Load(ready[mine], world.load.prompt_tokens[mine], world.load.output_tokens[mine])
        alone = replay(share, world.config, replace(COST, frontend_s=0.0, frontend_token_s=0.0))
        np.testing.assert_array_equal(alone.finish_s, run.last_token_s[mine])
        assert alone.ledger.waiting_s == run.ledger["waiting_s"][r]


# --- chance ---


def crowd(routing: str, seed: int) -> FleetRun:
    rng = np.random.default_rng(5)
    load = Load(
        np.cumsum(rng.exponential(0.5, 200)),
        rng.integers(1, 30, 200).astype(np.int32),
        rng.integers(1, 10, 200).astype(np.int32),
    )
    config = SchedulerConfig(41, 4, 8, 24, MODEL_LEN)
    return run_fleet(load, config, COST, 4, routing, np.random.default_rng(seed))


@pytest.mark.parametrize("routing", ROUTINGS)
def test_the_same_seed_gives_the_same_run(routing: str):
    assert_same(crowd(routing, 1), crowd(routing, 1))


def test_only_random_routing_draws():
    assert (crowd("random", 1).replica != crowd("random", 2).replica).any()
    assert_same(crowd("round_robin", 1), crowd("round_robin", 2))
    assert_same(crowd("least_loaded", 1), crowd("least_loaded", 2))


@pytest.mark.parametrize("caching", [True, False])
def test_cached_blocks_in_time_are_close_to_the_references_count_of_every_step(caching: bool):
    rng = np.random.default_rng(3)
    load = Load(
        np.cumsum(rng.exponential(2.0, 300)),
        rng.integers(100, 900, 300).astype(np.int32),
        rng.integers(1, 300, 300).astype(np.int32),
    )
    config = SchedulerConfig(2000, 16, 32, 512, 2048, enable_prefix_caching=caching)
    cost = StepCost(0.02 + 1e-4 * np.arange(513), np.zeros(33))
    fast = run_fleet(load, config, cost, 1, "round_robin", np.random.default_rng(0)).ledger[0]
    slow = replay(load, config, cost).ledger
    assert slow.steps == fast["steps"]
    assert slow.kv_peak_blocks == fast["kv_peak_blocks"]
    assert slow.kv_block_s == pytest.approx(fast["kv_block_s"], rel=1e-3)
