"""Prefix chains cut into KV blocks: tables worked out by hand, and the definition taken block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import ScenarioError
from planner.simulation.load import Load, Prefixes, Stage, shared_blocks

A, B, C = 0, 1, 2


def prefixes_of(chains: list[list[int]], segment_tokens: list[int]) -> Prefixes:
    return Prefixes(
        np.cumsum([0] + [len(chain) for chain in chains]),
        np.array([segment for chain in chains for segment in chain], np.int32),
        np.array(segment_tokens, np.int32),
    )


def rows_of(chains: list[list[int]], segment_tokens: list[int], block_size: int) -> tuple[list[list[int]], int]:
    """Each request's shared blocks, and how many different ones there are."""
    shared = shared_blocks(prefixes_of(chains, segment_tokens), len(chains), block_size)
    assert len(shared.start) == len(shared.count) == len(chains)
    rows = [shared.ids[s : s + n].tolist() for s, n in zip(shared.start, shared.count, strict=True)]
    return rows, shared.contents


class Row(NamedTuple):
    chains: list[list[int]]
    segment_tokens: list[int]
    block_size: int
    rows: list[list[int]]
    contents: int
    because: str


BY_HAND = [
    Row([[A], [A]], [8], 4, [[0, 1], [0, 1]], 2, "8 tokens are two blocks of 4"),
    Row([[A], [A]], [10], 4, [[0, 1], [0, 1]], 2, "the third block reaches beyond the chain, so it is each one's own"),
    Row([[A], [A]], [3], 4, [[], []], 0, "no block is full of shared tokens"),
    Row([[A, B], [A]], [8, 8], 4, [[0, 1], [0, 1]], 2, "B has one user: nobody else can hit it"),
    Row([[A], [B]], [8, 8], 4, [[], []], 0, "everything has one user"),
    Row([[A, B], [A, B]], [10, 6], 4, [[0, 1, 2, 3]] * 2, 4, "the block across the border of A and B is B's first"),
    Row(
        [[A, B], [A, B], [A, C], [A, C]], [10, 6, 6], 4, [[0, 1, 2, 3]] * 2 + [[0, 1, 4, 5]] * 2, 6,
        "a block that begins in A is another one where B follows than where C does",
    ),
    Row([[A, B, C]] * 2, [5, 1, 6], 4, [[0, 1, 2]] * 2, 3, "B ends no block, and block 1 holds the ends of A and B"),
    Row([[], [A], [], [A]], [4], 4, [[], [0], [], [0]], 1, "who has no chain shares nothing"),
    Row([[B], [A], [B]], [8, 4], 4, [[0], [], [0]], 1, "numbers count shared blocks, in the order of segments"),
    Row([[A, B], [A, B], [A, C]], [512, 512, 512], 16, [list(range(64))] * 2 + [list(range(32))], 64,
        "a trace's block of 512 tokens is 32 blocks of 16"),
    Row([[A], [A]], [512], 1024, [[], []], 0, "a trace's block is smaller than the engine's: nothing full is known"),
    Row([[A, B], [A, B]], [512, 512], 1024, [[0], [0]], 1, "two of them fill one"),
]  # fmt: skip


@pytest.mark.parametrize("row", BY_HAND, ids=[row.because for row in BY_HAND])
def test_blocks_by_hand(row: Row):
    assert (row.rows, row.contents) == rows_of(row.chains, row.segment_tokens, row.block_size)


@pytest.mark.parametrize(
    "prefixes", [None, Prefixes(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))]
)
def test_without_prefixes_nothing_is_shared(prefixes: Prefixes | None):
    shared = shared_blocks(prefixes, 3, 16)
    assert ([0, 0, 0], [], 0) == (shared.count.tolist(), shared.ids.tolist(), shared.contents)


def test_more_blocks_than_memory_holds_are_refused_before_they_are_made():
    with pytest.raises(
        ScenarioError, match=r"^requests \(=200000000\): are more shared blocks of 4 tokens than a run may"
    ):
        shared_blocks(prefixes_of([[A], [A]], [800_000_000]), 2, 4)


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33])
def test_chains_that_grow_link_by_link_are_stored_once_at_any_depth(turns: int):
    other, mine = [0, 1], [list(range(2, 3 + turn)) for turn in range(turns)]
    chains = [other, other, *mine, mine[-1]]
    shared = shared_blocks(prefixes_of(chains, [4] * (2 + turns)), len(chains), 4)
    assert shared.ids.tolist() == list(range(2 + turns))
    assert [0] * 2 + [2] * (turns + 1) == shared.start.tolist()
    assert [len(chain) for chain in chains] == shared.count.tolist()


def test_a_call_with_samples_stores_its_blocks_once():
    calls, samples = 1000, 4
    chains = Prefixes(
        np.arange(calls * samples + 1),
        np.repeat(np.arange(calls, dtype=np.int32), samples),
        np.full(calls, 160, np.int32),
    )
    shared = shared_blocks(chains, calls * samples, 16)
    assert (calls * 10, calls * 10) == (len(shared.ids), shared.contents)
    assert set(shared.count.tolist()) == {10}
    np.testing.assert_array_equal(np.repeat(np.arange(calls) * 10, samples), shared.ids[shared.start])


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """Requests that go down a tree of segments."""
    segment_tokens = draw(st.lists(st.integers(1, 11), min_size=1, max_size=7))
    parent = [draw(st.integers(-1, k - 1)) for k in range(len(segment_tokens))]
    chains = []
    for _ in range(draw(st.integers(1, 9))):
        node, chain = draw(st.integers(-1, len(segment_tokens) - 1)), []
        while node >= 0:
            chain.insert(0, node)
            node = parent[node]
        chains.append(chain)
    return chains, segment_tokens


@given(trees(), st.integers(1, 9))
def test_two_blocks_are_the_same_if_and_only_if_all_tokens_up_to_their_ends_are(
    tree: tuple[list[list[int]], list[int]], block_size: int
):
    chains, segment_tokens = tree
    tokens = [[(segment, k) for segment in chain for k in range(segment_tokens[segment])] for chain in chains]
    contents = [[tuple(row[: end + 1]) for end in range(block_size - 1, len(row), block_size)] for row in tokens]
    users: dict[tuple[tuple[int, int], ...], int] = {}
    for row in contents:
        for content in row:
            users[content] = users.get(content, 0) + 1
    shared = [[content for content in row if users[content] > 1] for row in contents]
    rows, count = rows_of(chains, segment_tokens, block_size)
    assert [len(row) for row in shared] == [len(row) for row in rows]
    pairs = {pair for s, r in zip(shared, rows, strict=True) for pair in zip(s, r, strict=True)}
    assert len(pairs) == len({content for content, _ in pairs}) == len({number for _, number in pairs}) == count
    assert {number for _, number in pairs} == set(range(count))


def test_a_load_counts_its_requests_through_stages_calls_and_samples():
    stages = (Stage("gather", calls=3), Stage("answer", calls=1, samples=2))
    load = Load(np.zeros(4), np.ones(20, np.int32), np.ones(20, np.int32), stages)
    assert (5, 4, 20) == (load.width, load.queries, load.requests)
