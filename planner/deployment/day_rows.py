"""One hour of a fleet under JSON names: from bins of all its queries, or from a sample of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from planner.deployment.documents import with_hits
from planner.scenario import Scenario
from planner.simulation.day_bins import BIN_FLOOR_S, BIN_WIDTH, BINS, METRICS, HourBins, statistic_ms
from planner.simulation.day_streams import DayFold
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.specs import Limit
from planner.summary.words import plural
from planner.units import MS_PER_S, S_PER_HOUR

SHOWN: tuple[tuple[str, float | None], ...] = (("mean", None), ("p50", 50.0), ("p99", 99.0))
LEAST_OF_MEAN = 30  # queries: a mean of fewer is moved by any one of them


def folded_row(
    fold: DayFold, scenario: Scenario, hour: int, ranks_each: int, hit_share: float | None
) -> dict[str, Any]:
    """One hour of a run that was folded into bins; the response cache answered a `hit_share` of its queries, None where
    nobody asked.
    """
    bins, gaps = fold.bins, fold.gaps
    queries, lost = float(bins.queries[hour]), float(bins.lost[hour, 0])
    checks = []
    for limit in scenario.slo:
        value = statistic_ms(bins, gaps, hour, limit.metric, limit.percentile)
        met = lost == 0 if value is None else value <= limit.limit_ms
        checks.append(_check(limit, value, None, met))
    figures: dict[str, Any] = {
        f"{metric}_ms": {name: statistic_ms(bins, gaps, hour, metric, at) for name, at in SHOWN}
        for metric in ("ttft", "tpot", "itl", "e2e")
    }
    served_s, paid_s = float(fold.served_s[hour]), float(fold.paid_s[hour])
    return {
        "hour": hour,
        "queries": round(queries),
        "answered": round(queries - lost),
        "simulated": round(queries),
        **({} if fold.rejected is None else {"rejected": round(float(fold.rejected[hour]))}),
        **figures,
        **_with_hits(fold.bins, hour, scenario, hit_share),
        "slo": checks,
        "slo_met": all(check["met"] for check in checks) if checks else None,
        "few_queries": few_queries(checks, round(queries), round(queries - lost)),
        "goodput_share": float(bins.good[hour]) / queries if queries else None,
        "utilisation": float(fold.busy_s[hour]) / paid_s if paid_s else None,
        "replicas": {
            "mean": served_s / S_PER_HOUR / ranks_each,
            "min": int(fold.serving[hour, 0]) // ranks_each,
            "max": int(fold.serving[hour, 1]) // ranks_each,
        },
        "paid_replicas": paid_s / S_PER_HOUR / ranks_each,
    }


def _with_hits(bins: HourBins, hour: int, scenario: Scenario, hit_share: float | None) -> dict[str, Any]:
    """`documents.with_hits` of an hour in bins."""
    cache = scenario.query.response_cache
    if cache is None or cache.hit_ms is None:
        return {}
    latencies = {metric: mixed_bins(bins, hour, metric, hit_share, cache.hit_ms) for metric in ("ttft", "e2e")}
    return {"with_hits_ms": latencies}


def mixed_bins(
    bins: HourBins, hour: int, metric: str, hit_share: float | None, hit_ms: float
) -> dict[str, float] | None:
    """Mean and percentiles where a `hit_share` of an hour's queries takes `hit_ms`, the others as in `bins`.

    The p-th percentile is the least value that at least p % do not exceed, as in `documents.mixed`. Queries that failed
    are left out; None where the model answered none.
    """
    at = METRICS[metric]
    counts = bins.counts[hour, at]
    answered = float(counts.sum())
    if answered == 0 or hit_share is None:
        return None
    values = BIN_FLOOR_S * np.exp((np.arange(BINS) + 0.5) * BIN_WIDTH) * MS_PER_S
    place = int(np.searchsorted(values, hit_ms))
    values = np.insert(values, place, hit_ms)
    up_to = np.cumsum(np.insert(counts * (1.0 - hit_share) / answered, place, hit_share))
    found = {}
    for name, percentile in SHOWN:
        if percentile is None:
            found[name] = (1.0 - hit_share) * float(bins.sum_s[hour, at]) / answered * MS_PER_S + hit_share * hit_ms
        else:
            found[name] = float(values[min(int(np.searchsorted(up_to, percentile / 100.0 - 1e-12)), BINS)])
    return found


def least_queries(limit: Limit) -> int:
    """Answered queries that the figure of a limit needs: 1 ÷ (1 − p) for the p-th percentile, which of fewer is the
    slowest query itself; `LEAST_OF_MEAN` for a mean.
    """
    return LEAST_OF_MEAN if limit.percentile is None else math.ceil(round(100.0 / (100.0 - limit.percentile), 6))


def few_queries(checks: Sequence[dict[str, Any]], queries: int, answered: int) -> list[str]:
    """Keys of the limits that an hour is judged by on fewer answered queries than they need; none where nobody came."""
    return [check["key"] for check in checks if queries and answered < check["least_queries"]]


def few_queries_note(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line about the hours with `few_queries`; none where there are none."""
    hours = [row for row in rows if row["few_queries"]]
    if not hours:
        return []
    keys = {key for row in hours for key in row["few_queries"]}
    needs = ", ".join(f"{check['key']}: {check['least_queries']}" for check in hours[0]["slo"] if check["key"] in keys)
    return [
        f"in {len(hours)} of {plural(len(rows), 'hour')} fewer queries were answered than a limit needs to be judged "
        f"by ({needs}): they count as judged, but whether they hold is chance in good part (few_queries)"
    ]


def _check(limit: Limit, value: float | None, error_ms: float | None, met: bool) -> dict[str, Any]:
    """A limit in one hour; `error_ms` is half the 95 % interval of batch means, None where the whole hour was run."""
    return {
        "key": limit.key,
        "limit_ms": limit.limit_ms,
        "value_ms": None if value is None or not np.isfinite(value) else value,
        "error_ms": error_ms,
        "met": met,
        "least_queries": least_queries(limit),
    }


def sampled_row(
    outcome: Outcome, steady: Scenario, load: Load, replicas: int, queries: int, whole: bool
) -> dict[str, Any]:
    """An hour of `queries` queries as its sample has it, `load` under `steady`; each judged figure with its error."""
    figures = outcome.figures
    share = 1.0 - figures["failed"] / max(figures["queries"], 1)
    checks, limits = [], {limit.key: limit for limit in steady.slo}
    for check in outcome.checks:
        value = check.value_ms
        upper = check.upper_ms
        error = None if value is None or upper is None or not np.isfinite(upper) else upper - value
        met = not outcome.saturated and (check.met if value is None else value <= check.limit_ms)
        checks.append(_check(limits[check.key], value, error, bool(met)))
    shown = {
        name: None if figures[name] is None else {key: figures[name][key] for key, _ in SHOWN}
        for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
    }
    return {
        "queries": queries,
        "answered": round(queries * share),
        "simulated": figures["queries"],
        "whole": whole,
        **({"rejected": round(queries * figures["rejected"] / figures["queries"])} if "rejected" in figures else {}),
        **shown,
        **{
            key: {metric: value and {name: value[name] for name, _ in SHOWN} for metric, value in mixed.items()}
            for key, mixed in with_hits(steady, load, outcome).items()
        },
        "slo": checks,
        "slo_met": all(check["met"] for check in checks) if checks else None,
        "few_queries": few_queries(checks, figures["queries"], figures["queries"] - figures["failed"]),
        "saturated": outcome.saturated,
        "goodput_share": figures["goodput_share"],
        "utilisation": figures["utilisation"],
        "replicas": {"mean": float(replicas), "min": replicas, "max": replicas},
        "paid_replicas": float(replicas),
    }


def empty_row(sampled: dict[str, Any]) -> dict[str, Any]:
    """An hour in which nobody asks, with the keys of a sampled one of the same fleet: nothing runs, all limits hold."""
    checks = [{**check, "value_ms": None, "error_ms": None, "met": True} for check in sampled["slo"]]
    counts = [key for key in ("queries", "answered", "simulated", "rejected") if key in sampled]
    return {
        **dict.fromkeys(sampled),
        **dict.fromkeys(counts, 0),
        "whole": True,
        "slo": checks,
        "slo_met": True if checks else None,
        "few_queries": [],
        "saturated": False,
        "utilisation": 0.0,
        "replicas": sampled["replicas"],
        "paid_replicas": sampled["paid_replicas"],
    }
