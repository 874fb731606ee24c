"""The kernel's columns and settings: arrays and numbers only, so that compiled code can be cached on disk.

Arrays of `Replicas` have the replica as first axis; one replica's scheduler is row r of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planner.coefficients import StepCost
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


def _sources() -> str:
    """A mark of all compiled source text.

    numba keeps machine code on disk until the file of the function changes. That the code of another file went into it
    escapes it, and stale code would read today's columns by yesterday's layout. A column named by this mark, in the
    table that every cached function takes, makes old code a stranger.
    """
    here = Path(__file__).parent
    texts = [path.read_bytes() for path in sorted(here.glob("*.py"))]
    marks = (b"\n@compiled", b"\n@inlined", b"\n@released")
    compiled_texts = [text for text in texts if any(mark in text for mark in marks)]
    return hashlib.sha256(b"".join(compiled_texts)).hexdigest()[:16]


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


REQUEST = np.dtype(
    [
        ("ready_s", "f8"),  # when the engine sees it
        ("first_token_s", "f8"),
        ("last_token_s", "f8"),
        ("shared_start", "i8"),
        ("survivor", "i8"),  # node of its cached blocks that outlived a preemption, -1 = none
        ("shared_count", "i4"),
        ("prompt", "i4"),
        ("output", "i4"),
        ("generated", "i4"),  # tokens delivered before its latest preemption
        ("link", "i4"),  # next in its replica's queue; after its end, next in the replica's list of completions
        ("flags", "u1"),
        ("status", "i1"),
    ],
    align=True,
)

# The last six columns are lists that have room for one entry a seat. What is handed to functions is as wide as any
# index, here and elsewhere: numba compiles a function once for each width that it is called with.
SEAT = np.dtype(
    [
        ("order", "i8"),  # admission number: the running list is sorted by it
        ("offset", "i8"),  # computed tokens (prefilling), or computed tokens - decode steps of the replica (decoding)
        ("event_at", "i8"),  # decode step at which it finishes or its context fills the attention window
        ("finish_at", "i8"),
        ("request", "i4"),
        ("previous", "i4"),
        ("following", "i4"),
        ("scheduled", "i4"),
        ("held", "i4"),  # shared blocks it owns
        ("decoding", "u1"),
        ("chained", "u1"),  # its generated tokens will fill blocks that others may hit
        ("stalled", "u1"),  # decoding, but left out of the last step
        ("over", "u1"),  # its last token is out, but an asynchronous scheduler learns of it a step later
        ("heap", "i8"),
        ("due", "i8"),
        ("free_seat", "i8"),
        ("preempted", "i8"),
        ("batch", "i8"),  # seats with prefill work in this step, in list order
        ("ended", "i8"),  # seats that finish in this step; under asynchronous scheduling kept through the next
    ],
    align=True,
)

NODE = np.dtype(
    [
        ("content", "i4"),  # shared content, or RUN / OWNED - i
        ("count", "i4"),  # owners of a shared block, or blocks in a run
        ("previous", "i4"),
        ("following", "i4"),
        ("sibling", "i4"),  # next of the same bucket
    ]
)

# Copies of shared content by the low bits of its number, in the order in which they were hashed.
BUCKET = np.dtype([("first", "i4"), ("last", "i4")])

SCALARS = np.dtype(
    [
        (f"sources_{_sources()}", "i8"),
        # clock
        ("now", "f8"),
        ("horizon", "f8"),  # arrivals up to here may be admitted
        ("started", "f8"),  # when the step in hand began
        # running list and heap of decode events
        ("first", "i8"),
        ("last", "i8"),
        ("n_running", "i8"),
        ("n_prefilling", "i8"),
        ("n_decoding", "i8"),
        ("n_counted", "i8"),
        ("n_stalled", "i8"),
        ("n_chained", "i8"),
        ("heap_size", "i8"),
        ("n_free_seats", "i8"),
        ("admissions", "i8"),
        ("decode_steps", "i8"),
        ("context", "i8"),
        ("windowed", "i8"),
        ("growing", "i8"),
        # waiting queue
        ("queue_head", "i8"),
        ("queue_tail", "i8"),
        ("unseen", "i8"),
        ("n_waiting", "i8"),
        ("n_preempted", "i8"),
        ("blocked", "i8"),
        ("left_waiting", "i8"),
        ("done", "i8"),
        ("outstanding", "i8"),
        ("finished_now", "i8"),
        ("stuck", "i8"),
        # KV pool
        ("plain_free", "i8"),
        ("cached_free", "i8"),
        ("lru_head", "i8"),
        ("lru_tail", "i8"),
        ("free_node", "i8"),
        ("nodes_used", "i8"),
        # the step in hand
        ("n_batch", "i8"),
        ("n_ended", "i8"),
        ("step_preemptions", "i8"),
        ("step_over", "i8"),
        ("step_tokens", "i8"),
        ("step_requests", "i8"),
        ("step_decodes", "i8"),
        ("step_context", "i8"),
        ("step_windowed", "i8"),
        ("walked", "i8"),
        ("step_attention_s", "f8"),
        # the jump in hand: what its first step has taken, and what leaves after it
        ("paid_blocks", "i8"),
        ("leaving_blocks", "i8"),
        ("leaving_seats", "i8"),
        # the step or jump in hand of a rank among others: what it would take alone
        ("own_s", "f8"),
        ("line_base_s", "f8"),
        ("line_slope_s", "f8"),
        # ledger
        ("steps", "i8"),
        ("busy_s", "f8"),
        ("running_s", "f8"),
        ("waiting_s", "f8"),
        ("kv_block_s", "f8"),
        ("kv_peak_blocks", "i8"),
        ("prefill_tokens", "i8"),
        ("decode_tokens", "i8"),
        ("context_tokens", "i8"),
        ("preemptions", "i8"),
        ("queried_tokens", "i8"),
        ("hit_tokens", "i8"),
        ("requeried_tokens", "i8"),
        ("rehit_tokens", "i8"),
        ("evicted_blocks", "i8"),
    ],
    align=True,
)


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
