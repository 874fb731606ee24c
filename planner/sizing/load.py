"""The most load that a given fleet carries within the service levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from planner.deployment import (
    FULL_SPANS,
    SCHEMA_VERSION,
    Deployment,
    Length,
    Progress,
    default_queries,
    deploy,
    fleet_document,
    idle_e2e_s,
    idle_outcome,
    make_load,
    only_candidate,
    run,
    run_document,
    run_length,
)
from planner.errors import ScenarioError
from planner.scenario import ClosedArrivals, Scenario
from planner.sizing.probes import LEAST_REQUESTS, SHORT_SPANS, Probe, short_of
from planner.summary import capacity_text
from planner.units import MS_PER_S

RATE_TOLERANCE = 0.01  # the most load is found to within 1 %
LEAST_RATE_QPS, MOST_RATE_QPS = 1e-6, 1e6
MOST_CLIENTS = 65_536
WIDEST_STRIDE = 2.0
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
    """The most load that `fleet.replicas` (default 1), less the spare ones, carry within the SLO.

    `rate`: queries per second of open arrivals, all users' (the response cache's included), to within 1 %.
    `concurrency`: clients of a closed loop. Raises InputErrors for lists, a missing SLO, and a load that does not
    fit `vary`.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: capacity is the most load within service levels")
    if requests is not None and requests < LEAST_REQUESTS:
        rule = f"must be at least {LEAST_REQUESTS}: fewer give no confidence interval"
        raise ScenarioError("requests", requests, rule, str(LEAST_REQUESTS))
    deployment = deploy(only_candidate(scenario, "capacity"))
    replicas = scenario.fleet.replicas or 1
    serving = replicas - scenario.fleet.spare_replicas
    if serving < 1:
        rule = f"leaves none of fleet.replicas (={replicas}) to serve"
        raise ScenarioError("fleet.spare_replicas", scenario.fleet.spare_replicas, rule, str(replicas - 1))
    tell = progress or (lambda what, done, total: None)
    if vary == "rate":
        probes, best = _most_rate(deployment, scenario, serving, seed, requests, tell)
        axis, name = "rate_qps", "max_rate_qps"
    else:
        probes, best = _most_concurrency(deployment, scenario, serving, seed, tell)
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
        "fleet": fleet_document(deployment, replicas, scenario.fleet.spare_replicas),
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
    _, idle = idle_outcome(deployment, unit, short_of(queries), seed)
    row = idle.figures["e2e_ms"]
    start = 1.0 if row is None else replicas * MS_PER_S / row["mean"]  # one query at a time
    probes: list[Probe] = []

    def at(rate: float, full: bool) -> Probe:
        at_rate = scenario.with_values({"traffic.peak_qps": rate})
        counted, spans = (queries, FULL_SPANS) if full else (short_of(queries), SHORT_SPANS)
        length = run_length(at_rate, counted, idle_e2e_s(idle), spans)
        load = make_load(at_rate, deployment.config.max_model_len, seed, length)
        probes.append(Probe(rate, full, load, run(deployment, at_rate, load, replicas, seed)))
        tell("capacity", len(probes), 0)
        return probes[-1]

    rough = _bracket(lambda rate: at(rate, False), start, 2.0)
    if rough is None:
        return probes, None
    low = _narrow(lambda rate: at(rate, False), *rough)
    settled = _bracket(lambda rate: at(rate, True), low.at, 1 + 2 * RATE_TOLERANCE)
    return probes, None if settled is None else _narrow(lambda rate: at(rate, True), *settled)


def _bracket(at: Callable[[float], Probe], start: float, stride: float) -> tuple[Probe, Probe] | None:
    """A rate that holds and a higher one that does not, from `start` in growing strides; None if none holds.

    The upper one may hold too where the end of the range is reached.
    """
    probe = at(start)
    while probe.met:
        if probe.at >= MOST_RATE_QPS:
            return probe, probe
        low, probe = probe, at(min(probe.at * stride, MOST_RATE_QPS))
        if not probe.met:
            return low, probe
        stride = min(stride * stride, WIDEST_STRIDE)
    while not probe.met:
        if probe.at <= LEAST_RATE_QPS:
            return None
        high, probe = probe, at(max(probe.at / stride, LEAST_RATE_QPS))
        stride = min(stride * stride, WIDEST_STRIDE)
    return probe, high


def _narrow(at: Callable[[float], Probe], low: Probe, high: Probe) -> Probe:
    """The highest rate found to hold, with one at most `RATE_TOLERANCE` above it that does not."""
    while high.at > low.at * (1 + RATE_TOLERANCE):
        probe = at(math.sqrt(low.at * high.at))
        low, high = (probe, high) if probe.met else (low, probe)
    return low


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
            if arrivals.closed.requests is not None:  # as many for each client as in the scenario
                total = math.ceil(arrivals.closed.requests * clients / arrivals.closed.concurrency)
                changes["traffic.arrivals.closed.requests"] = total
            load = make_load(scenario.with_values(changes), deployment.config.max_model_len, seed, WHOLE)
            probes[clients] = Probe(clients, True, load, run(deployment, scenario, load, replicas, seed))
            tell("capacity", len(probes), 0)
        return probes[clients].met

    low, high = 0, min(arrivals.closed.concurrency, MOST_CLIENTS)
    while at(high):
        if high == MOST_CLIENTS:
            return list(probes.values()), probes[high]
        low, high = high, min(high * 2, MOST_CLIENTS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) else (low, middle)
    # Latency need not grow with every client on one path; the answer itself has been run, and so has one more.
    return list(probes.values()), probes[low] if low else None
