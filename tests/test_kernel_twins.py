"""The compiled kernel does what the reference does: on vLLM's own cases, and on random loads to the last bit.

Costs are dyadic fractions (sums of powers of two far apart from the end of a double's mantissa), so that adding them
step by step and multiplying them out in a jump round to nothing at all: the twins' times must be *equal*. One test
takes ordinary costs; there a jump of k steps replaces k additions by one product, each addition is off by at most half
a unit in the last place of the clock, and so the clocks differ by less than steps · 2⁻⁵³ of its value.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_replay import config_of
from scheduler_table import Case, load_cases

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet import run_fleet
from planner.simulation.kernel import advance
from planner.simulation.kernel_queue import abort, enqueue
from planner.simulation.kernel_state import (
    COUNTED,
    FINISHED,
    SKIPS_CACHE_READ,
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, Prefixes, SharedBlocks, Stage
from planner.simulation.replay import Replay, replay
from planner.specs import SchedulerConfig

CASES = load_cases()
LEDGER = [
    "steps",
    "busy_s",
    "running_s",
    "waiting_s",
    "kv_peak_blocks",
    "prefill_tokens",
    "decode_tokens",
    "context_tokens",
    "preemptions",
    "queried_tokens",
    "hit_tokens",
    "requeried_tokens",
    "rehit_tokens",
    "evicted_blocks",
]


def unit_cost(config: SchedulerConfig) -> StepCost:
    """Every step takes one second, so that times are the numbers of calls."""
    return StepCost(np.ones(config.max_num_batched_tokens + 1), np.zeros(config.max_num_seqs + 1))


def shared_of(case: Case) -> SharedBlocks:
    """Blocks whose content two requests of the case have; as in any load, they are the first ones of a request."""
    names = [request.block_names(case.settings["block_size"]) for request in case.requests]
    uses: dict[object, int] = {}
    for row in names:
        for name in row:
            uses[name] = uses.get(name, 0) + 1
    ids = {name: k for k, name in enumerate(name for name, count in uses.items() if count > 1)}
    rows = [[ids[name] for name in row if name in ids] for row in names]
    counts = np.array([len(row) for row in rows], np.int32)
    flat = np.array([content for row in rows for content in row], np.int32)
    return SharedBlocks(np.cumsum(counts) - counts, counts, flat, len(ids))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.id} {case.shows}" for case in CASES])
def test_the_kernel_ends_every_case_in_vllms_step_with_vllms_totals(case: Case):
    config = config_of(case)
    shared = shared_of(case)
    options = make_settings(config, shared)
    requests = make_requests(
        np.array([float(request.call) for request in case.requests]),
        np.array([len(request.prompt) for request in case.requests]),
        np.array([len(request.outputs) for request in case.requests]),
        shared,
        np.array([SKIPS_CACHE_READ * request.skip_reading_prefix_cache for request in case.requests]),
        config.max_model_len,
    )
    state = make_replicas(1, options, shared.contents)
    costs, gaps = make_costs(unit_cost(config)), make_gaps()
    names = [request.id for request in case.requests]
    finished: dict[str, int] = {}
    for expected in case.steps:
        for index, request in enumerate(case.requests):
            if request.call == expected.call:
                enqueue(state, requests, 0, index)
        advance(state, requests, options, costs, gaps, 0, float(expected.call))
        for name in case.aborts.get(expected.call, []):
            abort(state, requests, options, costs, 0, names.index(name))
        throttle = options._replace(defer_prefills=int(expected.call in case.throttled))
        advance(state, requests, throttle, costs, gaps, 0, expected.call + 0.5)
        for index in np.flatnonzero(requests.rows["status"] == FINISHED):
            finished.setdefault(names[index], expected.call)
        scalars = state.scalars[0]
        assert expected.free[2] == scalars["plain_free"] + scalars["cached_free"]
    assert finished == {name: step.call for step in case.steps for name in step.finished}
    assert case.totals == {
        "queries": scalars["queried_tokens"],
        "hits": scalars["hit_tokens"],
        "readmission_queries": scalars["requeried_tokens"],
        "readmission_hits": scalars["rehit_tokens"],
        "preemptions": scalars["preemptions"],
    }
    assert bool(scalars["stuck"]) == (case.calls is not None)


# --- random loads ---


def dyadic_cost(draw: st.DrawFn, config: SchedulerConfig) -> StepCost:
    unit = 2.0**-12
    pick = st.integers(0, 7)
    return StepCost(
        tokens_s=unit * (1 + draw(pick) + draw(pick) * np.arange(config.max_num_batched_tokens + 1)),
        requests_s=unit * draw(pick) * np.arange(config.max_num_seqs + 1.0),
        decode_attention_s=unit * draw(pick),
        decode_token_s=2.0**-18 * draw(pick),
        window=draw(st.sampled_from([0, 0, 6, 17])),
        window_token_s=2.0**-18 * draw(pick),
        prefill_token2_s=2.0**-20 * draw(pick),
        prefill_window_s=2.0**-20 * draw(pick),
        prefill_step_s=unit * draw(pick),
        frontend_s=unit * draw(pick),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Load, SchedulerConfig, StepCost]:
    """A small engine under a load that fills it: preemptions, hits, duplicates, evictions, timeouts."""
    size = draw(st.sampled_from([2, 4, 8]))
    seats = draw(st.integers(1, 6))
    model_len = draw(st.integers(12, 60))
    chunked = draw(st.booleans())
    budget = draw(st.integers(max(seats, 2), 24)) if chunked else model_len + seats
    config = SchedulerConfig(
        num_blocks=1 + -(-model_len // size) + draw(st.integers(0, 14)),
        block_size=size,
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        max_model_len=model_len,
        enable_prefix_caching=draw(st.booleans()),
        enable_chunked_prefill=chunked,
        async_scheduling=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 3, 8])),
        long_prefill_token_threshold_adaptive=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark_blocks=draw(st.sampled_from([0, 0, 1])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 24))
    prompt = rng.integers(1, model_len - 2, n).astype(np.int32)
    output = rng.integers(1, model_len - prompt + 1).astype(np.int32)
    gap = draw(st.sampled_from([0.0, 2.0**-10, 2.0**-7, 2.0**-5]))
    arrival = np.cumsum(np.round(rng.exponential(1.0, n) * 8) / 8 * gap)
    # a tree of prompts: every request goes down a random path of segments
    tree = [draw(st.integers(1, 9)) for _ in range(draw(st.integers(1, 6)))]
    parents = [int(rng.integers(-1, k)) for k in range(len(tree))]
    chains = []
    for length in (prompt + output).tolist():
        node, chain = int(rng.integers(-1, len(tree))), []
        while node >= 0:
            chain.insert(0, node)
            node = parents[node]
        while chain and sum(tree[k] for k in chain) > length:
            chain.pop()
        chains.append(chain)
    starts = np.cumsum([0] + [len(chain) for chain in chains])
    links = np.array([node for chain in chains for node in chain], np.int32)
    load = Load(
        arrival_s=arrival,
        prompt_tokens=prompt,
        output_tokens=output,
        prefixes=Prefixes(starts, links, np.array(tree, np.int32)),
        timeout_s=draw(st.sampled_from([np.inf, np.inf, 2.0**-5, 2.0**-3])),
    )
    return load, config, dyadic_cost(draw, config)


def both(load: Load, config: SchedulerConfig, cost: StepCost) -> tuple[Replay, object] | None:
    """The twins on the same load; None where both find that it can never end."""
    try:
        slow = replay(load, config, cost)
    except MisfitError:
        with pytest.raises(MisfitError):
            run_fleet(load, config, cost, 1, "round_robin", np.random.default_rng(0))
        return None
    return slow, run_fleet(load, config, cost, 1, "round_robin", np.random.default_rng(0))


@settings(max_examples=600, deadline=None)
@given(worlds())
def test_twins_agree_to_the_last_bit(world: tuple[Load, SchedulerConfig, StepCost]):
    pair = both(*world)
    if pair is None:
        return
    slow, fast = pair
    ended = slow.status == FINISHED
    np.testing.assert_array_equal(slow.finish_s, fast.last_token_s)
    np.testing.assert_array_equal(slow.first_token_s[ended], fast.first_token_s[ended])
    expected = {name: getattr(slow.ledger, name) for name in LEDGER}
    assert expected == {name: fast.ledger[0][name].item() for name in LEDGER}
    if np.isinf(world[0].timeout_s):
        assert len(slow.gaps_s) == fast.gaps.count.sum()
        assert slow.gaps_s.sum() == pytest.approx(fast.gaps.total_s.sum(), rel=1e-12, abs=1e-12)


def ordinary(seed: int, n: int = 400) -> tuple[Load, SchedulerConfig, StepCost]:
    rng = np.random.default_rng(seed)
    config = SchedulerConfig(
        num_blocks=420, block_size=16, max_num_seqs=32, max_num_batched_tokens=512, max_model_len=2048
    )
    cost = StepCost(
        tokens_s=0.0071 + 3.3e-5 * np.arange(513),
        requests_s=1.7e-6 * np.arange(33),
        decode_attention_s=1.3e-4,
        decode_token_s=1.9e-8,
        prefill_token2_s=1.1e-10,
        prefill_step_s=7e-4,
        frontend_s=0.005,
        frontend_token_s=5e-7,
    )
    load = Load(
        arrival_s=np.cumsum(rng.exponential(0.09, n)),
        prompt_tokens=rng.integers(20, 900, n).astype(np.int32),
        output_tokens=rng.integers(1, 200, n).astype(np.int32),
    )
    return load, config, cost


@pytest.mark.parametrize("seed", range(4))
def test_with_ordinary_costs_the_clocks_differ_by_rounding_alone(seed: int):
    load, config, cost = ordinary(seed)
    slow, fast = both(load, config, cost)
    assert slow.ledger.preemptions > 0
    tolerance = slow.ledger.steps * 2.0**-53
    np.testing.assert_allclose(fast.last_token_s, slow.finish_s, rtol=tolerance)
    np.testing.assert_allclose(fast.first_token_s, slow.first_token_s, rtol=tolerance)
    assert slow.ledger.steps == fast.ledger[0]["steps"]


def test_the_histogram_of_gaps_has_their_percentiles_within_its_bins():
    load, config, cost = ordinary(9)
    slow, fast = both(load, config, cost)
    from planner.simulation.outcome import gap_quantile_s

    for share in (0.5, 0.9, 0.99):
        exact = np.quantile(slow.gaps_s, share, method="inverted_cdf")
        assert gap_quantile_s(fast.gaps.count.sum(axis=0), share) == pytest.approx(exact, rel=0.006)


def test_samples_of_a_call_share_their_prompt_on_one_replica():
    load = Load(
        arrival_s=np.array([0.0]),
        prompt_tokens=np.full(3, 40, np.int32),
        output_tokens=np.array([5, 6, 7], np.int32),
        stages=(Stage("answer", calls=1, samples=3),),
        prefixes=Prefixes(np.arange(4), np.zeros(3, np.int32), np.array([40], np.int32)),
    )
    config = SchedulerConfig(num_blocks=50, block_size=8, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=100)
    fast = run_fleet(load, config, unit_cost(config), 4, "least_loaded", np.random.default_rng(0))
    assert len(set(fast.replica.tolist())) == 1
    assert fast.ledger["hit_tokens"].sum() == 2 * 32  # of 40 tokens, five full blocks, the last is computed again


assert COUNTED != SKIPS_CACHE_READ
