"""Engines behind one door: which of them takes the next call."""

from __future__ import annotations

import random
from collections.abc import Sequence

from planner.emulator.engine import Engine
from planner.errors import UnsupportedError
from planner.scenario import Scenario

ROUTINGS = ("random", "round_robin", "least_loaded")


def refuse_unserved(scenario: Scenario, routing: str) -> None:
    """Raise UnsupportedError for what only `simulate` does with a fleet."""
    if routing not in ROUTINGS:
        rule = f"the emulator routes by {', '.join(ROUTINGS)}"
        raise UnsupportedError("fleet.routing", routing, rule, "--set fleet.routing=least_loaded")
    if scenario.fleet.admission is not None:
        limit = scenario.fleet.admission.max_requests_per_replica
        rule = "the emulator lets every request in"
        raise UnsupportedError("fleet.admission.max_requests_per_replica", limit, rule, "--set fleet.admission=null")
    if scenario.fleet.failures:
        rule = "the emulator's own are --fault"
        raise UnsupportedError("fleet.failures", len(scenario.fleet.failures), rule, "--set fleet.failures=[]")


class Fleet:
    """Equal engines and a rule of routing, that of `simulation.fleet`: all samples of a call go to one engine."""

    def __init__(self, engines: Sequence[Engine], routing: str, rng: random.Random) -> None:
        self.engines = tuple(engines)
        self._routing, self._rng = routing, rng
        self._turn = 0

    def route(self) -> Engine:
        """The engine for the next call. `least_loaded`: the fewest unfinished calls, ties in turn."""
        count = len(self.engines)
        chosen = self._turn
        if self._routing == "random":
            chosen = self._rng.randrange(count)
        elif self._routing == "least_loaded":
            chosen = min(((self._turn + k) % count for k in range(count)), key=lambda i: self.engines[i].outstanding)
        self._turn = (chosen + 1) % count
        return self.engines[chosen]

    def now_s(self) -> float:
        """The clock that all engines share."""
        return self.engines[0].now_s()

    def stop(self) -> None:
        """Stop every engine."""
        for engine in self.engines:
            engine.stop()
