"""What a run left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.simulation.fleet_scaling import Watch
from planner.simulation.fleet_world import LOST, REJECTED, TIMED_OUT
from planner.simulation.kernel_state import Gaps
from planner.simulation.load import Load
from planner.simulation.operations import NO_CONTROL, Control
from planner.simulation.stays import NO_STAYS, Stays

__all__ = ["LOST", "REJECTED", "TIMED_OUT", "FleetRun", "without_cooldown"]


@dataclass(frozen=True)
class FleetRun:
    """What a run left behind: per query, per request, per replica.

    Times in seconds from the start of the run. NaN = it never happened. `ledger` has one row a replica with the
    fields of `kernel_state.SCALARS` from `steps` on. `steady` has the same as they stood when the last query of an
    open load reached the engines: means over time are taken from it, since a run's drain says nothing of the load.
    With sessions it is what was added to it from the first counted query to the last session's first turn: before, only
    early turns are under way.
    A replica that stopped has everything in its ledger that it did, the work that was lost with it too. Work that was
    lost: `lost_tokens`, whose keys and values a stop threw away. `on_s` is the time that a replica was paid for: it
    served, drained or started. `marks` has the ledgers at the instants that `run_fleet` was asked for. Noted of a run
    event by event only: `on`, when each replica was on, and `away`, when a request under way was at no replica: it
    waited at the router while none served, or to begin again after a stop.
    `wall_s` is the time inside the simulator's loops.
    """

    load: Load
    replicas: int
    arrival_s: NDArray[np.float64]  # [Q] scheduled
    sent_s: NDArray[np.float64]  # [Q] left the client
    why_failed: NDArray[np.int8]  # [Q] 0 = it did not, TIMED_OUT, REJECTED, LOST
    failed_s: NDArray[np.float64]  # [Q] when
    retried: NDArray[np.int64]  # [Q] requests of it that began again elsewhere
    first_token_s: NDArray[np.float64]  # [N] of a request that began again: of its last attempt
    last_token_s: NDArray[np.float64]  # [N] also of a request that the engine finished after its query had failed
    replica: NDArray[np.int64]  # [N]
    gaps: Gaps
    ledger: NDArray[np.void]  # [replicas]
    steady: NDArray[np.void]  # [replicas]
    marks: NDArray[np.void]  # [M, replicas]
    on_s: NDArray[np.float64]  # [replicas]
    lost_tokens: NDArray[np.int64]  # [replicas]
    changed_s: NDArray[np.float64]  # [changes of `control`] when each happened
    met: NDArray[np.int64]  # [requests in hand of what stopped, 2]: the query, the change that stopped it
    wall_s: float
    usable_blocks: int
    control: Control = NO_CONTROL
    watch: Watch | None = None  # with `control.scaling`: what was noted hour by hour
    on: Stays = NO_STAYS  # of replicas
    away: Stays = NO_STAYS  # of requests

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which queries failed [Q]."""
        failed: NDArray[np.bool_] = self.why_failed != 0
        return failed

    @property
    def ended_s(self) -> NDArray[np.float64]:
        """When each query was over for its client [Q]: its last token, or when it failed."""
        last_token_s = self.last_token_s.reshape(-1, self.load.width).max(axis=1)
        return np.where(self.failed, self.failed_s, last_token_s)


def without_cooldown(run: FleetRun) -> FleetRun:
    """The same run as if nobody had come after the last counted query: those queries only kept the fleet busy."""
    load = run.load
    if load.cooldown == 0:
        return run
    queries = load.queries - load.cooldown
    requests = queries * load.width
    kept = replace(
        load,
        arrival_s=load.arrival_s[:queries],
        prompt_tokens=load.prompt_tokens[:requests],
        output_tokens=load.output_tokens[:requests],
        prefixes=None,
        cooldown=0,
        follows=None if load.follows is None else load.follows[:queries],
    )
    by_query = ("arrival_s", "sent_s", "why_failed", "failed_s", "retried")
    return replace(
        run,
        load=kept,
        met=run.met[run.met[:, 0] < queries],
        **{name: getattr(run, name)[:queries] for name in by_query},
        **{name: getattr(run, name)[:requests] for name in ("first_token_s", "last_token_s", "replica")},
        away=run.away.among(run.away.who < requests),
    )
