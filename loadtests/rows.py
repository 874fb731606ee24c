"""The records' rows of one model call that has ended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from loadtests.client import Call
from planner.records import RequestRow
from planner.units import MS_PER_S


def rows_of(call: Call, query_s: float, due_s: float, held_s: float, worker: int) -> Iterator[RequestRow]:
    """One row a sample. With several, the server's counts are of all together."""
    usage, samples = call.usage, len(call.requests)
    details = None if usage is None else usage.prompt_tokens_details
    counted = None if usage is None else usage.completion_tokens
    if samples > 1 and counted is not None:
        counted = call.output_tokens if counted == call.output_tokens * samples else None
    for request, times in zip(call.requests, call.token_s, strict=True):
        yield RequestRow(
            request=request,
            query_s=_micro(query_s),
            scheduled_s=_micro(due_s),
            held_s=_micro(held_s) if held_s else None,
            sent_s=None if call.sent_s is None else _micro(call.sent_s),
            first_token_s=_micro(times[0]) if times else None,
            last_token_s=_micro(times[-1]) if times else None,
            ended_s=_micro(call.ended_s or 0.0),
            gaps_ms=[round((b - a) * MS_PER_S, 3) for a, b in pairwise(times)],
            asked_prompt_tokens=call.prompt_tokens,
            asked_output_tokens=call.output_tokens,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            output_tokens=counted,
            cached_tokens=None if details is None else details.cached_tokens,
            events=len(times),
            status=call.status,
            error=call.error,
            retry_after_s=call.retry_after_s,
            worker=worker,
        )


def _micro(seconds: float) -> float:
    return round(seconds, 6)
