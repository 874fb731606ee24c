"""From a run to statistics: percentiles, goodput, service levels with their confidence, saturation, resources.

`service` has what the clients saw of a run, and the definitions; `limits` judges it; the same code for simulated and
measured runs. What only a simulation knows, its engines' ledger, is added here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.simulation.backlog import backlog_grows
from planner.simulation.fleet_record import REJECTED, TIMED_OUT, FleetRun
from planner.simulation.kernel_state import GAP_EDGES_S
from planner.simulation.limits import BATCHES, CONFIDENCE, Check, batch_means_upper, good_queries, held_against
from planner.simulation.quantiles import gap_quantile_s, quantile
from planner.simulation.service import Latencies, Service, figures_of, latencies_of, per_second, rated, window_s
from planner.specs import Limit
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
HISTOGRAM_BINS = 40

__all__ = [
    "BATCHES",
    "CONFIDENCE",
    "Check",
    "Latencies",
    "Outcome",
    "batch_means_upper",
    "gap_quantile_s",
    "quantile",
    "served",
    "summarise",
    "summarise_service",
]


@dataclass(frozen=True)
class Outcome:
    """Statistics of one run, under the JSON names of `simulate` in `figures`.

    `slo_met`: every limit holds and the backlog does not grow. `figures` say the same, but None without any limit.
    """

    figures: dict[str, Any]
    checks: tuple[Check, ...]
    saturated: bool
    slo_met: bool
    latencies: Latencies = field(repr=False)
    gap_counts: F64 = field(repr=False)  # inter-token gaps by the bins of `kernel_state.GAP_EDGES_S`

    def histograms(self) -> dict[str, dict[str, list[float]]]:
        """TTFT, TPOT, ITL and E2E as histograms over logarithmic bins, for charts."""
        return {
            "ttft_ms": _histogram(self.latencies.ttft_ms),
            "tpot_ms": _histogram(self.latencies.tpot_ms),
            "itl_ms": _gap_histogram(self.gap_counts),
            "e2e_ms": _histogram(self.latencies.e2e_ms),
        }


def summarise(run: FleetRun, limits: tuple[Limit, ...], *, steady: bool, settled_s: float | None = None) -> Outcome:
    """Statistics of the counted queries of `run`, judged by `limits`.

    `steady`: the load is a stationary process, so limits are judged by the upper end of a 95 % batch-means interval
    and a growing backlog is looked for. A closed loop, a batch or a trace is judged by its own statistic.
    `settled_s`: from then on nothing is done to the fleet any more, and the load is stationary. A run to whose fleet
    something was done is not steady, but a backlog that grows from there on is looked for.
    """
    service = served(run)
    saturated = steady and backlog_grows(service)
    if settled_s is not None:
        arrived = int(np.searchsorted(run.load.arrival_s, settled_s))
        saturated = backlog_grows(replace(service, load=replace(run.load, warmup=max(run.load.warmup, arrived))))
    resources = resources_of(run, run.steady if steady else run.ledger) | {"wall_s": run.wall_s}
    if run.control.room:
        resources["rejected"] = int((run.why_failed[run.load.warmup :] == REJECTED).sum())
    if np.isfinite(run.load.timeout_s):
        resources["timed_out"] = int((run.why_failed[run.load.warmup :] == TIMED_OUT).sum())
    return summarise_service(service, limits, steady=steady, saturated=saturated, more=resources)


def summarise_service(
    service: Service, limits: tuple[Limit, ...], *, steady: bool, saturated: bool, more: dict[str, Any] | None = None
) -> Outcome:
    """Statistics of what the clients saw, judged by `limits`; `more` figures are added to them."""
    latencies = latencies_of(service)
    checks = tuple(held_against(limit, service, latencies, steady=steady) for limit in limits)
    figures = figures_of(service, latencies) | (more or {})
    good = good_queries(latencies, limits)
    figures["goodput_share"] = float(good.mean())
    if window_s(service) is not None:  # the warm-up's turns, too, end in it
        every = latencies_of(replace(service, load=replace(service.load, warmup=0)))
        good = good_queries(every, limits) & rated(service)
    figures["goodput_rps"] = per_second(float(good.sum()), figures["duration_s"])
    figures["saturated"] = saturated
    figures["slo"] = [check.as_dict() for check in checks]
    slo_met = not saturated and all(check.met for check in checks)
    figures["slo_met"] = slo_met if limits else None
    return Outcome(figures, checks, saturated, slo_met, latencies, service.gaps.count.sum(axis=0))


def served(run: FleetRun) -> Service:
    """What the clients saw of a simulated run."""
    return Service(
        load=run.load,
        arrival_s=run.arrival_s,
        sent_s=run.sent_s,
        failed=run.failed,
        ended_s=run.ended_s,
        first_token_s=run.first_token_s,
        last_token_s=run.last_token_s,
        gaps=run.gaps,
    )


def resources_of(run: FleetRun, steady: NDArray[np.void]) -> dict[str, Any]:
    """Utilisation, KV cache, prefix cache and the ledger's means, over all replicas.

    Means over time are those of the ledger `steady`: up to the last arrival for a stationary load, to the end for any
    other. Where replicas come and go they are over the time that these were on. Totals run to the end; but of sessions
    hits and evictions are `steady`'s too, since early turns have less to hit. Saved are the prompt tokens that a first
    admission found cached, so that nobody computed them. Evicted are blocks that held reusable content and were
    overwritten, whether or not anybody asked for it again.
    """
    ledger = run.ledger
    looked_up = ledger if run.load.follows is None else steady
    elapsed = float(steady["now"].max()) * run.replicas or 1.0  # where no engine saw anything all sums are 0
    if run.control.changes:
        elapsed = float(run.on_s.sum()) or 1.0
    queried = int(looked_up["queried_tokens"].sum())
    return {
        "utilisation": float(steady["busy_s"].sum()) / elapsed,
        "kv_cache_usage": {
            "mean": float(steady["kv_block_s"].sum()) / elapsed / run.usable_blocks,
            "max": float(ledger["kv_peak_blocks"].max()) / run.usable_blocks,
        },
        "prefix_cache_hit_rate": float(looked_up["hit_tokens"].sum()) / queried if queried else None,
        "saved_prefill_tokens": int(looked_up["hit_tokens"].sum()) if queried else None,
        "evicted_blocks": int(looked_up["evicted_blocks"].sum()) if queried else None,
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


def _gap_histogram(counts: F64) -> dict[str, list[float]]:
    """The gaps' own narrow bins, the empty ends cut off, joined to at most `HISTOGRAM_BINS` of equal ratio."""
    filled = np.flatnonzero(counts)
    if len(filled) == 0:
        return {"edges": [], "counts": []}
    first, end = int(filled[0]), int(filled[-1]) + 1
    joined = -(-(end - first) // HISTOGRAM_BINS)
    starts = np.arange(first, end, joined)
    edges = GAP_EDGES_S[[*starts, min(int(starts[-1]) + joined, len(GAP_EDGES_S) - 1)]]
    return {"edges": (edges * MS_PER_S).tolist(), "counts": np.add.reduceat(counts[:end], starts).tolist()}
