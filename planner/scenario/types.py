"""Building blocks of the schema: strict numbers, lists that mean choose, and mappings that hold exactly one key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from planner.errors import nearest_names

SHARE = "a share, 0.3 for 30 %"
_PER_CENT = re.compile(r"\s*[-+]?\d+(\.\d*)?\s*%\s*")
MOST = 2**31 - 1  # counts and token numbers are kept in 32-bit arrays
T = TypeVar("T")


def broken(rule: str, *at: str | int, nearest: str | None = None) -> PydanticCustomError:
    """An error for `rules.scenario_error` to phrase; `at` leads from the place being validated to the guilty key."""
    return PydanticCustomError("rule", "a rule is broken", {"rule": rule, "at": at, "nearest": nearest})


class Section(BaseModel):
    """A mapping of the scenario file: unknown keys are refused, a key without a value is absent, values are strict."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for key in data:
            if key not in cls.model_fields:
                nearest = nearest_names(str(key), cls.model_fields)
                raise broken(
                    "unknown key" if nearest else f"unknown key; known: {', '.join(cls.model_fields)}",
                    str(key),
                    nearest=nearest,
                )
        return {key: value for key, value in data.items() if value is not None}


def whole(value: Any) -> Any:
    """1e6 is read as a float: take it for a count where it has no fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_tuple(value: Any) -> Any:
    """A YAML sequence as a tuple; everything else unchanged, for the strict check to refuse."""
    return tuple(value) if isinstance(value, list) else value


def _share(least: float, most: str) -> Callable[[Any], Any]:
    """Refuse per cents where a share is due, in words; the range itself is the field's. What is no number passes."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and _PER_CENT.fullmatch(value):
            share = float(value.strip().removesuffix("%")) / 100
            raise broken(f"must be a number: {SHARE}", nearest=f"{share:g}" if 0 <= share <= 1 else None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if value < least:
            raise broken(f"must be >= {least:g}: {SHARE}")
        if value > 1 or (value == 1 and most == "<"):
            raise broken(f"must be {most} 1: {SHARE}", nearest=f"{value / 100:g}" if 1 < value <= 100 else None)
        return value

    return check


Count = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(whole)]  # a number of things, at least one
MOST_QUERIES = 50_000_000  # in one run: more would take gigabytes
Queries = Annotated[int, Field(ge=1, le=MOST_QUERIES), BeforeValidator(whole)]
MOST_TURNS = 256  # of one session: what its turns send grows with the square of them
MOST_REPLICAS = 20_000
Replicas = Annotated[int, Field(ge=1, le=MOST_REPLICAS), BeforeValidator(whole)]
Ranks = Annotated[int, Field(ge=1, le=1024), BeforeValidator(whole)]
# Numbers are bounded where products of them could leave the range of a float.
Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
LEAST_SHARE = 1e-6
Fraction = Annotated[float, Field(ge=LEAST_SHARE, le=1), BeforeValidator(_share(LEAST_SHARE, "<="))]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_share(0.0, "<"))]
Text = Annotated[str, Field(min_length=1)]


def _listed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return (value,)
    if not value:
        raise broken("the list is empty; give at least one choice")
    if any(isinstance(item, list | tuple) for item in value):
        raise broken("a list of choices may not hold lists")
    return tuple(value)


def _distinct(value: tuple[T, ...]) -> tuple[T, ...]:
    for index, item in enumerate(value):
        if item in value[:index]:
            raise broken(f"the list names {item} twice")
    return value


def _unlisted(value: tuple[T, ...]) -> T | list[T]:
    return value[0] if len(value) == 1 else list(value)


class _ChoiceSchema:
    """In the JSON Schema a choice is one value or a list of different ones."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        item = handler(core_schema)["items"]
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}]}


# One value, or a list to choose from: always a tuple in Python.
Choice = Annotated[
    tuple[T, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    PlainSerializer(_unlisted),
    _ChoiceSchema(),
]


def tag(name: str) -> str:
    """A union's member as it stands in an error's location, marked so that `rules` can leave it out of the key."""
    return f"<{name}>"


def one_key(known: tuple[str, ...], scalar: type | tuple[type, ...], plain: str) -> BeforeValidator:
    """Check that a value is a `scalar` (said as `plain`) or a mapping with exactly one of the `known` keys."""
    shapes = f"must be {f'{plain} or ' if plain else ''}a mapping with one of: {', '.join(known)}"

    def check(value: Any) -> Any:
        if isinstance(value, Mapping):
            keys = [key for key, item in value.items() if item is not None]
            for key in keys:
                if key not in known:
                    raise broken(
                        f"unknown key; known: {', '.join(known)}", str(key), nearest=nearest_names(str(key), known)
                    )
            if len(keys) != 1:
                raise broken(shapes if not keys else f"give only one of: {', '.join(map(str, keys))}")
            return {keys[0]: value[keys[0]]}
        if isinstance(value, BaseModel) or (isinstance(value, scalar) and not isinstance(value, bool)):
            return value
        if isinstance(value, list | tuple):
            raise broken(LIST_MISPLACED)
        raise broken(shapes)

    return BeforeValidator(check)


def member(scalar: str) -> Callable[[Any], str]:
    """Which member of a union a value (or a validated model) is: its only key, or `scalar`."""

    def name(value: Any) -> str:
        if isinstance(value, BaseModel):
            return tag(next(iter(type(value).model_fields)))
        return tag(str(next(iter(value)))) if isinstance(value, Mapping) else tag(scalar)

    return name


LIST_MISPLACED = "a list may not stand here; lists mean choose, and only in model, hardware, engine.*, fleet.routing"
