"""What must hold of a fleet's clients and its routing, whatever the load; and of chance, which only one routing has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_loops import run_alone, run_routed
from planner.simulation.fleet_world import SERVING
from planner.simulation.kernel_state import (
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, shared_blocks
from planner.simulation.prefix_index import make_index
from planner.simulation.replay import replay
from planner.simulation.routing import LEAST_LOADED, Router
from planner.specs import SchedulerConfig
from tests.fleet_worlds import (
    COST,
    LEDGER,
    MODEL_LEN,
    ROUTINGS,
    SHAPES,
    World,
    assert_same,
    by_query,
    call_first,
    limited,
    many,
    most_outstanding,
    one_prompt_a_call,
    ready_s,
    worlds,
)

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
            nothing = np.zeros(0, np.int64)
            router = Router(LEAST_LOADED, np.full(1, SERVING), nothing, 0, make_index(1, shared.contents, 0))
            taken, wake = np.zeros(load.requests, np.int64), np.array([np.inf])
            run_routed(state, requests, options, costs, gaps, router, order, order, taken, wake)
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
