"""Times and sums of a replay, by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.errors import InputError, MisfitError, PlannerError, UnsupportedError
from planner.simulation.load import Load, Prefixes, Stage
from planner.simulation.replay import ABORTED, FINISHED, Replay, replay
from planner.specs import SchedulerConfig

NAN = float("nan")
CONFIG = SchedulerConfig(num_blocks=33, block_size=4, max_num_seqs=8, max_num_batched_tokens=16, max_model_len=64)
# Every step takes one second, whatever is in it.
SECOND = StepCost(tokens_s=np.ones(65), requests_s=np.zeros(9))


def load_of(*requests: tuple[float, int, int], **more: Any) -> Load:
    """A load of (arrival, prompt, output)."""
    arrival, prompt, output = zip(*requests, strict=True)
    return Load(np.array(arrival, float), np.array(prompt, np.int32), np.array(output, np.int32), **more)


@dataclass(frozen=True)
class Row:
    load: Load
    first_s: list[float]
    finish_s: list[float]
    because: str
    config: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)


ROWS = [
    Row(load_of((0.5, 4, 3)), [1.5], [3.5], "the prompt's step gives the first token, two more steps the rest"),
    Row(load_of((0, 40, 2)), [3], [4], "40 tokens take chunks of 16, 16 and 8"),
    Row(load_of((0, 4, 3), (0.5, 4, 1)), [1, 2], [3, 2], "B comes in when the step under way has ended"),
    Row(load_of((0, 4, 3), (1, 4, 1)), [1, 2], [3, 2], "B arrives just as a step ends: it is in the next"),
    Row(
        load_of((0, 4, 3), (0.5, 4, 1)),
        [1, 3],
        [3, 3],
        "at 1 the step up to 2 was already decided: B misses one",
        {"async_scheduling": True},
    ),
    Row(
        load_of((0, 4, 3), (0, 4, 1)),
        [1, 1],
        [3, 1],
        "both find an idle engine, which starts at once",
        {"async_scheduling": True},
    ),
    Row(
        load_of((0, 4, 1), (0.5, 4, 1)),
        [1, 2],
        [1, 2],
        "at 1 nothing is left to run, so B is not kept waiting",
        {"async_scheduling": True},
    ),
    Row(load_of((0, 4, 2), (0, 4, 2)), [1, 3], [2, 4], "one seat: B follows A", {"max_num_seqs": 1}),
    Row(load_of((0, 4, 2), (0, 4, 6), (0, 4, 1)), [1, 1, 3], [2, 6, 3], "C follows A at once", {"max_num_seqs": 2}),
    Row(
        load_of((0, 4, 2), (0, 4, 6), (0, 4, 1)),
        [1, 1, 4],
        [2, 6, 4],
        "the step from 2 to 3 was decided before A's last token was in, so A still has its seat",
        {"max_num_seqs": 2, "async_scheduling": True},
    ),
    Row(load_of((0, 8, 2), (0, 4, 6), (0, 12, 1)), [1, 1, 3], [2, 6, 3], "5 blocks: C takes A's", {"num_blocks": 6}),
    Row(
        load_of((0, 8, 2), (0, 4, 6), (0, 12, 1)),
        [1, 1, 4],
        [2, 6, 4],
        "likewise A still has three of the five blocks",
        {"num_blocks": 6, "async_scheduling": True},
    ),
    Row(
        load_of((0, 4, 2), (0, 4, 2)),
        [1, 3],
        [2, 4],
        "while A keeps the only seat nothing can run; the engine decides anew at 2, no time is lost",
        {"max_num_seqs": 1, "async_scheduling": True},
    ),
    Row(
        load_of((0, 4, 2), (0, 4, 2), (1.5, 4, 1), timeout_s=2),
        [1, NAN, 3],
        [2, NAN, 3],
        "B is overdue at 2, when A's last token comes in: C, here since 1.5, follows A",
        {"max_num_seqs": 1, "async_scheduling": True},
    ),
    Row(
        load_of((0, 8, 6), (0, 8, 4)),
        [1, 1],
        [6, 9],
        "5 blocks: at 1 A takes B's, but B's first token is on its way; from 6 on B computes 4 + 5 tokens in one step",
        {"num_blocks": 6, "async_scheduling": True},
    ),
    Row(
        load_of((0, 9, 50)),
        [1],
        [3],
        "max_model_len cuts the answer without a wasted step",
        {"max_model_len": 12, "async_scheduling": True},
    ),
    Row(load_of((0, 20, 1), (0, 4, 1)), [2, 2], [2, 2], "B shares the step of A's last chunk"),
    Row(
        load_of((0, 16, 1), (0, 8, 1)),
        [2, 1],
        [2, 1],
        "two requests: chunks of 8 at most, so B's 8 go beside A's first 8",
        {"long_prefill_token_threshold": 8},
    ),
    Row(
        load_of((0, 4, 1)),
        [1.75],
        [1.75],
        "0.25 s + 4 tokens × 0.125 s pass before the engine sees it",
        cost={"frontend_s": 0.25, "frontend_token_s": 0.125},
    ),
    Row(
        load_of((0, 8, 1), (0.5, 4, 1)),
        [3.5, 2.5],
        [3.5, 2.5],
        "the short prompt overtakes in the front end: ready at 1.5, while the long one is at 2",
        cost={"frontend_token_s": 0.25},
    ),
    Row(load_of((0, 4, 10), timeout_s=2.5), [1], [NAN], "overdue at 2.5, gone at 3; it had its first token"),
    Row(load_of((0, 4, 3), timeout_s=3), [1], [3], "it is complete at the very boundary where it would be overdue"),
    Row(
        load_of((0, 4, 4), (0, 4, 1), timeout_s=2),
        [1, NAN],
        [NAN, NAN],
        "both overdue at 2: A leaves its seat, and B, never admitted, does not take it",
        {"max_num_seqs": 1},
    ),
    Row(
        load_of((0, 4, 4), (1.5, 4, 1), timeout_s=2),
        [1, 3],
        [NAN, 3],
        "A's abort at 2 frees the seat for B's step from 2 on",
        {"max_num_seqs": 1},
    ),
    Row(
        load_of((0, 4, 1), timeout_s=0.5),
        [NAN],
        [NAN],
        "it timed out in the front end: the engine never runs it",
        cost={"frontend_s": 1.0},
    ),
    Row(
        Load(np.array([0.0]), np.full(3, 6, np.int32), np.array([1, 2, 1], np.int32), (Stage("answer", samples=3),)),
        [1, 1, 2],
        [1, 2, 2],
        "three samples arrive together; the budget takes 6 + 6 + 4 tokens, the last 2 in the next step",
    ),
    Row(
        load_of((0, 8, 7), (0, 8, 6)),
        [1, 1],
        [7, 8],
        "6 blocks: at 5 A needs a fifth-token block, B is preempted and gets its sixth token after A has left",
        {"num_blocks": 7},
    ),
    Row(load_of((0, 9, 50)), [1], [3], "max_model_len cuts the answer at 12 tokens in all", {"max_model_len": 12}),
    Row(
        load_of((0, 4, 3)),
        [4.0],
        [4.0 + 1.0 + 4.0 + 1.0 + 5.0],
        "4 tokens × 1 s; then 1 s + the context, 4 and 5 tokens",
        cost={"tokens_s": np.arange(65.0), "decode_token_s": 1.0},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.because)
def test_times_by_hand(row: Row):
    result = replay(row.load, replace(CONFIG, **row.config), replace(SECOND, **row.cost))
    np.testing.assert_array_equal(row.first_s, result.first_token_s)
    np.testing.assert_array_equal(row.finish_s, result.finish_s)
    expected_status = np.where(np.isnan(row.finish_s), ABORTED, FINISHED)
    np.testing.assert_array_equal(expected_status, result.status)


def run(*requests: tuple[float, int, int], **config: Any) -> Replay:
    return replay(load_of(*requests), replace(CONFIG, **config), SECOND)


def test_the_ledger_of_two_requests_by_hand():
    # 0-1: A 8, B 8 (6 blocks of 8 tokens each: 4 owned); 1-2: A 1, B 1 (6 owned), then B is done; 2-3: A 1.
    ledger = run((0, 8, 3), (0, 8, 2)).ledger
    expected = {
        "steps": 3,
        "busy_s": 3.0,
        "running_s": 2 + 2 + 1,
        "waiting_s": 0.0,
        "kv_block_s": 4 + 6 + 3,
        "kv_peak_blocks": 6,
        "prefill_tokens": 16,
        "decode_tokens": 3,
        "context_tokens": 8 + 8 + 9,
        "preemptions": 0,
        "queried_tokens": 16,
        "hit_tokens": 0,
        "requeried_tokens": 0,
        "rehit_tokens": 0,
        "evicted_blocks": 0,
    }
    assert expected == vars(ledger)


def test_waiting_counts_from_the_arrival_not_from_the_next_step():
    # B arrives in A's first step and takes the only seat at 2.
    assert run((0, 4, 2), (0.25, 4, 1), max_num_seqs=1).ledger.waiting_s == 1.75


def test_waiting_counts_the_step_that_asynchronous_scheduling_misses():
    assert run((0, 4, 3), (0.25, 4, 1), async_scheduling=True).ledger.waiting_s == 1.75


def test_a_finished_request_holds_its_seat_and_blocks_through_an_asynchronous_step():
    # Seats: 2 in every step up to 5 (2-3: A beside B; 3-4: B, C; 4-5: C beside B), then B alone; C waits up to 3.
    ledger = run((0, 4, 2), (0, 4, 6), (0, 4, 1), max_num_seqs=2, async_scheduling=True).ledger
    assert (ledger.steps, ledger.running_s, ledger.waiting_s) == (6, 5 * 2 + 1, 3.0)
    # Blocks: A 1, 2, 2; B 1, 2, 2, 2, 2, 3; C 1, 1 in the steps from 3 on.
    assert ledger.kv_block_s == (1 + 2 + 2) + (1 + 2 + 2 + 2 + 2 + 3) + (1 + 1)


def test_a_preempted_request_computes_again_what_was_overwritten():
    # B comes back with 8 + 5 tokens, of which 8 are still cached.
    ledger = run((0, 8, 7), (0, 8, 6), num_blocks=7).ledger
    assert {"preemptions": 1, "requeried_tokens": 13, "rehit_tokens": 8, "prefill_tokens": 16 + 5}.items() <= vars(
        ledger
    ).items()


def test_gaps_run_from_token_to_token_through_preemption():
    # A: 6 gaps of 1 s; B: 4, then preempted from 5 to 7, then one of 3 s.
    gaps_s = run((0, 8, 7), (0, 8, 6), num_blocks=7).gaps_s
    expected = [1.0] * 10 + [3.0]
    np.testing.assert_array_equal(expected, np.sort(gaps_s))


def test_an_aborted_request_leaves_the_gaps_that_its_user_saw():
    result = replay(load_of((0, 4, 10), timeout_s=2.5), CONFIG, SECOND)
    expected = [1.0, 1.0]
    np.testing.assert_array_equal(expected, result.gaps_s)


def test_a_shared_prefix_is_hit_by_the_second_request():
    prefixes = Prefixes(np.array([0, 1, 2]), np.array([0, 0], np.int32), np.array([10], np.int32))
    load = load_of((0, 12, 1), (5, 12, 1), prefixes=prefixes)
    ledger = replay(load, CONFIG, SECOND).ledger
    assert (ledger.queried_tokens, ledger.hit_tokens, ledger.prefill_tokens) == (24, 8, 16)


def test_no_request_takes_no_time():
    empty = Load(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert replay(empty, CONFIG, SECOND).ledger.steps == 0


@pytest.mark.parametrize(
    ("load", "config", "error", "words", "because"),
    [
        (load_of((0, 12, 6)), {"num_blocks": 5}, MisfitError, "KV cache of 16", "17 tokens never fit 16 slots"),
        (load_of((0, 20, 1)), {"enable_chunked_prefill": False}, MisfitError, "stuck", "20 tokens fit no step of 16"),
        (load_of((0, 4, 1)), {"max_num_seqs": 0}, MisfitError, "max_num_seqs", "nobody ever gets a seat"),
        (load_of((0, 64, 1)), {}, InputError, "prompt_tokens", "the prompt alone reaches max_model_len"),
        (load_of((0, 4, 1), clients=2), {}, UnsupportedError, "clients", "a closed loop sends on finishes"),
        (load_of((0, 4, 1), max_in_flight=1), {}, UnsupportedError, "max_in_flight", "the client holds queries back"),
        (
            load_of((0, 4, 1), stages=(Stage("ask"), Stage("answer"))),
            {},
            UnsupportedError,
            "stages",
            "a stage follows another",
        ),
    ],
)
def test_what_one_replica_cannot_run_is_refused(
    load: Load, config: dict[str, Any], error: type[PlannerError], words: str, because: str
):
    with pytest.raises(error, match=words):
        replay(load, replace(CONFIG, **config), SECOND)


def test_exactly_as_many_tokens_as_the_cache_has_slots_fit():
    result = run((0, 12, 5), num_blocks=5)
    assert result.finish_s.tolist() == [5.0]
