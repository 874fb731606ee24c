"""Prefix caching: what may be hit, what was evicted, and hit rates against theory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from test_reference_laws import MODEL_LEN, configs, loads, many

from planner.coefficients import StepCost
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load
from planner.simulation.reference import Request, Scheduler
from planner.simulation.replay import replay
from planner.specs import SchedulerConfig
from tests.fleet_worlds import World, worlds
from tests.workload_loads import load as drawn
from tests.workload_loads import scenario

# --- block by block ---


@many
@given(configs(), st.data())
def test_only_what_was_scheduled_before_is_hit_and_every_named_block_is_cached_or_evicted(
    config: SchedulerConfig, data: st.DataObject
):
    """`named` counts the names that steps gave, content by content; a hit is on one of them."""
    scheduler = Scheduler(replace(config, enable_prefix_caching=True))
    size = config.block_size
    chains = {"": [], **{chain: [(chain[: block + 1], block) for block in range(9)] for chain in ("aaaa", "aabb", "b")}}
    asked: dict[int, Request] = {}
    full: Counter[int] = Counter()  # blocks of each request that have a name
    named: Counter[Hashable] = Counter()

    def name(request: int, block: int) -> Hashable:
        shared = asked[request].blocks
        return shared[block] if block < len(shared) else (request, block)

    to_send = data.draw(st.integers(2, 10))
    for _ in range(2000):
        while to_send and data.draw(st.booleans()):
            to_send -= 1
            chain = chains[data.draw(st.sampled_from(sorted(chains)))]
            prompt = data.draw(st.integers(1, MODEL_LEN - 1))
            request = Request(len(asked), prompt, data.draw(st.integers(1, 12)), chain)
            asked[len(asked)] = request
            scheduler.add(request)
        if not to_send and not scheduler.running and not scheduler.waiting:
            break
        step = scheduler.schedule()
        for victim in step.preempted:
            full[int(victim)] = 0
        for admitted in step.admitted:
            full[int(admitted.id)] = admitted.hits // size
        for share in step.scheduled:
            request = int(share.id)
            for block in range(full[request], (share.before + share.tokens) // size):
                named[name(request, block)] += 1
            full[request] = max(full[request], (share.before + share.tokens) // size)
        for admitted in step.admitted:
            assert admitted.hits % size == 0
            assert admitted.hits <= admitted.queries - 1, "one token is always computed"
            found = [name(int(admitted.id), block) for block in range(admitted.hits // size)]
            assert all(named[one] for one in found), "named before, or by another earlier in this step"
        assert scheduler.evicted_blocks + len(scheduler.cached_blocks) == named.total()
        scheduler.update(step)


@many
@given(loads(), configs())
def test_without_caching_nothing_is_hit_and_nothing_evicted(load: Load, config: SchedulerConfig):
    ledger = replay(load, replace(config, enable_prefix_caching=False), ONE).ledger
    assert (ledger.hit_tokens, ledger.rehit_tokens, ledger.queried_tokens, ledger.evicted_blocks) == (0, 0, 0, 0)


@many
@given(worlds())
def test_on_any_fleet_no_more_is_evicted_than_was_computed_and_no_more_hit_than_shared(world: World):
    done = world.run()
    ledger = {name: done.ledger[name].sum() for name in done.ledger.dtype.names}
    computed = ledger["prefill_tokens"] + ledger["decode_tokens"]
    assert 0 <= ledger["evicted_blocks"] * world.config.block_size <= computed
    assert 0 <= ledger["hit_tokens"] <= ledger["queried_tokens"]
    if world.load.prefixes is None:
        assert ledger["hit_tokens"] == 0
    if not world.config.enable_prefix_caching:
        assert ledger["hit_tokens"] == ledger["evicted_blocks"] == 0


# --- hit rates ---

ONE = StepCost(np.ones(MODEL_LEN + 1), np.zeros(9))
SIZE = 16
DOCUMENTS, REFERENCES, UNCOUNTED = 2000, 120_000, 40_000


def references(count: int, zipf: float) -> Load:
    """Queries far apart, each with a document of one block and one token of its own."""
    made = scenario(
        stage__document={"tokens": SIZE, "corpus": DOCUMENTS, "zipf": zipf},
        stage__prompt_tokens=SIZE + 1,
        stage__output_tokens=1,
    )
    return replace(drawn(made, count), arrival_s=np.arange(count, dtype=np.float64))


def served(load: Load, blocks: int) -> FleetRun:
    """On one replica with so many usable blocks; a step takes a tenth of the time between two queries."""
    config = SchedulerConfig(blocks + 1, SIZE, 4, 64, 64)
    return run_fleet(load, config, StepCost(np.full(65, 0.1), np.zeros(5)), 1, "round_robin", np.random.default_rng(0))


def che_hit_rate(cache: int, zipf: float) -> float:
    """LRU of `cache` documents under independent references (Che, Tung and Wang 2002, their equations 4 to 6).

    A document of popularity p is there if it was asked for within the characteristic time T: 1 − e^(−pT), where T is
    such that the documents that are there fill the cache.
    """
    p = np.arange(1, DOCUMENTS + 1, dtype=np.float64) ** -zipf
    p /= p.sum()
    time = brentq(lambda t: -np.expm1(-p * t).sum() - cache, 1e-9, 1e9)
    return float((p * -np.expm1(-p * time)).sum())


@pytest.mark.parametrize("zipf", [0.0, 0.8, 1.2])
@pytest.mark.parametrize("cache", [50, 200, 800])
def test_lru_hits_as_often_as_ches_approximation_says(cache: int, zipf: float):
    """A query in service needs a block for its own token, so a cache of n documents has n + 1 blocks."""
    load = references(REFERENCES, zipf)
    hits = [served(run, cache + 1).ledger["hit_tokens"].sum() for run in (load, references(UNCOUNTED, zipf))]
    rate = (hits[0] - hits[1]) / SIZE / (REFERENCES - UNCOUNTED)
    assert rate == pytest.approx(che_hit_rate(cache, zipf), rel=0.02)


def test_a_cache_that_holds_the_corpus_misses_each_document_once():
    load = references(REFERENCES, 0.0)
    done = served(load, DOCUMENTS + 1)
    assert done.ledger["hit_tokens"].sum() == SIZE * (REFERENCES - DOCUMENTS)
    assert done.ledger["evicted_blocks"].sum() == 0


def test_a_cache_that_is_full_evicts_one_block_for_each_miss():
    done = served(references(REFERENCES, 0.8), 201)
    misses = REFERENCES - done.ledger["hit_tokens"].sum() // SIZE
    assert done.ledger["evicted_blocks"].sum() == misses - 200
