"""Sessions on a fleet: worked out by hand on steps of one second, then what must hold for any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner.coefficients import StepCost
from planner.deployment import deploy, idle_e2e_s, idle_outcome, only_candidate, run_length
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet, without_cooldown
from planner.simulation.load import Load, Prefixes
from planner.simulation.outcome import summarise
from planner.simulation.replay import replay
from planner.specs import SchedulerConfig
from planner.workload import build_load, turns_due
from tests.test_fleet_laws import COST, MODEL_LEN, ROUTINGS, World, assert_same, configs, many

NEVER = float("nan")


def sessions(
    begins_s: list[float], said: list[list[tuple[int, int]]], think_s: float = 0.0, prefix: int = 0, **more: Any
) -> Load:
    """A load of sessions, turn after turn, each `said` as (own tokens, answer); all share `prefix` tokens.

    Written without the generator's arithmetic, so that the two can be held against each other.
    """
    turns = [
        (begin + turn * think_s, session, turn)
        for session, begin in enumerate(begins_s)
        for turn in range(len(said[session]))
    ]
    turns.sort()
    place = {(session, turn): query for query, (_, session, turn) in enumerate(turns)}
    chains: list[list[int]] = []
    tokens = [prefix]
    for _, session, turn in turns:
        begin = [0] if prefix else []
        chain = begin if turn == 0 else list(chains[place[session, turn - 1]])
        own, answer = said[session][turn]
        chain += [len(tokens), len(tokens) + 1]
        tokens += [own - (prefix if turn == 0 else 0), answer]
        chains.append(chain)
    return Load(
        np.array([due for due, _, _ in turns], np.float64),
        np.array([sum(tokens[link] for link in chain[:-1]) for chain in chains], np.int32),
        np.array([said[session][turn][1] for _, session, turn in turns], np.int32),
        prefixes=Prefixes(
            np.cumsum([0, *map(len, chains)]),
            np.array([link for chain in chains for link in chain], np.int32),
            np.array(tokens, np.int32),
        ),
        think_s=np.array([think_s if turn else 0.0 for _, _, turn in turns]),
        follows=np.array([place.get((session, turn - 1), -1) for _, session, turn in turns]),
        **more,
    )


def run(load: Load, *, seats: int = 4, replicas: int = 1, blocks: int = 200, caching: bool = True) -> FleetRun:
    """The load on steps of one second, blocks of 4 tokens."""
    config = SchedulerConfig(blocks, 4, seats, 64, 64, enable_prefix_caching=caching)
    cost = StepCost(np.ones(65), np.zeros(seats + 1))
    return run_fleet(load, config, cost, replicas, "least_loaded", np.random.default_rng(0))


# --- by hand ---


class Row(NamedTuple):
    because: str
    load: dict[str, Any]
    given: dict[str, Any]
    prompts: list[int]
    due_s: list[float]
    last_s: list[float]
    queried: int
    hit: int


TWO, THREE = [(4, 2)] * 2, [(4, 2)] * 3
BY_HAND = [
    Row(
        "two sessions of three turns: each is due 3 s after the end of the one before, and sends it again",
        {"begins_s": [0, 1], "said": [THREE, THREE], "think_s": 3},
        {},
        [4, 4, 10, 10, 16, 16],
        [0, 1, 5, 6, 10, 11],
        [2, 3, 7, 8, 12, 13],
        2 * (4 + 10 + 16),
        # a turn computes all but its last token: 5, then 11, which fill 1 and 2 blocks of 4
        2 * (0 + 4 + 8),
    ),
    Row(
        "one seat: the second session's turns wait, and its later turns are due later",
        {"begins_s": [0, 1], "said": [TWO, TWO], "think_s": 3},
        {"seats": 1},
        [4, 4, 10, 10],
        [0, 1, 5, 7],
        [2, 4, 7, 9],
        2 * (4 + 10),
        2 * 4,
    ),
    Row(
        "an answer that ends with a block: its last token is not computed, so that block is not there",
        {"begins_s": [0], "said": [[(4, 4), (4, 4), (4, 1)]]},
        {},
        [4, 12, 20],
        [0, 4, 8],
        [4, 8, 9],
        4 + 12 + 20,
        0 + 4 + 12,  # of 8 and 16 tokens said 7 and 15 were computed
    ),
    Row(
        "one token more, and the block of generated tokens can be hit",
        {"begins_s": [0], "said": [[(4, 5), (4, 1)]]},
        {},
        [4, 13],
        [0, 5],
        [5, 6],
        4 + 13,
        8,
    ),
    Row(
        "what all sessions begin with is sent once a session, and hit by the second",
        {"begins_s": [0, 10], "said": [[(9, 1), (2, 1)], [(9, 1), (2, 1)]], "prefix": 8},
        {},
        [9, 12, 9, 12],
        [0, 1, 10, 11],
        [1, 2, 11, 12],
        2 * (9 + 12),
        (0 + 8) + (8 + 8),
    ),
    Row(
        "without the prefix cache nothing is hit, and nothing asked",
        {"begins_s": [0, 1], "said": [THREE, THREE], "think_s": 3},
        {"caching": False},
        [4, 4, 10, 10, 16, 16],
        [0, 1, 5, 6, 10, 11],
        [2, 3, 7, 8, 12, 13],
        0,
        0,
    ),
    Row(
        "on two replicas in turn every turn of the second meets the other's history: nothing is there",
        {"begins_s": [0], "said": [THREE], "think_s": 3},
        {"replicas": 2},
        [4, 10, 16],
        [0, 5, 10],
        [2, 7, 12],
        4 + 10 + 16,
        0 + 0 + 4,  # the third comes to the first replica, where only the first turn was
    ),
    Row(
        "a turn that fails at its deadline is followed all the same; what it computed is there",
        {"begins_s": [0], "said": [[(4, 9), (4, 1)]], "think_s": 2, "timeout_s": 6.0},
        {},
        [4, 17],
        [0, 8],
        [NEVER, 9],
        4 + 17,
        8,  # 4 of the prompt and 5 of the 6 answered tokens
    ),
    Row(
        "one in flight: a turn that is due while another is served waits at the client",
        {"begins_s": [0, 1], "said": [TWO, TWO], "think_s": 1, "max_in_flight": 1},
        {},
        [4, 10, 4, 10],
        [0, 3, 1, 5],
        [2, 6, 4, 8],
        2 * (4 + 10),
        2 * 4,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", BY_HAND, ids=[row.because for row in BY_HAND])
def test_sessions_by_hand(row: Row):
    load = sessions(**row.load)
    done = run(load, **row.given)
    assert row.prompts == load.prompt_tokens.tolist()
    np.testing.assert_array_equal(row.due_s, done.arrival_s)
    np.testing.assert_array_equal(row.last_s, done.last_token_s)
    assert (row.queried, row.hit) == (done.ledger["queried_tokens"].sum(), done.ledger["hit_tokens"].sum())


def test_latency_runs_from_when_a_turn_is_due():
    """Of the one-seat row above: the second session waits 1 s, its next turn is due at 7 and served at once."""
    done = run(sessions([0, 1], [TWO, TWO], 3), seats=1)
    figures = summarise(done, (), steady=False)
    np.testing.assert_array_equal([1000, 2000, 1000, 1000], figures.latencies.ttft_ms)
    np.testing.assert_array_equal([2000, 3000, 2000, 2000], figures.latencies.e2e_ms)


def test_means_are_taken_from_the_first_counted_query_to_the_last_sessions_begin():
    """A and B as in the first row, and C, which begins at 20 and finds nothing running: 3 + 3 + 3 of 20 s are busy."""
    load = sessions([0, 1, 20], [THREE, THREE, THREE], 3)
    figures = summarise(run(load), (), steady=True).figures
    assert 9 / 20 == figures["utilisation"]
    assert 24 / 60 == figures["prefix_cache_hit_rate"]
    counted = summarise(run(replace(load, warmup=2)), (), steady=True).figures  # from where the third stands: at 3 s
    assert 6 / 17 == counted["utilisation"]
    assert 24 / 52 == counted["prefix_cache_hit_rate"]
    assert 7 == counted["requests"]


def test_a_cooldown_is_cut_off_with_who_follows_whom():
    load = sessions([0, 1, 20], [THREE, THREE, THREE], 3, cooldown=2)
    kept = without_cooldown(run(load))
    assert [-1, -1, 0, 1, 2, 3, -1] == kept.load.follows.tolist()
    assert 7 == len(kept.last_token_s) == kept.load.queries


REFUSED = [
    ({"follows": np.array([-1, -1, 5, 1])}, "must follow an earlier one", "a later one"),
    ({"follows": np.array([-1, 1, 0, 1])}, "must follow an earlier one", "itself"),
    ({"follows": np.array([-1, -1, 0])}, "must follow an earlier one", "one for each query"),
    ({"follows": np.array([-1, -1, 0, 0])}, "at most one query may follow another", "two follow one"),
    ({"think_s": None}, "needs a finite time", "nobody says when"),
    ({"think_s": np.array([0, 0, 1, np.nan])}, "needs a finite time", "at no time"),
    ({"think_s": np.array([0, 0, 1, -1.0])}, "needs a finite time", "before it ends"),
    ({"clients": 2}, "there may be no clients", "a closed loop has successors of its own"),
]


@pytest.mark.parametrize(("change", "rule", "because"), REFUSED, ids=[row[2] for row in REFUSED])
def test_sessions_that_make_no_sense_are_refused_by_name(change: dict[str, Any], rule: str, because: str):
    with pytest.raises(ScenarioError, match=rule):
        run(replace(sessions([0, 1], [TWO, TWO], 3), **change))


# --- laws ---


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


# --- on a GPU ---

CHAT = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 8192},
    "traffic": {"peak_qps": 6},
    "query": {
        "stages": [
            {
                "name": "chat",
                "prompt_tokens": {"lognormal": {"mean": 300, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 250, "cv": 0.5}},
                "turns": 6,
                "think_s": 20,
            }
        ]
    },
    "slo": {"p95_ttft_ms": "<=500", "p95_tpot_ms": "<=30"},
}


def simulated(**keys: Any) -> dict[str, Any]:
    changes = {key.replace("__", "."): value for key, value in keys.items()}
    return planner.simulate(Scenario.from_dict(CHAT).with_values(changes), requests=4000).as_dict()


def test_hits_collapse_where_the_cache_is_too_small_for_what_users_come_back_to():
    """6 turns/s · 20 s of pauses · some 2,000 tokens of history are about 240,000 tokens to be kept between turns."""
    roomy, small, none = (
        simulated(engine__num_gpu_blocks_override=25_000),  # 400,000 tokens
        simulated(engine__num_gpu_blocks_override=5_000),
        simulated(engine__enable_prefix_caching=False),
    )
    assert roomy["prefix_cache_hit_rate"] > 0.8
    assert small["prefix_cache_hit_rate"] < 0.2
    assert none["prefix_cache_hit_rate"] is None
    # without its history every turn computes some four times the tokens
    assert small["ledger"]["prefill_tokens"] > 3 * roomy["ledger"]["prefill_tokens"]
    assert roomy["ttft_ms"]["p50"] < 0.6 * small["ttft_ms"]["p50"]


def test_a_session_that_changes_replicas_leaves_its_history_behind():
    one, four = simulated(), simulated(fleet__replicas=4, traffic__peak_qps=24)
    assert one["prefix_cache_hit_rate"] > 2 * four["prefix_cache_hit_rate"]
    rows = {row["what"]: row for row in four["provenance"]}
    assert "pessimistic" == rows["session routing"]["errs"]
    assert "6 turns" == rows["session history"]["value"]
    assert "pause between turns" not in rows, "it was given"
    chat = {"name": "chat", "prompt_tokens": 99, "output_tokens": 9, "turns": 2}
    instant = planner.simulate(Scenario.from_dict(CHAT | {"query": {"stages": [chat]}}), requests=200).as_dict()
    assert "optimistic" == {row["what"]: row for row in instant["provenance"]}["pause between turns"]["errs"]


def test_overload_is_told_from_load():
    calm, over = simulated(traffic__peak_qps=6), simulated(traffic__peak_qps=60)
    assert (False, True) == (calm["saturated"], over["saturated"])
    assert calm["query_throughput"] == pytest.approx(6, rel=4 * (4000 / 6) ** -0.5)  # Poisson: 667 sessions
    assert over["query_throughput"] < 20


def test_a_capacity_and_a_plan_stand_where_the_slo_breaks():
    scenario = Scenario.from_dict(CHAT | {"prices": {"gpu_hour_usd": 2.0}}).with_values(
        {"query.stages[0].turns": 3, "query.stages[0].think_s": 5}
    )
    document = planner.capacity(scenario, requests=2000).as_dict()
    assert True is document["at_max"]["slo_met"]
    most = document["max_rate_qps"]
    assert [probe["rate_qps"] for probe in document["probes"] if not probe["met"]], "beyond it a limit breaks"
    plan = planner.plan(scenario.with_values({"traffic.peak_qps": 1.5 * most}), requests=2000, worlds=0).as_dict()
    assert (True, 2) == (plan["feasible"], plan["fleet"]["replicas"])
    # turns are what is paid for
    assert plan["cost"]["usd_per_query"] == pytest.approx(2 * 2.0 / 3600 / (1.5 * most))
    assert 24 == len(plan["day"])


# --- how long a run is ---


def test_a_run_lasts_through_the_pauses_before_it_counts():
    scenario = Scenario.from_dict(CHAT)
    length = run_length(scenario, 2000, 2.0, 3)
    pauses = turns_due(6, 6, 20, 120)  # one a second more every 20 s: 1 + 2 + … + 6, 20 s each
    assert 420 == pauses
    # to both ends three times the answers of six turns, 12 turns coming during each; counted three times 6 · 22 s
    assert length == (3 * 6 * 132, 420 + 3 * 6 * 12, 3 * 6 * 12)
    assert run_length(scenario, 5000, 2.0, 3).counted == 5000
    assert run_length(scenario, 100, 2.0, 0).counted == 100, "as long as it was asked for"
    single = scenario.with_values({"query.stages[0].turns": 1, "query.stages[0].think_s": 0})
    assert run_length(single, 2000, 2.0, 3) == (2000, 500, 12)


def test_the_idle_run_holds_whole_sessions():
    scenario = Scenario.from_dict(CHAT)
    deployment = deploy(only_candidate(scenario, "simulate"))
    load, outcome = idle_outcome(deployment, scenario, 600, 0)
    assert load.follows is None
    built = build_load(
        scenario.with_values({"query.stages[0].think_s": 0}),
        queries=600, duration_s=None, warmup=0, rng=np.random.default_rng(0), max_model_len=8192,
    )  # fmt: skip
    assert 100 == np.count_nonzero(built.follows < 0)
    np.testing.assert_array_equal(built.prompt_tokens, load.prompt_tokens)
    assert outcome.figures["prefix_cache_hit_rate"] > 0.8
    assert idle_e2e_s(outcome) > 0
