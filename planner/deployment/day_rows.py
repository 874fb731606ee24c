"""One hour of a fleet under JSON names: from bins of all its queries, or from a sample of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.scenario import Scenario
from planner.simulation.day_bins import statistic_ms
from planner.simulation.day_streams import DayFold
from planner.simulation.outcome import Outcome
from planner.units import S_PER_HOUR

SHOWN: tuple[tuple[str, float | None], ...] = (("mean", None), ("p50", 50.0), ("p99", 99.0))


def folded_row(fold: DayFold, scenario: Scenario, hour: int, ranks_each: int) -> dict[str, Any]:
    """One hour of a run that was folded into bins."""
    bins, gaps = fold.bins, fold.gaps
    queries, lost = float(bins.queries[hour]), float(bins.lost[hour, 0])
    checks = []
    for limit in scenario.slo:
        value = statistic_ms(bins, gaps, hour, limit.metric, limit.percentile)
        met = lost == 0 if value is None else value <= limit.limit_ms
        checks.append(_check(limit.key, limit.limit_ms, value, None, met))
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
        **figures,
        "slo": checks,
        "slo_met": all(check["met"] for check in checks) if checks else None,
        "goodput_share": float(bins.good[hour]) / queries if queries else None,
        "utilisation": float(fold.busy_s[hour]) / paid_s if paid_s else None,
        "replicas": {
            "mean": served_s / S_PER_HOUR / ranks_each,
            "min": int(fold.serving[hour, 0]) // ranks_each,
            "max": int(fold.serving[hour, 1]) // ranks_each,
        },
        "paid_replicas": paid_s / S_PER_HOUR / ranks_each,
    }


def _check(key: str, limit_ms: float, value: float | None, error_ms: float | None, met: bool) -> dict[str, Any]:
    """A limit in one hour; `error_ms` is half the 95 % interval of batch means, None where the whole hour was run."""
    finite = None if value is None or not np.isfinite(value) else value
    return {"key": key, "limit_ms": limit_ms, "value_ms": finite, "error_ms": error_ms, "met": met}


def sampled_row(outcome: Outcome, replicas: int, queries: int, whole: bool) -> dict[str, Any]:
    """An hour of `queries` queries as its sample has it, with the error of each judged figure."""
    figures = outcome.figures
    share = 1.0 - figures["failed"] / max(figures["queries"], 1)
    checks = []
    for check in outcome.checks:
        value = check.value_ms
        upper = check.upper_ms
        error = None if value is None or upper is None or not np.isfinite(upper) else upper - value
        met = not outcome.saturated and (check.met if value is None else value <= check.limit_ms)
        checks.append(_check(check.key, check.limit_ms, value, error, bool(met)))
    shown = {
        name: None if figures[name] is None else {key: figures[name][key] for key, _ in SHOWN}
        for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
    }
    return {
        "queries": queries,
        "answered": round(queries * share),
        "simulated": figures["queries"],
        "whole": whole,
        **shown,
        "slo": checks,
        "slo_met": all(check["met"] for check in checks) if checks else None,
        "saturated": outcome.saturated,
        "goodput_share": figures["goodput_share"],
        "utilisation": figures["utilisation"],
        "replicas": {"mean": float(replicas), "min": replicas, "max": replicas},
        "paid_replicas": float(replicas),
    }
