"""What must hold for any load: stated on the scheduler step by step, and on a replay's times and ledger."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.simulation.load import Load, Prefixes
from planner.simulation.reference import Request, Scheduler, Step
from planner.simulation.replay import ABORTED, FINISHED, Replay, replay
from planner.specs import SchedulerConfig

MODEL_LEN = 40
# Dyadic prices: sums are exact, so equality can be asked for.
BASE_S, TOKEN_S, CONTEXT_S = 0.25, 0.03125, 0.0078125
COST = StepCost(tokens_s=BASE_S + TOKEN_S * np.arange(MODEL_LEN + 1), requests_s=np.zeros(9), decode_token_s=CONTEXT_S)

many = settings(max_examples=150, deadline=None)


@st.composite
def configs(draw: st.DrawFn) -> SchedulerConfig:
    """Any engine that vLLM would start: the longest request fits the cache, and a step if it may not be cut."""
    block_size = draw(st.sampled_from([1, 2, 4, 8]))
    chunked = draw(st.booleans())
    blocks = -(-MODEL_LEN // block_size) + 1 + draw(st.integers(0, 20))
    return SchedulerConfig(
        num_blocks=blocks,
        block_size=block_size,
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(1, MODEL_LEN)) if chunked else MODEL_LEN,
        max_model_len=MODEL_LEN,
        enable_prefix_caching=draw(st.booleans()),
        enable_chunked_prefill=chunked,
        async_scheduling=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 3, 8])),
        long_prefill_token_threshold_adaptive=draw(st.booleans()),
        max_num_active_seqs=draw(st.sampled_from([0, 0, 2])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark_blocks=draw(st.sampled_from([0, 0, 3])),
    )


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Up to 12 requests, of which some begin alike."""
    n = draw(st.integers(1, 12))
    arrival = np.cumsum(draw(st.lists(st.sampled_from([0.0, 0.125, 0.5, 3.0]), min_size=n, max_size=n)))
    prompt = np.array(draw(st.lists(st.integers(1, MODEL_LEN - 1), min_size=n, max_size=n)), np.int32)
    output = np.array(draw(st.lists(st.integers(1, 20), min_size=n, max_size=n)), np.int32)
    chains = [draw(st.sampled_from([[], [0], [1], [0, 2], [0, 2, 3]])) for _ in range(n)]
    prefixes = Prefixes(
        np.cumsum([0] + [len(chain) for chain in chains]),
        np.array([segment for chain in chains for segment in chain], np.int32),
        np.array([9, 12, 7, 8], np.int32),
    )
    return Load(arrival, prompt, output, prefixes=prefixes)


def outputs(load: Load) -> np.ndarray:
    """Tokens that each request generates if nobody aborts it."""
    return np.minimum(load.output_tokens, MODEL_LEN - load.prompt_tokens)


# --- the scheduler, step by step ---


def check_blocks(scheduler: Scheduler) -> None:
    """Free and owned blocks are all blocks, and each owner has as many as its computed tokens need."""
    config = scheduler.config
    owners = Counter(block for table in scheduler.block_tables.values() for block in table)
    free = scheduler.free_queue
    assert len(free) == len(set(free)) == scheduler.free_blocks
    assert set(free) | set(owners) == set(range(1, config.num_blocks))
    assert not set(free) & set(owners)
    assert {scheduler._cache.pool.owners(block) for block in free} <= {0}
    assert all(count == scheduler._cache.pool.owners(block) for block, count in owners.items())
    assert all(len(table) == len(set(table)) for table in scheduler.block_tables.values())
    assert config.enable_prefix_caching or not scheduler.cached_blocks


@many
@given(configs(), st.data())
def test_limits_hold_in_every_step_and_everyone_leaves(config: SchedulerConfig, data: st.DataObject):
    scheduler = Scheduler(config)
    names = {chain: [(chain, block) for block in range(6)] for chain in "ab"}
    wanted: dict[int, int] = {}
    given_tokens: Counter[int] = Counter()
    gone: set[int] = set()
    to_send = data.draw(st.integers(1, 10))
    awaited: deque[Step] = deque()
    for step_number in range(4000):
        while to_send and data.draw(st.integers(0, 2)) == 0:
            to_send -= 1
            prompt = data.draw(st.integers(1, MODEL_LEN - 1))
            output = data.draw(st.integers(1, 12))
            chain = data.draw(st.sampled_from(["", "a", "b"]))
            request = Request(len(wanted), prompt, output, names.get(chain, ()), data.draw(st.integers(0, 5)) == 0)
            wanted[len(wanted)] = min(output, MODEL_LEN - prompt)
            scheduler.add(request)
        here = scheduler.running + scheduler.waiting
        if not here and not to_send:
            break
        if here and data.draw(st.integers(0, 15)) == 0:
            victim = data.draw(st.sampled_from(here))
            scheduler.abort(victim)
            gone.add(int(victim))
            check_blocks(scheduler)
        busy = bool(scheduler.running or scheduler.waiting)
        step = scheduler.schedule(defer_prefills=step_number % 3 == 1)
        if busy and not awaited:
            assert step.scheduled, "somebody always gets something, unless it hangs on results that are not in"
        awaited.append(step)
        assert len(scheduler.running) <= config.seats
        assert sum(share.tokens for share in step.scheduled) <= config.max_num_batched_tokens
        assert all(share.tokens >= 1 for share in step.scheduled)
        assert not (step.preempted and step.admitted)
        computed = {share.id: share.before + share.tokens for share in step.scheduled}
        for request_id, tokens in computed.items():
            assert len(scheduler.block_tables[request_id]) == -(-tokens // config.block_size)
        check_blocks(scheduler)
        if len(awaited) <= config.async_scheduling:
            continue
        outcome = scheduler.update(awaited.popleft())
        given_tokens.update(int(one) for one in outcome.emitted)
        gone.update(int(one) for one in outcome.finished)
        assert all(given_tokens[int(one)] == wanted[int(one)] for one in outcome.finished)
        check_blocks(scheduler)
    assert gone == set(wanted)
    assert scheduler.free_blocks == config.usable_blocks
    assert all(given_tokens[one] <= wanted[one] for one in wanted)


# --- a replay's times and sums ---


def assert_same(expected: Replay, actual: Replay, scale: float = 1.0) -> None:
    np.testing.assert_array_equal(expected.first_token_s * scale, actual.first_token_s)
    np.testing.assert_array_equal(expected.finish_s * scale, actual.finish_s)
    np.testing.assert_array_equal(expected.gaps_s * scale, actual.gaps_s)
    in_time = {"busy_s", "running_s", "waiting_s", "kv_block_s"}
    scaled = {key: value * (scale if key in in_time else 1) for key, value in vars(expected.ledger).items()}
    assert scaled == vars(actual.ledger)


@many
@given(loads(), configs())
def test_every_request_gets_all_its_tokens(load: Load, config: SchedulerConfig):
    result = replay(load, config, COST)
    assert (result.status == FINISHED).all()
    assert (load.arrival_s < result.first_token_s).all()
    assert (result.first_token_s <= result.finish_s).all()
    assert len(result.gaps_s) == (outputs(load) - 1).sum()
    np.testing.assert_allclose((result.finish_s - result.first_token_s).sum(), result.gaps_s.sum())


@many
@given(loads(), configs())
def test_tokens_are_conserved_unless_somebody_is_preempted(load: Load, config: SchedulerConfig):
    ledger = replay(load, config, COST).ledger
    prompts, decodes = int(load.prompt_tokens.sum()), int((outputs(load) - 1).sum())
    if ledger.preemptions == 0:
        assert (ledger.prefill_tokens, ledger.decode_tokens) == (prompts - ledger.hit_tokens, decodes)
    else:
        # A readmission's re-computation ends in one token that is not a decode's.
        assert ledger.decode_tokens <= decodes
        computed = ledger.prefill_tokens + ledger.decode_tokens + ledger.hit_tokens + ledger.rehit_tokens
        assert computed >= prompts + decodes
    assert ledger.queried_tokens == (prompts if config.enable_prefix_caching else 0)


@many
@given(loads(), configs())
def test_busy_time_is_the_price_list_times_the_work(load: Load, config: SchedulerConfig):
    ledger = replay(load, config, COST).ledger
    tokens = ledger.prefill_tokens + ledger.decode_tokens
    assert ledger.steps * BASE_S + tokens * TOKEN_S + ledger.context_tokens * CONTEXT_S == ledger.busy_s


@many
@given(loads(), configs())
def test_a_request_waits_or_runs_from_arrival_to_finish(load: Load, config: SchedulerConfig):
    result = replay(load, config, COST)
    in_engine_s = float((result.finish_s - load.arrival_s).sum())
    counted_s = result.ledger.running_s + result.ledger.waiting_s
    if config.async_scheduling:  # and for one more step, if something else runs in it
        longest_step_s = BASE_S + MODEL_LEN * TOKEN_S + config.seats * MODEL_LEN * CONTEXT_S
        assert in_engine_s <= counted_s <= in_engine_s + load.requests * longest_step_s
    else:
        assert in_engine_s == counted_s


@many
@given(loads(), configs())
def test_doubling_every_duration_doubles_every_answer(load: Load, config: SchedulerConfig):
    slower = replace(COST, tokens_s=2 * COST.tokens_s, decode_token_s=2 * COST.decode_token_s)
    later = replace(load, arrival_s=2 * load.arrival_s)
    assert_same(replay(load, config, COST), replay(later, config, slower), scale=2.0)


@many
@given(loads(), configs(), st.integers(0, 11))
def test_what_arrives_later_changes_nothing_that_ended_before(load: Load, config: SchedulerConfig, keep: int):
    keep = min(keep, load.requests - 1)
    assert load.prefixes is not None
    cut = load.prefixes.chain_start[keep]
    fewer = Load(
        load.arrival_s[:keep],
        load.prompt_tokens[:keep],
        load.output_tokens[:keep],
        # Segments that only the rest shares become private, which nobody left can notice.
        prefixes=replace(
            load.prefixes,
            chain_start=load.prefixes.chain_start[: keep + 1],
            chain_segment=load.prefixes.chain_segment[:cut],
        ),
    )
    whole, part = replay(load, config, COST), replay(fewer, config, COST)
    ended = whole.finish_s[:keep] <= load.arrival_s[keep]
    np.testing.assert_array_equal(whole.finish_s[:keep][ended], part.finish_s[ended])


@many
@given(loads(), configs())
def test_admission_order_is_arrival_order(load: Load, config: SchedulerConfig):
    scheduler = Scheduler(config)
    for i in range(load.requests):
        scheduler.add(Request(i, int(load.prompt_tokens[i]), int(load.output_tokens[i])))
    first_admissions = []
    while scheduler.running or scheduler.waiting:
        step = scheduler.schedule()
        first_admissions += [one.id for one in step.admitted if not one.readmission]
        scheduler.update(step)
    assert first_admissions == list(range(load.requests))


@many
@given(loads(), configs(), st.sampled_from([0.0, 0.5, 1.5, 4.0]))
def test_a_timeout_ends_every_request_within_a_step(load: Load, config: SchedulerConfig, timeout_s: float):
    result = replay(replace(load, timeout_s=timeout_s), config, COST)
    longest_step_s = BASE_S + MODEL_LEN * TOKEN_S + config.seats * MODEL_LEN * CONTEXT_S
    aborted = result.status == ABORTED
    assert (aborted | (result.status == FINISHED)).all()
    np.testing.assert_array_equal(aborted, np.isnan(result.finish_s))
    last_s = np.where(aborted, result.first_token_s, result.finish_s)
    assert not (last_s > load.arrival_s + timeout_s + longest_step_s).any()


@many
@given(loads(), configs())
def test_a_timeout_that_nobody_reaches_changes_nothing(load: Load, config: SchedulerConfig):
    assert_same(replay(load, config, COST), replay(replace(load, timeout_s=1e6), config, COST))


@many
@given(loads(), configs())
def test_a_name_that_only_one_request_uses_is_as_good_as_none(load: Load, config: SchedulerConfig):
    alone = replace(load, prefixes=None)
    named = replace(
        load,
        prefixes=Prefixes(
            np.arange(load.requests + 1), np.arange(load.requests, dtype=np.int32), np.full(load.requests, 60, np.int32)
        ),
    )
    assert_same(replay(alone, config, COST), replay(named, config, COST))
