"""What a prefix-aware router remembers of the prompts it sent to each replica, compiled.

An index of KV blocks for each replica: least recently used first out, as large as that replica's cache. The router does
not see the caches; it believes that what it sent there last is still there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.simulation.fleet_heap import within
from planner.simulation.kernel_state import Array, Requests, inlined

WORD = 64  # replicas in one word of a mask
PRIVATE = -1  # a node of blocks that no other prompt can match

NODE = np.dtype(
    [
        ("content", "i8"),
        ("blocks", "i8"),  # 1, or those of a private run
        ("previous", "i8"),
        ("following", "i8"),
        ("sibling", "i8"),  # next of the same bucket
    ]
)
LIST = np.dtype([("oldest", "i8"), ("newest", "i8"), ("free", "i8"), ("used", "i8"), ("blocks", "i8")])
NOTHING = np.array((-1, -1, -1, 0, 0), LIST)


class Index(NamedTuple):
    """The indexes of all replicas; empty arrays where the router keeps none."""

    masks: Array  # [contents, words] which replicas are believed to have each content
    lists: Array  # [R] of LIST
    nodes: Array  # [R, capacity + 1] of NODE
    buckets: Array  # [R, a power of two] first node of each
    matched: Array  # [R] blocks of the prompt in hand, from its first on
    capacity: int  # blocks for each replica


def make_index(replicas: int, contents: int, capacity: int) -> Index:
    """Indexes that remember nothing yet; `capacity` 0 = none are kept."""
    kept = replicas if capacity else 0
    lists = np.full(kept, NOTHING)
    return Index(
        masks=np.zeros((contents, -(-replicas // WORD)) if capacity else (0, 0), np.uint64),
        lists=lists,
        nodes=np.zeros((kept, capacity + 1), NODE),
        buckets=np.full((kept, 1 << min(contents, capacity).bit_length()), -1),
        matched=np.zeros(replicas, np.int64),
        capacity=capacity,
    )


@inlined
def note(index: Index, word: int, count: int, which: np.uint64, matched: int) -> None:
    """Set `matched` for the replicas of a mask."""
    if which != np.uint64(0):
        for r in range(word * WORD, min(count, word * WORD + WORD)):
            if (which >> np.uint64(r - word * WORD)) & np.uint64(1) != np.uint64(0):
                index.matched[r] = matched


@inlined
def match(index: Index, q: Requests, block_size: int, i: int) -> None:
    """Set `matched`: of how many blocks from the beginning of request i's prompt each replica was sent all."""
    count = len(index.matched)
    blocks = min(q.rows[i].shared_count, q.rows[i].prompt // block_size)
    start = q.rows[i].shared_start
    nobody = np.uint64(0)
    for word in range(index.masks.shape[1]):
        going = ~nobody
        matched = 0
        while matched < blocks and going != nobody:
            still = going & index.masks[q.shared_ids[start + matched], word]
            note(index, word, count, going ^ still, matched)
            going = still
            matched += 1
        note(index, word, count, going, matched)


@inlined
def unlink(index: Index, r: int, node: int) -> None:
    """Take `node` out of replica r's list."""
    row = index.lists[r]
    before, after = index.nodes[r, node].previous, index.nodes[r, node].following
    if before >= 0:
        index.nodes[r, before].following = after
    else:
        row.oldest = after
    if after >= 0:
        index.nodes[r, after].previous = before
    else:
        row.newest = before


@inlined
def append(index: Index, r: int, node: int) -> None:
    """Put `node` at the end of replica r's list: the last to be forgotten."""
    row = index.lists[r]
    index.nodes[r, node].previous = row.newest
    index.nodes[r, node].following = -1
    if row.newest >= 0:
        index.nodes[r, row.newest].following = node
    else:
        row.oldest = node
    row.newest = node


@inlined
def forget_content(index: Index, r: int, node: int) -> None:
    """The content of `node` is no longer believed to be at replica r."""
    content = index.nodes[r, node].content
    bucket = content & (index.buckets.shape[1] - 1)
    at = index.buckets[r, bucket]
    if at == node:
        index.buckets[r, bucket] = index.nodes[r, node].sibling
    else:
        while index.nodes[r, at].sibling != node:
            at = index.nodes[r, at].sibling
        index.nodes[r, at].sibling = index.nodes[r, node].sibling
    index.masks[content, r // WORD] &= ~(np.uint64(1) << np.uint64(r % WORD))


@inlined
def make_room(index: Index, r: int) -> None:
    """Forget the oldest block of replica r."""
    row = index.lists[r]
    node = row.oldest
    row.blocks -= 1
    index.nodes[r, node].blocks -= 1
    if index.nodes[r, node].blocks == 0:
        if index.nodes[r, node].content != PRIVATE:
            forget_content(index, r, node)
        unlink(index, r, node)
        index.nodes[r, node].sibling = row.free
        row.free = node


@inlined
def add_node(index: Index, r: int, content: int, blocks: int) -> int:
    """A new node at the end of replica r's list; the oldest blocks make room for it."""
    row = index.lists[r]
    while row.blocks + blocks > index.capacity:
        make_room(index, r)
    node = row.free
    if node >= 0:
        row.free = index.nodes[r, node].sibling
    else:
        node = row.used
        row.used += 1
    index.nodes[r, node].content = content
    index.nodes[r, node].blocks = blocks
    index.nodes[r, node].sibling = -1
    row.blocks += blocks
    append(index, r, node)
    return node


@within
def remember(index: Index, q: Requests, block_size: int, r: int, i: int) -> None:
    """Request i went to replica r: its blocks, those of its answer too, are now the newest there.

    The last block goes in first, so that the beginning of a prompt is forgotten last.
    """
    total = (q.rows[i].prompt + q.rows[i].output - 1) // block_size
    shared = min(q.rows[i].shared_count, total)
    start = q.rows[i].shared_start
    private = min(total - shared, index.capacity)
    if private > 0:
        add_node(index, r, PRIVATE, private)
    one = np.uint64(1) << np.uint64(r % WORD)
    for b in range(min(shared, index.capacity) - 1, -1, -1):
        content = q.shared_ids[start + b]
        if index.masks[content, r // WORD] & one != np.uint64(0):
            node = index.buckets[r, content & (index.buckets.shape[1] - 1)]
            while index.nodes[r, node].content != content:
                node = index.nodes[r, node].sibling
            unlink(index, r, node)
            append(index, r, node)
        else:
            node = add_node(index, r, content, 1)
            bucket = content & (index.buckets.shape[1] - 1)
            index.nodes[r, node].sibling = index.buckets[r, bucket]
            index.buckets[r, bucket] = node
            index.masks[content, r // WORD] |= one


def forget_replica(index: Index, r: int) -> None:
    """Replica r is gone, with all that it had."""
    if index.capacity:
        index.masks[:, r // WORD] &= ~(np.uint64(1) << np.uint64(r % WORD))
        index.lists[r] = NOTHING
        index.buckets[r] = -1
