"""The chosen fleet in the hours below its peak: simulated at levels of the peak rate, each level once."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.deployment import Deployment, make_load, run, run_length
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome

DAY_LEVELS = (0.25, 0.5, 0.75, 1.0)  # of the peak: where the day's utilisation is simulated
DAY_QUERIES, DAY_SPANS = 4000, 3  # how long those runs are at least: queries, and times their mean E2E


@dataclass(frozen=True)
class DayRuns:
    """Runs of one deployment under open arrivals at shares of the scenario's peak rate, shorter than those that settle
    a size. `e2e_s` is the mean E2E at the peak. All sizes see the same arrivals at a level.
    """

    deployment: Deployment
    scenario: Scenario
    seed: int
    e2e_s: float
    _loads: dict[float, Load] = field(default_factory=dict, repr=False)
    _known: dict[tuple[float, int], Outcome] = field(default_factory=dict, repr=False)

    def at(self, of_peak: float, replicas: int) -> Outcome:
        """`of_peak` of the peak rate on so many replicas."""
        if (of_peak, replicas) not in self._known:
            load = self._load(of_peak)
            self._known[of_peak, replicas] = run(self.deployment, self.scenario, load, replicas, self.seed)
        return self._known[of_peak, replicas]

    def quiet(self, of_peak: float) -> Scenario:
        """The scenario at that share of its peak rate."""
        return self.scenario.with_values({"traffic.peak_qps": of_peak * (self.scenario.traffic.peak_qps or 0.0)})

    def _load(self, of_peak: float) -> Load:
        if of_peak not in self._loads:
            quiet = self.quiet(of_peak)
            length = run_length(quiet, DAY_QUERIES, self.e2e_s, DAY_SPANS)
            self._loads[of_peak] = make_load(quiet, self.deployment.config.max_model_len, self.seed, length)
        return self._loads[of_peak]
