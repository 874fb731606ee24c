"""What is done to a fleet while it runs: replicas that stop, drain, start or slow down, and what the router admits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.simulation.autoscaler import Scaling

What = Literal["stop", "drain", "boot", "start", "pace"]


@dataclass(frozen=True)
class Change:
    """One thing that happens to one replica.

    - stop: what it has in hand is lost, its cache too; it is off at once.
    - drain: it gets nothing new, finishes its own, and is then off, its cache lost.
    - boot: it is being started: on (and paid for), but not serving yet.
    - start: it serves, with an empty cache.
    - pace: from its next step on every step takes `factor` times as long as the step cost says.

    `at_s` counts from the start of the run; inf = it comes `then_s` after the change that names it as `then` (its place
    in the list) is done. A drain is done when the replica is off, anything else at once. Drain, boot, start in a chain
    are a restart: if a replica does not serve, or stops meanwhile, what is left of the chain at this replica does not
    happen, and what it names of another one is due at once.
    """

    at_s: float
    replica: int
    what: What
    factor: float = 1.0
    then: int = -1
    then_s: float = 0.0


@dataclass(frozen=True)
class Control:
    """`retry`: a request that a stopped replica had is sent again `retry_after_s` later, from its beginning; otherwise
    its query is lost. `room`: unfinished requests that a replica may have (0 = any number); a query one of whose calls
    finds no room is rejected. `serving`: how many replicas serve from the start, the first ones (None = all).
    `scaling`: the fleet is watched hour by hour, and may be scaled.
    """

    changes: tuple[Change, ...] = ()
    retry: bool = True
    retry_after_s: float = 0.0
    room: int = 0
    serving: int | None = None
    scaling: Scaling | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is done to the fleet at all."""
        return not self.changes and self.room == 0 and self.serving is None and self.scaling is None

    @property
    def factors(self) -> list[float]:
        """The paces that occur, the usual one left out."""
        return sorted({change.factor for change in self.changes if change.what == "pace"} - {1.0})


NO_CONTROL = Control()
