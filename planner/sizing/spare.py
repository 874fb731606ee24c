"""The spare replicas put to the proof: the whole fleet at the peak, in whose middle they stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment
from planner.deployment.failures import around, control_of, stops
from planner.deployment.runs import run_through
from planner.scenario import Scenario
from planner.simulation.fleet import without_cooldown
from planner.simulation.fleet_record import LOST
from planner.simulation.load import Load
from planner.simulation.outcome import Latencies, summarise
from planner.simulation.quantiles import quantile
from planner.specs import Limit


def spare_proof(
    deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int
) -> dict[str, Any] | None:
    """One run of all `replicas` under `load`, the peak's: `fleet.spare_replicas` of them stop in the middle of it.

    `slo_met_after`: the queries that arrive after the stop, and those that it hit, hold every limit by their own
    statistic (an ITL limit by their TPOT, which is a request's mean gap). None without spare replicas, for demand that
    is no open one, and beside data-parallel ranks.
    """
    spare = scenario.fleet.spare_replicas
    if not spare or scenario.demand != "open" or deployment.candidate.options.data_parallel_size > 1:
        return None
    counted = load.arrival_s[load.warmup : load.queries - load.cooldown]
    middle_s = float(counted[len(counted) // 2])
    which = range(replicas - spare, replicas)
    control = replace(control_of(scenario, 1), changes=tuple(stops(which, middle_s, None)))
    run = without_cooldown(run_through(deployment, load, replicas, seed, control))
    outcome = summarise(run, scenario.slo, steady=False)
    spans = around(scenario, run, outcome, (float(counted[0]), middle_s, np.inf, np.inf))
    hit = (run.retried[load.warmup :] > 0) | (run.why_failed[load.warmup :] == LOST)
    after = (run.arrival_s[load.warmup :] >= middle_s) | hit
    return {
        "replicas": replicas,
        "stopped": spare,
        "retried": int(run.retried[load.warmup :].sum()),
        "slo_met_after": all(_holds(limit, outcome.latencies, after) for limit in scenario.slo),
        "before": spans["before"],
        "after": spans["during"],
    }


def _holds(limit: Limit, latencies: Latencies, among: NDArray[np.bool_]) -> bool:
    """Whether a limit holds for the queries `among` [Q] by their own statistic; a failed one stands above it."""
    if limit.metric in {"tpot", "itl"}:
        values = latencies.tpot_ms[among[latencies.tpot_batch]]
    else:
        values = getattr(latencies, f"{limit.metric}_ms")[among]
    if len(values) == 0:
        return bool(np.isfinite(latencies.e2e_ms[among]).all())
    value = float(values.mean()) if limit.percentile is None else quantile(values, limit.percentile)
    return value <= limit.limit_ms
