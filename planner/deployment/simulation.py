"""simulate(): one fleet under one load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from planner.deployment.bands import bands
from planner.deployment.candidates import only_candidate
from planner.deployment.documents import SCHEMA_VERSION, fleet_document, run_document, warnings_document
from planner.deployment.runs import (
    FULL_SPANS,
    IDLE_QUERIES,
    Length,
    default_queries,
    deploy,
    idle_e2e_s,
    idle_outcome,
    make_load,
    run,
    run_length,
)
from planner.scenario import Scenario
from planner.simulation.outcome import Outcome
from planner.summary import simulation_text


@dataclass(frozen=True)
class Simulation:
    """The answer of `simulate`; `document` has the JSON names, `outcome` the arrays behind them."""

    document: dict[str, Any] = field(repr=False)
    outcome: Outcome = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return simulation_text(self.document)


def simulate(
    scenario: Scenario, *, seed: int = 0, requests: int | None = None, duration_s: float | None = None
) -> Simulation:
    """One fleet (`fleet.replicas`, default 1) under one load.

    `requests` or `duration_s` set the length of an open-loop run (queries counted after a warm-up); the default is
    `default_queries`, or more where that would not last `FULL_SPANS` times as long as a query. Raises InputErrors for
    lists and for whatever cannot be run.
    """
    deployment = deploy(only_candidate(scenario, "simulate"))
    length = Length(0, 0, 0)
    if scenario.demand == "open":
        _, idle = idle_outcome(deployment, scenario, IDLE_QUERIES, seed)
        spans = 0 if requests else FULL_SPANS
        length = run_length(scenario, requests or default_queries(scenario), idle_e2e_s(idle), spans)
    load = make_load(scenario, deployment.config.max_model_len, seed, length, duration_s)
    replicas = scenario.fleet.replicas or 1
    outcome = run(deployment, scenario, load, replicas, seed)
    around = bands(deployment, scenario, outcome, load, replicas, seed)
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": warnings_document([deployment]),
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas),
        **run_document(deployment, load, outcome, around),
        "provenance": [row.as_dict() for row in deployment.provenance_of(replicas)],
    }
    return Simulation(document, outcome)
