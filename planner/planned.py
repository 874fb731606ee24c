"""A plan's JSON document read back: the fleet that was chosen, as numbers to compare a running one with.

Nothing but the document is needed. It may have been edited or cut off, so every key that is read is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.catalogue.hardware import gpu_name
from planner.catalogue.models import model as find_model
from planner.errors import DataFileError, UnknownNameError
from planner.response_cache import read_hit_rate, stated
from planner.scenario import Scenario
from planner.units import HOURS_PER_DAY, HOURS_PER_YEAR, S_PER_HOUR

Document = Mapping[str, Any]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Planned:
    """What a plan chose and expects. `pinned` is its scenario with the choice in place of every list, as it is at one
    moment: without its autoscaler.

    `queries_per_s` has 24 hours, cached queries included; money is None where the plan has none of it. `usd_per_hour`
    is that of all replicas, with an autoscaler too; `usd_per_query` the plan's own, at the replicas that it pays for.
    `uncached_share` is the share of the users' queries that reach the model, `requests_per_query` the model calls of
    one of those; token means are per model call.
    """

    document: Document = field(repr=False)
    scenario: Scenario = field(repr=False)
    pinned: Scenario = field(repr=False)
    seed: int
    model_name: str
    hf_repo: str | None
    hardware: str
    replicas: int
    spare: int
    gpus_per_replica: int
    engines_per_replica: int  # data-parallel ranks, which tell of themselves one by one
    queries_per_s: tuple[float, ...]
    uncached_share: float
    requests_per_query: int
    at_peak: Document = field(repr=False)
    usd_per_hour: float | None
    usd_per_query: float | None
    revenue_usd_per_query: float | None
    retrieval_usd_per_query: float

    @property
    def serving(self) -> int:
        """Replicas that must hold the load: all but the spare ones."""
        return self.replicas - self.spare

    @property
    def gpus(self) -> int:
        """GPUs of all replicas, spare ones included."""
        return self.replicas * self.gpus_per_replica

    @property
    def staff_usd_per_hour(self) -> float:
        """What the fleet's staff adds to its bill, whatever its size."""
        own, share = self.scenario.prices.own, self.scenario.prices.compute_share
        return 0.0 if own is None else float(own.staff_usd_per_year or 0.0) / HOURS_PER_YEAR / share

    def figure(self, name: str) -> float | None:
        """A figure at the peak by its dotted name ("ttft_ms.p99"); None where the plan has it not."""
        value: Any = self.at_peak
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def planned(document: Any, where: str = "plan document", base: Path | None = None) -> Planned:
    """Read a plan's document back; `base` is the folder that relative paths of its scenario start from.

    Raises DataFileError for what is no plan, lacks a key or holds an impossible value; a plan that no fleet fits is
    refused too: there is nothing to run.
    """
    if not isinstance(document, Mapping) or "feasible" not in document or "fleet" not in document:
        raise DataFileError(where, None, "is no plan: make one with planner plan S --out plan.json")
    if document.get("schema_version") != SCHEMA_VERSION:
        found = document.get("schema_version")
        raise DataFileError(where, None, f"schema_version (={found!r}) must be {SCHEMA_VERSION}; plan again")
    if document["feasible"] is not True:
        raise DataFileError(where, None, "no fleet fits this plan: there is nothing to run (planner plan says why)")
    read = _Reader(document, where)
    scenario = Scenario.from_dict(read.mapping("scenario"), base)
    replicas = read.count("fleet.replicas", 1)
    spare = read.count("fleet.spare_replicas", 0)
    if spare >= replicas:
        raise read.broken("fleet.spare_replicas", spare, f"must be less than fleet.replicas (={replicas})")
    has = {key: isinstance(document.get(key), Mapping) for key in ("cost", "revenue")}
    hit_rate = read_hit_rate(document, scenario, where)
    hours = document.get("day")
    if not isinstance(hours, list) or len(hours) != HOURS_PER_DAY:
        raise read.broken("day", None, f"must have {HOURS_PER_DAY} hours")
    fixed = pinned(scenario, document, where)
    return Planned(
        document=document,
        scenario=scenario,
        pinned=stated(_at_one_moment(fixed), hit_rate),
        seed=read.count("seed", 0),
        model_name=read.text("model.name"),
        hf_repo=None if read.mapping("model").get("hf_repo") is None else read.text("model.hf_repo"),
        hardware=_hardware(read, fixed),
        replicas=replicas,
        spare=spare,
        gpus_per_replica=read.count("fleet.gpus_per_replica", 1),
        engines_per_replica=read.count("fleet.engine.data_parallel_size", 1),
        queries_per_s=tuple(read.rate(f"day.{hour}.queries") / S_PER_HOUR for hour in range(HOURS_PER_DAY)),
        uncached_share=1.0 - hit_rate,
        requests_per_query=sum(stage.calls * stage.samples for stage in scenario.query.stages) or 1,
        at_peak=read.mapping("at_peak"),
        usd_per_hour=_usd_per_hour(read, document) if has["cost"] else None,
        usd_per_query=read.number("cost.usd_per_query", 0.0) if has["cost"] else None,
        revenue_usd_per_query=read.number("revenue.usd_per_query", 0.0) if has["revenue"] else None,
        retrieval_usd_per_query=float(scenario.prices.retrieval_usd_per_query),
    )


def _usd_per_hour(read: _Reader, document: Document) -> float:
    """What all replicas cost in an hour in which all are on."""
    if isinstance(document.get("autoscaler"), Mapping):
        return read.number("autoscaler.static.usd_per_day", 0.0) / HOURS_PER_DAY
    return read.number("cost.usd_per_hour", 0.0)


def _at_one_moment(scenario: Scenario) -> Scenario:
    """The scenario without what starts and stops replicas in the course of the day."""
    return scenario if scenario.fleet.autoscaler is None else scenario.with_values({"fleet.autoscaler": None})


def _hardware(read: _Reader, fixed: Scenario) -> str:
    """The GPU of the fleet, which its scenario must name too: that one is simulated, this one is told."""
    key, found = "fleet.hardware", read.text("fleet.hardware")
    simulated = str(next(iter(fixed.hardware or ()), ""))
    for name, at in ((found, key), (simulated, "scenario.hardware")):
        try:
            gpu_name(name)
        except UnknownNameError as error:
            nearest = f"; nearest: {error.nearest}" if error.nearest else ""
            raise read.broken(at, name, f"is not in the catalogue{nearest}") from None
    if gpu_name(found) != gpu_name(simulated):
        raise read.broken(key, found, f"is not the scenario's hardware (={simulated})")
    return found


def pinned(scenario: Scenario, document: Document, where: str = "plan document") -> Scenario:
    """The scenario with what its plan chose in place of every list; `document` is that plan's, and feasible."""
    listed = document.get("alternatives")
    listed = listed if isinstance(listed, list) else []
    rows = [row for row in listed if isinstance(row, Mapping) and row.get("chosen")]
    if len(rows) != 1:
        raise DataFileError(where, None, f"alternatives: {len(rows)} of them are chosen, must be one; plan again")
    row = rows[0]
    values: dict[str, Any] = {}
    try:
        for key, choices in scenario.choices().items():
            if key == "model":
                values[key] = next(name for name in choices if find_model(name, scenario.base).name == row["model"])
            elif key == "hardware":
                values[key] = next(name for name in choices if gpu_name(name) == row["hardware"])
            elif key == "fleet.routing":
                values[key] = row["routing"]
            else:
                values[key] = row["engine"][key.removeprefix("engine.")]
    except (StopIteration, KeyError, TypeError):
        raise DataFileError(
            where, None, f"alternatives: the chosen one is not of the scenario's {key}; plan again"
        ) from None
    return with_read_values(scenario, values) if values else scenario


def with_read_values(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """`Scenario.with_values` for values that are no longer YAML: text stays text ("0.30" is a version)."""
    return scenario.with_values({key: _as_yaml(value) for key, value in values.items()})


def _as_yaml(value: Any) -> Any:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class _Reader:
    """Values of a document by their dotted keys, checked."""

    document: Document
    where: str

    def broken(self, key: str, value: object, rule: str) -> DataFileError:
        shown = "" if value is None else f" (={value!r})"
        return DataFileError(self.where, None, f"{key}{shown} {rule}; plan again")

    def at(self, key: str) -> Any:
        value: Any = self.document
        for step in key.split("."):
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                raise self.broken(key, None, "is missing")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.at(key)
        if not isinstance(value, Mapping):
            raise self.broken(key, value, "must be a mapping")
        return dict(value)

    def text(self, key: str) -> str:
        value = self.at(key)
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise self.broken(key, value, "must be a text on one line")
        return value

    def number(self, key: str, least: float) -> float:
        value = self.at(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            raise self.broken(key, value, f"must be a number of at least {least:g}")
        return float(value)

    def rate(self, key: str) -> float:
        value = self.number(key, 0.0)
        if value == 0.0:
            raise self.broken(key, value, "must be above 0")
        return value

    def count(self, key: str, least: int) -> int:
        value = self.at(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.broken(key, value, f"must be a whole number of at least {least}")
        return value
