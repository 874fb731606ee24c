"""The reference scheduler agrees, step by step, with what vLLM's own scheduler did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scheduler_table import TABLE, Case, CaseStep, load_cases, read_ids, write_ids

from planner.errors import InputError
from planner.simulation.reference import Request, Scheduler, Step
from planner.specs import SchedulerConfig

CASES = load_cases()


def config_of(case: Case) -> SchedulerConfig:
    settings = dict(case.settings)
    watermark = int(settings.pop("watermark") * settings["num_blocks"])
    active = settings.pop("max_num_active_seqs") or 0
    return SchedulerConfig(**settings, watermark_blocks=watermark, max_num_active_seqs=active)


def request_of(case: Case, index: int) -> Request:
    request = case.requests[index]
    return Request(
        id=request.id,
        prompt_tokens=len(request.prompt),
        output_tokens=len(request.outputs),
        blocks=request.block_names(case.settings["block_size"]),
        skip_reading_prefix_cache=request.skip_reading_prefix_cache,
    )


def replay(case: Case) -> Iterator[tuple[CaseStep, CaseStep, Step]]:
    """(what vLLM did, what the reference did, its own step) of each call that the table has."""
    scheduler = Scheduler(config_of(case))
    for expected in case.steps:
        for index, request in enumerate(case.requests):
            if request.call == expected.call:
                scheduler.add(request_of(case, index))
        for request_id in case.aborts.get(expected.call, []):
            scheduler.abort(request_id)
        before = scheduler.free_blocks
        step = scheduler.schedule(defer_prefills=expected.call in case.throttled)
        seen: dict[str, Any] = {
            "scheduled": [(share.id, share.before, share.tokens) for share in step.scheduled],
            "running": scheduler.running,
            "waiting": scheduler.waiting,
            "preempted": step.preempted,
            "admitted": [(one.id, one.hits, one.queries) for one in step.admitted],
            "tables": scheduler.block_tables,
        }
        scheduled = scheduler.free_blocks
        outcome = scheduler.update(step)
        actual = CaseStep(
            call=expected.call,
            free=(before, scheduled, scheduler.free_blocks),
            **seen,
            emitted=outcome.emitted,
            finished=outcome.finished,
            free_queue=scheduler.free_queue,
            cached=scheduler.cached_blocks,
        )
        yield expected, actual, step
    assert case.totals == vars(scheduler.counters)


def test_the_table_holds_every_synchronous_fcfs_case_of_the_rules():
    assert sum(case.id.startswith("C") for case in CASES) == 61
    assert all(case.steps for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.id} {case.shows}" for case in CASES])
def test_every_step_is_vllms_own(case: Case):
    for expected, actual, _ in replay(case):
        assert expected == actual


def test_a_readmission_is_one_that_was_preempted_before():
    for case in CASES:
        seen: set[str] = set()
        for _, actual, step in replay(case):
            assert [one.id in seen for one in step.admitted] == [one.readmission for one in step.admitted]
            seen.update(actual.preempted)


def test_a_decode_is_a_request_that_has_answered_since_it_came_in():
    for case in CASES:
        answered: set[str] = set()
        for _, actual, step in replay(case):
            answered -= set(actual.preempted)
            assert [share.id in answered for share in step.scheduled] == [share.decode for share in step.scheduled]
            assert all(share.tokens == 1 for share in step.scheduled if share.decode)
            answered |= set(actual.emitted)


def test_arrivals_never_fall_into_calls_that_the_table_leaves_out():
    for case in CASES:
        calls = {step.call for step in case.steps}
        assert calls >= {request.call for request in case.requests} | set(case.aborts)


def test_id_runs_are_read_as_they_are_written():
    for ids in ([], [3], [1, 2, 3], [6, 7, 8, 3, 2, 1], [2, 1, 2], [9, 4, 5, 3], [1, 2, 1, 2]):
        assert ids == read_ids(write_ids(ids))


def test_the_table_says_where_it_comes_from():
    head = TABLE.read_text()[:400]
    assert "tools/drive_vllm_scheduler.py" in head
    assert '"vllm": "0.32.0"' in head


SMALL = SchedulerConfig(num_blocks=9, block_size=4, max_num_seqs=2, max_num_batched_tokens=8, max_model_len=16)


@pytest.mark.parametrize(
    ("request_", "key", "because"),
    [
        (Request("a", 0, 1), "prompt_tokens", "there is nothing to compute"),
        (Request("a", 16, 1), "prompt_tokens", "no token fits behind it"),
        (Request("a", 4, 0), "output_tokens", "an answer has a token"),
    ],
)
def test_a_request_that_vllm_would_refuse_is_refused(request_: Request, key: str, because: str):
    with pytest.raises(InputError) as caught:
        Scheduler(SMALL).add(request_)
    assert key == caught.value.key, because


def test_an_id_that_is_in_use_is_refused():
    scheduler = Scheduler(SMALL)
    scheduler.add(Request("a", 4, 1))
    with pytest.raises(InputError, match="already"):
        scheduler.add(Request("a", 4, 1))


def test_aborting_between_schedule_and_update_drops_the_token():
    scheduler = Scheduler(SMALL)
    scheduler.add(Request("a", 4, 3))
    scheduler.add(Request("b", 4, 3))
    step = scheduler.schedule()
    scheduler.abort("a")
    outcome = scheduler.update(step)
    assert (outcome.emitted, outcome.finished) == (["b"], [])
    assert SMALL.usable_blocks - 1 == scheduler.free_blocks


def test_aborting_what_is_gone_changes_nothing():
    scheduler = Scheduler(SMALL)
    scheduler.add(Request("a", 4, 1))
    scheduler.update(scheduler.schedule())
    scheduler.abort("a")
    assert ([], [], SMALL.usable_blocks) == (scheduler.running, scheduler.waiting, scheduler.free_blocks)


def test_blocks_beyond_the_shared_ones_belong_to_the_request():
    scheduler = Scheduler(SMALL)
    for request_id in ("a", "b"):
        scheduler.add(Request(request_id, 13, 1, blocks=["question"]))
        while scheduler.running or scheduler.waiting:
            scheduler.update(scheduler.schedule())
    assert (scheduler.counters.queries, scheduler.counters.hits) == (26, 4)


def test_the_price_of_a_step_sees_decodes_and_prefills_apart():
    scheduler = Scheduler(SMALL)
    scheduler.add(Request("a", 3, 5))
    scheduler.update(scheduler.schedule())
    scheduler.add(Request("b", 9, 1))
    step = scheduler.schedule()
    assert (step.decodes, step.prefills) == ([3], [(0, 7)])
    scheduler.update(step)
    step = scheduler.schedule()
    assert (step.decodes, step.prefills) == ([4], [(7, 2)])
