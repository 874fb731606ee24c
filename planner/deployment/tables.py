"""A simulated run as tables, for those who look further: a row a request, and a row an interval and a replica."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.arrays import IntegerArray

from planner.deployment.failure_changes import first_counted_s
from planner.simulation.fleet_record import LOST, REJECTED, TIMED_OUT, FleetRun
from planner.simulation.load import Load, call_first
from planner.simulation.timeline import OF_REPLICAS, Timeline

_REASONS = {TIMED_OUT: "timed out", REJECTED: "rejected", LOST: "lost"}
WHY = [_REASONS[code] for code in sorted(_REASONS)]  # by `why_failed` − 1


def request_table(run: FleetRun) -> pd.DataFrame:
    """One row a model call of a run, warm-up and cool-down included and marked.

    Seconds count from when the first counted query was due, as `at_s` of the failures: those of the warm-up are below
    zero. `arrival_s` is when its query was due and `sent_s` when that left the client, `replica` who served it (absent:
    it reached nobody); what never happened is absent. `session` is the query that began the session and `turn` counts
    from 1 (absent: there are no sessions). `why_failed` says what became of its query (absent: it was answered), and
    `query_retried` how many of that query's calls began again on another replica.
    """
    load, zero_s = run.load, first_counted_s(run.load)
    session, turn = _sessions(load)
    query, place = np.divmod(np.arange(load.requests), load.width)
    stage = np.repeat(np.arange(len(load.stages)), [stage.requests for stage in load.stages])
    first = call_first(load)
    counted = (query >= load.warmup) & (query < load.queries - load.cooldown)
    return pd.DataFrame(
        {
            "request": np.arange(load.requests),
            "query": query,
            "stage": pd.Categorical.from_codes(stage[place], pd.Index([stage.name for stage in load.stages])),
            "sample": (np.arange(load.width) - first)[place],
            "counted": counted,
            "session": session[query],
            "turn": turn[query],
            "arrival_s": run.arrival_s[query] - zero_s,
            "sent_s": run.sent_s[query] - zero_s,
            "first_token_s": run.first_token_s - zero_s,
            "last_token_s": run.last_token_s - zero_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "replica": pd.Series(run.replica, dtype="Int64").mask(run.replica < 0),
            "query_failed": run.failed[query],
            "why_failed": pd.Categorical.from_codes(run.why_failed[query] - 1, pd.Index(WHY)),
            "query_retried": run.retried[query],
        }
    )


def _sessions(load: Load) -> tuple[IntegerArray, IntegerArray]:
    """For each query [Q] the one that began its session, and which turn it is; absent without sessions."""
    begin, turn = np.arange(load.queries), np.ones(load.queries, np.int64)
    if load.follows is None:
        nowhere = np.ones(load.queries, bool)
        return IntegerArray(begin, nowhere), IntegerArray(turn, nowhere)
    while (later := load.follows[begin] >= 0).any():  # each time one turn further back
        begin[later] = load.follows[begin[later]]
        turn += later
    somewhere = np.zeros(load.queries, bool)
    return IntegerArray(begin, somewhere), IntegerArray(turn, somewhere)


def timeline_table(intervals: Timeline) -> pd.DataFrame:
    """A row an interval and a replica, in the order of time; means over an interval without a step are absent.

    After those of its replicas each interval has a row without replica, for what is no replica's: `waiting` is there
    the mean number of requests at the router, or waiting to begin again after a stop; and the queries that were due,
    were rejected, timed out and were lost. So the `waiting` of an interval's rows add up to all who wait. What a row
    cannot have is absent.
    """
    count, replicas = intervals.steps.shape
    waiting = np.column_stack((intervals.waiting, intervals.elsewhere.waiting)).ravel()
    columns = {
        "begin_s": np.repeat(intervals.begin_s, replicas + 1),
        "end_s": np.repeat(intervals.end_s, replicas + 1),
        "replica": _whole(np.broadcast_to(np.arange(replicas), (count, replicas)), before=0, after=1),
    }
    for name in OF_REPLICAS:
        values = getattr(intervals, name)
        columns[name] = _whole(values, 0, 1) if values.dtype.kind == "i" else _real(values)
    columns |= {"waiting": waiting, "tokens_per_step": _real(intervals.tokens_per_step)}
    for name in ("due", "rejected", "timed_out", "lost"):
        columns[name] = _whole(getattr(intervals.elsewhere, name)[:, None], replicas, 0)
    return pd.DataFrame(columns)


def _real(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column of the replicas' `values` [intervals, replicas], absent in the row of none."""
    return np.column_stack((values, np.full(len(values), np.nan))).ravel()


def _whole(values: NDArray[np.int64], before: int, after: int) -> IntegerArray:
    """A column of whole `values` [intervals, some], absent in so many rows before and after them."""
    around = ((0, 0), (before, after))
    absent = np.pad(np.zeros(values.shape, bool), around, constant_values=True)
    return IntegerArray(np.pad(values, around).ravel(), absent.ravel())
