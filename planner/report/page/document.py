"""A plan's document, checked: what the page could not read is refused before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec

from planner.errors import DataFileError
from planner.report.page.shape import PlanShape
from planner.report.page.sums import check_sums
from planner.report.page.values import MOST, check_values
from planner.summary.words import clean

SCHEMA_VERSION = 1
LEAST = 1e-18  # what is smaller is 0
DEEPEST = 40
WRITES = "`planner plan SCENARIO --out FILE` writes one"


def checked(document: object, where: str = "plan document") -> dict[str, Any]:
    """The document without nulls, non-finite numbers and control characters; raises DataFileError if it is no plan.

    `where` names it in the message.
    """
    if not isinstance(document, Mapping):
        raise DataFileError(where, None, f"holds {_kind(document)}, not a plan's document; {WRITES}")
    if "schema_version" not in document or "alternatives" not in document or "feasible" not in document:
        raise DataFileError(where, None, f"is not a plan's document{_other(document)}; {WRITES}")
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        raise DataFileError(f"{where}: schema_version", version, f"this planner reads {SCHEMA_VERSION}; plan again")
    if _depth(document) > DEEPEST:
        raise DataFileError(where, None, "is damaged: nested too deeply; plan again")
    unwrapped = _unwrapped(document)
    check_values(unwrapped, where)
    plain = _bounded(unwrapped)
    try:
        shaped = msgspec.convert(plain, PlanShape)
    except msgspec.ValidationError as error:
        raise DataFileError(where, None, f"is damaged: {_told(str(error))}; plan again") from None
    if shaped["feasible"] and not (shaped.get("fleet") and shaped.get("model") and shaped.get("at_peak")):
        raise DataFileError(where, None, "is damaged: it is feasible but lacks fleet, model or at_peak; plan again")
    result: dict[str, Any] = clean(plain)
    if shaped["feasible"]:
        check_sums(result, where)
    for name, histogram in (result.get("distributions") or {}).items():
        if not _drawable(histogram["edges"], histogram["counts"]):
            rule = "is damaged: its edges must rise from above 0, with a count between each two; plan again"
            raise DataFileError(f"{where}: distributions.{name}", None, rule)
    return result


def _drawable(edges: list[float], counts: list[float]) -> bool:
    """Whether a histogram is empty, or one over a logarithmic axis."""
    if not counts:
        return True
    rising = all(low < high for low, high in pairwise(edges))
    return len(edges) == len(counts) + 1 and rising and edges[0] > 0 and min(counts) >= 0


def _depth(document: object) -> int:
    """How deeply lists and objects are nested, counted no further than `DEEPEST` + 1."""
    level, depth = [document], 0
    while level and depth <= DEEPEST:
        inner = [one for one in level if isinstance(one, Mapping | list | tuple)]
        level = [item for one in inner for item in (one.values() if isinstance(one, Mapping) else one)]
        depth += bool(inner)
    return depth


def _unwrapped(value: Any) -> Any:
    """Without numpy's types, which a plan made in this process may hold, and without integers that no float holds."""
    if isinstance(value, Mapping):
        return {str(key): _unwrapped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_unwrapped(item) for item in value]
    if isinstance(value, int) and abs(value) > MOST:
        return math.inf if value > 0 else -math.inf
    return _unwrapped(value.tolist()) if hasattr(value, "tolist") else value


def _bounded(value: Any) -> Any:
    """Without numbers beyond reason, where the page reads none: they would be drawn, or divided by."""
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, float) and abs(value) > MOST:
        return math.inf
    return 0.0 if isinstance(value, float) and abs(value) < LEAST else value


def _told(error: str) -> str:
    """ "Expected `float`, got `str` - at `$.cost.usd_per_query`" with the place first."""
    what, at, place = error.partition(" - at ")
    return f"{place.strip('`').removeprefix('$').removeprefix('.')}: {what}" if at and place != "`$`" else what


def _other(document: Mapping[str, Any]) -> str:
    """What it seems to be instead, from the names that it has."""
    if "vary" in document:
        return " but that of a sweep" if "points" in document else " but that of `planner capacity`"
    if "ttft_ms" in document:
        return " but that of `planner simulate`"
    if "version" in document and "model" in document:
        return " but a scenario, which ends in .yaml"
    missing = [name for name in ("schema_version", "feasible", "alternatives") if name not in document]
    return f": it lacks {', '.join(missing)}"


def _kind(document: object) -> str:
    names = {list: "a list", str: "a text", type(None): "nothing", bool: "a truth value"}
    return names.get(type(document), "a number")
