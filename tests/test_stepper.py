"""The stepper: what one boundary does, and that stamps alone decide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.load import Load
from planner.simulation.reference import Request
from planner.simulation.replay import replay
from planner.simulation.stepper import Stepper
from planner.specs import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=17, block_size=4, max_num_seqs=3, max_num_batched_tokens=16, max_model_len=48)
SECOND = StepCost(tokens_s=np.ones(17), requests_s=np.zeros(4))
ODD = StepCost(
    tokens_s=0.01 + 0.001 * np.arange(17.0),
    requests_s=0.0003 * np.arange(4.0),
    decode_token_s=1e-4,
    frontend_s=0.004,
    frontend_token_s=2e-4,
)


def stepper(**config: Any) -> Stepper:
    return Stepper(SchedulerConfig(**(vars(CONFIG) | config)), SECOND)


def test_nothing_is_due_before_something_was_offered():
    assert None is stepper().due_s


def test_an_idle_engine_is_due_when_the_first_request_is_ready_whatever_the_order_of_offering():
    engine = stepper()
    engine.offer(Request("late", 4, 1), 7.0)
    engine.offer(Request("early", 4, 1), 5.0)
    assert 5.0 == engine.due_s
    assert ["early"] == engine.advance().arrived


def test_a_boundary_tells_what_happened_in_its_step():
    engine = stepper()
    engine.offer(Request("a", 8, 2), 1.0)
    engine.offer(Request("b", 8, 1), 1.0)
    engine.offer(Request("c", 4, 1), 1.5)
    first = engine.advance()
    assert (1.0, 2.0) == (first.start_s, first.end_s)
    assert (["a", "b"], 2, 0, 4) == (first.arrived, first.running, first.waiting, first.owned_blocks)
    assert (["a", "b"], ["b"]) == (first.outcome.emitted, first.outcome.finished)
    second = engine.advance()
    assert (["c"], ["a", "c"], 3.0) == (second.arrived, second.outcome.finished, second.end_s)
    assert None is engine.due_s


def test_an_abort_takes_effect_at_the_first_boundary_from_its_time_on():
    engine = stepper()
    engine.offer(Request("a", 4, 9), 0.0)
    engine.abort("a", 1.5)
    boundaries = [engine.advance() for _ in range(3)]
    assert [[], [], ["a"]] == [boundary.aborted for boundary in boundaries]  # at 0 and 1 it is not yet, at 2 it is
    assert (2.0, 2.0, []) == (boundaries[2].start_s, boundaries[2].end_s, boundaries[2].step.scheduled)
    assert (None, 0) == (engine.due_s, engine.outstanding)


def test_an_abort_in_the_front_end_keeps_the_request_from_the_scheduler():
    engine = stepper()
    engine.offer(Request("a", 4, 1), 3.0)
    engine.abort("a", 2.0)
    engine.offer(Request("b", 4, 1), 4.0)
    seen = [engine.advance(), engine.advance()]
    assert [[], ["b"]] == [boundary.outcome.emitted for boundary in seen]


def test_asynchronous_a_call_that_finds_nobody_to_serve_is_followed_by_another_at_the_same_time():
    engine = stepper(async_scheduling=True, max_num_seqs=1)
    engine.offer(Request("a", 4, 2), 0.0)
    engine.offer(Request("b", 4, 1), 0.0)
    engine.offer(Request("c", 4, 1), 1.5)
    boundaries = [engine.advance() for _ in range(4)]
    assert [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)] == [(b.start_s, b.end_s) for b in boundaries]
    # c came after a's second step had begun, but is seen by the second call at 2
    assert [["a", "b"], [], ["c"], []] == [b.arrived for b in boundaries]
    assert [[], ["a"], ["b"], ["c"]] == [b.outcome.finished for b in boundaries]
    assert (None, 0) == (engine.due_s, engine.outstanding)


def test_asynchronous_a_preemption_in_a_call_without_work_is_told_with_the_step_that_follows():
    # 4 blocks: at 1 a's last token and b's first are under way; b needs a third block, which only a's end can give.
    engine = stepper(async_scheduling=True, num_blocks=5, max_model_len=17)
    engine.offer(Request("a", 8, 1), 0.0)
    engine.offer(Request("b", 8, 2), 0.0)
    first, second = engine.advance(), engine.advance()
    assert (["a", "b"], ["a"]) == (first.outcome.emitted, first.outcome.finished)
    assert (["b"], ["b"], ["b"]) == (
        second.step.preempted,
        [one.id for one in second.step.admitted],
        second.outcome.finished,
    )
    assert (1.0, 2.0, 1) == (second.start_s, second.end_s, engine.ledger.preemptions)


def test_asynchronous_an_abort_drops_a_request_whose_token_is_under_way():
    engine = stepper(async_scheduling=True)
    engine.offer(Request("a", 4, 9), 0.0)
    engine.abort("a", 0.5)
    engine.offer(Request("b", 4, 1), 0.75)
    boundaries = [engine.advance(), engine.advance()]
    assert [[], ["a"]] == [b.aborted for b in boundaries]
    assert (["a"], ["b"], 2.0) == (boundaries[0].outcome.emitted, boundaries[1].outcome.finished, boundaries[1].end_s)


def test_an_abort_of_what_has_finished_is_ignored():
    engine = stepper()
    engine.offer(Request("a", 4, 1), 0.0)
    engine.advance()
    engine.abort("a", 0.5)
    engine.offer(Request("b", 4, 1), 2.0)
    assert [] == engine.advance().aborted


def test_a_prompt_that_no_step_can_take_is_an_error_not_an_endless_loop():
    engine = stepper(enable_chunked_prefill=False)
    engine.offer(Request("a", 20, 1), 0.0)
    with pytest.raises(MisfitError, match="stuck at the head of the queue"):
        engine.advance()


request = st.tuples(st.integers(0, 900), st.integers(1, 24), st.integers(1, 16), st.none() | st.integers(0, 400))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(request, min_size=1, max_size=25),
    lateness=st.lists(st.sampled_from([1e-6, 0.002, 0.05, 0.4]), min_size=1, max_size=9),
    asynchronous=st.booleans(),
)
def test_told_of_requests_only_as_they_come_by_a_clock_that_runs_late_it_decides_the_same(rows, lateness, asynchronous):
    # Because a boundary is decided only when the clock has passed it, and everything up to then has been offered.
    config = SchedulerConfig(**(vars(CONFIG) | {"async_scheduling": asynchronous}))
    rows = sorted(rows, key=lambda row: row[0])
    events = [(start / 1000, 0, i) for i, (start, *_) in enumerate(rows)]
    events += [((start + gone) / 1000, 1, i) for i, (start, _, _, gone) in enumerate(rows) if gone is not None]
    events.sort()

    def tell(stepper: Stepper, at_s: float, kind: int, i: int) -> None:
        _, prompt, output, _ = rows[i]
        if kind:
            stepper.abort(i, at_s)
        else:
            stepper.offer(Request(i, prompt, output), at_s + ODD.frontend_s + ODD.frontend_token_s * prompt)

    whole = Stepper(config, ODD)
    for event in events:
        tell(whole, *event)
    expected = []
    while whole.due_s is not None:
        expected.append(whole.advance())

    live, told, turn, actual = Stepper(config, ODD), 0, 0, []
    while told < len(events) or live.due_s is not None:
        due_s = live.due_s
        next_s = events[told][0] if told < len(events) else math.inf
        clock_s = next_s if due_s is None else due_s + lateness[turn % len(lateness)]
        turn += 1
        while told < len(events) and events[told][0] <= clock_s:
            tell(live, *events[told])
            told += 1
        if live.due_s is not None and clock_s > live.due_s:
            actual.append(live.advance())

    def steps(boundaries):
        return [(b.start_s, b.end_s, b.step, b.outcome) for b in boundaries if b.step.scheduled]

    assert steps(expected) == steps(actual)
    assert expected[-1].end_s > 0


def test_a_load_offered_all_at_once_is_a_replay():
    load = Load(np.array([0.0, 0.01, 0.2]), np.array([9, 17, 4], np.int32), np.array([5, 3, 8], np.int32))
    answer = replay(load, CONFIG, ODD)
    engine = Stepper(CONFIG, ODD)
    for i in range(3):
        ready_s = float(load.arrival_s[i]) + ODD.frontend_s + ODD.frontend_token_s * int(load.prompt_tokens[i])
        engine.offer(Request(i, int(load.prompt_tokens[i]), int(load.output_tokens[i])), ready_s)
    finish_s = {}
    while engine.due_s is not None:
        boundary = engine.advance()
        finish_s |= dict.fromkeys(boundary.outcome.finished, boundary.end_s)
    assert answer.finish_s.tolist() == [finish_s[i] for i in range(3)]
    assert answer.ledger == engine.ledger
