"""Scenario: a validated scenario file."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PrivateAttr, ValidationError, model_validator

from planner.errors import ScenarioError
from planner.scenario import yaml_text
from planner.scenario.amounts import RATES, rates_of
from planner.scenario.distributions import Joint
from planner.scenario.fleet import Fleet
from planner.scenario.money import Prices
from planner.scenario.monitor import Monitor
from planner.scenario.paths import names_a_file
from planner.scenario.revenue import Revenue
from planner.scenario.rules import refuse_reserved, scenario_error
from planner.scenario.sections import ClosedArrivals, Engine, OfflineArrivals, Query, Stage, TraceArrivals, Traffic
from planner.scenario.slo import Slo
from planner.scenario.types import MOST_REPLICAS, Choice, Section, Text, broken
from planner.scenario.uncertainty import Uncertainty, check_applies

MOST_SEATS, MOST_BLOCKS = 50_000_000, 500_000_000
Demand = Literal["open", "closed", "offline", "trace"]


def _version(value: Any) -> Any:
    if value != 1 or isinstance(value, bool):
        raise broken("must be 1, the version of the scenario language that this planner reads")
    return 1


class Scenario(Section):
    """A planning question: model, hardware, engine, traffic, query, SLO, fleet, prices, revenue, calibration.

    Made by `load` or `from_dict`; never changed, but copied by `with_values`. Errors are ScenarioErrors, or
    UnsupportedErrors for keys that are reserved.
    """

    version: Annotated[Literal[1], BeforeValidator(_version)]
    name: Text = "scenario"
    model: Choice[Text]
    """Catalogue name, or path to a Hugging Face config.json; a list = choose."""
    hardware: Choice[Text] | None = None
    """Catalogue name; a list = choose."""
    engine: Engine = Engine()
    traffic: Traffic = Traffic()
    query: Query = Query()
    slo: Slo = ()
    fleet: Fleet = Fleet()
    prices: Prices = Prices()
    revenue: Revenue | None = None
    calibration: Text | None = None
    """Path of a calibration file, as `planner calibrate` writes it, relative to the scenario file."""
    uncertainty: Uncertainty | None = None
    """How far off the inputs may be; `plan` then says how sure its answer is."""
    monitor: Monitor | None = None
    """Where the running fleet tells what it does."""
    _base: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _stages_complete(self) -> Scenario:
        """Without a trace every stage says its token counts."""
        if self.demand == "trace":
            return self
        if not self.query.stages:
            raise broken(
                "is required: at least one stage with name, prompt_tokens and output_tokens", "query", "stages"
            )
        for index, stage in enumerate(self.query.stages):
            for key in ("prompt_tokens", "output_tokens"):
                joint = key == "output_tokens" and isinstance(stage.prompt_tokens, Joint)
                if getattr(stage, key) is None and not joint:
                    raise broken("is required without a trace", "query", "stages", index, key)
        return self

    @model_validator(mode="after")
    def _within_memory(self) -> Scenario:
        """Seats and KV blocks of all simulated engines are held in memory."""
        scaled = 1 if self.fleet.autoscaler is None else self.fleet.autoscaler.most
        engines = max(self.fleet.replicas or 1, scaled) * max(self.engine.data_parallel_size)
        for key, most in (("max_num_seqs", MOST_SEATS), ("num_gpu_blocks_override", MOST_BLOCKS)):
            if engines * max(getattr(self.engine, key) or (1,)) > most:
                raise broken(f"too many to simulate: at most {most} over all {engines} engines", "engine", key)
        if engines > MOST_REPLICAS:
            rule = f"too many to simulate: replicas × data_parallel_size must be at most {MOST_REPLICAS}"
            raise broken(rule, "fleet", "replicas")
        return self

    @model_validator(mode="after")
    def _uncertainty_applies(self) -> Scenario:
        """What varies is there, and can."""
        if self.uncertainty is not None:
            prices = any(getattr(self.prices, key, None) is not None for key in ("gpu_hour_usd", "commitments", "own"))
            check_applies(self.uncertainty, self.demand, self.query.stages, prices, self.revenue is not None)
        return self

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read a scenario file; `name` defaults to the file's stem, paths in it are relative to its folder."""
        path = Path(path)
        data = yaml_text.read(path)
        if data.get("name") is None:
            data["name"] = path.stem
        return cls.from_dict(data, path.parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], base: Path | None = None) -> Scenario:
        """Validate a mapping of the YAML's shape; `base` is the folder that its relative paths start from."""
        if not isinstance(data, Mapping):
            raise ScenarioError("scenario", data, "must be a mapping of keys")
        refuse_reserved(data)
        try:
            scenario = cls.model_validate(data, context={RATES: rates_of(data)})
        except ValidationError as error:
            raise scenario_error(error, data, dotted_keys()) from None
        scenario._base = base
        return scenario

    @property
    def base(self) -> Path | None:
        """The folder that relative paths start from; None = the current one."""
        return self._base

    @property
    def demand(self) -> Demand:
        """What drives the load: a rate, a closed loop, a batch or a recording."""
        kinds: dict[type, Demand] = {TraceArrivals: "trace", ClosedArrivals: "closed", OfflineArrivals: "offline"}
        return kinds.get(type(self.traffic.arrivals), "open")

    @property
    def session(self) -> Stage | None:
        """The stage whose turns make sessions; None where every query stands for itself."""
        return next((stage for stage in self.query.stages if stage.turns > 1), None)

    def resolve(self, file: str) -> Path:
        """A path of the scenario as one to open."""
        return Path(file) if self._base is None else self._base / file

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The keys that hold a list to choose from, with their choices, in the file's order."""
        held: dict[str, Any] = {"model": self.model, "hardware": self.hardware}
        held |= {f"engine.{key}": getattr(self.engine, key) for key in Engine.model_fields}
        held["fleet.routing"] = self.fleet.routing
        return {key: value for key, value in held.items() if value is not None and len(value) > 1}

    def as_dict(self) -> dict[str, Any]:
        """The scenario with every default filled in, JSON-able; `from_dict` reads it back to an equal one.

        Keys that have no default and were not given (vLLM's own choice, say) are left out.
        """
        return self.model_dump(mode="json", exclude_none=True)

    def located(self) -> dict[str, Any]:
        """`as_dict` with absolute paths, so that it can be read back from another folder."""
        document: dict[str, Any] = _located(self.as_dict(), self)
        return document

    def with_values(self, values: Mapping[str, Any]) -> Scenario:
        """A copy with other values, as by `--set`.

        Keys are dotted, `query.stages[0].prompt_tokens`; the last name alone will do where only one key ends so
        (`peak_qps`). A string is read as YAML ("40", "[1, 2]", "{lognormal: {mean: 9, cv: 1}}"); null removes a key.
        """
        data: dict[str, Any] = copy.deepcopy(self.model_dump(mode="json", exclude_unset=True, exclude_none=True))
        for key, value in values.items():
            new = yaml_text.parse(value, key, value) if isinstance(value, str) else value
            _set(data, full_key(key), new)
        return Scenario.from_dict(data, self._base)


def _located(value: Any, scenario: Scenario, key: str = "") -> Any:
    """A value with the paths in it made absolute."""
    if isinstance(value, dict):
        return {name: _located(item, scenario, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_located(item, scenario, key) for item in value]
    if isinstance(value, str) and names_a_file(key, value):
        return str(scenario.resolve(value).absolute())
    return value


def full_key(key: str) -> str:
    """The dotted key that a key or its last name stands for; unknown ones are left for validation to refuse."""
    if re.split(r"[.\[]", key)[0] in Scenario.model_fields:
        return key
    candidates = _by_last_name().get(key, [])
    if len(candidates) > 1:
        raise ScenarioError(key, None, "several keys end so; write one out", ", ".join(candidates))
    return candidates[0] if candidates else key


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key, making mappings on the way; a scalar in the way is replaced."""
    if key.startswith("slo."):
        steps: list[str | int] = ["slo", key.removeprefix("slo.")]  # p99.9_ttft_ms holds a dot of its own
    elif re.fullmatch(r"[^.\[\]]+(\[\d+\])*(\.[^.\[\]]+(\[\d+\])*)*", key):
        steps = [int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", key)]
    else:
        raise ScenarioError(key, None, "not a key: write it as a.b or a[0].b")
    place: Any = data
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(place, list):
                raise ScenarioError(key, value, f"{key.rsplit(f'[{step}]', 1)[0]} is not a list")
            if step >= len(place):
                raise ScenarioError(key, value, f"there is no item {step}: the list has {len(place)}")
        elif not isinstance(place, dict):
            raise ScenarioError(key, value, f"{step} cannot stand below a list; name an item, as in stages[0]")
        if following is None:
            place[step] = value
            return
        below = place[step] if isinstance(step, int) else place.get(step)
        if not isinstance(below, dict | list):
            below = place[step] = {}
        place = below


@cache
def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a scenario file, for editors."""
    schema = Scenario.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "vLLM capacity scenario"}


@cache
def dotted_keys() -> tuple[str, ...]:
    """Every key of the scenario language that holds no further keys of its own, `[]` for an item of a list."""
    schema = json_schema()
    return tuple(dict.fromkeys(_leaves(schema, schema["$defs"], "")))


def _leaves(schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    members = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if "properties" in schema:
        for name, item in schema["properties"].items():
            yield from _leaves(item, definitions, f"{prefix}.{name}" if prefix else name)
    elif members:
        for item in members:
            yield from _leaves(item, definitions, prefix)
    elif "$ref" in schema.get("items", {}):
        yield from _leaves(schema["items"], definitions, f"{prefix}[]")
    else:
        yield prefix


@cache
def _by_last_name() -> dict[str, list[str]]:
    """Last names of keys outside lists, each with the dotted keys that end so."""
    found: dict[str, list[str]] = {}
    for key in dotted_keys():
        if "[]" not in key:
            found.setdefault(key.rsplit(".", 1)[-1], []).append(key)
    return found
