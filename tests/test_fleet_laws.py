"""What must hold for any fleet under any load: everyone leaves, work is conserved, time has no unit of its own.

Durations are sums of a few powers of two, so nothing is rounded and equality can be asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet_worlds import (
    BASE_S,
    BUDGET,
    CONTEXT_S,
    COST,
    MODEL_LEN,
    SHAPES,
    TOKEN_S,
    World,
    assert_same,
    by_query,
    limited,
    many,
    outputs,
    ready_s,
    stage_slices,
    totals,
    worlds,
)

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
    """No tautology: the left side adds queue lengths step by step, the right side knows only single requests' times.

    Synchronous: otherwise an ended request keeps its seat, and counts as running, through one more step.
    """
    run = world._replace(config=replace(world.config, async_scheduling=False)).run()
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


@many
@given(worlds(shapes=SHAPES[:1]))
def test_means_up_to_the_last_arrival_are_the_same_beside_limits_that_nobody_reaches(world: World):
    """A run with limits is simulated event by event, but its drain says as little of the load.

    Not asked of `waiting_s`: who comes within a jump counts as waiting when it ends, and two paths need not jump alike.
    """
    free, last_s = world.run().steady, ready_s(world.run()).max()
    for limits in ({"max_in_flight": 99}, {"timeout_s": 2.0**20}):
        steady = world.run(**limits).steady
        for name in ("busy_s", "running_s", "steps", "prefill_tokens", "decode_tokens", "hit_tokens"):
            np.testing.assert_array_equal(free[name], steady[name], name)
        assert steady["now"].max() == max(free["now"].max(), last_s)
