"""The fleet that a plan chose, simulated again: at other sizes, and at other rates."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.deployment import (
    FULL_SPANS,
    Deployment,
    default_queries,
    deploy,
    idle_e2e_s,
    idle_outcome,
    make_load,
    only_candidate,
    run,
    run_length,
)
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.sizing.day import DayRuns
from planner.sizing.probes import Probe, short_of
from planner.units import MS_PER_S


@dataclass(frozen=True)
class FleetRuns:
    """Full-length runs of one deployment, as long as those that `plan` settles a size on, hence the same figures."""

    deployment: Deployment
    scenario: Scenario
    seed: int
    queries: int
    idle_e2e_s: float
    load: Load = field(repr=False)  # of the scenario's own demand
    _known: dict[int, Outcome] = field(default_factory=dict, repr=False)

    def at(self, serving: int) -> Outcome:
        """The scenario's demand on so many serving replicas."""
        if serving not in self._known:
            self._known[serving] = run(self.deployment, self.scenario, self.load, serving, self.seed)
        return self._known[serving]

    def at_rate(self, rate_qps: float, serving: int) -> Probe:
        """Another peak rate of open arrivals, in queries/s of all users, on so many serving replicas."""
        changed = self.scenario.with_values({"traffic.peak_qps": rate_qps})
        load = self._load(changed, self.queries, FULL_SPANS)
        return Probe(rate_qps, True, load, run(self.deployment, changed, load, serving, self.seed))

    def day(self, serving: int) -> DayRuns:
        """The hours below the peak, as the plan simulates them where so many replicas serve at its peak."""
        e2e_s = float(self.at(serving).figures["e2e_ms"]["mean"]) / MS_PER_S
        return DayRuns(self.deployment, self.scenario, self.seed, e2e_s)

    def _load(self, scenario: Scenario, queries: int, spans: int) -> Load:
        length = run_length(scenario, queries, self.idle_e2e_s, spans)
        return make_load(scenario, self.deployment.config.max_model_len, self.seed, length)


def fleet_runs(scenario: Scenario, seed: int, requests: int | None) -> FleetRuns:
    """Runs of a scenario without lists (see `chosen.pinned`), with the seed and the length of its plan."""
    deployment = deploy(only_candidate(scenario, "economics"))
    queries = requests or default_queries(scenario)
    _, idle = idle_outcome(deployment, scenario, short_of(queries), seed)
    e2e_s = idle_e2e_s(idle)
    length = run_length(scenario, queries, e2e_s, FULL_SPANS)
    load = make_load(scenario, deployment.config.max_model_len, seed, length)
    return FleetRuns(deployment, scenario, seed, queries, e2e_s, load)
