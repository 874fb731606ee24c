"""A request inside the reference scheduler: how far it has come, and what it holds."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from planner.simulation.reference_records import Request


@dataclass(eq=False)
class Live:
    """A request inside the scheduler."""

    request: Request
    outputs: int = 0  # tokens generated so far; preemption keeps them
    computed: int = 0  # tokens whose KV is written, counted when they are scheduled
    in_flight: int = 0  # steps with a share of it whose results are not in yet
    owed: int = 0  # tokens that those will give: `computed` may run after them as if they were there
    stale: int = 0  # those of `in_flight` from before a preemption: their tokens come, but nothing is owed for them
    prefilling: bool = True  # the last step left `computed` short of `tokens`
    preempted: bool = False  # at least once
    blocks: list[int] = field(default_factory=list)
    published: int = 0  # how many of `blocks` carry a name

    @property
    def tokens(self) -> int:
        """Prompt and the outputs that have come in: with `owed`, what `computed` runs after."""
        return self.request.prompt_tokens + self.outputs

    @property
    def all_asked_for(self) -> bool:
        """The last token that the client allows is under way, so no further step is needed."""
        return self.owed > 0 and self.outputs + self.owed >= self.request.most_tokens

    def name(self, block: int) -> Hashable:
        """Content of its block number `block`."""
        shared = self.request.blocks
        return shared[block] if block < len(shared) else (self.request.id, block)
