"""A case file: a document's arithmetic as steps, each a model with its inputs, and what the document printed."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from planner.economics.cases.sentence import Placeholder, parts_of
from planner.economics.quantity import Rates
from planner.economics.unit_names import CURRENCIES
from planner.errors import ScenarioError, nearest_names
from planner.scenario import yaml_text
from planner.scenario.rules import scenario_error
from planner.scenario.types import Positive, Section, Text, as_tuple, broken

MOST_STEPS = 200
MOST_VARIED = 50
Grade = Literal["printed", "fitted", "derived", "public", "own"]
GRADES: Mapping[Grade, str] = {
    "printed": "printed in the document",
    "fitted": "rebuilt from printed figures: the original is an image that no copy at hand preserves",
    "derived": "derived from the document's figures; its author printed no such result",
    "public": "a public source beside the documents",
    "own": "figures of one's own",
}
ID = r"[a-z][a-z0-9_]*"
NAME = r"[a-z0-9][a-z0-9-]*"


def _version(value: Any) -> Any:
    if value != 1 or isinstance(value, bool):
        raise broken("must be 1, the version of the case language that this planner reads")
    return 1


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise broken("must be a mapping of keys")
    return value


class Source(Section):
    """Where a case's figures come from."""

    document: Text
    """Title, author and date of what the figures were read in."""
    grade: Grade
    """How sure its figures are: printed, fitted, derived, public, own."""
    note: Text | None = None
    """What else the reader should know of the source."""


class Step(Section):
    """One model with its inputs."""

    id: Annotated[str, Field(pattern=f"^{ID}$")]
    """Name of the step: other steps say `$id.output`."""
    model: Text
    """Name of a model, as in the table of models."""
    inputs: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)
    """Name: a number, text such as "19.22 USD/hour", `$step.output`, `$case:step.output`, or a list of these."""
    because: Text | None = None
    """Why this step, in a sentence."""

    @field_validator("inputs")
    @classmethod
    def _plain(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        for name, value in inputs.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bool) or not isinstance(item, int | float | str):
                    raise broken('must be a number, text such as "19.22 USD/hour", or a list of these', name)
        return inputs


def _number_or_text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise broken('must be a number, or text such as "0.066 USD/query"')
    return value


Value = Annotated[Any, BeforeValidator(_number_or_text)]


class Printed(Section):
    """A figure as the document prints it, held against an output."""

    output: Text
    """`step.output`, or `variant:id`."""
    value: Value
    """The printed figure with its unit."""
    tolerance: Value
    """How far ours may be away, 0 or more: half of the last printed digit unless `says` tells another. A plain number
    is in the unit of `value`."""
    agrees: bool
    """Whether it reproduces. false = an error in the document, or a reading that is not the document's."""
    says: Text | None = None
    """Which figure this is, and why it does or does not reproduce."""


class Variant(Section):
    """The case with some inputs changed, for one output: another reading, or a control."""

    id: Annotated[str, Field(pattern=f"^{ID}$")]
    """Name of the variant; printed figures say `variant:id`."""
    changes: Annotated[dict[str, Value], BeforeValidator(_mapping), Field(min_length=1)]
    """`step.input`, exchange_rates.CNY or days_per_month: the other value."""
    of: Text
    """The output, `step.output`."""
    because: Text | None = None
    """What the variant is for."""


class Sensitivity(Section):
    """How one output moves with single inputs, and where it meets a target."""

    of: Text
    """The output, `step.output`; no step that it needs may simulate."""
    inputs: Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=MOST_VARIED)]
    """Inputs, `step.input`, each varied alone; 50 at most."""
    equals: Value | None = None
    """The target: a quantity, or `$step.output`; without it only elasticities are told."""


def _unquoted(rates: Any) -> Any:
    """A mapping whose numbers are numbers: one in quotes is text, and looks the same in a message."""
    for currency, rate in _mapping(rates).items():
        if isinstance(rate, str) and re.fullmatch(r"[\d.eE+-]*\d[\d.eE+-]*", rate.strip()):
            raise broken(f"must be a number without quotes: {currency}: {rate.strip()}", currency)
    return rates


class Case(Section):
    """A case: steps of arithmetic with units, their source, and the printed figures they are held against."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    """Lower-case words joined by hyphens; a file's own name where it is left out."""
    title: Text
    """One line: what the case works out; likewise."""
    source: Source
    exchange_rates: Annotated[dict[str, Positive], BeforeValidator(_unquoted)] = Field(default_factory=dict)
    """Units of a currency that one USD buys: {CNY: 7.1}. Without it CNY and USD do not meet."""
    days_per_month: Annotated[float, Field(ge=28, le=31)] | None = None
    """Days of a month, where months become hours; without it they do not."""
    steps: Annotated[tuple[Step, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=MOST_STEPS)]
    """In any order; a step is worked out when another needs it."""
    answer: Text
    """The answer in a sentence or two, with `{step.output}` where a number stands, `{step.output%}` for per cent of a
    number without a unit."""
    printed: Annotated[tuple[Printed, ...], BeforeValidator(as_tuple)] = ()
    variants: Annotated[tuple[Variant, ...], BeforeValidator(as_tuple), Field(max_length=MOST_STEPS)] = ()
    sensitivity: Sensitivity | None = None
    assumed: Annotated[dict[str, Text], BeforeValidator(_mapping)] = Field(default_factory=dict)
    """`step.input`: why it is so, for inputs that the source does not give."""
    notes: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()
    """What else the source says of this system, and what the arithmetic leaves out."""

    @field_validator("exchange_rates")
    @classmethod
    def _currencies(cls, rates: dict[str, float]) -> dict[str, float]:
        for currency in rates:
            known = [name for name in CURRENCIES if name != "USD"]
            if currency not in known:
                rule = f"unknown currency; known beside USD: {', '.join(known)}"
                raise broken(rule, currency, nearest=nearest_names(currency, known))
        return rates

    @field_validator("answer")
    @classmethod
    def _whole_placeholders(cls, answer: str) -> str:
        if any(isinstance(part, str) and set("{}") & set(part) for part in parts_of(answer)):
            raise broken("a brace belongs to {step.output} or {step.output%}")
        return answer

    @model_validator(mode="after")
    def _distinct(self) -> Case:
        for key, items in (("steps", self.steps), ("variants", self.variants)):
            ids = [item.id for item in items]
            for index, name in enumerate(ids):
                if name in ids[:index]:
                    raise broken(f"the id {name} is given twice", key, index, "id")
        return self

    @property
    def rates(self) -> Rates:
        """What the case says of currencies and months."""
        return Rates(self.exchange_rates, self.days_per_month)

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The outputs that the answer names."""
        return tuple(part.path for part in parts_of(self.answer) if isinstance(part, Placeholder))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """Validate a mapping of the file's shape; errors are ScenarioErrors."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise scenario_error(error, data, ()) from None

    @classmethod
    def load(cls, path: Path) -> Case:
        """Read a case file; `name` and `title` default to the file's stem."""
        return cls.from_dict(named_after(read(path), path))

    def with_values(self, values: Mapping[str, Any]) -> Case:
        """A copy with other inputs, as by `--set`.

        Keys are `step.input`, `exchange_rates.CNY` or `days_per_month`; a string is read as YAML.
        """
        data: dict[str, Any] = copy.deepcopy(self.model_dump(exclude_unset=True))
        steps = {step["id"]: step for step in data["steps"]}
        for key, value in values.items():
            new = yaml_text.parse(value, key, value) if isinstance(value, str) else value
            first, dot, last = key.partition(".")
            if key == "days_per_month":
                data[key] = new
            elif first == "exchange_rates" and dot:
                data.setdefault(first, {})[last] = new
            elif dot and first in steps:
                steps[first].setdefault("inputs", {})[last] = new
            else:
                rule = "no such step" if dot else "must be step.input, exchange_rates.CNY or days_per_month"
                raise ScenarioError(key, None, f"{rule}; steps: {', '.join(steps)}", nearest_names(first, steps))
        return Case.from_dict(data)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a file; a ScenarioError on anything else."""
    try:
        return yaml_text.read(path)
    except ScenarioError as error:
        key = "case file" if error.key == "scenario file" else error.key
        raise ScenarioError(key, error.value, error.rule, error.nearest) from None


def is_case(data: Mapping[str, Any]) -> bool:
    """Whether a file's mapping is meant as a case: it has steps, which no scenario has."""
    return "steps" in data


def named_after(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """With a name and a title from the file's own name where it has none."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "case"
    return {"name": stem, "title": path.stem} | {key: value for key, value in data.items() if value is not None}
