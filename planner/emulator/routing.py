"""The rules of `planner.simulation.routing`, over engines that run on the wall clock: which of them takes a call.

The simulator's are compiled over its own arrays and cannot be called on engines, so these say the same once more in
plain Python. `tests/test_emulator_routing.py` holds them against the simulator's, call by call, on the same load.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from planner.simulation.routing import KV_WEIGHT, PREFIX_WEIGHT, QUEUE_WEIGHT, TRIES

_WORD = (1 << 64) - 1


class Replica(Protocol):
    """What a router sees of an engine."""

    @property
    def outstanding(self) -> int:
        """Requests that are neither finished nor given up."""

    @property
    def waiting(self) -> int:
        """Those of them that have no seat."""

    @property
    def free_share(self) -> float:
        """Share of its KV blocks that nobody owns."""


class Asked(NamedTuple):
    """A call as a router sees it: so many `requests`, KV `blocks` of prompt and answer, those of the prompt first.

    `number` is where its chance comes from, below 2^63: of its session's if that is to stay together.
    """

    requests: int
    number: int
    blocks: Sequence[bytes] = ()
    prompt_blocks: int = 0


class Index:
    """What the router remembers of the blocks that it sent to each replica, the least recently sent forgotten first."""

    def __init__(self, replicas: int, capacity: int) -> None:
        self._sent: list[OrderedDict[bytes, None]] = [OrderedDict() for _ in range(replicas)]
        self._capacity = capacity

    def matched(self, replica: int, asked: Asked) -> int:
        """Of how many blocks, from the prompt's beginning on, the replica was sent all."""
        sent = self._sent[replica]
        blocks = asked.blocks[: asked.prompt_blocks]
        return next((k for k, block in enumerate(blocks) if block not in sent), len(blocks))

    def remember(self, replica: int, asked: Asked) -> None:
        """The call went there. Its last block goes in first, so that a prompt's beginning is forgotten last."""
        sent = self._sent[replica]
        for block in reversed(asked.blocks[: self._capacity]):
            sent[block] = None
            sent.move_to_end(block)
            if len(sent) > self._capacity:
                sent.popitem(last=False)


def may_take(replica: Replica, room: int, requests: int) -> bool:
    """Whether it has room for so many more; `room` 0 = any number."""
    return room == 0 or replica.outstanding + requests <= room


def in_turn(replicas: Sequence[Replica], room: int, turn: int, asked: Asked) -> int | None:
    """The next one from `turn` on that has room."""
    return next((r for r in _from(turn, replicas) if may_take(replicas[r], room, asked.requests)), None)


def least_loaded(replicas: Sequence[Replica], room: int, turn: int, asked: Asked) -> int | None:
    """The one with the fewest unfinished requests; ties go round, beginning at `turn`."""
    best = min(_from(turn, replicas), key=lambda r: replicas[r].outstanding)
    return best if may_take(replicas[best], room, asked.requests) else None


def drawn(number: int, k: int, count: int) -> int:
    """The k-th replica of the row that belongs to `number`: its remainder, then hashes of both (SplitMix64)."""
    if k == 0:
        return number % count
    z = (number + k * 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    z ^= z >> 31
    return (z >> 1) % count


def first_drawn(replicas: Sequence[Replica], room: int, asked: Asked, other_than: int | None = None) -> int | None:
    """The first of the row of replicas that belongs to the call's number that has room, `other_than` left out."""
    count = len(replicas)
    row = (drawn(asked.number, k, count) for k in range(TRIES * count))
    for places in (row, range(count)):
        for r in places:
            if r != other_than and may_take(replicas[r], room, asked.requests):
                return r
    return None


def power_of_two(replicas: Sequence[Replica], room: int, asked: Asked) -> int | None:
    """Of two drawn at random the one with fewer unfinished requests, the first if they have as many."""
    one = first_drawn(replicas, room, asked)
    if one is None or len(replicas) == 1:
        return one
    two = first_drawn(replicas, room, asked, one)
    return two if two is not None and replicas[two].outstanding < replicas[one].outstanding else one


def prefix_aware(replicas: Sequence[Replica], room: int, turn: int, asked: Asked, index: Index) -> int | None:
    """The one with the highest score; ties go round, beginning at `turn`.

    3 · share of the prompt's blocks that it was sent before + 2 · (most waiting − its waiting) / (most − fewest)
    + 2 · (1 − share of its KV cache in use).
    """
    able = [r for r in _from(turn, replicas) if may_take(replicas[r], room, asked.requests)]
    if not able:
        return None
    waiting = {r: replicas[r].waiting for r in able}
    most, fewest = max(waiting.values()), min(waiting.values())
    blocks = max(asked.prompt_blocks, 1)

    def score(r: int) -> float:
        queue = (most - waiting[r]) / (most - fewest) if most > fewest else 1.0
        prefix = PREFIX_WEIGHT * index.matched(r, asked) / blocks
        return prefix + QUEUE_WEIGHT * queue + KV_WEIGHT * replicas[r].free_share

    return max(able, key=score)


def _from(turn: int, replicas: Sequence[Replica]) -> list[int]:
    count = len(replicas)
    return [(turn + k) % count for k in range(count)]
