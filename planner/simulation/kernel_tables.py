"""The kernel's tables: the columns of a request's row, and of a replica's state and ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np


def _sources() -> str:
    """A mark of all compiled source text.

    numba keeps machine code on disk until the file of the function changes. That the code of another file went into it
    escapes it, and stale code would read today's columns by yesterday's layout. A column named by this mark, in the
    table that every cached function takes, makes old code a stranger. Of the kernel's own files all count: some only
    say what compiled code works on.
    """
    here = Path(__file__).parent
    texts = [(path.name, path.read_bytes()) for path in sorted(here.glob("*.py"))]
    marks = (b"\n@compiled", b"\n@inlined", b"\n@released")
    compiled_texts = [text for name, text in texts if name.startswith("kernel") or any(mark in text for mark in marks)]
    return hashlib.sha256(b"".join(compiled_texts)).hexdigest()[:16]


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

LEDGER = SCALARS.names[SCALARS.names.index("steps") :]  # type: ignore[index,union-attr]
