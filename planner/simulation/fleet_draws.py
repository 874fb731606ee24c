"""Chance in routing, drawn before a run: a number for each request, the samples of a call together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.simulation.load import Load, call_first, leaders

I64 = NDArray[np.int64]
NUMBERS = 1 << 40  # a draw is below so many times the replicas: its remainder is the first, others are hashed from it


def draws(load: Load, replicas: int, routing: str, rng: np.random.Generator) -> I64:
    """A number for each request [N] whose remainder by `replicas` is its first choice; empty where nothing is drawn.

    session_affinity: the turns of a session have the same one. Without sessions the prompts that begin alike have, if
    there are several such groups; else every call has its own.
    """
    if routing == "session_affinity":
        owner, owners = _owners(load)
        drawn: I64 = rng.integers(0, replicas * NUMBERS, owners)[owner]
        return drawn
    if routing == "power_of_two":
        return _by_call(load, replicas * NUMBERS, rng)
    if routing == "random":  # further replicas are asked for only where some do not serve
        return _by_call(load, replicas, rng) + replicas * (1 + leaders(load))
    return np.zeros(0, np.int64)


def _by_call(load: Load, below: int, rng: np.random.Generator) -> I64:
    """A random number for each request, the samples of a call together."""
    first = call_first(load)
    number = np.cumsum(first == np.arange(load.width)) - 1  # of the call, within its query
    drawn: I64 = rng.integers(0, below, (load.queries, number[-1] + 1))[:, number].ravel()
    return drawn


def _owners(load: Load) -> tuple[I64, int]:
    """For each request whose number it takes, and how many such owners there are: sessions, prefix groups or calls."""
    if load.follows is not None and (load.follows >= 0).any():
        begin = np.where(load.follows < 0, np.arange(load.queries), load.follows)
        while (begin[begin] != begin).any():  # each time twice as far back
            begin = begin[begin]
        return np.repeat(begin, load.width), load.queries
    if load.prefixes is not None and len(load.prefixes.chain_segment):
        start = load.prefixes.chain_start
        has_one = start[1:] > start[:-1]
        group = load.prefixes.chain_segment[np.minimum(start[:-1], len(load.prefixes.chain_segment) - 1)]
        groups = len(load.prefixes.segment_tokens)
        if has_one.all() and len(np.unique(group)) > 1:
            return group[leaders(load)].astype(np.int64), groups
    return leaders(load), load.requests


def assigned(load: Load, ready_s: NDArray[np.float64], replicas: int, drawn: I64) -> I64:
    """A replica for each request, where no replica's state is asked and all serve: drawn, or in turn as calls come."""
    if replicas == 1:
        return np.zeros(load.requests, np.int64)
    if len(drawn):
        return drawn % replicas
    leader = leaders(load)
    order = by_time(ready_s)
    calls = order[leader[order] == order]
    turn = np.empty(load.requests, np.int64)
    turn[calls] = np.arange(len(calls)) % replicas
    return turn[leader]


def by_time(ready_s: NDArray[np.float64]) -> I64:
    """Requests in the order in which engines see them; at one instant in the load's order."""
    return np.argsort(ready_s, kind="stable")
