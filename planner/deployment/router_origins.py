"""Where the simulated router does more than the one that `planner manifests` renders: rows of provenance."""

from __future__ import annotations

from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.scenario.fleet import StopFailure

CHOOSES_FIRST = ("random", "power_of_two", "session_affinity")  # in HAProxy, before it looks for room (docs/deploy.md)
ROUTERS = 2  # rendered ones, where each of them can let a call to a replica; else one
RETRIED = (
    "requests of a replica that stops are sent again to another, whatever was answered of them; the rendered router "
    "does so for what was not begun to be answered, streams that broke off only the clients can send again"
)


def admission_origins(scenario: Scenario, routing: str) -> list[Provenance]:
    """Of `fleet.admission` under a routing; nothing without it."""
    limit = scenario.fleet.admission
    if limit is None:
        return []
    source = "one router that knows every replica's room" + _rendered(scenario, limit.max_requests_per_replica)
    if routing in CHOOSES_FIRST:
        source += f", and under {routing} HAProxy chooses a replica before it looks for room"
    value = f"{limit.max_requests_per_replica} requests a replica"
    return [Provenance("fleet.admission", "assumed", source, value, errs="optimistic")]


def _rendered(scenario: Scenario, room: int) -> str:
    """How much of a replica's room the rendered routers know of: HAProxy counts calls, the simulator their samples."""
    samples = max((stage.samples for stage in scenario.query.stages), default=1)
    if room // samples >= ROUTERS:
        return "; of the two that manifests render (one with --compose) each has half of it"
    each = f" of {samples} samples" if samples > 1 else ""
    return f"; manifests render one too, which lets one call{each} to a replica at a time"


def stopped_in(scenario: Scenario) -> bool:
    """Whether a replica stops in a run through `fleet.failures`; one that is restarted finishes what it has."""
    return any(isinstance(failure, StopFailure) for failure in scenario.fleet.failures)


def retry_origins(scenario: Scenario, *, stopped: bool) -> list[Provenance]:
    """Of `fleet.retry` in an answer for which replicas stopped with what they had in hand; nothing where none did."""
    if not (stopped and scenario.fleet.retry):
        return []
    return [Provenance("fleet.retry", "assumed", RETRIED, errs="optimistic")]
