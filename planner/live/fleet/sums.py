"""Replicas' readings put together: rates added up, means weighted, percentiles read off the buckets of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from planner import vllm_metrics as names
from planner.live.fleet.past import Span
from planner.live.fleet.reading import FAILED, GOOD, LATENCIES, NOT_A_BUCKET, Reading
from planner.units import MS_PER_S

LEAST_READINGS = 10
PERCENTILES = (50.0, 90.0, 95.0, 99.0)


def figures(
    readings: Sequence[Reading], spans: Sequence[Span], percentiles: Sequence[float], engines_each: int = 1
) -> dict[str, Any]:
    """Fields of an `Observed` for replicas that answered: `readings` their last, `spans` of those read twice or more.

    A replica has `engines_each` engines. A figure that any of them does not tell is left out: the sum of the others
    would pass for that of all.
    """
    found: dict[str, Any] = {
        "answered": len(readings),
        "replicas": sum(reading.engines for reading in readings) / engines_each,
        "running": sum(reading.running for reading in readings),
        "restarts": sum(span.restarts for span in spans),
    }
    if not readings:
        return {"answered": 0, "replicas": 0.0}
    if all(reading.waiting is not None for reading in readings):
        found["waiting"] = sum(reading.waiting or 0.0 for reading in readings)
    if all(reading.kv_usage for reading in readings):
        usage = [share for reading in readings for share in reading.kv_usage]
        found |= {"kv_usage_mean": sum(usage) / len(usage), "kv_usage_max": max(usage)}
    if not spans:
        return found
    rates = _rates(spans)
    growths = [span.queued / span.seconds for span in spans if span.queued is not None]
    found |= {
        "waiting_growth_per_s": math.fsum(growths) if len(growths) == len(spans) else None,
        "requests_per_s": rates.get(GOOD),
        "failed_per_s": rates.get(FAILED),
        "preemptions_per_s": rates.get(names.PREEMPTIONS_TOTAL),
        "prompt_tokens": _ratio(rates, names.REQUEST_PROMPT + "_sum", names.REQUEST_PROMPT + "_count"),
        "output_tokens": _ratio(rates, names.REQUEST_GENERATION + "_sum", names.REQUEST_GENERATION + "_count"),
        "prefix_hit_rate": _ratio(rates, names.PREFIX_HITS_TOTAL, names.PREFIX_QUERIES_TOTAL),
        "busy_share": _busy_share(spans),
        "latencies_ms": _latencies(rates, _bucket_rates(spans), percentiles),
    }
    return found


def _busy_share(spans: Sequence[Span]) -> float | None:
    """Share of readings that saw work; None of too few: a share of three readings says little."""
    readings = sum(span.readings for span in spans)
    return sum(span.busy for span in spans) / readings if readings >= LEAST_READINGS else None


def _rates(spans: Sequence[Span]) -> dict[str, float]:
    """Increases per second, added up, of what all of them tell."""
    common = set.intersection(*({name for name, bound in span.increases if bound == NOT_A_BUCKET} for span in spans))
    return {name: math.fsum(span.increases[name, NOT_A_BUCKET] / span.seconds for span in spans) for name in common}


def _bucket_rates(spans: Sequence[Span]) -> dict[str, dict[float, float]]:
    """The same of cumulative buckets: those bounds that all of them have, so that the sum is one histogram."""
    common = set.intersection(*({key for key in span.increases if key[1] != NOT_A_BUCKET} for span in spans))
    found: dict[str, dict[float, float]] = {}
    for name, bound in sorted(common):
        found.setdefault(name, {})[bound] = math.fsum(span.increases[name, bound] / span.seconds for span in spans)
    return found


def _ratio(rates: Mapping[str, float], above: str, below: str) -> float | None:
    divisor = rates.get(below)
    return rates[above] / divisor if divisor and above in rates else None


def _latencies(
    rates: Mapping[str, float], buckets: Mapping[str, Mapping[float, float]], percentiles: Sequence[float]
) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, short in LATENCIES.items():
        mean_s = _ratio(rates, f"{name}_sum", f"{name}_count")
        if mean_s is None:
            continue
        told[f"{short}.mean"] = mean_s * MS_PER_S
        for percentile in percentiles:
            value_s = bucket_quantile(buckets.get(name, {}), percentile / 100)
            if value_s is not None:
                told[f"{short}.p{percentile:g}"] = value_s * MS_PER_S
    return told


def bucket_quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The `share`-quantile of cumulative counts by upper bound, as Prometheus' `histogram_quantile`: linear within a
    bucket, from 0 in the first; the last finite bound where it lies above that. None of an empty histogram.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf or buckets[math.inf] <= 0:
        return None
    rank, below, lower = share * buckets[math.inf], 0.0, 0.0
    for bound in bounds[:-1]:
        if buckets[bound] >= rank:
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside > 0 else 1.0)
        below, lower = buckets[bound], bound
    return bounds[-2]
