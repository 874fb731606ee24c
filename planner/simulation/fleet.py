"""A fleet of equal replicas under one load: routing, stages, closed loops, client limits.

What happens inside a replica is the kernel's business; what crosses replicas is written here, once, and judged by laws
and closed forms. Reading guide: `run_fleet` picks the simplest loop of `fleet_loops` that can carry the load.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError, ScenarioError
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
from planner.simulation.kernel_state import (
    COUNTED,
    FINISHED,
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
from planner.simulation.load import Load, shared_blocks
from planner.specs import SchedulerConfig

Routing = Literal["random", "round_robin", "least_loaded"]
_CODES = {"random": RANDOM, "round_robin": ROUND_ROBIN, "least_loaded": LEAST_LOADED}
NOBODY = np.zeros(0, np.int64)  # no requests
WINDOWS = 20  # time windows of the gap histogram in an open loop, for batch means


@dataclass(frozen=True)
class FleetRun:
    """What a run left behind: per query, per request, per replica.

    Times in seconds from the start of the run. NaN = it never happened. `ledger` has one row a replica with the
    fields of `kernel_state.SCALARS` from `steps` on. `steady` has the same as they stood when the last query of an
    open, single-stage load arrived: means over time are taken from it, since a run's drain says nothing of the load.
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
    _refuse_what_never_ends(load, config, replicas)
    settings = make_settings(config, shared)
    costs = make_costs(cost)
    arrival_s = np.array(load.arrival_s, np.float64)
    ready_s = np.repeat(arrival_s, load.width) + (cost.frontend_s + cost.frontend_token_s * load.prompt_tokens)
    requests = make_requests(
        ready_s, load.prompt_tokens, load.output_tokens, shared, _flags(load), config.max_model_len
    )
    gaps = gap_windows(load)
    replica = np.full(load.requests, -1, np.int64)
    sent_s = arrival_s.copy()
    failed = np.zeros(load.queries, np.uint8)
    world = _World(load, requests, settings, costs, gaps, replica, replicas, shared.contents)
    knows_arrivals = (
        load.clients == 0 and load.max_in_flight == 0 and len(load.stages) == 1 and not np.isfinite(load.timeout_s)
    )
    if knows_arrivals and (routing != "least_loaded" or replicas == 1):
        replica[:] = _assign(load, ready_s, replicas, routing, rng)
        steady, ledger, wall_s = _run_independent(world)
    elif knows_arrivals:
        steady, ledger, wall_s = _run_least_loaded(world)
    else:
        draws = _draw(load, replicas, rng) if routing == "random" else NOBODY
        stage, remaining = np.zeros((2, load.queries), np.int64)
        queries = Queries(arrival_s, sent_s, failed, stage, remaining)
        ledger, wall_s = _run_dependent(world, queries, _client(load, cost), _CODES[routing], draws)
        steady = ledger
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
        gaps=gaps,
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
    order, leader = _by_time(world.requests.rows["ready_s"]), _leaders(load)
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
) -> tuple[NDArray[np.void], float]:
    """Clients and replicas on one clock; returns the ledgers at the end and the seconds it took."""
    state = world.state(world.replicas)
    nobody = Queries(*(column[:0] for column in queries))
    fixed = (state, world.requests, world.settings, world.costs, world.gaps, client)
    run_dependent(*fixed, nobody, routing, draws, world.replica)
    started = time.perf_counter()
    run_dependent(*fixed, queries, routing, draws, world.replica)
    return state.scalars, time.perf_counter() - started


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
    leader = _leaders(load)
    order = _by_time(ready_s)
    calls = order[leader[order] == order]
    turn = np.empty(load.requests, np.int64)
    turn[calls] = np.arange(len(calls)) % replicas
    return turn[leader]


def _draw(load: Load, replicas: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random replica for each request, the samples of a call together."""
    first = _call_first(load)
    number = np.cumsum(first == np.arange(load.width)) - 1  # of the call, within its query
    return rng.integers(0, replicas, (load.queries, number[-1] + 1))[:, number].ravel()


def _leaders(load: Load) -> NDArray[np.int64]:
    """For each request the first sample of its call."""
    return (np.arange(load.queries)[:, None] * load.width + _call_first(load)).ravel()


def _flags(load: Load) -> NDArray[np.uint8]:
    """Which requests count: those of the last stage, between warm-up and cool-down."""
    flags = np.zeros((load.queries, load.width), np.uint8)
    flags[load.warmup : load.queries - load.cooldown, load.width - load.stages[-1].requests :] = COUNTED
    return flags.ravel()


def _call_first(load: Load) -> NDArray[np.int64]:
    """For each position in a query the position of the first sample of its call."""
    first: list[int] = []
    for stage in load.stages:
        for _ in range(stage.calls):
            first += [len(first)] * stage.samples
    return np.array(first, np.int64)


def _client(load: Load, cost: StepCost) -> Client:
    bounds = np.concatenate(([0], np.cumsum([stage.requests for stage in load.stages])))
    return Client(
        width=load.width,
        stage_first=bounds.astype(np.int64),
        call_first=_call_first(load),
        clients=int(load.clients),
        per_client=int(load.per_client),
        think_s=np.zeros(0) if load.think_s is None else np.ascontiguousarray(load.think_s, np.float64),
        max_in_flight=int(load.max_in_flight),
        timeout_s=float(load.timeout_s),
        frontend_s=float(cost.frontend_s),
        frontend_token_s=float(cost.frontend_token_s),
    )


def gap_windows(load: Load) -> Gaps:
    """Equal windows over the counted arrivals of an open loop; one window where arrivals depend on finishes."""
    if load.clients > 0 or load.queries - load.warmup - load.cooldown < 2 * WINDOWS:
        return make_gaps()
    start_s, end_s = float(load.arrival_s[load.warmup]), float(load.arrival_s[load.queries - load.cooldown - 1])
    return make_gaps(WINDOWS, start_s, (end_s - start_s) / WINDOWS) if end_s > start_s else make_gaps()


def _refuse_what_never_ends(load: Load, config: SchedulerConfig, replicas: int) -> None:
    arrival = load.arrival_s
    if len(arrival) == 0:
        raise ScenarioError("traffic", None, "no query reaches the model: nothing to simulate")
    if replicas < 1:
        raise ScenarioError("fleet.replicas", replicas, "must be at least 1")
    if config.seats < 1:
        raise ScenarioError("engine.max_num_seqs", config.seats, "must be at least 1")
    if config.max_num_batched_tokens < config.seats:
        rule = f"must be at least max_num_seqs ({config.seats})"
        raise ScenarioError("engine.max_num_batched_tokens", config.max_num_batched_tokens, rule)
    if not np.isfinite(arrival).all() or arrival[0] < 0 or (np.diff(arrival) < 0).any():
        raise ScenarioError("traffic.arrivals", None, "arrival times must be finite, not negative and ascending")
    if load.requests != load.queries * load.width:
        raise ScenarioError("query.stages", load.requests, f"needs {load.width} requests a query")
    if (load.prompt_tokens < 1).any() or (load.output_tokens < 1).any():
        raise ScenarioError("query.stages", None, "prompts and outputs must have at least 1 token")
    if any(stage.samples > 1 for stage in load.stages):
        unequal = load.prompt_tokens != load.prompt_tokens[_leaders(load)]
        if unequal.any():
            raise ScenarioError("query.stages", int(unequal.argmax()), "samples of one call must have the same prompt")
    longest = int(load.prompt_tokens.max())
    if longest >= config.max_model_len:
        rule = f"must be below max_model_len ({config.max_model_len})"
        raise ScenarioError("query.stages.prompt_tokens", longest, rule)
    if not config.enable_chunked_prefill and longest > config.max_num_batched_tokens:
        rule = f"a prompt of {longest} tokens never fits one step with chunked prefill off"
        raise MisfitError("engine.max_num_batched_tokens", config.max_num_batched_tokens, rule, f">= {longest}")
    total = np.minimum(load.prompt_tokens + load.output_tokens.astype(np.int64), config.max_model_len)
    # The last sampled token is never computed; alone in the engine no watermark applies.
    need = -(-(int(total.max()) - 1) // config.block_size)
    if need > config.usable_blocks:
        rule = f"the longest request needs {need} KV blocks of {config.block_size} tokens"
        raise MisfitError("engine.num_gpu_blocks_override", config.usable_blocks, rule, f">= {need + 1}")
