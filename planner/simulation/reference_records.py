"""What goes into the reference scheduler and what comes out of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

RequestId = str | int


@dataclass(frozen=True)
class Request:
    """One model call.

    `output_tokens` is how many tokens it will generate: a stop token or EOS is known in advance, and max_model_len
    may still cut it. `max_tokens` is how many the client allows; None = just as many, so that the end is known before
    the last token has come in, which matters to asynchronous scheduling alone.

    `blocks[b]` names the content of its b-th full KV block where another request may hold the same: equal names mean
    equal content *from the first token on*. Blocks from `len(blocks)` on are its own, named (id, b); so an id is never
    used twice, and no name in `blocks` is such a pair.
    """

    id: RequestId
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[Hashable] = ()
    skip_reading_prefix_cache: bool = False
    max_tokens: int | None = None

    @property
    def most_tokens(self) -> int:
        """Output tokens that the client allows."""
        return self.output_tokens if self.max_tokens is None else self.max_tokens


class Scheduled(NamedTuple):
    """A request's share of a step: `tokens` computed after the `before` whose KV is already there.

    `decode`: it computes just its newest token, having given one since it was (re)admitted. All else is prefill work,
    a chunk of one token included. `samples`: it reaches the end of what is there, so it gives a token.
    """

    id: RequestId
    before: int
    tokens: int
    decode: bool
    samples: bool


class Admission(NamedTuple):
    """A request that came in from the queue, and its look-up: `hits` of `queries` tokens were cached.

    `queries` is 0 where the cache was not asked. `readmission`: it had been preempted before.
    """

    id: RequestId
    queries: int
    hits: int
    readmission: bool


@dataclass(frozen=True)
class Step:
    """What one call of `Scheduler.schedule` decided, each list in the order it happened."""

    scheduled: list[Scheduled]
    preempted: list[RequestId]
    admitted: list[Admission]

    @property
    def decodes(self) -> list[int]:
        """Cached tokens of each decoding request: the first argument of `StepCost.step_s`."""
        return [share.before for share in self.scheduled if share.decode]

    @property
    def prefills(self) -> list[tuple[int, int]]:
        """(computed before, chunk) of each prefilling request: the second argument of `StepCost.step_s`."""
        return [(share.before, share.tokens) for share in self.scheduled if not share.decode]


class Outcome(NamedTuple):
    """What a finished step gave: ids that received one token each, and those of them that are done with it."""

    emitted: list[RequestId]
    finished: list[RequestId]


@dataclass
class Counters:
    """Running totals. vLLM exports the first two; it keeps the look-ups of readmissions apart and to itself."""

    queries: int = 0  # tokens looked up at first admissions
    hits: int = 0
    readmission_queries: int = 0
    readmission_hits: int = 0
    preemptions: int = 0
