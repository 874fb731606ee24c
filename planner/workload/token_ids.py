"""Which tokens a prompt is made of, so that prompts begin alike exactly where the load says so.

Ids come from a counter put through a mixing function (splitmix64's): the id at place k of a segment depends on the
seed, the segment and k alone. Every worker of a load test therefore makes the same prompts without asking another.
A model's lowest and highest ids are left out: special tokens stand there, and ids that no tokenizer knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.errors import ScenarioError

I64 = NDArray[np.int64]

SEGMENT, OWN = 1, 2  # what a run of tokens belongs to: a shared segment, or one request alone
LEAST_IDS = 64  # fewer different ids would make unlike prompts alike
_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


class IdRange(NamedTuple):
    """Ids from `first` up to, not including, `end`."""

    first: int
    end: int


def ordinary_ids(vocabulary: int) -> IdRange:
    """The ids of a vocabulary that are words for sure: without its lowest 256 (or eighth) and its last 32nd."""
    ids = IdRange(min(256, vocabulary // 8), vocabulary - vocabulary // 32)
    if ids.end - ids.first < LEAST_IDS:
        raise ScenarioError("model", f"vocabulary of {vocabulary}", f"leaves fewer than {LEAST_IDS} ids for prompts")
    return ids


class Run(NamedTuple):
    """Tokens that follow one another: of a segment, or of request `number` alone."""

    owner: int
    number: int
    tokens: int


def token_ids(seed: int, run: Run, ids: IdRange) -> I64:
    """The ids of a run; a longer run of the same owner begins with the shorter one."""
    key = _mixed(_mixed(seed * 4 + run.owner) + run.number)
    values = np.arange(1, run.tokens + 1, dtype=np.uint64) * np.uint64(_STEP) + np.uint64(key)  # wraps round at 2^64
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values >>= np.uint64(32)
    drawn: I64 = ((values * np.uint64(ids.end - ids.first)) >> np.uint64(32)).astype(np.int64) + ids.first
    return drawn


def runs_of(chain: Iterable[tuple[int, int]], request: int, prompt_tokens: int) -> list[Run]:
    """The runs of tokens that make up a prompt, `prompt_tokens` in all.

    `chain` are the (segment, tokens) that it begins with; a chain that is longer than the prompt is cut. What follows
    is the request's own.
    """
    runs: list[Run] = []
    left = prompt_tokens
    for segment, tokens in chain:
        if left == 0:
            return runs
        runs.append(Run(SEGMENT, segment, min(tokens, left)))
        left -= runs[-1].tokens
    if left:
        runs.append(Run(OWN, request, left))
    return runs


def _mixed(value: int) -> int:
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
