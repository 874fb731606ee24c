"""A case's answer in words: text with `{step.output}` where a number stands, `{step.output%}` for per cent."""

from __future__ import annotations

import re
from typing import NamedTuple

_PLACEHOLDER = re.compile(r"\{([^{}%]+)(%?)\}")


class Placeholder(NamedTuple):
    """Where an output stands in the answer; `path` is step.output."""

    path: str
    per_cent: bool


def parts_of(answer: str) -> list[str | Placeholder]:
    """The answer's text and its placeholders in turn, from its first word to its last; empty texts are left out."""
    parts: list[str | Placeholder] = []
    end = 0
    for found in _PLACEHOLDER.finditer(answer):
        parts += [answer[end : found.start()], Placeholder(found[1], bool(found[2]))]
        end = found.end()
    return [part for part in [*parts, answer[end:]] if part]
