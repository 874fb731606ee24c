"""A plan's chosen candidate as a scenario without lists, so that it alone can be planned or simulated again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from planner.catalogue.hardware import gpu_name
from planner.catalogue.models import model as find_model
from planner.scenario import Scenario

Document = Mapping[str, Any]


def pinned(scenario: Scenario, document: Document) -> Scenario:
    """The scenario with what its plan chose in place of every list; `document` is that plan's, and feasible."""
    row = next(row for row in document["alternatives"] if row["chosen"])
    values: dict[str, Any] = {}
    for key, choices in scenario.choices().items():
        if key == "model":
            values[key] = next(name for name in choices if find_model(name, scenario.base).name == row["model"])
        elif key == "hardware":
            values[key] = next(name for name in choices if gpu_name(name) == row["hardware"])
        elif key == "fleet.routing":
            values[key] = row["routing"]
        else:
            values[key] = row["engine"][key.removeprefix("engine.")]
    return with_read_values(scenario, values) if values else scenario


def with_read_values(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """`Scenario.with_values` for values that are no longer YAML: text stays text ("0.30" is a version)."""
    return scenario.with_values({key: _as_yaml(value) for key, value in values.items()})


def _as_yaml(value: Any) -> Any:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value) if isinstance(value, str) else value
