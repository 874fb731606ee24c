"""A run of a fleet made ready: the load as columns, idle replicas, a router; and what is left when it has run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.fleet_draws import draws
from planner.simulation.fleet_loops import run_alone
from planner.simulation.fleet_scaling import Watch
from planner.simulation.fleet_world import SERVING, Queries
from planner.simulation.gap_windows import gap_windows, narrow_windows
from planner.simulation.kernel_state import (
    COUNTED,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.kernel_tables import SCALARS
from planner.simulation.load import Load, shared_blocks
from planner.simulation.operations import Control
from planner.simulation.prefix_index import make_index
from planner.simulation.routing import CODES, Router, Routing
from planner.simulation.stays import NO_STAYS, Stays
from planner.specs import SchedulerConfig
from planner.units import S_PER_HOUR

NOTHING_MET = np.zeros((0, 2), np.int64)


class World(NamedTuple):
    """What every loop takes, and fills: who asks what of whom, at which cost."""

    load: Load
    queries: Queries
    requests: Requests
    settings: Settings
    costs: Costs
    gaps: Gaps
    replica: NDArray[np.int64]  # [N] where each request goes, -1 = nowhere yet
    replicas: int
    contents: int  # different shared blocks
    router: Router

    @property
    def last_s(self) -> float:
        """When the last query reaches the engines, if its time is known."""
        return float(self.requests.rows["ready_s"].max())

    def idle(self, replicas: int) -> Replicas:
        """That many idle replicas."""
        return make_replicas(replicas, self.settings, self.contents)

    def alone(self, state: Replicas, r: int, order: NDArray[np.int64], until: float) -> None:
        """`run_alone` of replica r."""
        run_alone(state, self.requests, self.settings, self.costs, self.gaps, r, order, until)


class Ran(NamedTuple):
    """What a loop tells beside the columns that it filled: the fields of `FleetRun` of the same names."""

    steady: NDArray[np.void]
    ledger: NDArray[np.void]
    wall_s: float
    marks: NDArray[np.void]
    on_s: NDArray[np.float64]
    lost_tokens: NDArray[np.int64]
    changed_s: NDArray[np.float64]
    met: NDArray[np.int64]
    watch: Watch | None = None
    on: Stays = NO_STAYS
    away: Stays = NO_STAYS


def undisturbed(world: World, steady: NDArray[np.void], ledger: NDArray[np.void], wall_s: float) -> Ran:
    """Of a run to whose replicas nothing happened, and which nobody looked at; `steady` is of the last arrival."""
    replicas = world.replicas
    steady["now"] = np.maximum(steady["now"], world.last_s)  # the clock of an idle replica stands still
    return Ran(
        steady=steady,
        ledger=ledger,
        wall_s=wall_s,
        marks=np.zeros((0, replicas), SCALARS),
        on_s=np.full(replicas, float(ledger["now"].max())),
        lost_tokens=np.zeros(replicas, np.int64),
        changed_s=np.zeros(0),
        met=NOTHING_MET,
    )


def set_up(
    load: Load,
    config: SchedulerConfig,
    cost: StepCost,
    replicas: int,
    routing: Routing,
    rng: np.random.Generator,
    control: Control,
    in_step: int,
) -> World:
    """The world in which `load` meets `replicas` replicas, `in_step` at a time the ranks of one endpoint."""
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    arrival_s = np.array(load.arrival_s, np.float64)
    ready_s = np.repeat(arrival_s, load.width) + (cost.frontend_s + cost.frontend_token_s * load.prompt_tokens)
    asked = (ready_s, load.prompt_tokens, load.output_tokens, shared, _flags(load), config.max_model_len)
    indexed = config.usable_blocks if routing == "prefix_aware" and config.enable_prefix_caching else 0
    return World(
        load=load,
        queries=_queries(arrival_s),
        requests=make_requests(*asked),
        settings=make_settings(config, shared),
        costs=make_costs(cost),
        gaps=_gaps(load, control),
        replica=np.full(load.requests, -1, np.int64),
        replicas=replicas,
        contents=shared.contents,
        router=Router(
            policy=CODES[routing],
            member=np.full(replicas, SERVING, np.int64),
            draws=draws(load, replicas // in_step, routing, rng),
            room=control.room,
            prefixes=make_index(replicas, shared.contents, indexed),
        ),
    )


def _gaps(load: Load, control: Control) -> Gaps:
    """The histogram of inter-token gaps, its windows as whoever reads it wants them."""
    if control.scaling is not None:
        return make_gaps(control.scaling.hours, 0.0, S_PER_HOUR)
    return gap_windows(load) if load.follows is None else narrow_windows(load)


def _flags(load: Load) -> NDArray[np.uint8]:
    """Which requests count: those of the last stage, between warm-up and cool-down."""
    flags = np.zeros((load.queries, load.width), np.uint8)
    flags[load.warmup : load.queries - load.cooldown, load.width - load.stages[-1].requests :] = COUNTED
    return flags.ravel()


def _queries(arrival_s: NDArray[np.float64]) -> Queries:
    """Queries of which nothing is known but when they are due."""
    count = len(arrival_s)
    return Queries(
        arrival_s=arrival_s,
        sent_s=arrival_s.copy(),
        failed=np.zeros(count, np.int8),
        failed_s=np.full(count, np.nan),
        retried=np.zeros(count, np.int64),
        stage=np.zeros(count, np.int64),
        remaining=np.zeros(count, np.int64),
    )
