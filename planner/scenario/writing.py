"""A scenario file as text for people: what is known as values, what is not as lines marked `fill in`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COMMENT_COLUMN = 44
_PLAIN = re.compile(r"[A-Za-z/.][\w ./+-]*[\w/]|[A-Za-z]")
_TAKEN = {"true", "false", "null", "yes", "no", "on", "off"}


@dataclass(frozen=True)
class Value:
    """One line's value with its comment. `known` False marks the line to fill in; without a value it stays empty."""

    value: Any = None
    note: str = ""
    known: bool = True


Section = Mapping[str, Value]


@dataclass(frozen=True)
class Draft:
    """A scenario in the making. `optional` engine keys are written as comments: vLLM has a default for them."""

    heading: tuple[str, ...]
    name: str
    model: Value
    hardware: Value
    engine: Section = field(default_factory=dict)
    optional: Section = field(default_factory=dict)
    traffic: Section = field(default_factory=dict)
    stages: tuple[Section, ...] = ()
    query: Section = field(default_factory=dict)  # of a query besides its stages
    slo: Section = field(default_factory=dict)
    fleet: Section = field(default_factory=dict)
    prices: Section = field(default_factory=dict)
    revenue: Section = field(default_factory=dict)


def scenario_text(draft: Draft) -> str:
    """The YAML file."""
    lines = [f"# {_one_line(line)}".rstrip() for line in draft.heading]
    lines += ["version: 1", _line("name", Value(draft.name)), _line("model", draft.model)]
    lines.append(_line("hardware", draft.hardware))
    if draft.engine or draft.optional:
        lines.append(_commented("engine:", "vLLM's own arguments", commented=not draft.engine))
        lines += [_line(key, value, "  ") for key, value in draft.engine.items()]
        lines += [_line(key, value, "  ", commented=True) for key, value in draft.optional.items()]
    lines += _section("traffic", draft.traffic)
    lines.append("query:")
    lines += [_line(key, value, "  ") for key, value in draft.query.items()]
    lines.append("  stages:")
    for stage in draft.stages:
        for index, (key, value) in enumerate(stage.items()):
            lines.append(_line(key, value, "    - " if index == 0 else "      "))
    for name in ("slo", "fleet", "prices", "revenue"):
        lines += _section(name, getattr(draft, name))
    return "\n".join(lines) + "\n"


def flow(value: Any) -> str:
    """A value on one line of YAML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    text = str(value)
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _TAKEN
    return text if plain else json.dumps(text, ensure_ascii=False)


def _section(name: str, section: Section) -> list[str]:
    if not section:
        return []
    lines = [_line(key, value, "  ", commented=_left_out(value)) for key, value in section.items()]
    return [f"{'# ' if all(map(_left_out, section.values())) else ''}{name}:", *lines]


def _left_out(value: Value) -> bool:
    return value.value is None


def _line(key: str, value: Value, indent: str = "", *, commented: bool = False) -> str:
    note = value.note if value.known else f"fill in{f': {value.note}' if value.note else ''}"
    return _commented(f"{indent}{key}: {flow(value.value)}".rstrip(), note, commented=commented)


def _one_line(text: str) -> str:
    """A comment must not end before its text does."""
    return "".join(char if char.isprintable() else " " for char in text)


def _commented(text: str, note: str, *, commented: bool) -> str:
    if commented:
        text = f"# {text}"
    note = _one_line(note)
    return f"{text.ljust(max(COMMENT_COLUMN, math.ceil((len(text) + 2) / 4) * 4))}# {note}" if note else text
