"""What the events of a stream say, in OpenAI's shapes, and which of them are tokens.

An event with text is one. One without may be one too: vLLM sends an empty text for a special token. Other servers send
an empty text with the finish reason, after the last token: only the count at the end tells these two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

REACHED = "length"  # the finish reason of an answer that came to the length that was asked for


class Delta(msgspec.Struct, gc=False):
    """What a chat's event adds."""

    content: str | None = None
    role: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct, gc=False):
    """What an event adds to one sample."""

    index: int = 0
    text: str | None = None
    delta: Delta | None = None
    finish_reason: Any = None
    token_ids: list[int] | None = None  # of this event; vLLM gives them where they are asked for


class Details(msgspec.Struct, gc=False):
    """Of the prompt's tokens."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct, gc=False):
    """The server's own count, of all samples together."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None


class Event(msgspec.Struct, gc=False):
    """One event; an error may stand in the place of all else."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None
    object: str | None = None
    message: str | None = None


@dataclass(slots=True)
class Said:
    """What one sample's events said."""

    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def hear(self, choice: Choice) -> None:
        """Add an event."""
        self.ids += choice.token_ids or ()
        self.texts.append((choice.text if choice.delta is None else choice.delta.content) or "")


def is_token(choice: Choice, begun: bool) -> bool | None:
    """Whether it is a token of a sample that has `begun` (had one before); None where only the count can tell."""
    delta = choice.delta
    text = choice.text if delta is None else delta.content
    if text:
        return True
    if delta is not None and (delta.reasoning or delta.reasoning_content or delta.tool_calls):
        return True
    if text is None:
        return False  # says that it is over, or nothing
    if choice.finish_reason is not None:
        return None
    return begun or delta is None or not delta.role  # a chat's first event says who speaks


def settle(
    token_s: Sequence[list[float]], blank_ends: Mapping[int, tuple[float, Any]], usage: Usage | None, asked: int
) -> None:
    """Take an empty last event, (time, finish reason) by sample, for a token where the count has one more.

    Without the server's count `asked` must do, and only where the server says that it came to that length.
    """
    counted = None if usage is None else usage.completion_tokens // len(token_s)
    for sample, (at_s, reason) in blank_ends.items():
        tokens = counted if counted is not None else asked if reason == REACHED else 0
        if len(token_s[sample]) < tokens:
            token_s[sample].append(at_s)
            token_s[sample].sort()
