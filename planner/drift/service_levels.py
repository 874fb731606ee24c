"""The plan's service levels against the latencies that the fleet tells of itself."""

from __future__ import annotations

from typing import Any

from planner.observed import Observed
from planner.planned import Planned

INTERPOLATED = "percentiles of service levels are read off vLLM's histogram buckets by interpolation within a bucket"
OF_CALLS = (
    "latencies are told over all model calls, of which a query has several: TTFT or E2E beyond its limit is missed, "
    "within it says nothing of the query's; the plan's TPOT and ITL are the last stage's"
)
WHOLE_QUERY = ("ttft", "e2e")  # a query's is at least that of any of its calls


def levels_of(planned: Planned, observed: Observed) -> tuple[list[dict[str, Any]], list[str]]:
    """`slo` of the document, in the scenario's order, and what to know of it; `met` is None where it is not told."""
    rows = []
    several = planned.requests_per_query > 1
    for limit in planned.scenario.slo:
        actual_ms = observed.latencies_ms.get(f"{limit.metric}_ms.{limit.statistic}")
        met = None if actual_ms is None else actual_ms <= limit.limit_ms
        if met and several and limit.metric in WHOLE_QUERY:
            met = None
        rows.append({"key": limit.key, "limit_ms": limit.limit_ms, "actual_ms": actual_ms, "met": met})
    told = [(limit, row) for limit, row in zip(planned.scenario.slo, rows, strict=True) if row["actual_ms"] is not None]
    notes = []
    if any(limit.percentile is not None for limit, _ in told):
        notes.append(INTERPOLATED)
    if several and told:
        notes.append(OF_CALLS)
    return rows, notes


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether any service level is known to be missed."""
    return any(row["met"] is False for row in rows)
