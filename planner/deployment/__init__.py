"""From a scenario to something that can be run: lists resolved, names looked up, everything cross-checked.

`candidates` unfolds the lists of a scenario · `runs` gives one candidate its KV cache, its scheduler and its step cost,
or refuses it, and simulates fleets of it · `parts` cuts the step cost into what load tests can tell, `calibrated` puts
a calibration file in its place · `documents` says in JSON names what was run · `simulation` is the verb.
"""

from collections.abc import Callable

from planner.deployment.bands import WORLDS, Bands, World, bands, draw_worlds, in_world, worlds
from planner.deployment.candidates import Candidate, Rejected, candidates, only_candidate
from planner.deployment.documents import (
    SCHEMA_VERSION,
    fleet_document,
    run_document,
    warnings_document,
    with_hits,
)
from planner.deployment.failures import refuse_failures
from planner.deployment.runs import (
    FULL_SPANS,
    Deployment,
    Length,
    default_queries,
    deploy,
    idle_e2e_s,
    idle_outcome,
    make_load,
    run,
    run_length,
)
from planner.deployment.simulation import Simulation, simulate

Progress = Callable[[str, int, int], None]

__all__ = [
    "FULL_SPANS",
    "SCHEMA_VERSION",
    "WORLDS",
    "Bands",
    "Candidate",
    "Deployment",
    "Length",
    "Progress",
    "Rejected",
    "Simulation",
    "World",
    "bands",
    "candidates",
    "default_queries",
    "deploy",
    "draw_worlds",
    "fleet_document",
    "idle_e2e_s",
    "idle_outcome",
    "in_world",
    "make_load",
    "only_candidate",
    "refuse_failures",
    "run",
    "run_document",
    "run_length",
    "simulate",
    "warnings_document",
    "with_hits",
    "worlds",
]
