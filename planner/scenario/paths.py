"""Which values of a scenario are paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class NamedFile(NamedTuple):
    """Where a scenario's document names a file; `beside` are the values that stand with it, as a histogram's column."""

    key: str
    path: str
    beside: Mapping[str, Any]


def names_a_file(key: str, value: str) -> bool:
    """Whether `value` is a path under a key of that last name: a file, a calibration, or a config.json in place of a
    model's name.
    """
    return key in ("file", "calibration") or (key == "model" and value.lower().endswith(".json"))


def named_files(value: Any, key: str = "scenario", beside: Mapping[str, Any] = _NOTHING) -> Iterator[NamedFile]:
    """Every file that a scenario's document names."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from named_files(item, f"{key}.{name}", value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from named_files(item, f"{key}[{index}]", beside)
    elif isinstance(value, str) and names_a_file(last_name(key), value):
        yield NamedFile(key, value, beside)


def last_name(key: str) -> str:
    """The last name of a dotted key, without its places in lists."""
    return re.sub(r"(\[\d+\])+$", "", key).rsplit(".", 1)[-1]
