"""What a file must be to go with a plan: what the key that names it asks for, by the reader of that kind.

A plan may come from somebody else, and what it names is copied into a ConfigMap for many to read. So a file is taken
only as what it is used for; keys and lists of users are no calibration, whatever a plan calls them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from planner.catalogue.hf_config import read_config
from planner.errors import InputError
from planner.readers.calibration_file import read_calibration
from planner.workload import read_recording
from planner.workload.tables import csv_chunks, read_samples

_KEY = "file"  # of the readers' complaints, which quote the file and are not handed on


def misfit(place: Path, key: str, beside: Mapping[str, Any]) -> str:
    """What the file is not that `key` asks for; "" where it is that. `beside` are the values that stand with its path.

    The words hold nothing of the file.
    """
    names = re.sub(r"\[\d+\]", "", key).split(".")
    kind = _KINDS.get(names[-1]) or _KINDS.get(".".join(names[-2:]))
    if kind is None:
        return "is named where a scenario names no file"
    try:
        kind.read(place, beside)
    except InputError:
        return f"is no {kind.what}; `planner plan` of the scenario says what is wrong with it"
    return ""


class _Kind(NamedTuple):
    what: str
    read: Callable[[Path, Mapping[str, Any]], object]


def _config(place: Path, _: Mapping[str, Any]) -> object:
    return read_config(place)


def _calibration(place: Path, _: Mapping[str, Any]) -> object:
    return read_calibration(place)


def _column(place: Path, beside: Mapping[str, Any]) -> object:
    return read_samples(place, _KEY, [str(beside.get("column"))])


def _columns(place: Path, beside: Mapping[str, Any]) -> object:
    columns = beside.get("columns")
    if not isinstance(columns, list | tuple) or len(columns) != 2:  # none would let any table pass
        raise InputError("columns", columns, "must name two columns")
    return read_samples(place, _KEY, [str(column) for column in columns])


def _trace(place: Path, beside: Mapping[str, Any]) -> object:
    form = beside.get("format")
    if form not in ("azure", "burstgpt", "mooncake"):
        raise InputError("format", form, "must be azure, burstgpt or mooncake")
    return read_recording(place, form, _KEY)


def _rates(place: Path, _: Mapping[str, Any]) -> object:
    rows = 0
    for _lines, columns in csv_chunks(place, _KEY, ("seconds", "qps")):
        for column in columns:
            for number in column:
                try:
                    float(number)
                except ValueError:
                    raise InputError(_KEY, None, "must be numbers") from None
                rows += 1
    return rows


_KINDS = {
    "calibration": _Kind("calibration of `planner calibrate`", _calibration),
    "model": _Kind("config.json of a model that is known here", _config),
    "histogram.file": _Kind("table of token counts with its column", _column),
    "joint.file": _Kind("table of token counts with its two columns", _columns),
    "trace.file": _Kind("trace of its format", _trace),
    "rates.file": _Kind("table of rates with the columns seconds and qps", _rates),
}
