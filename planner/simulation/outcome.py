"""From a run's times to statistics: percentiles, goodput, service levels with their confidence, saturation.

Definitions. TTFT runs from the query's *scheduled* arrival to the first token of its last stage; E2E to its last
token. TPOT = (E2E − TTFT) / (output − 1) of a request of the last stage; ITL are the gaps between its tokens. Latency
is over queries that reach the model; a query that timed out has no latency but misses every limit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from planner.simulation.fleet import FleetRun
from planner.simulation.kernel_state import GAP_FLOOR_S, GAP_WIDTH
from planner.specs import Limit
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
BATCHES = 20
CONFIDENCE = 0.95
SHOWN = (50.0, 90.0, 95.0, 99.0)
HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Check:
    """One limit held against a run. `upper_ms` is the upper end of the 95 % batch-means interval, None where the run
    is judged by its own statistic. `met` compares that end, or else the value, with the limit.
    """

    key: str
    limit_ms: float
    value_ms: float | None
    upper_ms: float | None
    met: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "key": self.key,
            "limit_ms": self.limit_ms,
            "value_ms": _finite(self.value_ms),
            "upper_ms": _finite(self.upper_ms),
            "met": self.met,
        }


@dataclass(frozen=True)
class Latencies:
    """Milliseconds: one value a query (`tpot_ms`: a request of the last stage), inf for a query that timed out."""

    ttft_ms: F64
    ttft_from_send_ms: F64
    e2e_ms: F64
    tpot_ms: F64
    tpot_batch: NDArray[np.int64]  # the query that each value of `tpot_ms` belongs to


@dataclass(frozen=True)
class Outcome:
    """Statistics of one run, under the JSON names of `simulate` in `figures`."""

    figures: dict[str, Any]
    checks: tuple[Check, ...]
    saturated: bool
    latencies: Latencies = field(repr=False)

    @property
    def slo_met(self) -> bool:
        """Whether every limit holds and the backlog does not grow."""
        return not self.saturated and all(check.met for check in self.checks)

    def histograms(self) -> dict[str, dict[str, list[float]]]:
        """TTFT and E2E as histograms over logarithmic bins, for charts."""
        return {"ttft_ms": _histogram(self.latencies.ttft_ms), "e2e_ms": _histogram(self.latencies.e2e_ms)}


def summarise(run: FleetRun, limits: tuple[Limit, ...], *, steady: bool) -> Outcome:
    """Statistics of the counted queries of `run`, judged by `limits`.

    `steady`: the load is a stationary process, so limits are judged by the upper end of a 95 % batch-means interval
    and a growing backlog is looked for. A closed loop, a batch or a trace is judged by its own statistic.
    """
    latencies = _latencies(run)
    saturated = steady and _backlog_grows(run)
    checks = tuple(_check(limit, run, latencies, steady) for limit in limits)
    figures = _figures(run, latencies) | _throughput(run) | _resources(run, run.steady if steady else run.ledger)
    good = _good(latencies, limits)
    figures["goodput_share"] = float(good.mean())
    figures["goodput_rps"] = float(good.sum() / figures["duration_s"])
    figures["saturated"] = saturated
    figures["wall_s"] = run.wall_s
    figures["slo"] = [check.as_dict() for check in checks]
    figures["slo_met"] = (not saturated and all(check.met for check in checks)) if limits else None
    return Outcome(figures, checks, saturated, latencies)


# --- latencies ---


def _latencies(run: FleetRun) -> Latencies:
    load = run.load
    last = slice(load.width - load.stages[-1].requests, None)
    first_token = run.first_token_s.reshape(-1, load.width)[load.warmup :, last]
    last_token = run.last_token_s.reshape(-1, load.width)[load.warmup :, last]
    output = load.output_tokens.reshape(-1, load.width)[load.warmup :, last]
    lost = run.failed[load.warmup :]
    arrival, sent = run.arrival_s[load.warmup :], run.sent_s[load.warmup :]
    with np.errstate(invalid="ignore"):
        begin = np.where(lost, np.inf, first_token.min(axis=1))
        end = np.where(lost, np.inf, last_token.max(axis=1))
        tpot = (last_token - first_token) / (output - 1.0).clip(min=1.0)
    told = (output > 1) & ~lost[:, None]
    batch = np.repeat(np.arange(len(lost)), output.shape[1]).reshape(output.shape)
    return Latencies(
        ttft_ms=(begin - arrival) * MS_PER_S,
        ttft_from_send_ms=(begin - sent) * MS_PER_S,
        e2e_ms=(end - arrival) * MS_PER_S,
        tpot_ms=tpot[told] * MS_PER_S,
        tpot_batch=batch[told],
    )


def _good(latencies: Latencies, limits: tuple[Limit, ...]) -> NDArray[np.bool_]:
    """Which queries meet every limit themselves. ITL limits hold for the mean gap, which is the request's TPOT."""
    good = np.isfinite(latencies.e2e_ms)
    for limit in limits:
        if limit.metric == "ttft":
            good &= latencies.ttft_ms <= limit.limit_ms
        elif limit.metric == "e2e":
            good &= latencies.e2e_ms <= limit.limit_ms
        else:
            good[latencies.tpot_batch[latencies.tpot_ms > limit.limit_ms]] = False
    return good


# --- limits and their confidence ---


def _check(limit: Limit, run: FleetRun, latencies: Latencies, steady: bool) -> Check:
    if limit.metric == "itl":
        value, parts = _gap_statistics(run, limit.percentile)
    else:
        values = getattr(latencies, f"{limit.metric}_ms")
        queries = len(latencies.ttft_ms)
        owner = latencies.tpot_batch if limit.metric == "tpot" else np.arange(queries)
        value = _statistic(values, limit.percentile)
        edges = np.searchsorted(owner, np.linspace(0, queries, BATCHES + 1))
        parts = [_statistic(values[a:b], limit.percentile) for a, b in itertools.pairwise(edges)]
    if value is None:  # no request has a second token: there is no gap to judge
        return Check(limit.key, limit.limit_ms, None, None, True)
    upper = batch_means_upper(value, parts) if steady else None
    return Check(limit.key, limit.limit_ms, value, upper, (value if upper is None else upper) <= limit.limit_ms)


def batch_means_upper(value: float, parts: list[float | None]) -> float:
    """Upper end of the two-sided 95 % interval about `value`, from the same statistic of successive batches.

    value + t(0.975, b − 1) · s/√b with s the standard deviation of the b batches (Law & Kelton, batch means).
    inf where a batch has no value: then nothing is known about the spread.
    """
    known = np.array([part for part in parts if part is not None])
    if len(known) < len(parts) or len(known) < 2 or not np.isfinite(known).all():
        return math.inf
    quantile = float(stdtrit(len(known) - 1, 0.5 + CONFIDENCE / 2))
    return value + quantile * float(known.std(ddof=1)) / math.sqrt(len(known))


def _statistic(values: F64, percentile: float | None) -> float | None:
    if len(values) == 0:
        return None
    return float(values.mean()) if percentile is None else quantile(values, percentile)


def quantile(values: F64, percentile: float) -> float:
    """The smallest value that at least `percentile` per cent of `values` do not exceed (inverse of their CDF)."""
    rank = max(math.ceil(percentile / 100.0 * len(values)) - 1, 0)
    return float(np.partition(values, rank)[rank])


def gap_quantile_s(counts: F64, share: float) -> float | None:
    """Quantile of a histogram of gaps, at the middle of its bin (±0.25 %); None if it is empty."""
    total = counts.sum()
    if total == 0:
        return None
    at = int(np.searchsorted(np.cumsum(counts), share * total))
    return GAP_FLOOR_S * math.exp((at + 0.5) * GAP_WIDTH)


def _gap_statistics(run: FleetRun, percentile: float | None) -> tuple[float | None, list[float | None]]:
    """ITL in ms: over the run, and over each of its time windows."""

    def one(counts: F64, total_s: float) -> float | None:
        if counts.sum() == 0:
            return None
        if percentile is None:
            return float(total_s / counts.sum()) * MS_PER_S
        gap = gap_quantile_s(counts, percentile / 100.0)
        return None if gap is None else gap * MS_PER_S

    rows = [one(counts, total) for counts, total in zip(run.gaps.count, run.gaps.total_s, strict=True)]
    return one(run.gaps.count.sum(axis=0), float(run.gaps.total_s.sum())), rows


def _backlog_grows(run: FleetRun) -> bool:
    """Whether unfinished queries pile up between the middle and the end of the counted arrivals.

    A stable queue wanders by some multiple of √arrivals; a growth beyond four of them and beyond 1 % of what
    arrived meanwhile is a trend: more comes than is served.
    """
    load = run.load
    arrival = run.arrival_s[load.warmup :]
    if len(arrival) < 2:
        return False
    end = run.last_token_s.reshape(-1, load.width).max(axis=1)
    end = np.where(run.failed, run.arrival_s + load.timeout_s, end)
    middle, last = arrival[len(arrival) // 2], arrival[-1]
    arrived = len(arrival) - len(arrival) // 2
    growth = arrived - int(((end > middle) & (end <= last)).sum())
    return bool(growth > max(4.0 * math.sqrt(arrived), 0.01 * arrived))


# --- figures ---


def _figures(run: FleetRun, latencies: Latencies) -> dict[str, Any]:
    tokens_s = _gap_statistics(run, None)[0]
    itl = None
    if tokens_s is not None:
        itl = {"mean": tokens_s} | {f"p{p:g}": _gap_statistics(run, p)[0] for p in SHOWN}
    return {
        "ttft_ms": _row(latencies.ttft_ms),
        "ttft_from_send_ms": _row(latencies.ttft_from_send_ms),
        "tpot_ms": _row(latencies.tpot_ms),
        "itl_ms": itl,
        "e2e_ms": _row(latencies.e2e_ms),
        "band80": {},
    }


def _row(values: F64) -> dict[str, float] | None:
    """Mean and percentiles of the values that are finite; None if there is none."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    ranks = [max(math.ceil(p / 100.0 * len(ordered)) - 1, 0) for p in SHOWN]
    return {"mean": float(ordered.mean())} | {
        f"p{p:g}": float(ordered[rank]) for p, rank in zip(SHOWN, ranks, strict=True)
    }


def _throughput(run: FleetRun) -> dict[str, Any]:
    """Completed work ÷ (last finish − first arrival), over the counted queries."""
    load = run.load
    counted = slice(load.warmup * load.width, None)
    done = np.isfinite(run.last_token_s[counted])
    ends = run.last_token_s[counted][done]
    start_s = float(run.arrival_s[load.warmup :].min())
    duration_s = float(ends.max()) - start_s if len(ends) else math.nan
    output = float(load.output_tokens[counted][done].sum())
    prompt = float(load.prompt_tokens[counted][done].sum())
    failed = int(run.failed[load.warmup :].sum())
    return {
        "requests": int(done.sum()),
        "queries": load.queries - load.warmup,
        "failed": failed,
        "duration_s": duration_s,
        "request_throughput": float(done.sum() / duration_s),
        "query_throughput": float((load.queries - load.warmup - failed) / duration_s),
        "output_throughput": output / duration_s,
        "total_token_throughput": (output + prompt) / duration_s,
    }


def _resources(run: FleetRun, steady: NDArray[np.void]) -> dict[str, Any]:
    """Utilisation, KV cache, prefix cache and the ledger's means, over all replicas.

    Means over time are those of the ledger `steady`: up to the last arrival for a stationary load, to the end for any
    other. Totals run to the end.
    """
    ledger = run.ledger
    elapsed = float(steady["now"].max()) * run.replicas
    queried = int(ledger["queried_tokens"].sum())
    return {
        "utilisation": float(steady["busy_s"].sum()) / elapsed,
        "kv_cache_usage": {
            "mean": float(steady["kv_block_s"].sum()) / elapsed / run.usable_blocks,
            "max": float(ledger["kv_peak_blocks"].max()) / run.usable_blocks,
        },
        "prefix_cache_hit_rate": float(ledger["hit_tokens"].sum()) / queried if queried else None,
        "num_preemptions": int(ledger["preemptions"].sum()),
        "ledger": {
            "steps": int(ledger["steps"].sum()),
            "busy_s": float(ledger["busy_s"].sum()),
            "prefill_tokens": int(ledger["prefill_tokens"].sum()),
            "decode_tokens": int(ledger["decode_tokens"].sum()),
            "running_mean": float(steady["running_s"].sum()) / elapsed,
            "waiting_mean": float(steady["waiting_s"].sum()) / elapsed,
        },
    }


def _histogram(values: F64) -> dict[str, list[float]]:
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) == 0:
        return {"edges": [], "counts": []}
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, max(high, low * 1.0001), HISTOGRAM_BINS + 1)
    return {"edges": edges.tolist(), "counts": np.histogram(values, edges)[0].astype(float).tolist()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
