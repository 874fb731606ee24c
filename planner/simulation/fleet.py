"""A fleet of equal replicas under one load: routing, stages, sessions, closed loops, client limits, failures.

What happens inside a replica is the kernel's business; what crosses replicas is written here, once, and judged by laws
and closed forms. Reading guide: `run_fleet` picks the simplest loop that can carry the load, of `fleet_loops`,
`group_loop` or `fleet_events`. `fleet_setup` makes a run ready, `fleet_record` says what it leaves behind,
`fleet_checks` which loads are refused. `routing` has the rules by which a replica is chosen, `operations` what may be
done to a fleet while it runs; `fleet_driver` drives the events, `fleet_operations` and `fleet_scaling` do what
is decided between them.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet_checks import refuse_impossible_control, refuse_what_never_ends
from planner.simulation.fleet_draws import assigned, by_time
from planner.simulation.fleet_driver import run_events
from planner.simulation.fleet_loops import run_routed
from planner.simulation.fleet_record import FleetRun, without_cooldown
from planner.simulation.fleet_setup import Ran, World, set_up, undisturbed
from planner.simulation.fleet_world import NOBODY
from planner.simulation.gap_windows import joined_windows
from planner.simulation.group_loop import run_groups
from planner.simulation.kernel_state import FINISHED
from planner.simulation.load import Load, leaders
from planner.simulation.operations import NO_CONTROL, Control
from planner.simulation.routing import BLIND, Routing
from planner.specs import SchedulerConfig

__all__ = ["BLIND", "NO_MARKS", "Control", "FleetRun", "Routing", "run_fleet", "without_cooldown"]

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
    refuse_what_never_ends(load, config, replicas)
    refuse_impossible_control(load, replicas, control)
    undisturbed_run = arrivals_known(load) and control.idle and len(marks_s) == 0
    in_step = ranks_in_step if undisturbed_run else 1
    world = set_up(load, config, cost, replicas, routing, rng, control, in_step)
    if not undisturbed_run:
        ran = run_events(world, cost, control, marks_s)
    elif in_step > 1:
        ran = _run_in_step(world, in_step, asks=routing not in BLIND)
    elif routing in BLIND or replicas == 1:
        ran = _run_independent(world)
    else:
        ran = _run_routed(world)
    if ran.ledger["stuck"].any():
        raise MisfitError(
            "engine.num_gpu_blocks_override", config.usable_blocks, "the scheduler is stuck: nothing fits the KV cache"
        )
    return _record(world, ran, config, control)


def _record(world: World, ran: Ran, config: SchedulerConfig, control: Control) -> FleetRun:
    load, queries, rows, gaps = world.load, world.queries, world.requests.rows, world.gaps
    if load.follows is not None:
        gaps = joined_windows(gaps, replace(load, arrival_s=queries.arrival_s))
    return FleetRun(
        load=load,
        replicas=world.replicas,
        arrival_s=queries.arrival_s,
        sent_s=queries.sent_s,
        why_failed=queries.failed,
        failed_s=queries.failed_s,
        retried=queries.retried,
        first_token_s=rows["first_token_s"].copy(),
        last_token_s=np.where(rows["status"] == FINISHED, rows["last_token_s"], np.nan),
        replica=world.replica,
        gaps=gaps,
        usable_blocks=config.usable_blocks,
        control=control,
        **ran._asdict(),
    )


# --- the loops of arrivals that are known beforehand ---
# Each is called once with nothing to do before its time is taken: the first call of a process loads or compiles.


def _run_in_step(world: World, in_step: int, asks: bool) -> Ran:
    """Data-parallel ranks, `in_step` of them behind each endpoint; `asks`: the router asks how busy endpoints are."""
    ready_s, endpoints = world.requests.rows["ready_s"], world.replicas // in_step
    endpoint = np.full(world.load.requests, -1)
    if not asks or endpoints == 1:
        endpoint = assigned(world.load, ready_s, endpoints, world.router.draws)
    fixed = (world.idle(world.replicas), world.requests, world.settings, world.costs, world.gaps, in_step)
    return undisturbed(world, *run_groups(*fixed, by_time(ready_s), leaders(world.load), endpoint, world.replica))


def _run_independent(world: World) -> Ran:
    """Nobody's state is asked: each replica by itself, one after the other, so that only one cache is in memory."""
    ready_s = world.requests.rows["ready_s"]
    world.replica[:] = assigned(world.load, ready_s, world.replicas, world.router.draws)
    order = by_time(ready_s)
    # the narrowest type, because numpy sorts narrow integers in linear time
    order = order[np.argsort(world.replica[order].astype(np.min_scalar_type(world.replicas)), kind="stable")]
    ends = np.cumsum(np.bincount(world.replica, minlength=world.replicas))
    world.alone(world.idle(1), 0, NOBODY, 0.0)
    started = time.perf_counter()
    steady, ledgers = [], []
    for mine in np.split(order, ends[:-1]):
        state = world.idle(1)
        world.alone(state, 0, mine, world.last_s)
        steady.append(state.scalars.copy())
        world.alone(state, 0, NOBODY, np.inf)
        ledgers.append(state.scalars)
    return undisturbed(world, np.concatenate(steady), np.concatenate(ledgers), time.perf_counter() - started)


def _run_routed(world: World) -> Ran:
    """All replicas on one clock up to the last arrival, then each by itself to its end."""
    state = world.idle(world.replicas)
    order, leader = by_time(world.requests.rows["ready_s"]), leaders(world.load)
    fixed = (state, world.requests, world.settings, world.costs, world.gaps, world.router)
    wake = np.full(world.replicas, np.inf)
    run_routed(*fixed, NOBODY, leader, world.replica, wake)
    world.alone(state, 0, NOBODY, 0.0)
    started = time.perf_counter()
    run_routed(*fixed, order, leader, world.replica, wake)
    steady = state.scalars.copy()
    for r in range(world.replicas):
        world.alone(state, r, NOBODY, np.inf)
    return undisturbed(world, steady, state.scalars, time.perf_counter() - started)
