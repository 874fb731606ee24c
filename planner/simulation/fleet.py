"""A fleet of equal replicas under one load: routing, stages, sessions, closed loops, client limits.

What happens inside a replica is the kernel's business; what crosses replicas is written here, once, and judged by laws
and closed forms. Reading guide: `run_fleet` picks the simplest loop of `fleet_loops` that can carry the load;
`fleet_checks` says which loads it refuses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.fleet_checks import refuse_what_never_ends
from planner.simulation.fleet_loops import (
    LEAST_LOADED,
    RANDOM,
    ROUND_ROBIN,
    Client,
    Queries,
    run_alone,
    run_dependent,
    run_least_loaded,
)
from planner.simulation.gap_windows import gap_windows, joined_windows, narrow_windows
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
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, call_first, leaders, shared_blocks
from planner.specs import SchedulerConfig

Routing = Literal["random", "round_robin", "least_loaded"]
_CODES = {"random": RANDOM, "round_robin": ROUND_ROBIN, "least_loaded": LEAST_LOADED}
NOBODY = np.zeros(0, np.int64)  # no requests
LEDGER = SCALARS.names[SCALARS.names.index("steps") :]  # type: ignore[index,union-attr]


@dataclass(frozen=True)
class FleetRun:
    """What a run left behind: per query, per request, per replica.

    Times in seconds from the start of the run. NaN = it never happened. `ledger` has one row a replica with the
    fields of `kernel_state.SCALARS` from `steps` on. `steady` has the same as they stood when the last query of an
    open, single-stage load arrived: means over time are taken from it, since a run's drain says nothing of the load.
    With sessions it is what was added to it from the first counted query to the last session's first turn: before, only
    early turns are under way.
    `wall_s` is the time inside the simulator's loops.
    """

    load: Load
    replicas: int
    arrival_s: NDArray[np.float64]  # [Q] scheduled
    sent_s: NDArray[np.float64]  # [Q] left the client
    failed: NDArray[np.bool_]  # [Q] timed out at `sent_s` + `load.timeout_s`
    first_token_s: NDArray[np.float64]  # [N]
    last_token_s: NDArray[np.float64]  # [N] also of a request that the engine finished after its query had failed
    replica: NDArray[np.int64]  # [N]
    gaps: Gaps
    ledger: NDArray[np.void]  # [replicas]
    steady: NDArray[np.void]  # [replicas]
    wall_s: float
    usable_blocks: int

    @property
    def ended_s(self) -> NDArray[np.float64]:
        """When each query was over for its client [Q]: its last token, or its deadline where it failed."""
        last_token_s = self.last_token_s.reshape(-1, self.load.width).max(axis=1)
        return np.where(self.failed, self.sent_s + self.load.timeout_s, last_token_s)


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
    return replace(
        run,
        load=kept,
        **{name: getattr(run, name)[:queries] for name in ("arrival_s", "sent_s", "failed")},
        **{name: getattr(run, name)[:requests] for name in ("first_token_s", "last_token_s", "replica")},
    )


def run_fleet(
    load: Load,
    config: SchedulerConfig,
    cost: StepCost,
    replicas: int,
    routing: Routing,
    rng: np.random.Generator,
) -> FleetRun:
    """Simulate `load` on `replicas` equal replicas.

    `rng` is drawn from under random routing only. Raises `MisfitError` where a request can never be served and
    `ScenarioError` for loads that make no sense (unsorted, not finite): what would never end is refused here.
    """
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    refuse_what_never_ends(load, config, replicas)
    settings = make_settings(config, shared)
    costs = make_costs(cost)
    arrival_s = np.array(load.arrival_s, np.float64)
    ready_s = np.repeat(arrival_s, load.width) + (cost.frontend_s + cost.frontend_token_s * load.prompt_tokens)
    requests = make_requests(
        ready_s, load.prompt_tokens, load.output_tokens, shared, _flags(load), config.max_model_len
    )
    gaps = gap_windows(load) if load.follows is None else narrow_windows(load)
    replica = np.full(load.requests, -1, np.int64)
    sent_s = arrival_s.copy()
    failed = np.zeros(load.queries, np.uint8)
    world = _World(load, requests, settings, costs, gaps, replica, replicas, shared.contents)
    waits = load.clients > 0 or load.max_in_flight > 0 or load.follows is not None
    knows_arrivals = not waits and len(load.stages) == 1 and not np.isfinite(load.timeout_s)
    if knows_arrivals and (routing != "least_loaded" or replicas == 1):
        replica[:] = _assign(load, ready_s, replicas, routing, rng)
        steady, ledger, wall_s = _run_independent(world)
    elif knows_arrivals:
        steady, ledger, wall_s = _run_least_loaded(world)
    else:
        draws = _draw(load, replicas, rng) if routing == "random" else NOBODY
        stage, remaining = np.zeros((2, load.queries), np.int64)
        queries = Queries(arrival_s, sent_s, failed, stage, remaining)
        steady, ledger, wall_s = _run_dependent(world, queries, _client(load, cost), _CODES[routing], draws)
    if ledger["stuck"].any():
        raise MisfitError(
            "engine.num_gpu_blocks_override", config.usable_blocks, "the scheduler is stuck: nothing fits the KV cache"
        )
    return FleetRun(
        load=load,
        replicas=replicas,
        arrival_s=arrival_s,
        sent_s=sent_s,
        failed=failed.astype(np.bool_),
        first_token_s=requests.rows["first_token_s"].copy(),
        last_token_s=np.where(requests.rows["status"] == FINISHED, requests.rows["last_token_s"], np.nan),
        replica=replica,
        gaps=gaps if load.follows is None else joined_windows(gaps, replace(load, arrival_s=arrival_s)),
        ledger=ledger,
        steady=steady,
        wall_s=wall_s,
        usable_blocks=config.usable_blocks,
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
    order = _by_time(ready_s)
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


def _run_least_loaded(world: _World) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """All replicas on one clock up to the last arrival, then each by itself to its end; returns as above."""
    load, state = world.load, world.state(world.replicas)
    order, leader = _by_time(world.requests.rows["ready_s"]), leaders(load)
    run_least_loaded(state, world.requests, world.settings, world.costs, world.gaps, NOBODY, leader, world.replica)
    world.alone(state, 0, NOBODY, 0.0)
    started = time.perf_counter()
    run_least_loaded(state, world.requests, world.settings, world.costs, world.gaps, order, leader, world.replica)
    steady = state.scalars.copy()
    for r in range(world.replicas):
        world.alone(state, r, NOBODY, np.inf)
    return steady, state.scalars, time.perf_counter() - started


def _run_dependent(
    world: _World, queries: Queries, client: Client, routing: int, draws: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """Clients and replicas on one clock; returns as above, where sessions mark when the load is steady."""
    state = world.state(world.replicas)
    marks = np.zeros((len(client.marks_s), world.replicas), SCALARS)
    nobody = Queries(*(column[:0] for column in queries))
    fixed = (state, world.requests, world.settings, world.costs, world.gaps)
    run_dependent(*fixed, client._replace(marks_s=client.marks_s[:0]), nobody, routing, draws, world.replica, marks)
    started = time.perf_counter()
    run_dependent(*fixed, client, queries, routing, draws, world.replica, marks)
    wall_s = time.perf_counter() - started
    return _between(marks, client.marks_s) if len(marks) else state.scalars, state.scalars, wall_s


def _between(marks: NDArray[np.void], marks_s: NDArray[np.float64]) -> NDArray[np.void]:
    """What the ledgers gained from the first mark to the second; peaks stay as they are."""
    gained: NDArray[np.void] = marks[1].copy()
    for name in LEDGER:
        if name != "kv_peak_blocks":
            gained[name] -= marks[0][name]
    gained["now"] = np.maximum(marks_s[1] - marks_s[0], gained["busy_s"])  # a step in hand at a mark counts whole
    return gained


def _by_time(ready_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Requests in the order in which engines see them; at one instant in the load's order."""
    return np.argsort(ready_s, kind="stable")


def _assign(
    load: Load, ready_s: NDArray[np.float64], replicas: int, routing: str, rng: np.random.Generator
) -> NDArray[np.int64]:
    """A replica for each request, where no replica's state is asked: drawn, or in turn as the calls come."""
    if routing == "random":
        return _draw(load, replicas, rng)
    if replicas == 1:
        return np.zeros(load.requests, np.int64)
    leader = leaders(load)
    order = _by_time(ready_s)
    calls = order[leader[order] == order]
    turn = np.empty(load.requests, np.int64)
    turn[calls] = np.arange(len(calls)) % replicas
    return turn[leader]


def _draw(load: Load, replicas: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random replica for each request, the samples of a call together."""
    first = call_first(load)
    number = np.cumsum(first == np.arange(load.width)) - 1  # of the call, within its query
    return rng.integers(0, replicas, (load.queries, number[-1] + 1))[:, number].ravel()


def _flags(load: Load) -> NDArray[np.uint8]:
    """Which requests count: those of the last stage, between warm-up and cool-down."""
    flags = np.zeros((load.queries, load.width), np.uint8)
    flags[load.warmup : load.queries - load.cooldown, load.width - load.stages[-1].requests :] = COUNTED
    return flags.ravel()


def _client(load: Load, cost: StepCost) -> Client:
    bounds = np.concatenate(([0], np.cumsum([stage.requests for stage in load.stages])))
    return Client(
        width=load.width,
        stage_first=bounds.astype(np.int64),
        call_first=call_first(load),
        clients=int(load.clients),
        per_client=int(load.per_client),
        think_s=np.zeros(0) if load.think_s is None else np.ascontiguousarray(load.think_s, np.float64),
        follows=NOBODY if load.follows is None else np.ascontiguousarray(load.follows, np.int64),
        follower=_follower(load),
        marks_s=_marks_s(load),
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


def _marks_s(load: Load) -> NDArray[np.float64]:
    """With sessions the first counted query's place in time and the last session's begin, where these are two."""
    if load.follows is None:
        return np.zeros(0)
    first_s, last_s = load.arrival_s[load.warmup], load.arrival_s[np.flatnonzero(load.follows < 0)[-1]]
    return np.array([first_s, last_s]) if last_s > first_s else np.zeros(0)
