"""Where the simulated router does more than the one that `planner manifests` renders: rows of provenance."""

from __future__ import annotations

from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.scenario.fleet import StopFailure

CHOOSES_FIRST = ("random", "power_of_two", "session_affinity")  # in HAProxy, before it looks for room (docs/deploy.md)
RETRIED = (
    "requests of a replica that stops are sent again to another, whatever was answered of them; the rendered router "
    "does so for what was not begun to be answered, streams that broke off only the clients can send again"
)


def admission_origins(scenario: Scenario, routing: str) -> list[Provenance]:
    """Of `fleet.admission` under a routing; nothing without it."""
    limit = scenario.fleet.admission
    if limit is None:
        return []
    source = "one router that knows every replica's room; of the two that manifests render each has half of it"
    if routing in CHOOSES_FIRST:
        source += f", and under {routing} HAProxy chooses a replica before it looks for room"
    value = f"{limit.max_requests_per_replica} requests a replica"
    return [Provenance("fleet.admission", "assumed", source, value, errs="optimistic")]


def retry_origins(scenario: Scenario) -> list[Provenance]:
    """Of `fleet.retry`, where a replica stops: one of `fleet.failures`, or the spare ones in their proof."""
    fleet = scenario.fleet
    stops = fleet.spare_replicas > 0 or any(isinstance(failure, StopFailure) for failure in fleet.failures)
    return [Provenance("fleet.retry", "assumed", RETRIED, errs="optimistic")] if stops and fleet.retry else []
