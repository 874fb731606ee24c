"""What was run, as plain dicts under the JSON names that all verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment.bands import Bands
from planner.deployment.calibrated import beyond
from planner.deployment.runs import Deployment
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.simulation.quantiles import quantile
from planner.simulation.service import SHOWN
from planner.specs import EngineOptions
from planner.units import GIB

SCHEMA_VERSION = 1
NOTED_TAIL = 0.05  # of a run's duration: less of an emptying fleet is not worth a word


def fleet_document(deployment: Deployment, replicas: int, spare: int = 0) -> dict[str, Any]:
    """`fleet` of a plan: everything that starts it."""
    candidate = deployment.candidate
    return {
        "hardware": candidate.gpu.name,
        "gpus": replicas * deployment.gpus_per_replica,
        "replicas": replicas,
        "spare_replicas": spare,
        "gpus_per_replica": deployment.gpus_per_replica,
        "routing": candidate.routing,
        "engine": engine_document(candidate.options),
    }


def engine_document(options: EngineOptions) -> dict[str, Any]:
    """vLLM's arguments under vLLM's names; what is not set is left out."""
    return {key: value for key, value in vars(options).items() if value is not None}


def run_document(deployment: Deployment, load: Load, outcome: Outcome, around: Bands) -> dict[str, Any]:
    """Statistics of one run with their bands and what they rest on: cache size, memory, clipping, notes."""
    terms = {name: size / GIB for name, size in deployment.kv.terms.items()}
    return {
        **outcome.figures,
        "band80": around.band80,
        "confidence": {
            "kernel_path": _kernel_path(deployment),
            "worlds": around.worlds,
            "holds_share": around.holds_share,
            "saturated_share": around.saturated_share,
        },
        "kv_cache_tokens": deployment.kv.logged_tokens,
        "memory": {f"{name}_gib": round(size, 3) for name, size in terms.items()},
        "clipped_share": load.clipped_share,
        "cached_share": load.cached_share,
        "notes": [*load.notes, *_drained(load, outcome), *_beyond(deployment, load, outcome)],
    }


def with_hits(scenario: Scenario, load: Load, outcome: Outcome) -> dict[str, Any]:
    """`with_hits_ms` {ttft, e2e} of a run: mean and percentiles over all users' queries, the response cache's included.

    A hit has its whole answer after `query.response_cache.hit_ms`. Nothing where that is not given; None where no query
    was answered by the model. Queries that failed are left out, as of `e2e_ms`.
    """
    cache = scenario.query.response_cache
    if cache is None or cache.hit_ms is None:
        return {}
    share = load.cached_share if scenario.traffic.peak_qps is None else response_hit_rate(scenario)
    latencies = {"ttft": outcome.latencies.ttft_ms, "e2e": outcome.latencies.e2e_ms}
    return {"with_hits_ms": {name: mixed(values, share, cache.hit_ms) for name, values in latencies.items()}}


def mixed(latency_ms: NDArray[np.float64], hit_share: float, hit_ms: float) -> dict[str, float] | None:
    """Mean and percentiles where a `hit_share` of the queries takes `hit_ms`, the others as `latency_ms` says.

    The p-th percentile is the least value that at least p % of the queries do not exceed.
    """
    finite = np.sort(latency_ms[np.isfinite(latency_ms)])
    if len(finite) == 0:
        return None
    place = int(np.searchsorted(finite, hit_ms))
    values = np.insert(finite, place, hit_ms)
    up_to = np.cumsum(np.insert(np.full(len(finite), (1.0 - hit_share) / len(finite)), place, hit_share))
    at = {f"p{p:g}": min(int(np.searchsorted(up_to, p / 100.0 - 1e-12)), len(values) - 1) for p in SHOWN}
    mean = (1.0 - hit_share) * float(finite.mean()) + hit_share * hit_ms
    return {"mean": mean} | {name: float(values[index]) for name, index in at.items()}


def warnings_document(deployments: Iterable[Deployment]) -> list[str]:
    """`warnings` of an answer: what must be known before its figures are believed. No warning stands twice."""
    return list(dict.fromkeys(warning for deployment in deployments for warning in deployment.warnings))


def _drained(load: Load, outcome: Outcome) -> list[str]:
    """Where throughput reads low because the run's end, when nobody comes any more, is a good part of it.

    Throughput is completed work ÷ (last finish − first arrival). Of sessions it is that of a window without the end;
    of a saturated run it is what the fleet can do.
    """
    span_s, duration_s = counted_span_s(load), outcome.figures["duration_s"]
    if load.clients or load.follows is not None or outcome.saturated or duration_s is None or span_s <= 0.0:
        return []
    tail_s = duration_s - span_s
    if tail_s < NOTED_TAIL * duration_s:
        return []
    came_qps = outcome.figures["queries"] / span_s
    return [
        f"throughput and goodput are over {duration_s:.3g} s, in the last {tail_s:.3g} s of which nobody comes any "
        f"more: {came_qps:.3g} queries/s came; a longer run (--requests) shows what is served of them"
    ]


def counted_span_s(load: Load) -> float:
    """From the first counted query's arrival to the last one's."""
    counted_s = load.arrival_s[load.warmup : load.queries - load.cooldown]
    return float(counted_s[-1] - counted_s[0]) if len(counted_s) else 0.0


def _beyond(deployment: Deployment, load: Load, outcome: Outcome) -> list[str]:
    """Where the run leaves what its calibration recorded."""
    if deployment.calibrated is None:
        return []
    longest = int(quantile(load.prompt_tokens.astype(np.float64), 99.0))
    return beyond(deployment.calibrated, longest, outcome.figures["ledger"]["running_mean"])


def _kernel_path(deployment: Deployment) -> str:
    if deployment.calibrated is not None:
        return "calibrated"
    return "known" if deployment.known else "assumed"
