"""Which prompts begin alike: shared prefixes and documents of unequal popularity, and samples of one prompt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.scenario import Document, SharedPrefix
from planner.scenario import Stage as ScenarioStage
from planner.simulation.load import I64, Prefixes


def draw_groups(prefix: SharedPrefix, count: int, rng: np.random.Generator) -> I64:
    """For each of `count` prompts its prefix group, 0 to groups − 1; group k is drawn with weight (k + 1)^−zipf."""
    return _draw_ranks(prefix.groups, prefix.zipf, count, rng)


def draw_documents(document: Document, queries: int, calls: int, rng: np.random.Generator) -> I64:
    """For each of queries · calls prompts its document, 0 to corpus − 1, drawn once a query or once a call."""
    if document.per == "query":
        return np.repeat(_draw_ranks(document.corpus, document.zipf, queries, rng), calls)
    return _draw_ranks(document.corpus, document.zipf, queries * calls, rng)


def telling_link(stage: ScenarioStage) -> int | None:
    """The place, in the chains of a stage's prompts, of the link that tells its prompt groups apart; None = no groups.

    A document that is one of several does (behind several prefixes the pair of both, which has a segment of its own);
    else a prefix that is one of several. It depends on the scenario alone: however few prompts are drawn, and however
    seldom two of them begin alike, they belong together by the same.
    """
    prefix, document = stage.shared_prefix, stage.document
    if document is not None and document.corpus > 1:
        return 0 if prefix is None else 1
    return 0 if prefix is not None and prefix.groups > 1 else None


def telling_tokens(stage: ScenarioStage) -> tuple[int, int] | None:
    """Between which tokens a stage's prompts of one group, and no other's, agree; None where no groups can be told.

    (after so many, up to so many): those of the link of `telling_link`, behind all that comes before it.
    """
    link = telling_link(stage)
    if link is None:
        return None
    tokens = [part.tokens for part in (stage.shared_prefix, stage.document) if part is not None]
    return sum(tokens[:link]), sum(tokens[: link + 1])


def _draw_ranks(kinds: int, zipf: float, count: int, rng: np.random.Generator) -> I64:
    """`count` ranks of `kinds`, rank k with weight (k + 1)^−zipf."""
    if kinds == 1:
        return np.zeros(count, np.int64)
    edges = np.cumsum(np.arange(1, kinds + 1, dtype=np.float64) ** -zipf)
    ranks = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
    held: I64 = np.minimum(ranks, kinds - 1).astype(np.int64)
    return held


class StagePrompts(NamedTuple):
    """What one stage's prompts share; arrays have shape [queries · calls]."""

    prompts: I64
    samples: int
    prefix_tokens: int  # 0 = no shared prefix
    groups: int
    group: I64
    document_tokens: int = 0  # 0 = no document
    document: I64 | None = None

    @property
    def begin_tokens(self) -> int:
        """Tokens that come before what is the call's own."""
        return self.prefix_tokens + self.document_tokens


def prefix_chains(stages: list[StagePrompts], queries: int) -> Prefixes | None:
    """The chains of all requests, or None where no prompt shares anything.

    A request's chain is its prefix group's segment, its document's, and then, where a call has several samples, a
    segment for the rest of that call's prompt. A document behind another prefix is other content: it has a segment for
    each group that it is drawn with. Segments of different stages are different.
    """
    per_request: list[list[I64]] = []  # for each place in a query, the segment columns of its chain, each [queries]
    segment_tokens: list[I64] = []
    first = 0
    for stage in stages:
        calls = len(stage.prompts) // queries
        links: list[I64] = []  # [queries · calls] each
        if stage.prefix_tokens:
            links.append(first + stage.group)
            segment_tokens.append(np.full(stage.groups, stage.prefix_tokens, np.int64))
            first += stage.groups
        if stage.document is not None:
            # only the pairs that were drawn: of all there may be more than memory holds
            pairs, place = np.unique(stage.document * max(stage.groups, 1) + stage.group, return_inverse=True)
            links.append(first + place)
            segment_tokens.append(np.full(len(pairs), stage.document_tokens, np.int64))
            first += len(pairs)
        if stage.samples > 1:
            links.append(first + np.arange(len(stage.prompts)))
            segment_tokens.append(stage.prompts - stage.begin_tokens)
            first += len(stage.prompts)
        for call in range(calls):
            columns = [link.reshape(queries, calls)[:, call] for link in links]
            per_request += [columns] * stage.samples
    if not segment_tokens:
        return None
    columns = [column for request in per_request for column in request]
    chains = np.stack(columns, axis=1).astype(np.int32).ravel()
    lengths = np.tile([len(request) for request in per_request], queries)
    starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return Prefixes(starts, chains, np.concatenate(segment_tokens).astype(np.int32))


def select_chains(prefixes: Prefixes, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Prefixes:
    """The chains of the requests where `keep` is true; segments keep their numbers."""
    lengths = np.diff(prefixes.chain_start)
    starts = np.concatenate(([0], np.cumsum(lengths[keep])))
    return Prefixes(starts, prefixes.chain_segment[np.repeat(keep, lengths)], prefixes.segment_tokens)
