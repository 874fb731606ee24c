"""The reference scheduler agrees, step by step, with what vLLM's own scheduler did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scheduler_random import random_case, write_tokens
from scheduler_replay import replay
from scheduler_table import STOP_TOKEN, TABLE, Case, load_cases, read_case, read_ids, write_ids

from planner.errors import InputError
from planner.simulation.reference import Request, Scheduler
from planner.specs import SchedulerConfig

SYNCHRONOUS, ASYNCHRONOUS = load_cases(), load_cases(asynchronous=True)
CASES = SYNCHRONOUS + ASYNCHRONOUS


def test_the_table_holds_every_fcfs_case_of_the_rules():
    assert sum(case.id.startswith("C") for case in SYNCHRONOUS) == 61
    assert [case.id for case in ASYNCHRONOUS if case.id.startswith("C")] == [f"C{number}" for number in range(67, 73)]
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


def test_a_decode_is_a_request_that_was_sampled_since_it_came_in():
    for case in CASES:
        sampled: set[object] = set()
        for _, actual, step in replay(case):
            sampled -= set(actual.preempted)
            assert [share.id in sampled for share in step.scheduled] == [share.decode for share in step.scheduled]
            assert all(share.tokens == 1 for share in step.scheduled if share.decode)
            sampled |= {share.id for share in step.scheduled if share.samples}


def test_synchronous_a_sampled_share_is_a_token():
    for case in SYNCHRONOUS:
        for _, actual, step in replay(case):
            assert [share.id for share in step.scheduled if share.samples] == actual.emitted


def test_no_asynchronous_case_can_be_met_by_scheduling_synchronously():
    for case in ASYNCHRONOUS:
        synchronous = replace(case, settings=case.settings | {"async_scheduling": False})
        assert any(expected != actual for expected, actual, _ in replay(synchronous)), case.id


def test_arrivals_never_fall_into_calls_that_the_table_leaves_out():
    for case in CASES:
        calls = {step.call for step in case.steps}
        assert calls >= {request.call for request in case.requests} | set(case.aborts)


def test_id_runs_are_read_as_they_are_written():
    for ids in ([], [3], [1, 2, 3], [6, 7, 8, 3, 2, 1], [2, 1, 2], [9, 4, 5, 3], [1, 2, 1, 2]):
        assert ids == read_ids(write_ids(ids))


def test_token_runs_are_read_as_they_are_written():
    for tokens in ([3], [1, 2, 3], [6, 7, 3, 4, 9], [5, 4, 3], [7, 7, 8]):
        request = {"id": "a", "prompt": write_tokens(tokens), "max_tokens": 1, "out_base": 0}
        case = read_case({"id": "", "shows": "", "requests": [request]}, {})
        assert tokens == case.requests[0].prompt


def test_a_random_case_is_told_by_its_seed_and_is_one_that_vllm_would_take():
    assert random_case(7) == random_case(7) != random_case(8)
    for seed in range(60):
        raw = random_case(seed)
        case = read_case(raw, {})
        settings = case.settings
        assert settings["max_model_len"] <= (settings["num_blocks"] - 1) * settings["block_size"]
        assert settings["max_num_seqs"] <= settings["max_num_batched_tokens"]
        for told, request in zip(raw["requests"], case.requests, strict=True):
            assert 1 <= len(request.prompt) < settings["max_model_len"]
            assert ("stop_at" in told) == (request.outputs[-1] == STOP_TOKEN)
            assert 1 <= len(request.outputs) <= request.max_tokens


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
