"""The most load that a given fleet carries within the service levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from planner.deployment import (
    FULL_SPANS,
    SCHEMA_VERSION,
    Deployment,
    Length,
    Progress,
    bands,
    default_queries,
    deploy,
    fleet_document,
    idle_e2e_s,
    idle_outcome,
    make_load,
    only_candidate,
    refuse_failures,
    run,
    run_document,
    run_length,
    warnings_document,
    with_hits,
    worlds,
)
from planner.deployment.collapse import Pause, most_warnings, session_pause, with_pause
from planner.deployment.no_effect import no_effect
from planner.errors import ScenarioError
from planner.performance import RUN_TO_RUN, layered_normals, log_spreads
from planner.scenario import ClosedArrivals, Scenario
from planner.sizing.most import most_clients, most_rate
from planner.sizing.probes import LEAST_REQUESTS, SHORT_SPANS, Probe, short_of
from planner.summary import capacity_text
from planner.units import MS_PER_S

RATE_TOLERANCE = 0.01  # the most load is found to within 1 %
BAND_TOLERANCE = 0.04  # and in other possible worlds to within 4 %, which leaves an 80 % band of 24 worlds as it is
BAND_WORLDS = 24
BAND_QUERIES = 2000  # of a rate's runs in those worlds
BAND_LOW, BAND_HIGH = 0.1, 0.9
WHOLE = Length(0, 0, 0)  # a closed loop says its own length


@dataclass(frozen=True)
class Capacity:
    """The answer of `capacity`; `probes` is a table of every simulated point."""

    document: dict[str, Any] = field(repr=False)
    probes: pd.DataFrame = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return capacity_text(self.document)

    @property
    def feasible(self) -> bool:
        """Whether any load at all holds the service levels."""
        return self.document["at_max"] is not None


def capacity(
    scenario: Scenario,
    *,
    vary: Literal["rate", "concurrency"] = "rate",
    seed: int = 0,
    requests: int | None = None,
    progress: Progress | None = None,
) -> Capacity:
    """The most load that `fleet.replicas` (default 1), less the spare ones, carry within the SLO, with its 80 % band.

    `rate`: queries per second of open arrivals, all users' (the response cache's included), to within 1 %.
    `concurrency`: clients of a closed loop. Raises InputErrors for lists, a missing SLO, and a load that does not
    fit `vary`.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: capacity is the most load within service levels")
    if requests is not None and requests < LEAST_REQUESTS:
        rule = f"must be at least {LEAST_REQUESTS}: fewer give no confidence interval"
        raise ScenarioError("requests", requests, rule, str(LEAST_REQUESTS))
    refuse_failures(scenario, "capacity")
    deployment = deploy(only_candidate(scenario, "capacity"))
    replicas = scenario.fleet.replicas or 1
    serving = replicas - scenario.fleet.spare_replicas
    if serving < 1:
        rule = f"leaves none of fleet.replicas (={replicas}) to serve"
        raise ScenarioError("fleet.spare_replicas", scenario.fleet.spare_replicas, rule, str(replicas - 1))
    fleet = _Fleet(deployment, scenario, serving, seed, progress or (lambda what, done, total: None))
    if vary == "rate":
        best, band = _most_rate(fleet, requests)
        axis, name = "rate_qps", "max_rate_qps"
    else:
        best, band = _most_concurrency(fleet)
        axis, name = "concurrency", "max_concurrency"
    probes = fleet.probes
    table = pd.DataFrame([probe.row(axis) for probe in probes])
    over = [probe for probe in probes if not probe.met and (best is None or probe.at > best.at)]
    limited_by = min(over, key=lambda probe: probe.at).broken() if over else "nothing within the range searched"
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": [
            *warnings_document([deployment]),
            *no_effect(scenario, [deployment], "capacity"),
            *([] if best is None else most_warnings(_pause(fleet, best), seed)),
        ],
        "vary": vary,
        name: 0 if best is None else best.at,
        "band80": {} if best is None else {name: band},
        "limited_by": limited_by,
        "probes": [probe.row(axis) for probe in sorted(probes, key=lambda probe: probe.at)],
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas, scenario.fleet.spare_replicas),
        "at_max": None if best is None else _at_max(fleet, best),
        "kv_cache_tokens": deployment.kv.logged_tokens,
        "provenance": [row.as_dict() for row in deployment.provenance_of(serving)],
    }
    return Capacity(document, table)


@dataclass(frozen=True)
class _Fleet:
    """What is asked how much it carries, and every load it was tried under."""

    deployment: Deployment
    scenario: Scenario
    serving: int
    seed: int
    tell: Progress
    probes: list[Probe] = field(default_factory=list)

    def kept(self, probe: Probe) -> Probe:
        """Keep a probe for the answer."""
        self.probes.append(probe)
        self.tell("capacity", len(self.probes), 0)
        return probe

    def in_other_worlds(self) -> list[Deployment]:
        """The deployment as it is, then as it might be."""
        return [self.deployment, *worlds(self.deployment, self.seed, BAND_WORLDS)]

    def at(self, probe: Probe) -> Scenario:
        """The scenario under the load of a probe."""
        if self.scenario.demand != "open":
            return self.scenario
        return self.scenario.with_values({"traffic.peak_qps": probe.at})


def _pause(fleet: _Fleet, best: Probe) -> Pause | None:
    """A session's pause at the most load."""
    return session_pause(fleet.deployment, fleet.at(best), best.load, best.outcome, fleet.serving, fleet.seed)


def _at_max(fleet: _Fleet, best: Probe) -> dict[str, Any]:
    """The run at the most load, with its bands."""
    at = fleet.at(best)
    around = bands(fleet.deployment, at, best.outcome, best.load, fleet.serving, fleet.seed)
    found = run_document(fleet.deployment, best.load, best.outcome, around)
    return found | with_hits(at, best.load, best.outcome) | with_pause(_pause(fleet, best))


def _band(most: list[float], best: float, name: str, seed: int) -> list[float]:
    """80 % band of the most load: the answer times the quantiles of other worlds' most over the nominal one's.

    As of any figure, two measurements of it differ from run to run.
    """
    nominal, *others = most
    if nominal == 0.0:
        return [0.0, best]  # it holds with confidence at full length but not on a short run: nothing tells how much
    noise = np.exp(log_spreads()[RUN_TO_RUN] * layered_normals(name, len(others), seed))
    low, high = np.quantile(np.array(others) / nominal * noise, [BAND_LOW, BAND_HIGH])
    return [best * min(float(low), 1.0), best * max(float(high), 1.0)]


def _most_rate(fleet: _Fleet, requests: int | None) -> tuple[Probe | None, list[float]]:
    scenario, deployment, seed = fleet.scenario, fleet.deployment, fleet.seed
    if scenario.demand != "open":
        raise ScenarioError(
            "traffic.arrivals", scenario.demand, "has no rate to vary", "--vary concurrency, or arrivals: poisson"
        )
    unit = scenario.with_values({"traffic.peak_qps": 1.0})
    queries = requests or default_queries(scenario)
    _, idle = idle_outcome(deployment, unit, short_of(queries), seed)
    row = idle.figures["e2e_ms"]
    start = 1.0 if row is None else fleet.serving * MS_PER_S / row["mean"]  # one query at a time

    def at(rate: float, world: Deployment, counted: int, spans: int, full: bool) -> Probe:
        at_rate = scenario.with_values({"traffic.peak_qps": rate})
        length = run_length(at_rate, counted, idle_e2e_s(idle), spans)
        load = make_load(at_rate, world.config.max_model_len, seed, length)
        return Probe(rate, full, load, run(world, at_rate, load, fleet.serving, seed))

    def short(rate: float) -> Probe:
        return fleet.kept(at(rate, deployment, short_of(queries), SHORT_SPANS, full=False))

    def whole(rate: float) -> Probe:
        return fleet.kept(at(rate, deployment, queries, FULL_SPANS, full=True))

    rough = most_rate(short, start, 2.0, RATE_TOLERANCE)
    best = None if rough is None else most_rate(whole, rough.at, 1 + 2 * RATE_TOLERANCE, RATE_TOLERANCE)
    if best is None:
        return None, []
    counted = min(BAND_QUERIES, queries)

    def in_world(world: Deployment) -> float:
        found = most_rate(lambda rate: at(rate, world, counted, SHORT_SPANS, full=False), best.at, 1.1, BAND_TOLERANCE)
        return 0.0 if found is None else found.at

    return best, _band([in_world(world) for world in fleet.in_other_worlds()], best.at, "max_rate_qps", seed)


def _most_concurrency(fleet: _Fleet) -> tuple[Probe | None, list[float]]:
    arrivals = fleet.scenario.traffic.arrivals
    if not isinstance(arrivals, ClosedArrivals):
        raise ScenarioError(
            "traffic.arrivals", fleet.scenario.demand, "has no clients to vary", "closed: {concurrency: 1}"
        )
    closed = arrivals.closed

    def at(clients: int, world: Deployment) -> Probe:
        changes: dict[str, Any] = {"traffic.arrivals.closed.concurrency": clients}
        if closed.requests is not None:  # as many for each client as in the scenario
            total = math.ceil(closed.requests * clients / closed.concurrency)
            changes["traffic.arrivals.closed.requests"] = total
        load = make_load(fleet.scenario.with_values(changes), world.config.max_model_len, fleet.seed, WHOLE)
        return Probe(clients, True, load, run(world, fleet.scenario, load, fleet.serving, fleet.seed))

    tried: Callable[[int], Probe] = cache(lambda clients: fleet.kept(at(clients, fleet.deployment)))
    best = most_clients(tried, closed.concurrency)
    if best is None:
        return None, []

    def in_world(world: Deployment) -> float:
        found = most_clients(cache(lambda clients: at(clients, world)), int(best.at), BAND_TOLERANCE)
        return 0.0 if found is None else found.at

    return best, _band([in_world(world) for world in fleet.in_other_worlds()], best.at, "max_concurrency", fleet.seed)
