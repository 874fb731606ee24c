"""What begins alike is one thing: where it is drawn, warned of, sent as a header, and read off the prompt's tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planner
from loadtests.schedule import parts_of
from planner.deployment import deploy, only_candidate
from planner.deployment.no_effect import no_effect
from planner.emulator.fleet import beginning_tokens
from planner.scenario import Scenario
from planner.simulation.fleet_draws import beginnings, draws
from planner.simulation.load import Load, Prefixes, as_far_as
from planner.workload.build import build_load
from planner.workload.prefixes import telling_tokens
from planner.workload.token_ids import IdRange, runs_of, token_ids
from tests.bad_scenarios import GOOD

QUERIES = 300
ONE, THREE = {"tokens": 40}, {"tokens": 40, "groups": 3}
MANY, LONE = {"tokens": 60, "corpus": 12}, {"tokens": 60, "corpus": 1}
EACH = MANY | {"per": "call"}
RARE = {"tokens": 60, "corpus": 10_000_000}  # of which no two of the 300 queries draw the same
TWO, FIRST = {"tokens": 40, "groups": 2}, {"tokens": 40, "groups": 2, "zipf": 60.0}

# stages by what they begin with, tokens that tell groups apart, groups in each stage (0 = none), because
CASES: list[tuple[list[dict[str, Any]], int, list[int], str]] = [
    ([{}], 0, [0], "nothing is shared"),
    ([{"shared_prefix": ONE}], 0, [0], "one system prompt tells nobody apart"),
    ([{"shared_prefix": THREE}], 40, [3], "three do"),
    ([{"document": MANY}], 60, [12], "a document is one of twelve"),
    ([{"shared_prefix": ONE, "document": MANY}], 100, [12], "behind one system prompt it still is"),
    ([{"shared_prefix": THREE, "document": MANY}], 100, [36], "behind three, each with its own cache, there are 36"),
    ([{"shared_prefix": ONE, "document": LONE}], 0, [0], "all read the same document"),
    ([{"shared_prefix": THREE, "document": LONE}], 40, [3], "the same one behind three system prompts"),
    ([{"shared_prefix": THREE, "samples": 2}], 40, [3], "samples of a call are one call"),
    ([{"shared_prefix": ONE, "samples": 2, "calls": 2}], 0, [0], "each call's own prompt is nobody's group"),
    ([{"shared_prefix": ONE, "document": EACH, "calls": 3}], 100, [12], "each of three calls reads its own"),
    ([{"shared_prefix": THREE}, {"shared_prefix": {"tokens": 30, "groups": 2}}], 30, [3, 2], "30 tokens tell in both"),
    ([{"shared_prefix": ONE, "document": MANY}, {"shared_prefix": THREE}], 0, [12, 3], "40 are all alike in the first"),
    ([{"shared_prefix": THREE, "document": MANY}, {"document": MANY}], 60, [36, 12], "60 reach into every document"),
    ([{"shared_prefix": THREE}, {}], 0, [3, 0], "the second stage's begin as they like: no number fits both"),
    ([{"document": RARE}], 60, [300], "documents tell, though no two queries draw the same one"),
    ([{"shared_prefix": TWO, "document": RARE}], 100, [300], "nor does that make it the system prompt that tells"),
    ([{"document": RARE | {"per": "call"}, "calls": 2, "samples": 2}], 60, [600], "each call alone, with its samples"),
    ([{"shared_prefix": FIRST}], 40, [1], "of two system prompts all draw the first: it is a group"),
    ([{"shared_prefix": FIRST, "document": MANY}], 100, [12], "and documents tell behind it"),
]  # fmt: skip


def scenario_of(stages: list[dict[str, Any]]) -> Scenario:
    usual = {"prompt_tokens": 200, "output_tokens": 5}
    made = [{"name": f"s{k}"} | usual | stage for k, stage in enumerate(stages)]
    fleet = {"routing": "session_affinity", "replicas": 4}
    return Scenario.from_dict({**GOOD, "query": {"stages": made}, "fleet": fleet})


def load_of(scenario: Scenario) -> Load:
    rng = np.random.default_rng(3)
    return build_load(scenario, queries=QUERIES, duration_s=None, warmup=0, rng=rng, max_model_len=4096)


def prompts(load: Load) -> list[list[int]]:
    """The tokens that a load test would send."""
    assert load.prefixes is not None
    start, segment = load.prefixes.chain_start, load.prefixes.chain_segment
    tokens = load.prefixes.segment_tokens
    made = []
    for i in range(load.requests):
        chain = [(int(link), int(tokens[link])) for link in segment[start[i] : start[i + 1]]]
        runs = runs_of(chain, i, int(load.prompt_tokens[i]))
        made.append([token for run in runs for token in token_ids(0, run, IdRange(256, 100_000)).tolist()])
    return made


def parted(keys: list[Any]) -> set[frozenset[int]]:
    """The places of equal keys, together."""
    found: dict[Any, set[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, set()).add(place)
    return {frozenset(places) for places in found.values()}


@pytest.mark.parametrize(("stages", "tokens", "groups", "because"), CASES, ids=[because for *_, because in CASES])
def test_all_who_ask_what_begins_alike_get_one_answer(
    stages: list[dict[str, Any]], tokens: int, groups: list[int], because: str
):
    scenario = scenario_of(stages)
    load = load_of(scenario)
    group = beginnings(load).reshape(QUERIES, -1)
    ends = np.cumsum([stage.requests for stage in load.stages])
    parts = np.split(group, ends[:-1], axis=1)
    assert groups == [0 if (part < 0).all() else len(np.unique(part)) for part in parts], "drawn"
    assert [count > 0 for count in groups] == [telling_tokens(one) is not None for one in scenario.query.stages]
    warned = no_effect(scenario, [deploy(only_candidate(scenario, "simulate"))], "simulate")
    assert (not any(groups)) == any("session_affinity draws a replica for each call" in text for text in warned)
    assert tokens == beginning_tokens(scenario), "of the emulator"


@pytest.mark.parametrize(
    "stages",
    [stages for stages, tokens, *_ in CASES if tokens],
    ids=[because for _, tokens, _, because in CASES if tokens],
)
def test_header_draw_and_first_tokens_part_the_calls_alike(stages: list[dict[str, Any]]):
    scenario = scenario_of(stages)
    load = load_of(scenario)
    drawn = parted(draws(load, 1 << 20, "session_affinity", np.random.default_rng(1)).tolist())
    assert parted(beginnings(load).tolist()) == drawn
    (part,) = parts_of(load, [1])
    assert drawn == parted([part.session_name(row) for row in range(load.requests)]), "the load test's header"
    tokens = beginning_tokens(scenario)
    assert drawn == parted([tuple(prompt[:tokens]) for prompt in prompts(load)]), "the emulator without a header"


@pytest.mark.parametrize("stages", [stages for stages, *_ in CASES], ids=[because for *_, because in CASES])
def test_a_short_run_goes_by_what_a_long_one_goes_by(stages: list[dict[str, Any]]):
    """Who belongs together is the same however much of a load is seen: of two queries, of ten, of all."""
    load = load_of(scenario_of(stages))
    every = beginnings(load)
    for queries in (1, 2, 10, 100):
        short = as_far_as(load, queries)
        assert every[: short.requests].tolist() == beginnings(short).tolist(), queries


@pytest.mark.parametrize("queries", [20, 200, 2000])
def test_documents_that_hardly_anyone_shares_are_even_over_the_fleet_in_runs_of_any_length(queries: int):
    """By the two system prompts two of four replicas would serve at most."""
    run = planner.simulate(scenario_of([{"shared_prefix": TWO, "document": RARE}]), requests=queries).run
    _, served = np.unique(run.replica, return_counts=True)
    assert len(served) == 4
    assert max(served) < 0.5 * run.load.requests


def test_sessions_of_which_a_short_run_has_the_first_turn_alone_are_sessions():
    """Each of five turns goes by its session's own number, not by its system prompt's."""
    scenario = scenario_of([{"shared_prefix": THREE, "turns": 3, "think_s": 1000.0}])
    rng = np.random.default_rng(3)
    load = build_load(scenario, queries=5, duration_s=None, warmup=0, rng=rng, max_model_len=4096)
    assert load.follows is not None
    assert load.follows.tolist() == [-1] * 5
    assert len(set(draws(load, 4, "session_affinity", np.random.default_rng(1)).tolist())) == 5


def test_a_stage_beside_a_trace_tells_nothing():
    """Its prompts begin as was recorded."""
    scenario = scenario_of([{"shared_prefix": THREE}])
    assert beginning_tokens(scenario) == 40
    traffic = {"arrivals": {"trace": {"file": "calls.csv", "format": "azure"}}}
    assert beginning_tokens(Scenario.from_dict({**scenario.as_dict(), "traffic": traffic})) == 0


def test_a_document_behind_a_system_prompt_stays_on_its_replica():
    """Each of four replicas computes the documents that are its own; strewn, every one computes most of them."""
    scenario = scenario_of([{"shared_prefix": ONE, "document": {"tokens": 150, "corpus": 60}}])
    rates = []
    for routing in ("session_affinity", "random"):
        run = planner.simulate(scenario.with_values({"fleet.routing": routing}), requests=600)
        rates.append(run.as_dict()["prefix_cache_hit_rate"])
        group = beginnings(run.run.load)
        homes = [len(set(run.run.replica[group == one].tolist())) for one in np.unique(group)]
        assert (routing == "session_affinity") == (set(homes) == {1})
    assert rates[0] > rates[1] + 0.05


def recorded(chains: list[list[int]]) -> Load:
    """Calls whose prompts have these recorded blocks."""
    starts = np.concatenate(([0], np.cumsum([len(chain) for chain in chains])))
    links = np.array([link for chain in chains for link in chain], np.int32)
    prefixes = Prefixes(starts, links, np.full(links.max() + 1, 8, np.int32))
    ones = np.ones(len(chains), np.int32)
    return Load(np.arange(len(chains)) / 8, 64 * ones, ones, prefixes=prefixes)


@pytest.mark.parametrize(
    ("chains", "groups", "because"),
    [
        (
            [[0, 1], [0, 1, 2], [0, 3], [0, 3, 4]],
            [1, 1, 3, 3],
            "behind what all have: the second block of two or three",
        ),
        ([[0], [0, 1], [2], [2, 3]], [0, 0, 2, 2], "a prompt of one block has no second one"),
        ([[0, 1], [0, 2], [3, 4], [3, 5]], [0, 0, 3, 3], "second blocks are each call's own"),
        ([[0], [0, 1], [0, 2]], [-1, -1, -1], "all begin alike"),
        ([[0], [1], [2]], [-1, -1, -1], "none does: each call for itself"),
        ([[0], [], [0]], [-1, -1, -1], "one has no recorded block"),
    ],
)
def test_recorded_blocks_are_told_apart_where_every_prompt_has_one(
    chains: list[list[int]], groups: list[int], because: str
):
    assert groups == beginnings(recorded(chains)).tolist(), because
