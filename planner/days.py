"""simulate_days(): one fleet through whole days, hour by hour, beside the fleet that a perfect scaler would run.

The run is `deployment.days`; here its hours get their GPU-hours and dollars, and their `perfect` number of replicas:
the fewest that hold the service levels at that hour's rate for ever, started and stopped in no time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.deployment import (
    SCHEMA_VERSION,
    Deployment,
    Progress,
    default_queries,
    deploy,
    fleet_document,
    only_candidate,
    warnings_document,
)
from planner.deployment.days import MOST_DAYS, MOST_WHOLE, DaysRun, at_rate, run_days
from planner.economics import Prices, bought_per_query, cache_usd_per_day, following_usd
from planner.economics import Size as Fleet
from planner.errors import ScenarioError, UnsupportedError
from planner.pricing import check_rate_cards, priced
from planner.provenance import Provenance, weakest_first
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.day_bins import BIN_ERROR
from planner.sizing.replicas import MOST_REPLICAS, rough_size
from planner.summary.days import days_text
from planner.units import HOURS_PER_DAY, S_PER_HOUR
from planner.workload import Rates, rates_of

LEVELS = 24  # rates at which the perfect number of replicas is looked for
WAYS = {
    "streams": "each replica's share of the traffic drawn for itself, all of it simulated",
    "whole": "all replicas on one clock from the first midnight to the last",
    "samples": "each hour by itself at its mean rate, in a steady state; the busiest hour whole, the others by samples",
}
BINNED = f"percentiles are read off bins of half a per cent: right to ±{100 * BIN_ERROR:.2f} %"
CACHE_AT_PEAK = "the response cache hits as at the peak in every hour; where answers expire, fewer hits in quiet hours"
SAMPLED = f"more than {MOST_WHOLE:,} model calls, or sessions: error_ms is half the 95 % interval of batch means"


@dataclass(frozen=True)
class Days:
    """The answer of `simulate_days`; `document` has the JSON names."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return days_text(self.document)


def simulate_days(scenario: Scenario, *, days: int, seed: int = 0, progress: Progress | None = None) -> Days:
    """`fleet.replicas` replicas, or those of `fleet.autoscaler`, over `days` days (1 to 7) from midnight.

    The load is `traffic.peak_qps` · `traffic.day`, or `traffic.rates`. Raises InputErrors for lists and for whatever
    cannot be run so.
    """
    if not 1 <= days <= MOST_DAYS:
        raise ScenarioError("days", days, f"must be 1 to {MOST_DAYS}", str(min(max(days, 1), MOST_DAYS)))
    if scenario.demand != "open":
        rule = "days need open arrivals (poisson, constant, gamma), whose rate can follow the hours"
        raise UnsupportedError("traffic.arrivals", scenario.demand, rule, "poisson")
    for key, given in (("fleet.failures", scenario.fleet.failures), ("fleet.admission", scenario.fleet.admission)):
        if given:
            raise UnsupportedError(key, None, "beside --days is not supported yet", f"--set {key}=null")
    check_rate_cards(scenario)
    rates, report = rates_of(scenario, days), progress or (lambda what, done, total: None)
    busiest = at_rate(scenario, float(rates.by_hour().max()))
    deployment = deploy(only_candidate(busiest, "simulate"))
    if deployment.candidate.ranks_in_step > 1:
        rule = "data-parallel ranks that share experts beside --days are not supported yet"
        raise UnsupportedError("engine.data_parallel_size", deployment.candidate.ranks_in_step, rule, "1")
    run = run_days(deployment, scenario, rates, seed, report)
    price = priced(deployment.candidate.gpu, busiest)
    perfect = _perfect(deployment, scenario, rates, seed, report)
    most = _most_replicas(scenario)
    rows = [
        _priced_row(row, perfect, deployment, price.prices, most, scenario, float(qps))
        for row, qps in zip(run.rows, rates.by_hour(), strict=True)
    ]
    notes = [BINNED if run.way != "samples" else SAMPLED]
    if scenario.query.response_cache is not None and scenario.query.response_cache.hit_rate is None:
        notes.append(CACHE_AT_PEAK)
    origins = weakest_first([*deployment.provenance_of(most), *_origins(scenario), *price.provenance])
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": warnings_document([deployment]),
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, most),
        "way": run.way,
        "days": rows,
        "totals": _totals(rows, deployment, run),
        "perfect": _perfect_document(perfect, rows, deployment, price.prices, most),
        "scaling": [{"at_s": at_s, "replicas": wanted} for at_s, wanted in run.changes],
        "kv_cache_tokens": deployment.kv.logged_tokens,
        "num_preemptions": run.preemptions,
        "notes": [f"simulated: {WAYS[run.way]}", *notes],
        "provenance": [row.as_dict() for row in origins],
    }
    return Days(document)


def _most_replicas(scenario: Scenario) -> int:
    """Replicas that are there to be used: what commitments are shares of."""
    scaler = scenario.fleet.autoscaler
    return (scenario.fleet.replicas or 1) if scaler is None else scaler.most


def _origins(scenario: Scenario) -> list[Provenance]:
    """What is taken for granted of days and of autoscalers."""
    hourly = "each hour's load is even: the rate steps from hour to hour" if scenario.traffic.rates is None else ""
    rows = [Provenance("traffic.day", "assumed", hourly, errs="optimistic")] if hourly else []
    if scenario.fleet.autoscaler is not None:
        limits = "as many pods as wanted start and stop at once, and a node with free GPUs is always there"
        rows.append(Provenance("fleet.autoscaler", "assumed", limits, errs="optimistic"))
        if "startup_s" not in scenario.fleet.model_fields_set:
            value = f"{scenario.fleet.startup_s:g} s"
            rows.append(Provenance("fleet.startup_s", "assumed", "not given", value, errs="unknown"))
    return rows


# --- the perfect scaler ---


@dataclass(frozen=True)
class _Perfect:
    """Replicas at a few rates, ascending, both [levels]; or why there are none."""

    levels: list[tuple[float, int]]
    reason: str | None
    floor: int

    def at(self, qps: float) -> int | None:
        """Between two levels along a straight line, rounded up; never below `fleet.min_replicas`."""
        if self.reason is not None:
            return None
        known, needed = np.array(self.levels, np.float64).T
        return max(math.ceil(float(np.interp(qps, known, needed)) - 1e-9), self.floor)


def _perfect(deployment: Deployment, scenario: Scenario, rates: Rates, seed: int, progress: Progress) -> _Perfect:
    """The fewest replicas that hold at up to `LEVELS` of the hours' rates, by `sizing`'s short runs."""
    floor, fleet = scenario.fleet.min_replicas, scenario.fleet
    if not scenario.slo:
        return _Perfect([], "no slo is given: nothing has to be held", floor)
    by_hour = np.unique(rates.by_hour())
    by_hour = by_hour[by_hour > 0]
    levels = by_hour if len(by_hour) <= LEVELS else np.linspace(by_hour[0], by_hour[-1], LEVELS)
    most = MOST_REPLICAS if fleet.max_gpus is None else max(fleet.max_gpus // deployment.gpus_per_replica, 1)
    free = {"fleet.min_replicas": None, "fleet.spare_replicas": None, "fleet.replicas": None}
    found: list[tuple[float, int]] = []
    for number, qps in enumerate(levels):
        steady = at_rate(scenario, float(qps)).with_values(free)
        size = rough_size(deployment, steady, seed, default_queries(scenario), most)
        if size.serving is None:
            return _Perfect([], f"at {qps:.3g} queries/s {size.reason}", floor)
        found.append((float(qps), size.serving))
        progress("sizing for each hour", number + 1, len(levels))
    return _Perfect(found, None, floor)


def _perfect_document(
    perfect: _Perfect, rows: list[dict[str, Any]], deployment: Deployment, prices: Prices, most: int
) -> dict[str, Any]:
    """Its replicas by the hour are in the rows; here what they come to, and what a fleet that is always as large as
    its largest would: `static`, what an autoscaler is held against.
    """
    wanted = [row["perfect_replicas"] for row in rows]
    nothing = dict.fromkeys(("peak_replicas", "mean_replicas", "gpu_hours", "usd", "static"))
    if perfect.reason is not None:
        return {"levels": [], **nothing, "reason": perfect.reason}
    peak = max(wanted)
    usd = [_usd(float(count), deployment, prices, max(most, peak)) for count in wanted]
    static = [_usd(float(peak), deployment, prices, peak)] * len(rows)
    return {
        "levels": [{"rate_qps": qps, "replicas": replicas} for qps, replicas in perfect.levels],
        "peak_replicas": peak,
        "mean_replicas": sum(wanted) / len(wanted),
        "gpu_hours": float(sum(wanted) * deployment.gpus_per_replica),
        "usd": _sum(usd),
        "static": {
            "replicas": peak,
            "gpu_hours": float(peak * len(rows) * deployment.gpus_per_replica),
            "usd": _sum(static),
        },
        "reason": None,
    }


# --- money, and what it all comes to ---


def _usd(replicas: float, deployment: Deployment, prices: Prices, most: int) -> float | None:
    """An hour of so many replicas on average, without retrieval; None without a GPU price."""
    fleet = Fleet(serving=most, spare=0, gpus_per_replica=deployment.gpus_per_replica)
    usd = following_usd(fleet, prices, [(replicas, float(HOURS_PER_DAY))])
    return None if usd is None else usd / HOURS_PER_DAY


def _priced_row(
    row: dict[str, Any],
    perfect: _Perfect,
    deployment: Deployment,
    prices: Prices,
    most: int,
    scenario: Scenario,
    qps: float,
) -> dict[str, Any]:
    """An hour's row with its rate, its bill and the perfect number of replicas."""
    users = qps * S_PER_HOUR
    usd = _usd(row["paid_replicas"], deployment, prices, most)
    if usd is not None:
        usd += bought_per_query(prices, 1.0 - response_hit_rate(scenario)) * users
        usd += cache_usd_per_day(prices) / HOURS_PER_DAY
    return {
        "hour": row["hour"],
        "rate_qps": qps,
        "user_queries": users,
        **{key: value for key, value in row.items() if key != "hour"},
        "perfect_replicas": perfect.at(qps) if qps else perfect.floor if perfect.reason is None else None,
        "gpu_hours": row["paid_replicas"] * deployment.gpus_per_replica,
        "usd": usd,
        "usd_per_query": usd / users if usd is not None and users else None,
    }


def _totals(rows: list[dict[str, Any]], deployment: Deployment, run: DaysRun) -> dict[str, Any]:
    """All hours together. Hours without load hold: nobody waits in them."""
    queries, users = sum(row["queries"] for row in rows), sum(row["user_queries"] for row in rows)
    judged = [row["slo_met"] for row in rows if row["slo_met"] is not None]
    usd = _sum([row["usd"] for row in rows])
    good = sum(row["queries"] * (row["goodput_share"] or 0.0) for row in rows)
    return {
        "hours": len(rows),
        "user_queries": users,
        "queries": queries,
        "answered": sum(row["answered"] for row in rows),
        "goodput_share": good / queries if queries else None,
        "goodput_rps": good / (len(rows) * S_PER_HOUR),
        "slo_hours_share": sum(judged) / len(judged) if judged else None,
        "mean_replicas": sum(row["replicas"]["mean"] for row in rows) / len(rows),
        "peak_replicas": max(row["replicas"]["max"] for row in rows),
        "mean_paid_replicas": sum(row["paid_replicas"] for row in rows) / len(rows),
        "gpu_hours": sum(row["gpu_hours"] for row in rows),
        "usd": usd,
        "usd_per_query": usd / users if usd is not None and users else None,
        "scalings": len(run.changes),
        "gpus_per_replica": deployment.gpus_per_replica,
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
