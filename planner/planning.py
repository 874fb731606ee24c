"""plan(): the cheapest fleet that holds the service levels, what a query then costs, and whether its revenue pays.

The search is `sizing.search`; here its answer becomes one document, enough for reports, manifests and the exporter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from planner.deployment import (
    SCHEMA_VERSION,
    WORLDS,
    Deployment,
    Progress,
    bands,
    default_queries,
    fleet_document,
    refuse_failures,
    run_document,
    with_hits,
)
from planner.deployment.collapse import session_pause, with_pause
from planner.deployment.router_origins import retry_origins
from planner.economics import Demand, Economics, LoadShape, Size, load_shape, unit_economics, utilisation_by_hour
from planner.errors import ScenarioError
from planner.pricing import (
    assumed_billing,
    assumed_demand,
    assumed_prices,
    leaving,
    money_document,
    revenue_model,
    training_of,
)
from planner.provenance import weakest_first
from planner.response_cache import cache_document, response_hit_rate
from planner.scenario import Scenario
from planner.simulation.load import Load, typical
from planner.simulation.outcome import BATCHES, CONFIDENCE, Latencies, Outcome
from planner.sizing import LEAST_REQUESTS, Probe, Sized, search
from planner.sizing.alternatives import alternatives, probe_table
from planner.sizing.autoscaled import (
    ScaledDay,
    refuse_beside_autoscaler,
    scaled_day,
    scaled_document,
    scaled_origins,
)
from planner.sizing.day import DAY_LEVELS, DayRuns
from planner.sizing.spare import spare_proof
from planner.sizing.warnings import plan_warnings, taken_for_answered
from planner.summary import plan_text
from planner.units import MS_PER_S
from planner.workload import peak_and_day, whole_and_mean_day

STEADY_RULE = (
    "a size is accepted only if the upper end of the 95 % batch-means interval meets every limit; "
    "the next smaller fleet was simulated too"
)
OWN_RULE = "judged by the run's own statistic, for the demand as given; the next smaller fleet was simulated too"
NOTHING: dict[str, Any] = {
    "model": None,
    "fleet": None,
    "at_peak": None,
    "one_fewer": None,
    "one_fewer_gap": "",
    "spare_proof": None,
    "day": [],
    "capacity_curve": [],
    "distributions": {},
    "cost": None,
    "cost_lines": [],
    "revenue": None,
    "margin": None,
    "break_even": {"qps": None, "rpm_usd": None, "gpu_hour_usd": None},
    "break_even_after_training": None,
    "economics_notes": [],
    "load_shape": None,
    "autoscaler": None,
    "confidence": None,
    "provenance": [],
}


@dataclass(frozen=True)
class Plan:
    """The answer of `plan`. `document` has the JSON names; `probes` is a table of every simulated point."""

    document: dict[str, Any] = field(repr=False)
    probes: pd.DataFrame = field(repr=False)

    @property
    def feasible(self) -> bool:
        """Whether any fleet holds the service levels."""
        return bool(self.document["feasible"])

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return plan_text(self.document)


def plan(
    scenario: Scenario,
    *,
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
    worlds: int = WORLDS,
) -> Plan:
    """Search every combination of the scenario's lists and answer with the cheapest fleet.

    `requests` sets how many queries a full-length run counts (default: 1,000 beyond the strictest percentile).
    `worlds` is the most possible worlds that a band is drawn from; 0 leaves bands out.
    `progress(what, done, total)` is called as candidates are sized. Raises InputErrors; a scenario that no fleet can
    serve is no error but a plan with `feasible` false.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: plan looks for the cheapest fleet that holds service levels")
    if requests is not None and requests < LEAST_REQUESTS:
        rule = f"must be at least {LEAST_REQUESTS}: fewer give no confidence interval"
        raise ScenarioError("requests", requests, rule, str(LEAST_REQUESTS))
    refuse_failures(scenario, "plan")
    refuse_beside_autoscaler(scenario)
    training_of(scenario)  # a GPU that the catalogue has not is refused before the search
    given, scenario, tell = scenario, peak_and_day(scenario), progress or (lambda what, done, total: None)
    still = scenario  # as it is at one moment
    if scenario.fleet.autoscaler is not None:
        still = scenario.with_values({"fleet.autoscaler": None})
    found = search(scenario, seed, requests or default_queries(still), tell)
    scaled = None
    if found.chosen is not None and still is not scenario:
        deployment, prices = found.chosen.option.deployment, found.chosen.option.prices
        ways = whole_and_mean_day(given)
        scaled = scaled_day(deployment, scenario, prices, found.chosen.replicas, ways, seed, tell)
    answer = NOTHING if found.chosen is None else _answer(given, still, seed, found.chosen, worlds, scaled)
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": plan_warnings(given, still, seed, found, scaled, answer),
        "response_cache": cache_document(scenario),
        "feasible": found.chosen is not None,
        **answer,
        "alternatives": alternatives(found),
        "waterfall": [],
        "uncertainty": None,
    }
    return Plan(document, probe_table(found))


def _answer(
    given: Scenario, scenario: Scenario, seed: int, chosen: Sized, worlds: int, scaled: ScaledDay | None
) -> dict[str, Any]:
    """Everything about the chosen fleet: `scenario` is the `given` one as it is at one moment, `scaled` its day."""
    deployment = chosen.option.deployment
    serving = chosen.replicas - chosen.spare
    peak, fewer = chosen.size.probe(serving), chosen.size.one_fewer
    at_peak = _served(scenario, deployment, peak, seed, worlds)
    demand = chosen.demand
    day = DayRuns(deployment, scenario, seed, float(peak.outcome.figures["e2e_ms"]["mean"]) / MS_PER_S)
    money = _money(scenario, chosen, demand, peak.outcome, day, scaled)
    shape = _load_shape(scenario, chosen, demand)
    answers = money_document(scenario, chosen.gpus, chosen.option.prices, money, shape)
    sold = [*money.provenance, *assumed_billing(scenario), *chosen.option.price_rows]
    proof = spare_proof(deployment, scenario, peak.load, chosen.replicas, seed)
    unsaid = [
        *retry_origins(scenario, stopped=proof is not None),
        *assumed_demand(given),
        *assumed_prices(scenario),
        *taken_for_answered(scenario, peak.outcome, scaled),
        *([] if scaled is None else scaled_origins(given)),
    ]
    rows = weakest_first([*deployment.provenance_of(serving), *sold, *unsaid])
    return {
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, chosen.replicas, chosen.spare),
        "at_peak": at_peak,
        "one_fewer": None if fewer is None else _served(scenario, deployment, fewer, seed, worlds),
        "one_fewer_gap": "" if fewer is None else fewer.broken(),
        "spare_proof": proof,
        "day": answers["day"],
        "capacity_curve": [probe.row("serving") for probe in sorted(chosen.size.probes, key=_rising)],
        "distributions": peak.outcome.histograms() | _token_histograms(peak.load),
        **answers,
        "autoscaler": None if scaled is None else scaled_document(scaled, chosen.option.prices),
        "confidence": {
            "rule": STEADY_RULE if scenario.demand == "open" else OWN_RULE,
            "level": CONFIDENCE,
            "batches": BATCHES,
            "samples": peak.outcome.figures["queries"],
            "weakest": rows[0].kind,
            **at_peak["confidence"],
        },
        "provenance": [row.as_dict() for row in rows],
    }


def _rising(probe: Probe) -> tuple[float, bool, bool, bool]:
    """By size; of its runs last the full one on the search's own seed, or one that fails on another."""
    return probe.at, probe.full, not probe.met, probe.other_seed is None


def _served(scenario: Scenario, deployment: Deployment, probe: Probe, seed: int, worlds: int) -> dict[str, Any]:
    """A simulated size with its bands; `other_seed` where its arrays are not those of `seed`."""
    own = seed if probe.other_seed is None else probe.other_seed
    around = bands(deployment, scenario, probe.outcome, probe.load, int(probe.at), own, worlds)
    pause = session_pause(deployment, scenario, probe.load, probe.outcome, int(probe.at), own)
    return {
        **run_document(deployment, probe.load, probe.outcome, around),
        **with_hits(scenario, probe.load, probe.outcome),
        **with_pause(pause),
        **({} if probe.other_seed is None else {"other_seed": probe.other_seed}),
    }


# --- revenue and the day ---


def _money(
    scenario: Scenario, chosen: Sized, demand: Demand, at_peak: Outcome, day: DayRuns, scaled: ScaledDay | None
) -> Economics:
    """Cost, revenue and margin of the chosen fleet, on all day, or as its autoscaler runs it; who leaves is told by
    each hour's latencies, the spares idle.
    """

    def latencies_at(of_peak: float) -> Latencies:
        serving = chosen.replicas - chosen.spare
        return at_peak.latencies if of_peak == 1 else day.at(of_peak, serving).latencies

    return unit_economics(
        chosen.gpus,
        chosen.option.prices,
        demand,
        revenue_model(scenario),
        _utilisation(scenario, chosen.replicas, demand, at_peak, day) if scaled is None else scaled.utilisation,
        leaving=leaving(scenario, demand, latencies_at),
        training=training_of(scenario),
        paid=None if scaled is None else scaled.paid,
    )


def _load_shape(scenario: Scenario, chosen: Sized, demand: Demand) -> LoadShape | None:
    """A fleet that follows the day beside the chosen one; None where the demand names no day."""
    if scenario.traffic.peak_qps is None:
        return None
    fleet = scenario.fleet
    size = Size(
        serving=chosen.replicas - chosen.spare,
        spare=chosen.spare,
        gpus_per_replica=chosen.option.deployment.gpus_per_replica,
        min_replicas=fleet.min_replicas,
        startup_s=fleet.startup_s,
    )
    return load_shape(size, chosen.option.prices, demand)


def _utilisation(
    scenario: Scenario, replicas: int, demand: Demand, at_peak: Outcome, day: DayRuns
) -> tuple[float, ...]:
    """Utilisation of all replicas, the spare ones serving too, in each hour: simulated at a few levels of the load."""
    peak_qps = scenario.traffic.peak_qps
    if peak_qps is None:
        return utilisation_by_hour(demand, [(demand.peak_qps, at_peak.figures["utilisation"])])
    reaching = 1.0 - response_hit_rate(scenario)
    points = []
    for level in DAY_LEVELS:
        alike = level * (1.0 - response_hit_rate(day.quiet(level))) / reaching  # load of the model, of the peak's
        points.append((alike * peak_qps, day.at(level, replicas).figures["utilisation"]))
    return utilisation_by_hour(demand, points)


def _token_histograms(load: Load) -> dict[str, Any]:
    tables = {}
    for name, values in (("prompt_tokens", load.prompt_tokens), ("output_tokens", load.output_tokens)):
        counts, edges = np.histogram(values[typical(load)], bins=40)
        tables[name] = {"edges": edges.tolist(), "counts": counts.astype(float).tolist()}
    return tables
