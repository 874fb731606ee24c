"""Locust's own statistics: one entry for each stage, and beside it TTFT, TPOT, ITL and send lag as entries of theirs.

The request itself goes the usual way, through the request event, its time from the scheduled arrival to the end. The
other four are put straight into their entries, so that the Aggregated row counts nothing but requests; they reach the
web page, the tables and a master as every entry does.
"""

from __future__ import annotations

from locust import stats as locust_stats
from locust.env import Environment
from locust.stats import StatsEntry

from planner.records import RequestRow
from planner.units import MS_PER_S

TTFT, TPOT, ITL, SEND_LAG = "TTFT", "TPOT", "ITL", "send lag"


class MissedError(Exception):
    """What Locust counts as a failure; its text is the record's reason."""


def note(environment: Environment, row: RequestRow, stage: str, length: int) -> None:
    """Put one model call into Locust's statistics."""
    environment.events.request.fire(  # type: ignore[no-untyped-call]
        request_type="POST",
        name=stage,
        response_time=(row.ended_s - row.query_s) * MS_PER_S,
        response_length=length,
        exception=MissedError(row.error) if row.error else None,
        context={},
    )
    entries = environment.stats
    lag_s = send_lag_s(row)
    if lag_s is not None:
        entries.get(stage, SEND_LAG).log(lag_s * MS_PER_S, 0)  # type: ignore[arg-type]
    if row.error or row.first_token_s is None or row.last_token_s is None:
        return
    entries.get(stage, TTFT).log((row.first_token_s - row.query_s) * MS_PER_S, 0)  # type: ignore[arg-type]
    tokens = row.asked_output_tokens if row.output_tokens is None else row.output_tokens
    if tokens > 1:
        tpot_ms = (row.last_token_s - row.first_token_s) * MS_PER_S / (tokens - 1)
        entries.get(stage, TPOT).log(tpot_ms, 0)  # type: ignore[arg-type]
    if row.gaps_ms:
        _log_all(entries.get(stage, ITL), row.gaps_ms)


def send_lag_s(row: RequestRow) -> float | None:
    """How late the client was, apart from what `max_in_flight` kept it waiting."""
    return None if row.sent_s is None else row.sent_s - row.scheduled_s - (row.held_s or 0.0)


def _log_all(entry: StatsEntry, values: list[float]) -> None:
    """`entry.log` for each value; the clock is read and the sums are made once."""
    *most, last = values
    entry.log(last, 0)  # type: ignore[arg-type]
    if not most:
        return
    bucket, counts = locust_stats.bucket_response_time, entry.response_times
    for value in most:
        counts[bucket(value)] += 1
    entry.num_requests += len(most)
    entry.total_response_time += sum(most)  # type: ignore[assignment]
    entry.min_response_time = min(*values, entry.min_response_time)  # type: ignore[type-var,assignment]
    entry.max_response_time = max(*values, entry.max_response_time)  # type: ignore[assignment]
    entry.num_reqs_per_sec[int(entry.last_request_timestamp or 0)] += len(most)
