"""A simulated run as tables, for those who look further: one row a request, and one an interval and a replica."""

from __future__ import annotations

import numpy as np
import pandas as pd

from planner.simulation.fleet import FleetRun
from planner.simulation.load import call_first
from planner.simulation.timeline import Timeline


def request_table(run: FleetRun) -> pd.DataFrame:
    """One row a model call of a run, warm-up and cool-down included and marked; seconds from the run's start.

    `arrival_s` is when its query was due and `sent_s` when that left the client, `replica` who served it (absent: it
    reached nobody); what never happened is absent.
    """
    load = run.load
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
            "arrival_s": run.arrival_s[query],
            "sent_s": run.sent_s[query],
            "first_token_s": run.first_token_s,
            "last_token_s": run.last_token_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "replica": pd.Series(run.replica, dtype="Int64").mask(run.replica < 0),
            "query_failed": run.failed[query],
        }
    )


def timeline_table(intervals: Timeline) -> pd.DataFrame:
    """One row an interval and a replica, in the order of time; means over an interval without a step are absent."""
    count, replicas = intervals.steps.shape
    columns = {
        "begin_s": np.repeat(intervals.begin_s, replicas),
        "end_s": np.repeat(intervals.end_s, replicas),
        "replica": np.tile(np.arange(replicas), count),
    }
    rest = {name: getattr(intervals, name).ravel() for name in Timeline._fields if name not in columns}
    return pd.DataFrame({**columns, **rest, "tokens_per_step": intervals.tokens_per_step.ravel()})
