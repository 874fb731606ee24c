"""Days of a fleet whose replicas know nothing of one another: each with a stream of its own, on all cores.

Where every call is routed by chance, what one replica gets is a thinning of the whole, and no replica's load depends on
another's state: so each is drawn and run for itself, its arrays are let go, and what remains is one histogram an hour.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.day_bins import HourBins, empty_bins, fold
from planner.simulation.fleet_checks import refuse_what_never_ends
from planner.simulation.fleet_loops import run_alone
from planner.simulation.kernel_state import (
    COUNTED,
    FINISHED,
    Gaps,
    make_costs,
    make_gaps,
    make_replicas,
    make_requests,
    make_settings,
)
from planner.simulation.load import Load, shared_blocks
from planner.specs import SchedulerConfig
from planner.units import S_PER_HOUR

F64 = NDArray[np.float64]


class DayFold(NamedTuple):
    """Hours of a fleet: latencies by arrival, inter-token gaps by when they were, seconds by replica."""

    bins: HourBins
    gaps: Gaps
    busy_s: F64  # [H] of all replicas
    served_s: F64  # [H] replica-seconds that served, of all replicas
    paid_s: F64  # [H] replica-seconds that are paid for: those, and of replicas that start or drain
    serving: NDArray[np.int64]  # [H, 2] fewest and most replicas that served
    preemptions: int
    rejected: F64 | None = None  # [H] queries that found no room; None where there is room for any number


def run_streams(
    load_of: Callable[[int], Load],
    replicas: int,
    config: SchedulerConfig,
    cost: StepCost,
    hours: int,
    limits: F64,
    progress: Callable[[str, int, int], None],
) -> DayFold:
    """`replicas` replicas over `hours` hours, each under `load_of(its number)`: one stage of one call a query.

    `limits` as for `day_bins.fold`. Raises MisfitError where a request can never be served.
    """
    workers = os.cpu_count() or 1
    whole = _nothing(hours, replicas)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, replicas, workers):
            mine = range(first, min(first + workers, replicas))
            for stream in pool.map(lambda number: run_stream(load_of(number), config, cost, hours, limits), mine):
                whole = _joined(whole, stream)
            progress("simulating replicas", mine.stop, replicas)
    return whole


def run_stream(load: Load, config: SchedulerConfig, cost: StepCost, hours: int, limits: F64) -> DayFold:
    """One replica that starts empty at midnight and is on all the time; what is left at the end is finished."""
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    refuse_what_never_ends(load, config, 1)
    settings, costs = make_settings(config, shared), make_costs(cost)
    ready_s = np.repeat(load.arrival_s, load.width) + (cost.frontend_s + cost.frontend_token_s * load.prompt_tokens)
    flags = np.full(load.requests, COUNTED, np.uint8)
    requests = make_requests(ready_s, load.prompt_tokens, load.output_tokens, shared, flags, config.max_model_len)
    gaps = make_gaps(hours, 0.0, S_PER_HOUR)
    state = make_replicas(1, settings, shared.contents)
    order = np.argsort(ready_s, kind="stable")
    edges_s = S_PER_HOUR * np.arange(1, hours + 1)
    *by_hour, rest = np.split(order, np.searchsorted(ready_s[order], edges_s))
    busy_s = np.zeros(hours + 1)
    for hour, mine in enumerate(by_hour):
        run_alone(state, requests, settings, costs, gaps, 0, mine, edges_s[hour])
        busy_s[hour + 1] = state.scalars["busy_s"][0]
    run_alone(state, requests, settings, costs, gaps, 0, rest, np.inf)  # what is left after the last midnight
    if state.scalars["stuck"][0]:
        rule = "the scheduler is stuck: nothing fits the KV cache"
        raise MisfitError("engine.num_gpu_blocks_override", config.usable_blocks, rule)
    rows = requests.rows
    last_s = np.where(rows["status"] == FINISHED, rows["last_token_s"], np.nan)
    alone = _nothing(hours, 1)
    fold(alone.bins, load, load.arrival_s, np.zeros(load.queries, np.bool_), (rows["first_token_s"], last_s), limits)
    return alone._replace(gaps=gaps, busy_s=np.diff(busy_s), preemptions=int(state.scalars["preemptions"][0]))


def _nothing(hours: int, replicas: int) -> DayFold:
    """Of replicas that are on all the time, before they have served anything."""
    on_s = np.full(hours, replicas * S_PER_HOUR)
    serving = np.full((hours, 2), replicas)
    return DayFold(empty_bins(hours), make_gaps(hours, 0.0, S_PER_HOUR), np.zeros(hours), on_s, on_s, serving, 0)


def _joined(whole: DayFold, stream: DayFold) -> DayFold:
    """Add one replica's stream to the whole, whose replicas are counted already."""
    for ours, more in zip((*whole.bins, *whole.gaps[:2]), (*stream.bins, *stream.gaps[:2]), strict=True):
        np.add(ours, more, out=ours)
    busy_s = whole.busy_s + stream.busy_s
    return whole._replace(busy_s=busy_s, preemptions=whole.preemptions + stream.preemptions)
