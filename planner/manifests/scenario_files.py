"""The files that a scenario names (calibration, histogram, trace, a model's config.json), read to go with its plan.

A plan's document holds their paths alone, and a container has none of them: their contents stand beside the document,
in one folder, under names of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MOST_BYTES = 1_000_000  # a ConfigMap may hold 1 MiB, its other fields included
TAKEN = frozenset({"plan.json", "scenario.yaml", "haproxy.cfg", "prometheus.yml", "rules.yml"})
_LONGEST = 200  # of a name; a ConfigMap's key may have 253 characters
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9._-]+")


class ScenarioFile(NamedTuple):
    """One file: `path` as the scenario names it, `name` in the folder where its contents will stand.

    `text` is None where it could not be read, and `trouble` says why.
    """

    key: str
    path: str
    name: str
    text: str | None
    trouble: str = ""


def named_files(value: Any, key: str = "scenario") -> Iterator[tuple[str, str]]:
    """(key, path) of every file that a scenario's document names."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from named_files(item, f"{key}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from named_files(item, f"{key}[{index}]")
    elif isinstance(value, str) and _names_a_file(key, value):
        yield key, value


def read_files(scenario: Any, base: Path | None) -> tuple[ScenarioFile, ...]:
    """Every file that a scenario's document names, each once; `base` is the folder that relative paths start from."""
    found: dict[str, ScenarioFile] = {}
    for key, path in named_files(scenario):
        if path not in found:
            place = (base or Path()) / path.replace("\0", "")  # which no path has, and no system call takes
            name = _name(place, {file.name for file in found.values()}, is_model=_last(key) == "model")
            found[path] = ScenarioFile(key, path, name, *_read(place))
    return tuple(found.values())


def with_names(value: Any, files: Sequence[ScenarioFile], key: str = "scenario") -> Any:
    """A scenario's document that names its files as they are called in the folder."""
    if isinstance(value, dict):
        return {name: with_names(item, files, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [with_names(item, files, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str) and _names_a_file(key, value):
        return next((file.name for file in files if file.path == value), value)
    return value


def those_of(part: Any, files: Sequence[ScenarioFile]) -> list[ScenarioFile]:
    """The files that a part of such a document, or a changed one, still names."""
    names = {name for _, name in named_files(part)}
    return [file for file in files if file.name in names]


def _names_a_file(key: str, value: str) -> bool:
    """As `Scenario.located` judges: a file, a calibration, or a config.json in place of a model's name."""
    last = _last(key)
    return last in ("file", "calibration") or (last == "model" and value.lower().endswith(".json"))


def _last(key: str) -> str:
    return re.sub(r"(\[\d+\])+$", "", key).rsplit(".", 1)[-1]


def _name(place: Path, others: set[str], *, is_model: bool) -> str:
    """A name that a ConfigMap takes as a key and that no other file has. Its ending stays: readers go by it.

    A model is called by its file, or by the folder of a config.json: the name keeps it the same model.
    """
    stem = place.resolve().parent.name if is_model and place.name == "config.json" else place.stem
    stem, ending = (_NOT_IN_A_KEY.sub("-", part) for part in (stem, place.suffix))
    name = f"{stem[:_LONGEST]}{ending[:_LONGEST]}"
    if name in others | TAKEN:
        name = f"{stem[:_LONGEST]}-{hashlib.sha256(str(place).encode()).hexdigest()[:6]}{ending[:_LONGEST]}"
    return name


def _read(place: Path) -> tuple[str | None, str]:
    """(text, "") of a file, or (None, what is wrong with it)."""
    try:
        size = place.stat().st_size
        if size > MOST_BYTES:
            return None, f"has {size:,} bytes, and a ConfigMap holds {MOST_BYTES:,}"
        return place.read_bytes().decode("utf-8"), ""
    except UnicodeDecodeError:
        return None, "is no text in UTF-8, which a ConfigMap holds; unpack it and name the unpacked file"
    except FileNotFoundError:
        return None, "no such file; paths start from the folder of the plan, or of the scenario that is planned"
    except OSError as problem:
        return None, f"cannot be read: {problem.strerror}"
