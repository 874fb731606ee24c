"""What arrives, as arrays: the simulator's input, and the load test's, to the last token."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.errors import ScenarioError

Whole = TypeVar("Whole", np.int32, np.int64)
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

MOST_BLOCKS = 100_000_000  # of chains that are stored: beyond it they take gigabytes


@dataclass(frozen=True)
class Stage:
    """One stage of every query: `calls` prompts sent at once, each answered `samples` times."""

    name: str
    calls: int = 1
    samples: int = 1

    @property
    def requests(self) -> int:
        """Model calls of this stage in one query."""
        return self.calls * self.samples


@dataclass(frozen=True)
class Prefixes:
    """Which prompts begin alike.

    A segment is a run of tokens with an identity; it always follows the same predecessors, so equal ids mean equal
    content from the first token on. Request i begins with the segments
    `chain_segment[chain_start[i] : chain_start[i + 1]]`; whatever follows them is its own and equal to nobody's.
    A chain may be longer than the prompt: it then also names the tokens that the request will generate.
    `chain_start` has shape [requests + 1], `chain_segment` [links] and `segment_tokens` [segments].
    """

    chain_start: I64
    chain_segment: I32
    segment_tokens: I32


@dataclass(frozen=True)
class Load:
    """All requests of one run.

    Q queries of `width` model calls each: request i belongs to query i // width, and i % width counts through the
    stages, their calls and the samples of a call, in that order. Queries answered by the response cache are not here.

    Open loop (`clients` = 0): query q is due at `arrival_s[q]` (ascending). Closed loop: `clients` start at time 0 and
    each sends its next query when the last has finished and `think_s[q]` has passed; with `per_client` client c sends
    queries c, c + clients, c + 2·clients …, without it the next query that nobody has sent yet.
    Sessions (`follows` given, an open loop): a query with `follows[q]` = -1 is due at `arrival_s[q]`; any other is the
    next turn of a session, due `think_s[q]` after query `follows[q]` < q has ended or failed, and its `arrival_s` only
    says where it stands in the order: when it would be due if answers took no time. At most one query follows another.
    At most `max_in_flight` (0 = no limit) queries are outstanding: one above it waits at the client.
    A query has one clock over all its stages: without its last token `timeout_s` after it was sent it fails, and
    what is unfinished of it is aborted. The first `warmup` and the last `cooldown` queries are simulated, not counted.
    `group_links` has for each stage the place, in the chains of its prompts, of the link that tells its prompt groups
    apart, None = it has no groups; where nobody knows (recorded prompts) it is not given.
    """

    arrival_s: F64  # [Q]
    prompt_tokens: I32  # [Q · width]
    output_tokens: I32  # [Q · width]
    stages: tuple[Stage, ...] = (Stage("answer"),)
    prefixes: Prefixes | None = None
    clients: int = 0
    per_client: bool = False
    think_s: F64 | None = None  # [Q]
    max_in_flight: int = 0
    timeout_s: float = np.inf
    warmup: int = 0
    clipped_share: float = 0.0  # of requests whose prompt or output was cut to fit max_model_len
    cached_share: float = 0.0  # of the users' queries that the response cache answered
    notes: tuple[str, ...] = field(default=())
    cooldown: int = 0
    follows: I64 | None = None  # [Q] the query that each follows, -1 = none
    group_links: tuple[int | None, ...] | None = None  # [stages]

    @property
    def width(self) -> int:
        """Model calls of one query."""
        return sum(stage.requests for stage in self.stages)

    @property
    def queries(self) -> int:
        """Queries that reach the model, the warm-up included."""
        return len(self.arrival_s)

    @property
    def requests(self) -> int:
        """Model calls, the warm-up's included."""
        return len(self.prompt_tokens)


def as_far_as(load: Load, queries: int) -> Load:
    """The first `queries` of a load and nothing after them. Not of sessions, which would be cut in half."""
    if queries >= load.queries:
        return load
    requests, prefixes = queries * load.width, load.prefixes
    if prefixes is not None:
        starts = prefixes.chain_start[: requests + 1]
        prefixes = Prefixes(starts, prefixes.chain_segment[: starts[-1]], prefixes.segment_tokens)
    return replace(
        load,
        arrival_s=load.arrival_s[:queries],
        prompt_tokens=load.prompt_tokens[:requests],
        output_tokens=load.output_tokens[:requests],
        think_s=None if load.think_s is None else load.think_s[:queries],
        prefixes=prefixes,
    )


def typical(load: Load) -> slice:
    """The requests whose token counts stand for the load's: all; of sessions the counted, as early turns are short."""
    if load.follows is None:
        return slice(load.requests)
    return slice(load.warmup * load.width, (load.queries - load.cooldown) * load.width)


def call_first(load: Load) -> I64:
    """For each position in a query the position of the first sample of its call."""
    first: list[int] = []
    for stage in load.stages:
        for _ in range(stage.calls):
            first += [len(first)] * stage.samples
    return np.array(first, np.int64)


def leaders(load: Load) -> I64:
    """For each request the first sample of its call."""
    first: I64 = (np.arange(load.queries)[:, None] * load.width + call_first(load)).ravel()
    return first


@dataclass(frozen=True)
class SharedBlocks:
    """Prefix chains cut into KV blocks, as the scheduler sees them.

    Block b of request i (b < `count[i]`) holds content `ids[start[i] + b]`; later blocks are the request's own.
    Only content that at least two requests name appears; a prefix of a shared chain is shared, so the shared
    blocks of a request are always its first. `start` has shape [requests], `count` [requests].
    """

    start: I64
    count: I32
    ids: I32
    contents: int  # how many different ids there are


def shared_blocks(prefixes: Prefixes | None, requests: int, block_size: int) -> SharedBlocks:
    """Cut chains into blocks of `block_size` tokens; a chain that another one begins with is not stored again.

    A block is named by the segment that holds its last token and by its place in it, because everything before
    follows from that; a block that reaches beyond the chain is private. Raises ScenarioError beyond `MOST_BLOCKS`.
    """
    if prefixes is None or len(prefixes.chain_segment) == 0:
        return SharedBlocks(np.zeros(requests, np.int64), np.zeros(requests, np.int32), np.zeros(0, np.int32), 0)
    uses = np.bincount(prefixes.chain_segment, minlength=len(prefixes.segment_tokens))
    lengths = np.diff(prefixes.chain_start)
    owner = np.repeat(np.arange(requests), lengths)
    segment = prefixes.chain_segment.astype(np.int64)
    # --- where each link ends, in tokens from the request's start ---
    tokens = prefixes.segment_tokens[segment].astype(np.int64)
    ends = np.cumsum(tokens)
    ends -= np.concatenate(([0], ends))[prefixes.chain_start[:-1]][owner]
    blocks = ends // block_size - (ends - tokens) // block_size
    blocks[uses[segment] < 2] = 0
    # --- a number for each (segment, block within it) ---
    per_segment = np.zeros(len(prefixes.segment_tokens), np.int64)
    per_segment[segment] = blocks  # the same wherever the segment stands
    first = np.concatenate(([0], np.cumsum(per_segment)))
    # --- one stored row for each chain that no other goes on from: whoever comes as far reads its beginning ---
    count = np.bincount(owner, weights=blocks, minlength=requests).astype(np.int32)
    useful = blocks > 0
    last = np.full(requests, -1)
    last[owner[useful]] = segment[useful]  # later links overwrite earlier ones
    ends_of = _ends_of(segment[useful], owner[useful], len(per_segment), int(lengths.max()))
    furthest = np.append(ends_of, -1)
    whole = furthest[last] == last
    last = furthest[last]
    ending = np.full(len(per_segment) + 1, -1)
    ending[last[whole]] = np.flatnonzero(whole)  # one request for each last link; place -1 is for those without
    representative = ending[:-1][ending[:-1] >= 0]
    stored = int(count[representative].sum(dtype=np.int64))
    if stored > MOST_BLOCKS:
        rule = (
            f"are more shared blocks of {block_size} tokens than a run may have ({MOST_BLOCKS}): ask for a shorter run"
        )
        raise ScenarioError("requests", stored, rule)
    links = _ranges(prefixes.chain_start[representative], lengths[representative])
    ids = _ranges(first[segment[links]].astype(np.int32), blocks[links])
    row_start = np.zeros(len(ending), np.int64)
    row_start[last[representative]] = np.cumsum(count[representative], dtype=np.int64) - count[representative]
    return SharedBlocks(row_start[last], count, ids, int(first[-1]))


def _ends_of(links: I64, owner: I64, segments: int, longest: int) -> I64:
    """For each segment the last link of a chain that holds it; `links` stand in order, those of one owner together.

    A segment always has the same place in its chains, so no walk from one to the next is longer than the `longest`.
    """
    end = np.arange(segments)
    goes_on = owner[1:] == owner[:-1]
    end[links[:-1][goes_on]] = links[1:][goes_on]
    for _ in range(longest.bit_length()):  # each time as far again
        end = end[end]
    return end


def _ranges(starts: NDArray[Whole], counts: I64) -> NDArray[Whole]:
    """start, start + 1, … `count` times, for each pair, one after the other; as wide as the starts."""
    before = np.cumsum(counts) - counts
    ranges = np.repeat((starts - before).astype(starts.dtype), counts)
    ranges += np.arange(len(ranges), dtype=starts.dtype)
    return ranges
