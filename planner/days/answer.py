"""simulate_days(): the run of `deployment.days`, its hours with their GPU-hours and dollars, and the perfect scaler."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from planner.days.bills import Basis, beside_static, bought_usd, hour_usd, perfect_document, total
from planner.days.perfect import Perfect, perfect_scaler
from planner.deployment import (
    SCHEMA_VERSION,
    Deployment,
    Progress,
    deploy,
    fleet_document,
    only_candidate,
    warnings_document,
)
from planner.deployment.autoscaled import beyond_max_gpus, blinded
from planner.deployment.collapse import hours_warnings
from planner.deployment.day_rows import few_queries_note
from planner.deployment.days import MOST_WHOLE, DaysRun, at_rate, run_days
from planner.deployment.no_effect import no_effect
from planner.errors import ScenarioError, UnsupportedError
from planner.pricing import check_rate_cards, priced
from planner.provenance import Provenance, weakest_first
from planner.response_cache import KEY as CACHE
from planner.scenario import Scenario
from planner.simulation.autoscaler import Wishes
from planner.simulation.day_bins import BIN_ERROR
from planner.sizing.autoscaled import scaled_origins
from planner.summary.days import days_text
from planner.units import MOST_DAYS, S_PER_HOUR
from planner.workload import Reaching, closing_row, rates_of, reaching

WAYS = {
    "streams": "each replica's share of the traffic drawn for itself, all of it simulated",
    "whole": "all replicas on one clock from the first midnight to the last",
    "samples": "each hour at its mean rate, in a steady state, by samples; but for sessions the busiest is whole",
}
BINNED = f"percentiles are read off bins of half a per cent: right to ±{100 * BIN_ERROR:.2f} %"
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
    if scenario.fleet.failures:
        rule = "beside --days is not supported yet"
        raise UnsupportedError("fleet.failures", None, rule, "--set fleet.failures=null")
    check_rate_cards(scenario)
    rates, report = rates_of(scenario, days), progress or (lambda what, done, total: None)
    load = reaching(scenario, rates)
    busiest = at_rate(scenario, float(rates.by_hour().max()))
    deployment = deploy(only_candidate(busiest, "simulate"))
    if deployment.candidate.ranks_in_step > 1:
        rule = "data-parallel ranks that share experts beside --days are not supported yet"
        raise UnsupportedError("engine.data_parallel_size", deployment.candidate.ranks_in_step, rule, "1")
    _refuse_beyond_gpus(scenario, deployment)
    run = run_days(deployment, scenario, rates, seed, report)
    price = priced(deployment.candidate.gpu, busiest)
    perfect = perfect_scaler(deployment, scenario, load, seed, report)
    most = _most_replicas(scenario)
    asked = _asked(load)
    basis = Basis(
        price.prices,
        deployment.gpus_per_replica,
        most,
        tuple(bought_usd(price.prices, hour["user_queries"], hour["cached_share"] or 0.0) for hour in asked),
    )
    rows = [_row(hour, row, perfect, basis) for hour, row in zip(asked, run.rows, strict=True)]
    totals, best = _totals(rows, basis, run), perfect_document(perfect, basis)
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": [
            *warnings_document([deployment]),
            *no_effect(scenario, [deployment], "days"),
            *hours_warnings(run.rows, seed),
            *blinded(scenario, deployment.config.max_num_seqs),
        ],
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, most),
        "way": run.way,
        "days": rows,
        "totals": totals,
        "perfect": best,
        "beside_static": None if scenario.fleet.autoscaler is None else beside_static(totals, best),
        "scaling": [{"at_s": at_s, "replicas": wanted} for at_s, wanted in run.wishes.changes],
        "kv_cache_tokens": deployment.kv.logged_tokens,
        "num_preemptions": run.preemptions,
        "notes": [
            f"simulated: {WAYS[run.way]}",
            BINNED if run.way != "samples" else SAMPLED,
            *few_queries_note(run.rows),
            *([unused] if (unused := closing_row(scenario)) else []),
            *_remarks(scenario, run.wishes),
        ],
        "provenance": [row.as_dict() for row in _provenance(deployment, scenario, load, most, price.provenance)],
    }
    return Days(document)


def _refuse_beyond_gpus(scenario: Scenario, deployment: Deployment) -> None:
    """Raise ScenarioError for an autoscaler that may have more replicas than `fleet.max_gpus` holds."""
    scaler, max_gpus, each = scenario.fleet.autoscaler, scenario.fleet.max_gpus, deployment.gpus_per_replica
    rule = "" if scaler is None else beyond_max_gpus(max_gpus, each, scaler.most)
    if scaler is not None and rule:
        raise ScenarioError("fleet.max_gpus", max_gpus, rule, str(scaler.most * each))


def _most_replicas(scenario: Scenario) -> int:
    """Replicas that are there to be used: what commitments are shares of."""
    scaler = scenario.fleet.autoscaler
    return (scenario.fleet.replicas or 1) if scaler is None else scaler.most


# --- what it rests on, and what a reader should know ---


def _provenance(
    deployment: Deployment, scenario: Scenario, load: Reaching, most: int, prices: tuple[Provenance, ...]
) -> list[Provenance]:
    """All origins, the weakest first; the response cache's hit rate with the figures of these days."""
    rows = [*deployment.provenance_of(most), *_origins(scenario), *prices]
    hits = 1.0 - load.share_by_hour()
    told = f"{np.nanmin(hits):.1%} to {np.nanmax(hits):.1%} by the hour"
    return weakest_first([replace(row, value=told) if row.what == f"{CACHE}: hit rate" else row for row in rows])


def _origins(scenario: Scenario) -> list[Provenance]:
    """What is taken for granted of days and of autoscalers."""
    hourly = "each hour's load is even: the rate steps from hour to hour" if scenario.traffic.rates is None else ""
    rows = [Provenance("traffic.day", "assumed", hourly, errs="optimistic")] if hourly else []
    return [*rows, *scaled_origins(scenario)]


def _remarks(scenario: Scenario, wishes: Wishes) -> list[str]:
    """What came of an autoscaler's wishes otherwise than it meant."""
    startup_s, changes, remarks = scenario.fleet.startup_s, wishes.changes, []
    if len(changes) > 1:
        apart_s = (changes[-1][0] - changes[0][0]) / (len(changes) - 1)
        if startup_s > apart_s:
            remarks.append(
                f"fleet.startup_s (={startup_s:g}) is longer than the {apart_s:.0f} s that lie between two changes of "
                "mind on average: a replica often comes when it is not wanted any more"
            )
    if wishes.given_up:
        remarks.append(
            f"starts that were stopped before they served: {wishes.given_up} (paid for, of no use); a "
            f"scale_down_delay_s above fleet.startup_s (={startup_s:g}) avoids them"
        )
    if wishes.unfinished:
        remarks.append(f"replicas that still started when the last hour ended, and never served: {wishes.unfinished}")
    if wishes.held_back:
        remarks.append(
            f"looks at which replicas were wanted and had no place beside those that still drained: {wishes.held_back}"
        )
    return remarks


# --- hours, and what they all come to ---


def _asked(load: Reaching) -> list[dict[str, Any]]:
    """What the users of each hour ask, and the share of it that the response cache answers; null where nobody asks."""
    return [
        {
            "rate_qps": float(qps),
            "user_queries": float(qps) * S_PER_HOUR,
            "cached_share": None if np.isnan(share) else max(1.0 - float(share), 0.0),
        }
        for qps, share in zip(load.users.by_hour(), load.share_by_hour(), strict=True)
    ]


def _row(asked: dict[str, Any], row: dict[str, Any], perfect: Perfect, basis: Basis) -> dict[str, Any]:
    """An hour's row with its load, its bill and the perfect number of replicas: `perfect_replicas` is the most that its
    rates need, `perfect` what a scaler that follows them runs.
    """
    hour, known = row["hour"], perfect.reason is None
    counts = [count for count, _ in perfect.hours[hour]] if known else []
    usd = hour_usd(basis, hour, [(row["paid_replicas"], 1.0)])
    users = asked["user_queries"]
    return {
        "hour": hour,
        **asked,
        **{key: value for key, value in row.items() if key != "hour"},
        "perfect_replicas": max(counts) if known else None,
        "perfect": {"mean": perfect.mean(hour), "min": min(counts), "max": max(counts)} if known else None,
        "gpu_hours": row["paid_replicas"] * basis.gpus_per_replica,
        "usd": usd,
        "usd_per_query": usd / users if usd is not None and users else None,
    }


def _totals(rows: list[dict[str, Any]], basis: Basis, run: DaysRun) -> dict[str, Any]:
    """All hours together. Hours without load hold: nobody waits in them. `bought_usd` is the part of `usd` that hangs
    on the queries: retrieval and the response cache, the same for every fleet.
    """
    queries, users = sum(row["queries"] for row in rows), sum(row["user_queries"] for row in rows)
    judged = [row["slo_met"] for row in rows if row["slo_met"] is not None]
    usd = total([row["usd"] for row in rows])
    good = sum(row["queries"] * (row["goodput_share"] or 0.0) for row in rows)
    return {
        "hours": len(rows),
        "user_queries": users,
        "cached_share": sum(row["user_queries"] * (row["cached_share"] or 0.0) for row in rows) / users,
        "queries": queries,
        "answered": sum(row["answered"] for row in rows),
        **({"rejected": sum(row["rejected"] for row in rows)} if "rejected" in rows[0] else {}),
        "goodput_share": good / queries if queries else None,
        "goodput_rps": good / (len(rows) * S_PER_HOUR),
        "slo_hours_share": sum(judged) / len(judged) if judged else None,
        "few_queries_hours": sum(bool(row["few_queries"]) for row in rows),
        "mean_replicas": sum(row["replicas"]["mean"] for row in rows) / len(rows),
        "peak_replicas": max(row["replicas"]["max"] for row in rows),
        "mean_paid_replicas": sum(row["paid_replicas"] for row in rows) / len(rows),
        "gpu_hours": sum(row["gpu_hours"] for row in rows),
        "usd": usd,
        "bought_usd": None if usd is None else sum(basis.bought_usd),
        "usd_per_query": usd / users if usd is not None and users else None,
        "scalings": len(run.wishes.changes),
        "gpus_per_replica": basis.gpus_per_replica,
    }
