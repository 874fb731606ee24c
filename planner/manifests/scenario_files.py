"""The files that a scenario names (calibration, histogram, trace, a model's config.json), read to go with its plan.

A plan's document holds their paths alone, and a container has none of them: their contents stand beside the document,
in one folder, under names of their own.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner.manifests.file_kinds import misfit
from planner.scenario.paths import last_name, named_files, names_a_file

MOST_BYTES = 1_000_000  # a ConfigMap may hold 1 MiB, its other fields included
TAKEN = frozenset({"plan.json", "scenario.yaml", "haproxy.cfg", "prometheus.yml", "rules.yml"})
_LONGEST = 200  # of a name; a ConfigMap's key may have 253 characters
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_BEFORE_A_KEY = re.compile(r"^\.\.+|^\.$")  # Kubernetes keeps names that begin with two dots to itself


class ScenarioFile(NamedTuple):
    """One file: `path` as the scenario names it, `name` in the folder where its contents will stand.

    `text` is None where it could not be read or is not what the key asks for, and `trouble` says why. `is_outside`:
    it was read, and lies neither in the plan's folder nor below it.
    """

    key: str
    path: str
    name: str
    text: str | None
    trouble: str = ""
    is_outside: bool = False


def read_files(scenario: Any, base: Path | None) -> tuple[ScenarioFile, ...]:
    """Every file that a scenario's document names, each once; `base` is the folder that relative paths start from."""
    folder = base or Path()
    found: dict[str, ScenarioFile] = {}
    for one in named_files(scenario):
        if one.path not in found:
            place = folder / one.path
            name = _name(place, {file.name for file in found.values()}, is_model=last_name(one.key) == "model")
            text, trouble = _read(place)
            if text is not None:
                trouble = misfit(place, one.key, one.beside)
            found[one.path] = (
                ScenarioFile(one.key, one.path, name, None, trouble)
                if text is None or trouble
                else ScenarioFile(one.key, one.path, name, text, "", is_outside=not _is_within(place, folder))
            )
    return tuple(found.values())


def notes(files: Sequence[ScenarioFile]) -> list[str]:
    """Which files were read from elsewhere than the plan's folder: whoever wrote the plan chose them."""
    return [
        f"{file.key} (={file.path}) lies outside the folder of the plan, and what it holds goes into the objects"
        for file in files
        if file.is_outside
    ]


def with_names(value: Any, files: Sequence[ScenarioFile], key: str = "scenario") -> Any:
    """A scenario's document that names its files as they are called in the folder."""
    if isinstance(value, dict):
        return {name: with_names(item, files, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [with_names(item, files, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str) and names_a_file(last_name(key), value):
        return next((file.name for file in files if file.path == value), value)
    return value


def those_of(part: Any, files: Sequence[ScenarioFile]) -> list[ScenarioFile]:
    """The files that a part of such a document, or a changed one, still names."""
    names = {one.path for one in named_files(part)}
    return [file for file in files if file.name in names]


def _name(place: Path, others: set[str], *, is_model: bool) -> str:
    """A name that a ConfigMap takes as a key and that no other file has. Its ending stays: readers go by it.

    A model is called by its file, or by the folder of a config.json: the name keeps it the same model.
    """
    stem = _resolved(place).parent.name if is_model and place.name == "config.json" else place.stem
    stem, ending = (_NOT_IN_A_KEY.sub("-", part)[:_LONGEST] for part in (stem, place.suffix))
    stem = _NOT_BEFORE_A_KEY.sub("", stem)
    name = f"{stem}{ending}" if stem else f"file{ending}"
    if name in others | TAKEN:
        name = f"{stem or 'file'}-{hashlib.sha256(str(place).encode('utf-8', 'replace')).hexdigest()[:6]}{ending}"
    return name


def _resolved(place: Path) -> Path:
    try:
        return place.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle; no path at all: reading it says so
        return place


def _is_within(place: Path, folder: Path) -> bool:
    """Whether a file lies in a folder or below it, links followed."""
    return _resolved(place).is_relative_to(_resolved(folder))


def _read(place: Path) -> tuple[str | None, str]:
    """(text, "") of a file, or (None, what is wrong with it)."""
    try:
        if not stat.S_ISREG(place.stat().st_mode):  # a pipe would wait for ever, a device never end
            return None, "is no regular file"
        with place.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # what says to be empty, as in /proc, may go on
        if len(content) > MOST_BYTES:
            return None, f"has more than {MOST_BYTES:,} bytes, the most that a ConfigMap holds"
        return content.decode("utf-8"), ""
    except UnicodeDecodeError:
        return None, "is no text in UTF-8, which a ConfigMap holds; unpack it and name the unpacked file"
    except FileNotFoundError:
        return None, "no such file; paths start from the folder of the plan, or of the scenario that is planned"
    except OSError as problem:
        return None, f"cannot be read: {problem.strerror}"
    except ValueError:  # a null character, half a character
        return None, "is no path"
