"""A fleet of equal replicas under one load: routing, stages, sessions, closed loops, client limits, failures.

What happens inside a replica is the kernel's business; what crosses replicas is written here, once, and judged by laws
and closed forms. Reading guide: `run_fleet` picks the simplest loop that can carry the load, of `fleet_loops` or
`fleet_events`; `routing` has the rules by which a replica is chosen, `operations` what may be done to a fleet while it
runs; `fleet_record` says what a run leaves behind, `fleet_checks` which loads are refused.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet_checks import refuse_impossible_control, refuse_what_never_ends
from planner.simulation.fleet_draws import assigned, by_time, draws
from planner.simulation.fleet_events import ALL_OVER, MARK, MAY_BE_DRAINED, SEND, run_dependent
from planner.simulation.fleet_heap import EVENT, push
from planner.simulation.fleet_loops import run_alone, run_routed
from planner.simulation.fleet_operations import LEDGER, NOBODY, Fleet, begin, bring, operate, put_off_drained
from planner.simulation.fleet_record import FleetRun, without_cooldown
from planner.simulation.fleet_scaling import Watch, attend, begin_watch, finish
from planner.simulation.fleet_world import (
    COUNTERS,
    LOST,
    NEXT_UNCLAIMED,
    OFF,
    SERVING,
    Client,
    Desk,
    Queries,
    make_paces,
)
from planner.simulation.gap_windows import gap_windows, joined_windows, narrow_windows
from planner.simulation.group_loop import run_groups
from planner.simulation.kernel_state import (
    COUNTED,
    FINISHED,
    SCALARS,
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
from planner.simulation.load import Load, call_first, leaders, shared_blocks
from planner.simulation.operations import NO_CONTROL, Control
from planner.simulation.prefix_index import make_index
from planner.simulation.routing import (
    LEAST_LOADED,
    POWER_OF_TWO,
    PREFIX_AWARE,
    RANDOM,
    ROUND_ROBIN,
    SESSION_AFFINITY,
    Router,
)
from planner.specs import SchedulerConfig
from planner.units import S_PER_HOUR

__all__ = ["Control", "FleetRun", "Routing", "run_fleet", "without_cooldown"]

Routing = Literal["random", "round_robin", "least_loaded", "power_of_two", "session_affinity", "prefix_aware"]
_CODES = {
    "random": RANDOM,
    "round_robin": ROUND_ROBIN,
    "least_loaded": LEAST_LOADED,
    "power_of_two": POWER_OF_TWO,
    "session_affinity": SESSION_AFFINITY,
    "prefix_aware": PREFIX_AWARE,
}
BLIND = {"random", "round_robin", "session_affinity"}  # they ask nobody's state
NO_MARKS = np.zeros(0)


def arrivals_known(load: Load) -> bool:
    """Whether every request's time is known beforehand, and none is given up."""
    waits = load.clients > 0 or load.max_in_flight > 0 or load.follows is not None
    return not waits and len(load.stages) == 1 and not np.isfinite(load.timeout_s)


def run_fleet(
    load: Load,
    config: SchedulerConfig,
    cost: StepCost,
    replicas: int,
    routing: Routing,
    rng: np.random.Generator,
    *,
    control: Control = NO_CONTROL,
    ranks_in_step: int = 1,
    marks_s: NDArray[np.float64] = NO_MARKS,
) -> FleetRun:
    """Simulate `load` on `replicas` equal replicas, to which `control` happens.

    `rng` is drawn from under random, power_of_two and session_affinity routing only. At `marks_s` [M] (ascending) the
    ledgers are looked at; that is done event by event, so times may differ by rounding from those of a run without.

    `ranks_in_step` > 1: that many of them at a time are the data-parallel ranks of one endpoint and compute in step.
    Arrivals go to endpoints by `routing` (least_loaded, or one that asks nobody's state) and to their ranks as in
    `ranks`. Only a load whose arrivals are known beforehand is simulated so (`arrivals_known`): any other, or one that
    is looked at, is routed to each rank, and none waits for another.

    Raises `MisfitError` where a request can never be served and `ScenarioError` for loads that make no sense (unsorted,
    not finite): what would never end is refused here.
    """
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    refuse_what_never_ends(load, config, replicas)
    refuse_impossible_control(load, replicas, control)
    settings = make_settings(config, shared)
    costs = make_costs(cost)
    arrival_s = np.array(load.arrival_s, np.float64)
    ready_s = np.repeat(arrival_s, load.width) + (cost.frontend_s + cost.frontend_token_s * load.prompt_tokens)
    requests = make_requests(
        ready_s, load.prompt_tokens, load.output_tokens, shared, _flags(load), config.max_model_len
    )
    gaps = gap_windows(load) if load.follows is None else narrow_windows(load)
    if control.scaling is not None:
        gaps = make_gaps(control.scaling.hours, 0.0, S_PER_HOUR)
    replica = np.full(load.requests, -1, np.int64)
    queries = _queries(arrival_s)
    knows_arrivals = arrivals_known(load) and control.idle and len(marks_s) == 0
    in_step = ranks_in_step if knows_arrivals else 1
    drawn = draws(load, replicas // in_step, routing, rng)
    indexed = config.usable_blocks if routing == "prefix_aware" and config.enable_prefix_caching else 0
    router = Router(
        policy=_CODES[routing],
        member=np.full(replicas, SERVING, np.int64),
        draws=drawn,
        room=control.room,
        prefixes=make_index(replicas, shared.contents, indexed),
    )
    world = _World(load, requests, settings, costs, gaps, replica, replicas, shared.contents, router)
    on_s, lost_tokens, changed_s = None, np.zeros(replicas, np.int64), np.zeros(0)
    marks = np.zeros((0, replicas), SCALARS)
    watch: Watch | None = None
    if in_step > 1:
        endpoints = replicas // in_step
        endpoint = np.full(load.requests, -1)
        if routing in BLIND or endpoints == 1:
            endpoint = assigned(load, ready_s, endpoints, drawn)
        fixed = (world.state(replicas), requests, settings, costs, gaps, in_step)
        steady, ledger, wall_s = run_groups(*fixed, by_time(ready_s), leaders(load), endpoint, replica)
    elif knows_arrivals and (routing in BLIND or replicas == 1):
        replica[:] = assigned(load, ready_s, replicas, drawn)
        steady, ledger, wall_s = _run_independent(world)
    elif knows_arrivals:
        steady, ledger, wall_s = _run_routed(world)
    else:
        client = _client(load, cost, marks_s)
        ledger, wall_s, fleet, watch = _run_dependent(world, queries, client, control, cost)
        steady, marks = ledger, fleet.marks[: len(marks_s)]
        if len(client.marks_s) > len(marks_s):  # of sessions, when the load is steady
            steady = _between(fleet.marks, client.marks_s)
        on_s, lost_tokens, changed_s = fleet.on_s, fleet.lost_tokens, fleet.changed_s
    if ledger["stuck"].any():
        raise MisfitError(
            "engine.num_gpu_blocks_override", config.usable_blocks, "the scheduler is stuck: nothing fits the KV cache"
        )
    return FleetRun(
        load=load,
        replicas=replicas,
        arrival_s=arrival_s,
        sent_s=queries.sent_s,
        why_failed=queries.failed,
        failed_s=queries.failed_s,
        retried=queries.retried,
        first_token_s=requests.rows["first_token_s"].copy(),
        last_token_s=np.where(requests.rows["status"] == FINISHED, requests.rows["last_token_s"], np.nan),
        replica=replica,
        gaps=gaps if load.follows is None else joined_windows(gaps, replace(load, arrival_s=arrival_s)),
        ledger=ledger,
        steady=steady,
        marks=marks,
        on_s=np.full(replicas, float(ledger["now"].max())) if on_s is None else on_s,
        lost_tokens=lost_tokens,
        changed_s=changed_s,
        wall_s=wall_s,
        usable_blocks=config.usable_blocks,
        control=control,
        watch=watch,
    )


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


class _World(NamedTuple):
    """What all three loops take."""

    load: Load
    requests: Requests
    settings: Settings
    costs: Costs
    gaps: Gaps
    replica: NDArray[np.int64]
    replicas: int
    contents: int
    router: Router

    def state(self, replicas: int) -> Replicas:
        """That many idle replicas."""
        return make_replicas(replicas, self.settings, self.contents)

    def alone(self, state: Replicas, r: int, order: NDArray[np.int64], until: float) -> None:
        """`run_alone` of replica r."""
        run_alone(state, self.requests, self.settings, self.costs, self.gaps, r, order, until)


# Each loop is called once with nothing to do before its time is taken: the first call of a process loads or compiles.


def _run_independent(world: _World) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """Each replica by itself, one after the other, so that only one cache is in memory.

    Returns the ledgers at the last arrival and at the end, and the seconds it took.
    """
    ready_s = world.requests.rows["ready_s"]
    order = by_time(ready_s)
    # the narrowest type, because numpy sorts narrow integers in linear time
    order = order[np.argsort(world.replica[order].astype(np.min_scalar_type(world.replicas)), kind="stable")]
    ends = np.cumsum(np.bincount(world.replica, minlength=world.replicas))
    last_s = float(ready_s.max())
    world.alone(world.state(1), 0, NOBODY, 0.0)
    started = time.perf_counter()
    steady, ledgers = [], []
    for mine in np.split(order, ends[:-1]):
        state = world.state(1)
        world.alone(state, 0, mine, last_s)
        steady.append(state.scalars.copy())
        world.alone(state, 0, NOBODY, np.inf)
        ledgers.append(state.scalars)
    return np.concatenate(steady), np.concatenate(ledgers), time.perf_counter() - started


def _run_routed(world: _World) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """All replicas on one clock up to the last arrival, then each by itself to its end; returns as above."""
    load, state = world.load, world.state(world.replicas)
    order, leader = by_time(world.requests.rows["ready_s"]), leaders(load)
    fixed = (state, world.requests, world.settings, world.costs, world.gaps, world.router)
    wake = np.full(world.replicas, np.inf)
    run_routed(*fixed, NOBODY, leader, world.replica, wake)
    world.alone(state, 0, NOBODY, 0.0)
    started = time.perf_counter()
    run_routed(*fixed, order, leader, world.replica, wake)
    steady = state.scalars.copy()
    for r in range(world.replicas):
        world.alone(state, r, NOBODY, np.inf)
    return steady, state.scalars, time.perf_counter() - started


def _run_dependent(
    world: _World, queries: Queries, client: Client, control: Control, cost: StepCost
) -> tuple[NDArray[np.void], float, Fleet, Watch | None]:
    """Clients, replicas and what is done to them on one clock.

    Returns the ledgers at the end, the seconds it took, the fleet as it then is, with the ledgers at its marks, and
    the watch.
    """
    fleet = _fleet(world, queries, client, control, cost)
    nobody = fleet._replace(queries=Queries(*(column[:0] for column in queries)))
    run_dependent(*nobody[:11])
    started = time.perf_counter()
    begin(fleet)
    watch = None if control.scaling is None else begin_watch(fleet, control.scaling)
    while (what := run_dependent(*fleet[:11])) != ALL_OVER:
        now_s = float(fleet.desk.now_s[0])
        if what == MAY_BE_DRAINED:
            put_off_drained(fleet, now_s)
        elif watch is not None and what == len(control.changes):
            attend(fleet, watch, now_s)
        else:
            operate(fleet, what, now_s)
    if watch is not None:
        finish(fleet, watch, float(fleet.desk.now_s[0]))
    for r in range(world.replicas):  # a step in hand when the last query failed
        bring(fleet, r, np.inf)
    waits = (queries.failed == 0) & (world.requests.rows["status"] != FINISHED).reshape(-1, client.width).any(axis=1)
    queries.failed[waits] = LOST  # nobody is left who could serve it
    queries.failed_s[waits] = float(fleet.desk.now_s[0])
    unseen = np.flatnonzero(client.marks_s >= fleet.desk.now_s[0])  # the loop ends with the last query
    fleet.marks[unseen] = fleet.p.scalars
    wall_s = time.perf_counter() - started
    ledger, on = fleet.p.scalars, fleet.router.member != OFF
    watched_s = 0.0 if control.scaling is None else control.scaling.hours * S_PER_HOUR
    end_s = max(float(ledger["now"].max()), float(np.nanmax(queries.failed_s, initial=0.0)), watched_s)
    fleet.on_s[on] += end_s - fleet.on_since_s[on]
    return ledger, wall_s, fleet, watch


def _fleet(world: _World, queries: Queries, client: Client, control: Control, cost: StepCost) -> Fleet:
    """All replicas idle, those that serve from the start on since time 0."""
    load, replicas, requests = world.load, world.replicas, world.load.requests
    if control.serving is not None:
        world.router.member[control.serving :] = OFF
    # Each request has one READY or END ahead of it, each query a SEND or DEADLINE, and a stop leaves ENDs that never
    # come, at most one a seat, and may lose every query.
    events = requests + 2 * load.queries + len(client.marks_s)
    events += len(control.changes) * (world.settings.seats + 2) + 8
    desk = Desk(
        replica=world.replica,
        ended=np.zeros(requests, np.uint8),
        parked=np.zeros(requests, np.int64),
        held=np.zeros(load.queries, np.int64),
        wake=np.full(replicas, np.inf),
        pace=np.full(replicas, -1),
        events=np.empty(events, EVENT),
        now_s=np.zeros(1),
        counters=np.zeros(COUNTERS, np.int64),
    )
    for k in range(min(client.clients, load.queries)):
        push(desk.events, desk.counters, 0.0, SEND, k)
        desk.counters[NEXT_UNCLAIMED] = k + 1
    for k, mark_s in enumerate(client.marks_s):
        push(desk.events, desk.counters, mark_s, MARK, k)
    return Fleet(
        p=world.state(replicas),
        q=world.requests,
        st=world.settings,
        c=world.costs,
        paces=make_paces(cost, control.factors),
        g=world.gaps,
        router=world.router,
        client=client,
        queries=queries,
        desk=desk,
        marks=np.zeros((len(client.marks_s) + (control.scaling is not None), replicas), SCALARS),
        blank=make_replicas(1, world.settings, world.contents),
        control=control,
        draining=np.full(replicas, -1),
        on_since_s=np.zeros(replicas),
        on_s=np.zeros(replicas),
        lost_tokens=np.zeros(replicas, np.int64),
        changed_s=np.full(len(control.changes), np.nan),
    )


def _between(marks: NDArray[np.void], marks_s: NDArray[np.float64]) -> NDArray[np.void]:
    """What the ledgers gained from the first mark to the second; peaks stay as they are."""
    gained: NDArray[np.void] = marks[1].copy()
    for name in LEDGER:
        if name != "kv_peak_blocks":
            gained[name] -= marks[0][name]
    gained["now"] = np.maximum(marks_s[1] - marks_s[0], gained["busy_s"])  # a step in hand at a mark counts whole
    return gained


def _flags(load: Load) -> NDArray[np.uint8]:
    """Which requests count: those of the last stage, between warm-up and cool-down."""
    flags = np.zeros((load.queries, load.width), np.uint8)
    flags[load.warmup : load.queries - load.cooldown, load.width - load.stages[-1].requests :] = COUNTED
    return flags.ravel()


def _client(load: Load, cost: StepCost, marks_s: NDArray[np.float64]) -> Client:
    bounds = np.concatenate(([0], np.cumsum([stage.requests for stage in load.stages])))
    return Client(
        width=load.width,
        stage_first=bounds.astype(np.int64),
        call_first=call_first(load),
        call_end=_call_end(load),
        clients=int(load.clients),
        per_client=int(load.per_client),
        think_s=np.zeros(0) if load.think_s is None else np.ascontiguousarray(load.think_s, np.float64),
        follows=NOBODY if load.follows is None else np.ascontiguousarray(load.follows, np.int64),
        follower=_follower(load),
        marks_s=np.ascontiguousarray(marks_s, np.float64) if len(marks_s) else _marks_s(load),
        max_in_flight=int(load.max_in_flight),
        timeout_s=float(load.timeout_s),
        frontend_s=float(cost.frontend_s),
        frontend_token_s=float(cost.frontend_token_s),
    )


def _call_end(load: Load) -> NDArray[np.int64]:
    """For each position in a query the position after the last sample of its call."""
    first = call_first(load)
    return np.searchsorted(first, first, side="right").astype(np.int64)


def _follower(load: Load) -> NDArray[np.int64]:
    """The query that follows each, -1 = none; empty without sessions."""
    if load.follows is None:
        return NOBODY
    follower = np.full(load.queries, -1)
    later = np.flatnonzero(load.follows >= 0)
    follower[load.follows[later]] = later
    return follower


def _marks_s(load: Load) -> NDArray[np.float64]:
    """With sessions the first counted query's place in time and the last session's begin, where these are two."""
    if load.follows is None:
        return np.zeros(0)
    first_s, last_s = load.arrival_s[load.warmup], load.arrival_s[np.flatnonzero(load.follows < 0)[-1]]
    return np.array([first_s, last_s]) if last_s > first_s else np.zeros(0)
