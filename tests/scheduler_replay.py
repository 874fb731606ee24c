"""A case through the reference scheduler, beside what vLLM did with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from scheduler_table import Case, CaseRequest, CaseStep

from planner.simulation.reference import Request, Scheduler, Step
from planner.specs import SchedulerConfig


def config_of(case: Case) -> SchedulerConfig:
    settings = dict(case.settings)
    watermark = int(settings.pop("watermark") * settings["num_blocks"])
    active = settings.pop("max_num_active_seqs") or 0
    return SchedulerConfig(**settings, watermark_blocks=watermark, max_num_active_seqs=active)


def request_of(request: CaseRequest, block_size: int) -> Request:
    return Request(
        id=request.id,
        prompt_tokens=len(request.prompt),
        output_tokens=len(request.outputs),
        blocks=request.block_names(block_size),
        skip_reading_prefix_cache=request.skip_reading_prefix_cache,
        max_tokens=request.max_tokens,
    )


def replay(case: Case) -> Iterator[tuple[CaseStep, CaseStep, Step]]:
    """(what vLLM did, what the reference did, its own step) of each call that the case has.

    Asynchronous: every call takes in the results of the step before the one that it schedules.
    """
    scheduler = Scheduler(config_of(case))
    throttled = set(case.throttled)
    arrivals: dict[int, list[CaseRequest]] = {}
    for request in case.requests:
        arrivals.setdefault(request.call, []).append(request)
    awaited: deque[Step] = deque()
    for expected in case.steps:
        for request in arrivals.get(expected.call, []):
            scheduler.add(request_of(request, case.settings["block_size"]))
        for request_id in case.aborts.get(expected.call, []):
            scheduler.abort(request_id)
        before = scheduler.free_blocks
        step = scheduler.schedule(defer_prefills=expected.call in throttled)
        awaited.append(step)
        seen: dict[str, Any] = {
            "scheduled": [(share.id, share.before, share.tokens) for share in step.scheduled],
            "running": scheduler.running,
            "waiting": scheduler.waiting,
            "preempted": step.preempted,
            "admitted": [(one.id, one.hits, one.queries) for one in step.admitted],
            "tables": scheduler.block_tables,
            "free": (before, scheduler.free_blocks),
        }
        if len(awaited) == 1 + case.settings["async_scheduling"]:
            taken_in = awaited.popleft()
            foreseen = scheduler.foresee(taken_in)
            outcome = scheduler.update(taken_in)
            assert foreseen == outcome, f"foreseen {foreseen}, then {outcome}"
            seen |= {"emitted": outcome.emitted, "finished": outcome.finished}
        seen["free"] += (scheduler.free_blocks,)
        actual = CaseStep(call=expected.call, **seen, free_queue=scheduler.free_queue, cached=scheduler.cached_blocks)
        yield expected, actual, step
    assert case.totals == vars(scheduler.counters), f"totals {case.totals}, ours {scheduler.counters}"
