"""A slow, plain group of data-parallel ranks: reference schedulers in lock step, and one compiled group beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.kernel_group import advance_group
from planner.simulation.kernel_queue import enqueue
from planner.simulation.kernel_state import COUNTED, make_costs, make_gaps, make_replicas, make_requests, make_settings
from planner.simulation.load import Load, shared_blocks
from planner.simulation.reference import Request, Scheduler, Step
from planner.specs import SchedulerConfig

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Of each request; and how many steps each rank computed something in, how many only for show."""

    first_token_s: F64
    last_token_s: F64
    steps: list[int]
    shows: list[int]


def lockstep(load: Load, config: SchedulerConfig, cost: StepCost, ranks: int, rank: Sequence[int]) -> Times:
    """Request i goes to `rank[i]`. All ranks schedule at once; the step takes as long as the slowest rank's.

    A rank's own step has the part that hangs on all ranks' tokens replaced by that of their mean; one that has nothing
    to do computes one token for show while any other computes.
    """
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    schedulers = [Scheduler(config) for _ in range(ranks)]
    ready_s = load.arrival_s + cost.frontend_s + cost.frontend_token_s * load.prompt_tokens
    coming = list(np.argsort(ready_s, kind="stable"))
    first_s, last_s = np.full(load.requests, np.nan), np.full(load.requests, np.nan)
    steps, shows = [0] * ranks, [0] * ranks
    now = 0.0
    while True:
        while coming and ready_s[coming[0]] <= now:
            i = int(coming.pop(0))
            blocks = shared.ids[shared.start[i] : shared.start[i] + shared.count[i]].tolist()
            request = Request(i, int(load.prompt_tokens[i]), int(load.output_tokens[i]), blocks)
            schedulers[rank[i]].add(request)
        if not any(one.running or one.waiting for one in schedulers):
            if not coming:
                return Times(first_s, last_s, steps, shows)
            now = float(ready_s[coming[0]])
            continue
        decided = [one.schedule() if one.running or one.waiting else None for one in schedulers]
        now += _seconds(decided, cost)
        for at, step in enumerate(decided):
            if step is None:
                shows[at] += 1
                continue
            assert step.scheduled
            steps[at] += 1
            for emitted in schedulers[at].update(step).emitted:
                first_s[emitted] = now if np.isnan(first_s[emitted]) else first_s[emitted]
                last_s[emitted] = now


def _seconds(decided: list[Step | None], cost: StepCost) -> float:
    tokens = [1 if step is None else sum(share.tokens for share in step.scheduled) for step in decided]
    own = [cost.tokens_s[1] if step is None else cost.step_s(step.decodes, step.prefills) for step in decided]
    if not len(cost.ranks_tokens_s):
        return float(max(own))
    places = np.arange(len(cost.ranks_tokens_s))
    of_all_s = np.interp(sum(tokens) / len(tokens), places, cost.ranks_tokens_s)
    return float(max(alone + (of_all_s - cost.ranks_tokens_s[n]) for alone, n in zip(own, tokens, strict=True)))


@dataclass(frozen=True)
class Group:
    """What a compiled group left: its requests' times, its ranks' ledgers and, at each stop, their clocks."""

    first_token_s: F64
    last_token_s: F64
    ledger: NDArray[np.void]
    clocks: list[list[float]]
    stuck: bool


def grouped(
    load: Load,
    config: SchedulerConfig,
    cost: StepCost,
    ranks: int,
    rank: Sequence[int],
    stops: Sequence[float] = (),
) -> Group:
    """The same by `advance_group`. `clocks` has, at each of `stops`, those of the ranks that are at work."""
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    ready_s = load.arrival_s + cost.frontend_s + cost.frontend_token_s * load.prompt_tokens
    flags = np.full(load.requests, COUNTED)
    requests = make_requests(ready_s, load.prompt_tokens, load.output_tokens, shared, flags, config.max_model_len)
    scheduler, costs, gaps = make_settings(config, shared), make_costs(cost), make_gaps()
    state = make_replicas(ranks, scheduler, shared.contents)
    for i in np.argsort(ready_s, kind="stable"):
        enqueue(state, requests, rank[i], i)
    clocks = []
    for stop_s in stops:
        advance_group(state, requests, scheduler, costs, gaps, 0, ranks, stop_s)
        clocks.append([float(one["now"]) for one in state.scalars if one["n_running"] + one["n_waiting"] > 0])
    advance_group(state, requests, scheduler, costs, gaps, 0, ranks, np.inf)
    stuck = bool(state.scalars["stuck"].any())
    times = (requests.rows["first_token_s"].copy(), requests.rows["last_token_s"].copy())
    return Group(*times, state.scalars.copy(), clocks, stuck)
