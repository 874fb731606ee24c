"""The most load that a given fleet carries within the service levels."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from planner.deployment import (
    SCHEMA_VERSION,
    Deployment,
    Progress,
    default_queries,
    deploy,
    fleet_document,
    make_load,
    only_candidate,
    run,
    run_document,
)
from planner.errors import ScenarioError
from planner.scenario import ClosedArrivals, Scenario
from planner.simulation.load import Load
from planner.sizing.probes import Probe, short_of
from planner.summary import capacity_text

RATE_TOLERANCE = 0.01  # the most load is found to within 1 %
LEAST_RATE_QPS, MOST_RATE_QPS = 1e-6, 1e9
MOST_CLIENTS = 1_000_000


@dataclass(frozen=True)
class Capacity:
    """The answer of `capacity`; `probes` is a table of every simulated point."""

    document: dict[str, Any]
    probes: pd.DataFrame

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
    """The most load that `fleet.replicas` (default 1) carry within the SLO.

    `rate`: queries per second of open arrivals, all users' (the response cache's included), to within 1 %.
    `concurrency`: clients of a closed loop. Raises InputErrors for lists, a missing SLO, and a load that does not
    fit `vary`.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: capacity is the most load within service levels")
    deployment = deploy(only_candidate(scenario, "capacity"))
    replicas = scenario.fleet.replicas or 1
    tell = progress or (lambda what, done, total: None)
    if vary == "rate":
        probes, best = _most_rate(deployment, scenario, replicas, seed, requests, tell)
        axis, name = "rate_qps", "max_rate_qps"
    else:
        probes, best = _most_concurrency(deployment, scenario, replicas, seed, tell)
        axis, name = "concurrency", "max_concurrency"
    table = pd.DataFrame([probe.row(axis) for probe in probes])
    over = [probe for probe in probes if not probe.met and (best is None or probe.at > best.at)]
    limited_by = min(over, key=lambda probe: probe.at).broken() if over else "nothing within the range searched"
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "vary": vary,
        name: 0 if best is None else best.at,
        "limited_by": limited_by,
        "probes": [probe.row(axis) for probe in sorted(probes, key=lambda probe: probe.at)],
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas),
        "at_max": None if best is None else run_document(deployment, best.load, best.outcome),
        "kv_cache_tokens": deployment.kv.tokens,
        "provenance": [row.as_dict() for row in deployment.provenance],
    }
    return Capacity(document, table)


def _most_rate(
    deployment: Deployment,
    scenario: Scenario,
    replicas: int,
    seed: int,
    requests: int | None,
    tell: Progress,
) -> tuple[list[Probe], Probe | None]:
    if scenario.demand != "open":
        raise ScenarioError(
            "traffic.arrivals", scenario.demand, "has no rate to vary", "--vary concurrency, or arrivals: poisson"
        )
    unit = scenario.with_values({"traffic.peak_qps": 1.0})
    queries = requests or default_queries(scenario)
    short = short_of(queries)
    loads = {
        True: make_load(unit, deployment.config.max_model_len, seed, queries),
        False: make_load(unit, deployment.config.max_model_len, seed, short),
    }
    probes: list[Probe] = []

    def at(rate: float, full: bool) -> Probe:
        load = dataclasses.replace(loads[full], arrival_s=loads[full].arrival_s / rate)
        probes.append(Probe(rate, full, load, run(deployment, scenario, load, replicas, seed)))
        tell("capacity", len(probes), 0)
        return probes[-1]

    # --- on short runs: outwards by doubling, then inwards by halves ---
    low, high = 0.0, replicas / _seconds_a_query(deployment, loads[False])
    if at(high, False).met:
        while probes[-1].met and high < MOST_RATE_QPS:
            low, high = high, high * 2
            at(high, False)
    else:
        low = high
        while not probes[-1].met:
            high, low = low, low / 2
            if low < LEAST_RATE_QPS:
                return probes, None
            at(low, False)
    while high > low * (1 + RATE_TOLERANCE):
        middle = math.sqrt(low * high)
        if at(middle, False).met:
            low = middle
        else:
            high = middle
    # --- on full-length runs: down until it holds with confidence, up while it still does ---
    rate = low
    held = at(rate, True)
    if held.met:
        while True:
            more = at(rate * (1 + RATE_TOLERANCE), True)
            if not more.met:
                break
            held, rate = more, more.at
    else:
        while not held.met:
            rate /= 1 + RATE_TOLERANCE
            if rate < LEAST_RATE_QPS:
                return probes, None
            held = at(rate, True)
    return probes, held


def _seconds_a_query(deployment: Deployment, load: Load) -> float:
    """What one query costs an otherwise idle replica, roughly: where a search for the most load begins."""
    prompt, output = float(load.prompt_tokens.mean()), float(load.output_tokens.mean())
    cost = deployment.cost
    at = min(round(prompt), len(cost.tokens_s) - 1)
    return load.width * (float(cost.tokens_s[at]) + output * float(cost.tokens_s[1] + cost.requests_s[1]))


def _most_concurrency(
    deployment: Deployment, scenario: Scenario, replicas: int, seed: int, tell: Progress
) -> tuple[list[Probe], Probe | None]:
    arrivals = scenario.traffic.arrivals
    if not isinstance(arrivals, ClosedArrivals):
        raise ScenarioError("traffic.arrivals", scenario.demand, "has no clients to vary", "closed: {concurrency: 1}")
    probes: dict[int, Probe] = {}

    def at(clients: int) -> bool:
        if clients not in probes:
            changes: dict[str, Any] = {"traffic.arrivals.closed.concurrency": clients}
            if arrivals.closed.requests is not None:
                changes["traffic.arrivals.closed.requests"] = max(arrivals.closed.requests, clients)
            load = make_load(scenario.with_values(changes), deployment.config.max_model_len, seed, None)
            probes[clients] = Probe(clients, True, load, run(deployment, scenario, load, replicas, seed))
            tell("capacity", len(probes), 0)
        return probes[clients].met

    low, high = 0, max(1, arrivals.closed.concurrency)
    while at(high) and high < MOST_CLIENTS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) else (low, middle)
    # Latency need not grow with every client on one path; the answer itself has been run, and so has one more.
    return list(probes.values()), probes[low] if low else None
