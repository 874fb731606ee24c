"""Asynchronous scheduling: a request that has ended gives its seat and blocks up one step later, hashes come later too.

The tables restate vLLM's own cases (0.32.0, `AsyncScheduler`, calls written as seconds of a step cost of 1 s): blocks
of 4 tokens, 8 seats and 16 tokens a step unless a row says otherwise. vLLM's empty calls take no time here. The worlds
are random loads; there a jump must leave what single steps leave.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from test_kernel_twins import LEDGER, unit_cost, worlds

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet import run_fleet
from planner.simulation.kernel import advance
from planner.simulation.kernel_queue import enqueue
from planner.simulation.kernel_state import (
    COUNTED,
    Replicas,
    Requests,
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, Prefixes, SharedBlocks, shared_blocks
from planner.specs import SchedulerConfig

SMALL = SchedulerConfig(
    num_blocks=33, block_size=4, max_num_seqs=8, max_num_batched_tokens=16, max_model_len=256, async_scheduling=True
)


class Given(NamedTuple):
    """A request: when the engine can see it, its tokens, and how many of its first blocks the others have too."""

    ready_s: float
    prompt: int
    output: int
    shared: int = 0


class Seen(NamedTuple):
    """What a run showed: last tokens, free blocks after each second, and the ledger."""

    last_token_s: list[float]
    free: list[int]
    ledger: np.void


def watched(given_requests: list[Given], seconds: int, **options: Any) -> Seen:
    config = SchedulerConfig(**{**vars(SMALL), **options})
    most = max(one.shared for one in given_requests)
    counts = np.array([one.shared for one in given_requests], np.int32)
    shared = SharedBlocks(np.zeros(len(counts), np.int64), counts, np.arange(most, dtype=np.int32), most)
    requests = make_requests(
        np.array([one.ready_s for one in given_requests]),
        np.array([one.prompt for one in given_requests]),
        np.array([one.output for one in given_requests]),
        shared,
        np.full(len(counts), COUNTED),
        config.max_model_len,
    )
    scheduler, costs, gaps = make_settings(config, shared), make_costs(unit_cost(config)), make_gaps()
    state = make_replicas(1, scheduler, shared.contents)
    for i in range(len(counts)):
        enqueue(state, requests, 0, i)
    free = []
    for second in range(seconds):
        advance(state, requests, scheduler, costs, gaps, 0, second + 0.5)
        free.append(int(state.scalars[0]["plain_free"] + state.scalars[0]["cached_free"]))
    return Seen(requests.rows["last_token_s"].tolist(), free, state.scalars[0])


# Of each: requests, options, last tokens, free blocks after each step where scheduling is synchronous, and where not.
KEPT = [
    (
        "C67",
        [Given(0, 10, 3), Given(0, 10, 3)],
        {},
        ([3, 4], [27, 26, 29, 32, 32]),
        ([3, 4], [27, 26, 26, 29, 32]),
        "the first ends with step 2 and keeps its three blocks through step 3, the second through a call that is empty",
    ),
    (
        "C69",
        [Given(0, 4, 2), Given(0, 4, 1)],
        {"max_num_seqs": 1},
        ([2, 3], [31, 32, 32]),
        ([2, 3], [31, 30, 31]),
        "with nothing to run beside it the seat is free after an empty call, which costs no step",
    ),
    (
        "C05, asynchronous",
        [Given(0, 4, 2), Given(0, 4, 4), Given(0, 4, 2)],
        {"max_num_seqs": 2},
        ([2, 4, 4], [30, 30, 29, 32, 32, 32]),
        ([2, 4, 5], [30, 28, 30, 29, 30, 32]),
        "the first ends with step 1 and keeps its seat through step 2, so the third starts in step 3",
    ),
    (
        "C63, asynchronous",
        [Given(0, 8, 2), Given(0, 4, 8), Given(0, 12, 1)],
        {"num_blocks": 6},
        ([2, 8, 3], [2, 3, 3, 3, 3, 2, 2, 5, 5]),
        ([2, 8, 4], [2, 0, 3, 0, 3, 2, 2, 2, 5]),
        "the first's three blocks are in the way through step 2, so the third, who waits for them, starts in step 3",
    ),
]


@pytest.mark.parametrize("row", KEPT, ids=[row[0] for row in KEPT])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_who_ended_keeps_seat_and_blocks_one_step_longer(row, asynchronous):
    _, requests, options, synchronous, later, because = row
    last_token_s, free = later if asynchronous else synchronous
    seen = watched(requests, len(free), async_scheduling=asynchronous, **options)
    assert last_token_s == seen.last_token_s, because
    assert free == seen.free, because


def test_the_ledger_counts_the_seat_and_the_blocks_that_are_kept():
    """C67: two run in steps 0 to 2; through step 3 the first only keeps its seat. 5 blocks, then twice 6, then 6."""
    requests = [Given(0, 10, 3), Given(0, 10, 3)]
    kept = watched(requests, 6).ledger
    gone = watched(requests, 6, async_scheduling=False).ledger
    assert (4, 8.0, 5 + 6 + 6 + 6) == (kept["steps"], kept["running_s"], kept["kv_block_s"])
    assert (4, 7.0, 5 + 6 + 6 + 3) == (gone["steps"], gone["running_s"], gone["kv_block_s"])


PREEMPTED = [
    (
        "C70",
        [Given(0, 8, 6), Given(0, 8, 4)],
        6,
        1,
        [6, 9],
        9,
        4,
        "its token under way is delivered: 8 + 1",
    ),
    ("who has ended", [Given(0, 8, 4), Given(0, 8, 1)], 5, 1, [4, 1], 0, 0, "its answer is whole; nobody returns"),
]


@pytest.mark.parametrize("row", PREEMPTED, ids=[row[0] for row in PREEMPTED])
def test_the_last_of_the_list_is_preempted_with_a_token_under_way(row):
    _, requests, blocks, preemptions, last_token_s, asked, hit, because = row
    seen = watched(requests, 12, num_blocks=blocks)
    ledger = seen.ledger
    assert last_token_s == seen.last_token_s, because
    assert (preemptions, asked, hit) == (ledger["preemptions"], ledger["requeried_tokens"], ledger["rehit_tokens"])
    assert blocks - 1 == seen.free[-1]


HITS = [
    ("C53", False, 4.0, 12, "synchronous: the block can be hit in the very step, 4, that computes its last token"),
    ("C54", False, 3.0, 8, "synchronous: not in step 3"),
    ("C71", True, 3.0, 8, "not in step 4, where a synchronous scheduler has it"),
    ("C72", True, 4.0, 12, "in step 5"),
    ("C51, asynchronous", True, 9.0, 12, "what ended is hashed to its last computed token"),
]


@pytest.mark.parametrize("row", HITS, ids=[row[0] for row in HITS])
def test_generated_blocks_can_be_hit_one_step_later(row):
    """The second request repeats 4 generated tokens of the first; who is ready at t is seen in step t or t + 1."""
    _, asynchronous, ready_s, hit, because = row
    seen = watched([Given(0, 8, 7, shared=3), Given(ready_s, 13, 1, shared=3)], 12, async_scheduling=asynchronous)
    assert hit == seen.ledger["hit_tokens"], because


# --- jumps ---


def walked(world: tuple[Load, SchedulerConfig, StepCost], every_s: float) -> tuple[Replicas, Requests]:
    """One replica under the load, stopped every so many seconds."""
    load, config, cost = world
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    ready_s = load.arrival_s + cost.frontend_s
    flags = np.full(load.requests, COUNTED)
    requests = make_requests(ready_s, load.prompt_tokens, load.output_tokens, shared, flags, config.max_model_len)
    scheduler, costs, gaps = make_settings(config, shared), make_costs(cost), make_gaps()
    state = make_replicas(1, scheduler, shared.contents)
    for i in range(load.requests):
        enqueue(state, requests, 0, i)
    if np.isfinite(every_s):
        for stop_s in np.arange(ready_s[0], ready_s[-1] + 400 * every_s, every_s):
            advance(state, requests, scheduler, costs, gaps, 0, stop_s)
    advance(state, requests, scheduler, costs, gaps, 0, np.inf)
    return state, requests


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_a_jump_leaves_what_single_steps_leave(world: tuple[Load, SchedulerConfig, StepCost]):
    load, config, cost = world
    world = (load, SchedulerConfig(**{**vars(config), "async_scheduling": True}), cost)
    try:
        run_fleet(load, world[1], cost, 1, "round_robin", np.random.default_rng(0))
    except MisfitError:
        return
    jumped, some = walked(world, np.inf)
    stepped, others = walked(world, 2.0**-13)
    np.testing.assert_array_equal(some.rows["last_token_s"], others.rows["last_token_s"])
    np.testing.assert_array_equal(some.rows["first_token_s"], others.rows["first_token_s"])
    for name in LEDGER:
        assert jumped.scalars[0][name] == stepped.scalars[0][name], name
    for state in (jumped, stepped):
        scalars = state.scalars[0]
        assert (0, 0, 0) == (scalars["n_running"], scalars["n_waiting"], scalars["n_ended"])
        assert config.usable_blocks == scalars["plain_free"] + scalars["cached_free"]


def test_of_copies_filled_within_one_jump_the_first_filled_is_found_first():
    """Blocks of 2, 7 usable. The second and third repeat one chain; the third, with the longer context, fills its block
    3 in step 4, the second in step 5. Preempted in step 6, the third finds its own copies, which are free and so count
    against the 2 free blocks: it has to wait for the second to end with step 8, and ends with step 9."""
    config = SchedulerConfig(
        num_blocks=8,
        block_size=2,
        max_num_seqs=2,
        max_num_batched_tokens=15,
        max_model_len=13,
        enable_chunked_prefill=False,
        scheduler_reserve_full_isl=False,
    )
    load = Load(
        arrival_s=np.zeros(3),
        prompt_tokens=np.array([10, 4, 6], np.int32),
        output_tokens=np.array([2, 8, 5], np.int32),
        prefixes=Prefixes(np.array([0, 0, 1, 2]), np.zeros(2, np.int32), np.array([8], np.int32)),
    )
    _, requests = walked((load, config, unit_cost(config)), np.inf)
    assert [2, 9, 10] == requests.rows["last_token_s"].tolist()
