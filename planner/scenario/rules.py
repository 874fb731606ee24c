"""Errors in a person's words, and the keys that are reserved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from planner.errors import ScenarioError, UnsupportedError, nearest_names
from planner.scenario.types import LIST_MISPLACED

NOT_SUPPORTED = "not supported yet"
MOST_TOLD = 3  # of the errors behind the first

# Reserved: part of the scenario language, read by nothing so far. `[]` stands for every item of a list.
RESERVED = (
    "query.classes",
    "engine.speculative",
    "fleet.pools",
)


def refuse_reserved(data: Mapping[str, Any]) -> None:
    """Raise UnsupportedError for the first reserved key or value in the raw mapping of a scenario."""
    for pattern in RESERVED:
        for key, value in _find(data, pattern.split("."), ""):
            raise UnsupportedError(key, value, NOT_SUPPORTED)
    _refuse_beside_turns(data)
    for _ in _find(data, ["traffic", "arrivals", "closed"], ""):
        # A cached query's client would think and ask again without a model call, which a `Load` cannot say.
        for key, value in _find(data, ["query", "response_cache", "hit_rate"], ""):
            if value != 0:
                raise UnsupportedError(key, value, f"a response cache beside arrivals: closed is {NOT_SUPPORTED}", "0")
    for kind in ("closed", "offline", "trace"):
        for _ in _find(data, ["traffic", "arrivals", kind], ""):
            for key, value in _find(data, ["query", "response_cache", "popularity"], ""):
                rule = f"arrivals: {kind} has no rate of users' queries that a hit rate could emerge from"
                nearest = "no response_cache" if kind == "closed" else "response_cache: {hit_rate: 0.3}"
                raise UnsupportedError(key, value, rule, nearest)


def _refuse_beside_turns(data: Mapping[str, Any]) -> None:
    """Raise UnsupportedError for what may not yet stand beside sessions of several turns."""
    for turns, value in _find(data, ["query", "stages[]", "turns"], ""):
        if not _above(value, 1):
            continue
        if len(data["query"]["stages"]) > 1:
            raise UnsupportedError(turns, value, f"more than one turn beside other stages is {NOT_SUPPORTED}", "1")
        for pattern, bound in (("stages[].calls", 1), ("stages[].samples", 1), ("response_cache.hit_rate", 0)):
            for key, other in _find(data, ["query", *pattern.split(".")], ""):
                if _above(other, bound):
                    rule = f"beside turns (={value}) it is {NOT_SUPPORTED}"
                    raise UnsupportedError(key, other, rule, str(bound))
        for key, other in _find(data, ["query", "response_cache", "popularity"], ""):
            raise UnsupportedError(key, other, f"beside turns (={value}) it is {NOT_SUPPORTED}", "no response_cache")
        for key, document in _find(data, ["query", "stages[]", "document"], ""):
            raise UnsupportedError(key, document, f"beside turns (={value}) it is {NOT_SUPPORTED}", "shared_prefix")
        for kind in ("closed", "offline", "trace"):
            for _ in _find(data, ["traffic", "arrivals", kind], ""):
                rule = f"more than one turn beside arrivals: {kind} is {NOT_SUPPORTED}"
                raise UnsupportedError(turns, value, rule, "1")


def _above(value: Any, bound: int) -> bool:
    """Whether a raw value is a number above `bound`; what is none is refused elsewhere."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > bound


def _find(data: Any, parts: list[str], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) that a pattern meets and that is not null."""
    name, rest = parts[0].removesuffix("[]"), parts[1:]
    if not isinstance(data, Mapping) or data.get(name) is None:
        return
    value, key = data[name], f"{prefix}{name}"
    if parts[0].endswith("[]"):
        if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from _find(item, rest, f"{key}[{index}].")
    elif rest:
        yield from _find(value, rest, f"{key}.")
    else:
        yield key, value


def scenario_error(error: ValidationError, data: Mapping[str, Any], known: Sequence[str]) -> ScenarioError:
    """pydantic's findings as one line: the first, and behind it the next few and how many there are.

    `known` are all dotted keys, so that a key in the wrong place is told its place.
    """
    first, *others = (_found(problem, data, known) for problem in error.errors(include_url=False))
    if not others:
        return first
    told = "; ".join(str(other) for other in others[:MOST_TOLD])
    more = "; …" if len(others) > MOST_TOLD else ""
    rule = f"{first.rule} (and {len(others)} more to correct: {told}{more})"
    return ScenarioError(first.key, first.value, rule, first.nearest)


def _found(problem: Any, data: Mapping[str, Any], known: Sequence[str]) -> ScenarioError:
    """One of pydantic's findings with its dotted key."""
    context = problem.get("ctx", {})
    key, value = _locate(problem["loc"], data, context.get("at", ()))
    rule, nearest = _phrase(problem["type"], context, value)
    if rule.startswith("unknown key"):
        nearest = _place_of(key.rsplit(".", 1)[-1], rule, known) or nearest
    return ScenarioError(key or "scenario", value, rule, nearest)


def _place_of(name: str, rule: str, known: Sequence[str]) -> str | None:
    """Where an unknown key may belong: a key of its own section with the name in it, else one or two other places."""
    here = [key for key in rule.partition("known: ")[2].split(", ") if name in key]
    elsewhere = [place for place in known if place.endswith(f".{name}")]
    return here[0] if here else " or ".join(elsewhere) if 1 <= len(elsewhere) <= 2 else None


def _locate(location: tuple[int | str, ...], data: Any, at: tuple[str | int, ...]) -> tuple[str, Any]:
    """A finding's dotted key and the value that stands there; union members are not part of a key."""
    steps: list[int | str] = [step for step in location if not (isinstance(step, str) and step.startswith("<"))]
    steps += at
    key, value = "", data
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list | tuple):
                continue  # a choice of one was given without its list
            key += f"[{step}]"
            value = value[step] if step < len(value) else None
        else:
            key += f".{step}" if key else step
            value = value.get(step) if isinstance(value, Mapping) else None
    return key, value


_NEEDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "finite_number": "must be finite",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "missing": "is required",
}


def _phrase(kind: str, context: Mapping[str, Any], value: Any) -> tuple[str, str | None]:
    """Rule and nearest choice for one of pydantic's error types."""
    if kind == "rule":
        return context["rule"], context["nearest"]
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        if isinstance(value, list):
            return LIST_MISPLACED, None
        return f"must be one of {', '.join(choices)}", nearest_names(str(value), choices, count=1)
    if isinstance(value, list | tuple) and kind in {"int_type", "float_type", "bool_type", "string_type", "model_type"}:
        return LIST_MISPLACED, None
    if kind == "string_pattern_mismatch":
        return 'must be text such as "0.24" or "0.24.1"', None
    if kind == "string_type" and isinstance(value, float):
        return 'must be text: put it in quotes, as in "0.24"', None
    if kind in {"too_short", "too_long"}:
        bounds = {"too_short": ("min_length", "at least"), "too_long": ("max_length", "at most")}
        bound, words = bounds[kind]
        return f"must have {words} {context[bound]} items, not {context['actual_length']}", None
    for name, sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}.items():
        if name in context:
            bound = context[name]
            return f"must be {sign} {bound:g}" if bound < 1e6 else f"must be {sign} {bound:.0f}", None
    return _NEEDS.get(kind, "is not valid"), None
