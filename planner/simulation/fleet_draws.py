"""Chance in routing, drawn before a run: a number for each request, the samples of a call together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.simulation.load import Load, call_first, leaders

I64 = NDArray[np.int64]
NUMBERS = 1 << 40  # a draw is below so many times the replicas: its remainder is the first, others are hashed from it


def draws(load: Load, replicas: int, routing: str, rng: np.random.Generator) -> I64:
    """A number for each request [N] whose remainder by `replicas` is its first choice; empty where nothing is drawn.

    session_affinity: the turns of a session have the same one. Without sessions the prompts of a stage that begin
    alike have (`beginnings`), if there are several such groups, however few of them or of their prompts the load has;
    in any other stage every call has its own.
    """
    if routing == "session_affinity":
        return _by_owner(load, replicas * NUMBERS, rng)
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


def _by_owner(load: Load, below: int, rng: np.random.Generator) -> I64:
    """A random number for each request, the turns of a session or a group of prompts together, else those of a call."""
    if load.follows is not None and (load.follows >= 0).any():
        begin = np.where(load.follows < 0, np.arange(load.queries), load.follows)
        while (begin[begin] != begin).any():  # each time twice as far back
            begin = begin[begin]
        drawn: I64 = rng.integers(0, below, load.queries)[np.repeat(begin, load.width)]
        return drawn
    owner, group = leaders(load), beginnings(load)
    grouped = group >= 0
    drawn = np.empty(load.requests, np.int64)
    if grouped.any():
        drawn[grouped] = rng.integers(0, below, group.max() + 1)[group[grouped]]
    if not grouped.all():
        drawn[~grouped] = rng.integers(0, below, load.requests)[owner[~grouped]]
    return drawn


def beginnings(load: Load) -> I64:
    """What each request [N] begins with, as prompts of its stage are told apart; -1 = by nothing.

    It is the segment at the stage's place in `load.group_links`; where those are not given, that of `_seen_link`.
    """
    group = np.full((load.queries, load.width), -1)
    if load.prefixes is None or len(load.prefixes.chain_segment) == 0:
        return group.ravel()
    start, segment = load.prefixes.chain_start.astype(np.int64), load.prefixes.chain_segment
    begin, links = start[:-1].reshape(group.shape), np.diff(start).reshape(group.shape)
    first, ends = call_first(load), np.cumsum([stage.requests for stage in load.stages])
    for k, (stage, end) in enumerate(zip(load.stages, ends, strict=True)):
        samples = slice(end - stage.requests, end)
        columns, call = np.unique(first[samples], return_inverse=True)
        if load.group_links is None:
            link = _seen_link(segment, begin[:, columns], int(links[:, columns].min()))
        else:
            link = load.group_links[k]
        if link is not None:
            group[:, samples] = segment[begin[:, columns] + link][:, call]
    return group.ravel()


def _seen_link(segment: NDArray[np.int32], begin: I64, links: int) -> int | None:
    """The place of the link that tells prompts apart, as far as their chains show; None where none does.

    It ends the longest beginning that some of the calls share and others have not: of the `links` that every chain has
    from `begin` [Q, calls] on, the last that is neither everybody's nor each call's own.
    """
    for link in reversed(range(links)):
        if 1 < len(np.unique(segment[begin + link])) < begin.size:
            return link
    return None


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
