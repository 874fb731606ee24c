"""A fleet run event by event: the compiled clock is started, served where it stops, and read off at the end."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.fleet_events import ALL_OVER, MAY_BE_DRAINED, run_dependent
from planner.simulation.fleet_heap import EVENT, push
from planner.simulation.fleet_operations import Fleet, begin, bring, note_parked, operate, put_off_drained
from planner.simulation.fleet_scaling import Watch, attend, begin_watch, finish
from planner.simulation.fleet_setup import NOTHING_MET, Ran, World
from planner.simulation.fleet_world import (
    COUNTERS,
    HELD_FROM,
    HELD_TO,
    LOST,
    MARK,
    NEXT_UNCLAIMED,
    NOBODY,
    OFF,
    SEND,
    Client,
    Desk,
    Queries,
    make_paces,
)
from planner.simulation.kernel_state import FINISHED
from planner.simulation.kernel_tables import LEDGER, SCALARS
from planner.simulation.load import Load, call_first
from planner.simulation.operations import Control
from planner.simulation.stays import Stays, joined
from planner.units import S_PER_HOUR

F64 = NDArray[np.float64]


def run_events(world: World, cost: StepCost, control: Control, marks_s: F64) -> Ran:
    """Clients, replicas and what `control` does to them on one clock; at `marks_s` [M] the ledgers are looked at."""
    own_s = _steady_s(world.load, world.last_s)
    client = _client(world.load, cost, np.concatenate((marks_s, own_s)))
    fleet = _fleet(world, client, cost, control)
    _load_compiled(fleet)
    started = time.perf_counter()
    watch = _run(fleet)
    _close(fleet)
    wall_s = time.perf_counter() - started
    marks, ledger = fleet.marks[: len(marks_s)], fleet.p.scalars
    steady = _gained(fleet.marks[len(marks_s) :], own_s, ledger)
    return Ran(
        steady=steady,
        ledger=ledger,
        wall_s=wall_s,
        marks=marks,
        on_s=fleet.on_s,
        lost_tokens=fleet.lost_tokens,
        changed_s=fleet.changed_s,
        met=np.concatenate([NOTHING_MET, *fleet.met]),
        watch=watch,
        on=joined(fleet.on),
        away=_away(fleet),
    )


def _load_compiled(fleet: Fleet) -> None:
    """Nothing happens to anybody: the first call of a process loads or compiles, which is not the run's time."""
    nobody = fleet._replace(queries=Queries(*(column[:0] for column in fleet.queries)))
    _on(nobody)
    bring(fleet, 0, 0.0)


def _run(fleet: Fleet) -> Watch | None:
    """Up to the last query's end, and that of the hours if it is watched; then a watch is returned."""
    control = fleet.control
    begin(fleet)
    watch = None if control.scaling is None else begin_watch(fleet, control.scaling)
    while (what := _on(fleet)) != ALL_OVER:
        now_s = float(fleet.desk.now_s[0])
        if what == MAY_BE_DRAINED:
            put_off_drained(fleet, now_s)
        elif watch is not None and what == len(control.changes):
            attend(fleet, watch, now_s)
        else:
            operate(fleet, what, now_s)
    if watch is not None:
        finish(fleet, watch, float(fleet.desk.now_s[0]))
    return watch


def _on(f: Fleet) -> int:
    """`run_dependent` of the fleet, its columns named one by one: it tells them apart by their place alone."""
    return run_dependent(f.p, f.q, f.st, f.c, f.paces, f.g, f.router, f.client, f.queries, f.desk, f.marks)


def _close(fleet: Fleet) -> None:
    """The last query is over, or nobody is left to serve it: every step in hand ends, marks still to come are set."""
    queries, over_s = fleet.queries, float(fleet.desk.now_s[0])
    for r in range(len(fleet.router.member)):  # a step in hand when the last query failed
        bring(fleet, r, np.inf)
    undone = (fleet.q.rows["status"] != FINISHED).reshape(-1, fleet.client.width).any(axis=1)
    waits = (queries.failed == 0) & undone
    _come_last(fleet, np.flatnonzero(waits & (queries.remaining == 0)), over_s)
    queries.failed[waits] = LOST  # nobody is left who could serve it
    queries.failed_s[waits] = over_s
    unseen = np.flatnonzero(fleet.client.marks_s >= over_s)  # the loop ends with the last query
    fleet.marks[unseen] = fleet.p.scalars
    scaling, on = fleet.control.scaling, fleet.router.member != OFF
    watched_s = 0.0 if scaling is None else scaling.hours * S_PER_HOUR
    end_s = max(float(fleet.p.scalars["now"].max()), float(np.nanmax(queries.failed_s, initial=0.0)), watched_s)
    fleet.on_s[on] += end_s - fleet.on_since_s[on]
    fleet.on.append(Stays(np.flatnonzero(on), fleet.on_since_s[on], np.full(int(on.sum()), np.inf)))
    note_parked(fleet, over_s)


def _away(fleet: Fleet) -> Stays:
    """When requests were at no replica though their query was under way: a query that has failed waits no more."""
    away = joined(fleet.away)
    until_s = np.fmin(away.to_s, fleet.queries.failed_s[away.who // fleet.client.width])
    return away._replace(to_s=until_s).among(until_s > away.from_s)


def _come_last(fleet: Fleet, unsent: NDArray[np.int64], over_s: float) -> None:
    """Nobody is left who could serve: clients and sessions that still wait for an answer never send what follows it.

    These queries fail with the rest, and come at that instant, not when they were planned. Who is held at the client
    has come.
    """
    queries, n = fleet.queries, fleet.desk.counters
    unsent = np.setdiff1d(unsent, fleet.desk.held[n[HELD_FROM] : n[HELD_TO]])
    queries.arrival_s[unsent] = queries.sent_s[unsent] = np.maximum(queries.arrival_s[unsent], over_s)


def _gained(marks: NDArray[np.void], marks_s: F64, ledger: NDArray[np.void]) -> NDArray[np.void]:
    """What the ledgers gained up to the one of `marks_s`, or between two; peaks stay as they are. Without any: all."""
    if len(marks_s) == 0:
        return ledger
    gained: NDArray[np.void] = marks[len(marks_s) - 1].copy()
    if len(marks_s) == 1:
        gained["now"] = np.maximum(gained["now"], marks_s[0])  # the clock of an idle replica stands still
        return gained
    for name in LEDGER:
        if name != "kv_peak_blocks":
            gained[name] -= marks[0][name]
    gained["now"] = np.maximum(marks_s[1] - marks_s[0], gained["busy_s"])  # a step in hand at a mark counts whole
    return gained


# --- what the clock works on ---


def _fleet(world: World, client: Client, cost: StepCost, control: Control) -> Fleet:
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
        p=world.idle(replicas),
        q=world.requests,
        st=world.settings,
        c=world.costs,
        paces=make_paces(cost, control.factors),
        g=world.gaps,
        router=world.router,
        client=client,
        queries=world.queries,
        desk=desk,
        marks=np.zeros((len(client.marks_s) + (control.scaling is not None), replicas), SCALARS),
        blank=world.idle(1),
        control=control,
        chain=np.full(replicas, -1),
        on_since_s=np.zeros(replicas),
        on_s=np.zeros(replicas),
        lost_tokens=np.zeros(replicas, np.int64),
        changed_s=np.full(len(control.changes), np.nan),
        on=[],
        away=[],
        met=[],
    )


def _client(load: Load, cost: StepCost, marks_s: F64) -> Client:
    bounds = np.concatenate(([0], np.cumsum([stage.requests for stage in load.stages])))
    first = call_first(load)
    return Client(
        width=load.width,
        stage_first=bounds.astype(np.int64),
        call_first=first,
        call_end=np.searchsorted(first, first, side="right").astype(np.int64),
        clients=int(load.clients),
        per_client=int(load.per_client),
        think_s=np.zeros(0) if load.think_s is None else np.ascontiguousarray(load.think_s, np.float64),
        follows=NOBODY if load.follows is None else np.ascontiguousarray(load.follows, np.int64),
        follower=_follower(load),
        marks_s=marks_s,
        max_in_flight=int(load.max_in_flight),
        timeout_s=float(load.timeout_s),
        frontend_s=float(cost.frontend_s),
        frontend_token_s=float(cost.frontend_token_s),
    )


def _follower(load: Load) -> NDArray[np.int64]:
    """The query that follows each, -1 = none; empty without sessions."""
    if load.follows is None:
        return NOBODY
    follower = np.full(load.queries, -1)
    later = np.flatnonzero(load.follows >= 0)
    follower[load.follows[later]] = later
    return follower


def _steady_s(load: Load, reached_s: float) -> F64:
    """The instants between which a load is steady, or the one up to which it is; none of a closed loop.

    Sessions: the first counted query's place in time and the last session's begin, where these are two. Any other open
    load: `reached_s`, when the last query reaches the engines.
    """
    if load.clients > 0:
        return np.zeros(0)
    if load.follows is None:
        return np.array([reached_s])
    first_s, last_s = load.arrival_s[load.warmup], load.arrival_s[np.flatnonzero(load.follows < 0)[-1]]
    return np.array([first_s, last_s]) if last_s > first_s else np.zeros(0)
