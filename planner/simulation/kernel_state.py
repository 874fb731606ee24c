"""What the kernel works on, and how it is compiled: arrays and numbers only, so that machine code is kept on disk.

Arrays of `Replicas` have the replica as first axis; one replica's scheduler is row r of each. The columns of the rows
are `kernel_tables`'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.kernel_tables import BUCKET, NODE, REQUEST, SCALARS, SEAT
from planner.simulation.load import SharedBlocks
from planner.specs import SchedulerConfig

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])

# Nothing in the kernel allocates, so arrays need no reference counts (`_nrt`), and a call would pass some eighty words
# of array headers, so small functions are inlined: the two together make it five times as fast. Python cannot call
# what is inlined, which halves the time that it takes to compile.
_KERNEL: dict[str, Any] = {"nogil": True, "_nrt": False}
_INLINED: dict[str, Any] = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: F) -> F:
    """Compile a kernel function that is called seldom, or is large."""
    return cast(F, njit(cache=True, **_KERNEL)(function))


def inlined(function: F) -> F:
    """Compile a kernel function into its callers, and keep it nowhere else."""
    return cast(F, njit(**_KERNEL, **_INLINED)(function))


def released(function: F) -> F:
    """Compile a function that may allocate; it runs without the interpreter's lock."""
    return cast(F, njit(cache=True, nogil=True)(function))


# Status of a request.
PENDING, FINISHED, ABORTED = 0, 1, 2
# Bits of `Requests.flags`.
COUNTED, SKIPS_CACHE_READ = 1, 2
# Inter-token gaps fall into bins of 0.5 % width from 1 µs to about 20 minutes.
GAP_FLOOR_S, GAP_BINS, GAP_WIDTH = 1e-6, 4200, 0.005
GAP_EDGES_S = GAP_FLOOR_S * np.exp(GAP_WIDTH * np.arange(GAP_BINS + 1))


class Settings(NamedTuple):
    """`specs.SchedulerConfig` as plain integers; flags are 0 or 1."""

    block_size: int
    usable_blocks: int
    seats: int
    budget: int
    threshold: int
    adaptive: int
    chunked: int
    caching: int
    reserve: int
    watermark: int
    lagged: int  # asynchronous scheduling: what a step gives is known one step later
    defer_prefills: int
    shared_per_seat: int  # room for shared blocks in one seat's row of `Replicas.copies`


class Costs(NamedTuple):
    """`coefficients.StepCost` as arrays and floats."""

    tokens_s: Array
    requests_s: Array
    decode_attention_s: float
    decode_token_s: float
    window: int
    window_token_s: float
    prefill_token2_s: float
    prefill_window_s: float
    prefill_step_s: float
    ranks_tokens_s: Array  # as long as tokens_s


class Requests(NamedTuple):
    """What each request asks and what became of it."""

    rows: Array  # [N] of REQUEST
    shared_ids: Array  # content of shared blocks; request i's begin at its `shared_start`


class Gaps(NamedTuple):
    """Histogram of inter-token gaps, one row a time window (for batch means)."""

    count: Array  # type: ignore[assignment]  # [windows, GAP_BINS]
    total_s: Array  # [windows] summed gaps
    start_s: float
    window_s: float


class Replicas(NamedTuple):
    """Every replica's scheduler state and ledger."""

    scalars: Array  # [R] of SCALARS
    seats: Array  # [R, seats] of SEAT
    phase: Array  # [R, block_size] decodes by (tokens in their last block), rotated by the decode steps taken
    copies: Array  # [R, seats · shared_per_seat] node of each shared block a seat owns
    nodes: Array  # [R, usable_blocks] of NODE
    buckets: Array  # [R, a power of two] of BUCKET


def make_settings(config: SchedulerConfig, shared: SharedBlocks) -> Settings:
    """The scheduler's integers; `shared` only tells how many shared blocks one request may own."""
    return Settings(
        block_size=config.block_size,
        usable_blocks=config.usable_blocks,
        seats=config.seats,
        budget=config.max_num_batched_tokens,
        threshold=config.long_prefill_token_threshold,
        adaptive=int(config.long_prefill_token_threshold_adaptive),
        chunked=int(config.enable_chunked_prefill),
        caching=int(config.enable_prefix_caching),
        reserve=int(config.scheduler_reserve_full_isl),
        watermark=config.watermark_blocks,
        lagged=int(config.async_scheduling),
        defer_prefills=0,
        shared_per_seat=int(shared.count.max(initial=0)) if config.enable_prefix_caching else 0,
    )


def make_costs(cost: StepCost) -> Costs:
    """The step cost's numbers, each with one fixed type."""
    return Costs(
        np.ascontiguousarray(cost.tokens_s, np.float64),
        np.ascontiguousarray(cost.requests_s, np.float64),
        float(cost.decode_attention_s),
        float(cost.decode_token_s),
        int(cost.window),
        float(cost.window_token_s),
        float(cost.prefill_token2_s),
        float(cost.prefill_window_s),
        float(cost.prefill_step_s),
        np.resize(cost.ranks_tokens_s, len(cost.tokens_s)).astype(np.float64),  # nothing is resized to zeros
    )


def make_requests(
    ready_s: Array, prompt: Array, output: Array, shared: SharedBlocks, flags: Array, max_model_len: int
) -> Requests:
    """Columns for `len(prompt)` requests. Generation stops at `max_model_len` tokens in all."""
    rows = np.zeros(len(prompt), REQUEST)
    _fill_rows(rows, ready_s, prompt, output, shared.start, shared.count, flags, max_model_len)
    return Requests(rows, np.ascontiguousarray(shared.ids, np.int32))


@compiled
def _fill_rows(
    rows: Array, ready_s: Array, prompt: Array, output: Array, start: Array, count: Array, flags: Array, most: int
) -> None:
    """Row by row, because the columns of a table that exceeds the processor's cache are slow to write one by one."""
    for i in range(len(rows)):
        row = rows[i]
        row.ready_s = ready_s[i]
        row.first_token_s = np.nan
        row.last_token_s = np.nan
        row.prompt = prompt[i]
        row.output = min(output[i], most - prompt[i])
        row.shared_start = start[i]
        row.shared_count = count[i]
        row.survivor = -1
        row.link = -1
        row.flags = flags[i]


def make_gaps(windows: int = 1, start_s: float = 0.0, window_s: float = np.inf) -> Gaps:
    """An empty histogram of `windows` rows, the first from `start_s` on, each `window_s` long."""
    return Gaps(np.zeros((windows, GAP_BINS)), np.zeros(windows), float(start_s), float(window_s))


def make_replicas(count: int, settings: Settings, contents: int) -> Replicas:
    """`count` idle replicas at time 0 with empty caches; `contents` = number of different shared blocks."""
    seats, blocks = settings.seats, settings.usable_blocks
    scalars = np.zeros(count, SCALARS)
    for name in ("first", "last", "queue_head", "queue_tail", "unseen", "done", "lru_head", "lru_tail", "free_node"):
        scalars[name] = -1
    scalars["n_free_seats"] = seats
    scalars["plain_free"] = blocks
    seat = np.zeros((count, seats), SEAT)
    seat["free_seat"] = np.arange(seats - 1, -1, -1)
    # Without caching no node is ever used.
    node = np.zeros((count, blocks if settings.caching else 1), NODE)
    # As many buckets as there can be copies: memory follows the cache, not the load.
    bucket = np.zeros((count, 1 << (min(contents, blocks) if settings.caching else 0).bit_length()), BUCKET)
    bucket["first"] = bucket["last"] = -1
    return Replicas(
        scalars=scalars,
        seats=seat,
        phase=np.zeros((count, settings.block_size), np.int64),
        copies=np.zeros((count, seats * settings.shared_per_seat + 1), np.int64),
        nodes=node,
        buckets=bucket,
    )
