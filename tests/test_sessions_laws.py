"""Sessions on a fleet: what must hold for any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.simulation.fleet import run_fleet
from planner.simulation.load import Load, Prefixes
from planner.simulation.replay import replay
from tests.fleet_worlds import COST, MODEL_LEN, ROUTINGS, World, assert_same, configs, many
from tests.session_loads import sessions


@st.composite
def worlds(draw: st.DrawFn, routings: tuple[str, ...] = ROUTINGS, most_replicas: int = 3) -> World:
    """Up to five sessions of up to four turns on small engines, with what a client may do."""
    count = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 4.0, 40.0]))
    said = [
        [(int(own), int(answer)) for own, answer in rng.integers(1, 6, (rng.integers(1, 5), 2))] for _ in range(count)
    ]  # at most 4 · (5 + 5) tokens
    prefix = draw(st.sampled_from([0, 3]))
    said = [[(own + prefix * (turn == 0), answer) for turn, (own, answer) in enumerate(turns)] for turns in said]
    load = sessions(
        np.sort(rng.integers(0, 65, count) / 64 * spread).tolist(),
        said,
        draw(st.sampled_from([0.0, 0.25, 3.0])),
        prefix,
        max_in_flight=draw(st.sampled_from([0, 0, 2])),
        timeout_s=draw(st.sampled_from([np.inf, np.inf, 1.0, 10.0])),
    )
    fits = int((load.prompt_tokens + load.output_tokens).max()) <= MODEL_LEN
    load = load if fits else sessions([0.0], [[(2, 2), (2, 2)]], 0.25)
    return World(load, draw(configs()), draw(st.integers(1, most_replicas)), draw(st.sampled_from(routings)), 0)


@many
@given(worlds())
def test_a_turn_is_due_when_its_pause_after_the_one_before_has_passed_and_they_never_overlap(world: World):
    done = world.run()
    follows, think_s = world.load.follows, world.load.think_s
    later = np.flatnonzero(follows >= 0)
    np.testing.assert_array_equal((done.ended_s[follows] + think_s)[later], done.arrival_s[later])
    np.testing.assert_array_equal(world.load.arrival_s[follows < 0], done.arrival_s[follows < 0])
    assert (done.sent_s >= done.arrival_s).all()
    assert (done.ended_s >= done.sent_s).all()
    assert (done.failed | np.isfinite(done.last_token_s)).all(), "every turn is served or has failed, once"


@many
@given(worlds())
def test_no_more_is_hit_than_was_computed_before(world: World):
    """The history of a turn is what its session computed; what all begin with was computed by somebody."""
    load, done = world.load, world.run()
    size = world.config.block_size
    most = 0
    for query, before in enumerate(load.follows.tolist()):
        said = 3 if before < 0 else int(load.prompt_tokens[before] + load.output_tokens[before]) - 1
        most += min(said, int(load.prompt_tokens[query]) - 1) // size * size
    assert done.ledger["hit_tokens"].sum() <= most
    bare = world.run(prefixes=None)
    assert 0 == bare.ledger["hit_tokens"].sum()


@many
@given(worlds(("round_robin",), 1))
def test_one_replica_with_room_hits_all_that_a_session_computed(world: World):
    load = replace(world.load, timeout_s=np.inf, max_in_flight=0)
    size = world.config.block_size
    config = replace(world.config, num_blocks=2000, enable_prefix_caching=True)
    done = run_fleet(load, config, COST, 1, "round_robin", np.random.default_rng(0))
    expected = 0
    for query, before in enumerate(load.follows.tolist()):
        if before >= 0:
            said = int(load.prompt_tokens[before] + load.output_tokens[before]) - 1
            expected += min(said, int(load.prompt_tokens[query]) - 1) // size * size
    shared = 3 // size * size  # tokens of the common beginning, where there is one
    assert expected <= done.ledger["hit_tokens"].sum() <= expected + shared * np.count_nonzero(load.follows < 0)


@many
@given(worlds(("round_robin",), 1), st.integers(0, 99))
def test_the_reference_scheduler_hits_and_times_the_same_sends_alike(world: World, seed: int):
    """Arrivals and pauses are odd, so that no two sends are at one instant and their order is nobody's choice."""
    load = replace(world.load, timeout_s=np.inf, max_in_flight=0)
    rng = np.random.default_rng(seed)
    odd = np.sort(rng.random(load.queries)) * 7 + 1e-3 * np.pi
    load = replace(load, arrival_s=odd, think_s=load.think_s + 1e-3 * rng.random(load.queries))
    done = run_fleet(load, world.config, COST, 1, "round_robin", np.random.default_rng(0))
    order = np.argsort(done.sent_s, kind="stable")
    assert load.prefixes is not None
    lengths = np.diff(load.prefixes.chain_start)[order]
    chains = [
        load.prefixes.chain_segment[load.prefixes.chain_start[q] : load.prefixes.chain_start[q + 1]] for q in order
    ]
    sent = Load(
        done.sent_s[order],
        load.prompt_tokens[order],
        load.output_tokens[order],
        prefixes=Prefixes(
            np.concatenate(([0], np.cumsum(lengths))), np.concatenate(chains), load.prefixes.segment_tokens
        ),
    )
    again = replay(sent, world.config, COST)
    np.testing.assert_allclose(again.finish_s, done.last_token_s[order], rtol=1e-12)
    for name in ("hit_tokens", "queried_tokens", "preemptions", "prefill_tokens", "decode_tokens"):
        assert getattr(again.ledger, name) == done.ledger[name].sum(), name


@many
@given(worlds())
def test_sessions_of_which_nobody_follows_anybody_are_plain_queries(world: World):
    """Through the loop for dependent arrivals, and through the simplest loop that can carry the load."""
    alone = {"follows": np.full(world.load.queries, -1), "timeout_s": np.inf, "max_in_flight": 0}
    plain = {"follows": None, "think_s": None, "timeout_s": np.inf, "max_in_flight": 0}
    assert_same(world.run(**plain), world.run(**alone))


@many
@given(worlds())
def test_doubling_every_duration_doubles_every_answer(world: World):
    load = world.load
    twice = {"arrival_s": 2 * load.arrival_s, "think_s": 2 * load.think_s, "timeout_s": 2 * load.timeout_s}
    slow = replace(
        COST,
        tokens_s=2 * COST.tokens_s,
        requests_s=2 * COST.requests_s,
        decode_token_s=2 * COST.decode_token_s,
        frontend_s=2 * COST.frontend_s,
        frontend_token_s=2 * COST.frontend_token_s,
    )
    assert_same(world.run(), world.run(slow, **twice), 2.0)
