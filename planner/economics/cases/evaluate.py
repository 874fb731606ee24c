"""Work out a case: every step when another needs it, each input in the unit that its model wants."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from planner.economics.cases.schema import ID, NAME, Case, Step
from planner.economics.cases.signature import Input, Signature, signature
from planner.economics.models import Model
from planner.economics.quantity import Quantity, magnitude, parse, quantity, shown, unit_text
from planner.errors import InputError, nearest_names
from planner.provenance import Provenance

REFERENCE = re.compile(rf"\$(?:({NAME}):)?({ID})\.({ID})")
MOST_ITEMS = 50  # of a list input

Library = Callable[[str], Case]
Origin = Literal["given", "reference", "default", "varied"]


@dataclass(frozen=True)
class InputValue:
    """One input as the model got it: numbers with their unit, or a text; a list where the model takes several.

    `given` is what the file says: its text, or the reference. `own_unit`: the model takes any unit, this is its own.
    """

    name: str
    value: Any
    unit: str
    origin: Origin
    given: Any
    why: str
    own_unit: bool = False


@dataclass(frozen=True)
class OutputValue:
    """One output: a number with its unit, true or false, or a text; and the formula that it came from."""

    name: str
    value: float | bool | str
    unit: str
    formula: str

    @property
    def quantity(self) -> Quantity | None:
        """As a quantity; None for what is no number."""
        return None if isinstance(self.value, bool | str) else quantity(self.value, self.unit)


@dataclass(frozen=True)
class StepValue:
    """A step that has been worked out; `provenance` is what its model itself assumes."""

    step: Step
    inputs: Mapping[str, InputValue]
    outputs: Mapping[str, OutputValue]
    summary: str
    provenance: tuple[Provenance, ...]


@dataclass
class Run:
    """One working-out of a case. `varied` puts numbers in place of inputs, keyed by (step, input)."""

    case: Case
    models: Mapping[str, Model]
    library: Library
    varied: Mapping[tuple[str, str], float] = field(default_factory=dict)
    within: tuple[str, ...] = ()  # the cases that are waiting for this one
    others: dict[str, Run] = field(default_factory=dict)  # cases that were referred to
    _done: dict[str, StepValue] = field(default_factory=dict)

    def everything(self) -> list[StepValue]:
        """All steps, in the file's order."""
        return [self.step(step.id) for step in self.case.steps]

    def step(self, name: str, key: str | None = None) -> StepValue:
        """One step, with all that it needs."""
        steps = {step.id: step for step in self.case.steps}
        if name not in steps:
            raise InputError(key or name, name, *_unknown("step", name, steps))
        waiting = [name]  # each needs the one after it; a loop, so that long chains need no deep recursion
        while waiting:
            current = waiting[-1]
            missing = next((need for need in _needs(steps[current], steps) if need not in self._done), None)
            if current in self._done:
                waiting.pop()
            elif missing is None:
                self._done[current] = self._worked_out(steps[current])
            elif missing in waiting:
                circle = " → ".join([*waiting[waiting.index(missing) :], missing])
                raise InputError(f"steps.{missing}", None, f"the steps refer to each other in a circle: {circle}")
            else:
                waiting.append(missing)
        return self._done[name]

    def needed(self, path: str, key: str) -> list[Step]:
        """The steps that the output at `step.output` needs, its own first; those of other cases count as worked out."""
        steps = {step.id: step for step in self.case.steps}
        name, _, _ = path.partition(".")
        if name not in steps:
            raise InputError(key, path, *_unknown("step", name, steps))
        found = {name: steps[name]}
        waiting = [name]
        while waiting:
            for need in _needs(steps[waiting.pop()], steps):
                if need not in found:
                    found[need] = steps[need]
                    waiting.append(need)
        return list(found.values())

    def output(self, path: str, key: str) -> OutputValue:
        """The output at `step.output`; `key` names who asks for it."""
        step, dot, name = path.partition(".")
        if not dot:
            raise InputError(key, path, "must be step.output", nearest_names(step, (s.id for s in self.case.steps)))
        outputs = self.step(step, key).outputs
        if name not in outputs:
            raise InputError(key, path, *_unknown(f"output of {step}", name, outputs))
        return outputs[name]

    def number(self, path: str, key: str) -> Quantity:
        """An output that must be a number."""
        found = self.output(path, key).quantity
        if found is None:
            raise InputError(key, path, "is no number")
        return found

    def literal(self, value: Any, key: str) -> Quantity:
        """A number, a text with a unit, or a reference, as a quantity."""
        if isinstance(value, str) and value.startswith("$"):
            return self._referred(value, key)
        return parse(value, key)

    # --- one step ---

    def _worked_out(self, step: Step) -> StepValue:
        model = self.models.get(step.model)
        if model is None:
            raise InputError(f"{step.id}.model", step.model, *_unknown("model", step.model, self.models))
        signed = signature(model)
        for name in step.inputs:
            if name not in signed.inputs:
                raise InputError(f"{step.id}.{name}", None, *_unknown(f"input of {step.model}", name, signed.inputs))
        inputs = {name: self._input(step, needed) for name, needed in signed.inputs.items()}
        answer = self._called(step, model, signed, {name: arguments for name, (_, arguments) in inputs.items()})
        return StepValue(
            step,
            {name: told for name, (told, _) in inputs.items()},
            {name: _output(step, name, signed, getattr(answer, name)) for name in signed.outputs},
            signed.summary,
            getattr(answer, "provenance", ()),
        )

    def _called(self, step: Step, model: Model, signed: Signature, arguments: dict[str, Any]) -> Any:
        if signed.wants_rates:
            arguments = arguments | {"rates": self.case.rates}
        try:
            return model(**arguments)
        except InputError as error:
            key = f"{step.id}.{error.key}" if error.key in signed.inputs else f"steps.{step.id}.{error.key}"
            raise type(error)(key, error.value, error.rule, error.nearest) from None
        except (OverflowError, ZeroDivisionError):
            raise InputError(f"steps.{step.id}", None, "these inputs leave no finite number") from None

    def _input(self, step: Step, needed: Input) -> tuple[InputValue, Any]:
        """An input as it is told, and as the model takes it."""
        key = f"{step.id}.{needed.name}"
        varied = self.varied.get((step.id, needed.name))
        if varied is not None:
            _in_range(varied, needed, key)
            return InputValue(needed.name, varied, needed.given.unit, "varied", None, ""), varied
        if needed.name not in step.inputs:
            if needed.required:
                what = f"in {needed.given.unit}" if needed.given.unit else f"a {needed.kind}"
                raise InputError(key, None, f"is required by {step.model} ({what})")
            return InputValue(
                needed.name, needed.default, needed.given.unit, "default", None, needed.why
            ), needed.default
        given = step.inputs[needed.name]
        why = self.case.assumed.get(key, "")
        if not needed.many:
            if isinstance(given, list):
                raise InputError(key, given, "takes one value, not a list")
            value, unit, argument = self._one(given, needed, key)
            told = InputValue(needed.name, value, unit, _origin(given), given, why, needed.kind == "quantity")
            return told, argument
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_ITEMS:
            raise InputError(key, given, f"must be a list of 1 to {MOST_ITEMS} values")
        items = [self._one(item, needed, f"{key}[{index}]") for index, item in enumerate(given)]
        origin: Origin = "reference" if any(_origin(item) == "reference" for item in given) else "given"
        shown_items = [{"value": value, "unit": unit} for value, unit, _ in items]
        told = InputValue(needed.name, shown_items, "", origin, given, why)
        return told, tuple(argument for _, _, argument in items)

    def _one(self, given: Any, needed: Input, key: str) -> tuple[Any, str, Any]:
        """Value and unit to show, and the argument."""
        if needed.kind in ("text", "choice"):
            if not isinstance(given, str) or given.startswith("$"):
                raise InputError(key, given, "must be text")
            if needed.choices and given not in needed.choices:
                choices = ", ".join(needed.choices)
                raise InputError(key, given, f"must be one of {choices}", nearest_names(given, needed.choices, 1))
            return given, "", given
        held = self.literal(given, key)
        if needed.kind == "quantity":
            return float(held.magnitude), unit_text(held), held
        number = magnitude(held, needed.given.unit, self.case.rates, key)
        _in_range(number, needed, key)
        return number, needed.given.unit, number

    def _referred(self, text: str, key: str) -> Quantity:
        found = REFERENCE.fullmatch(text.strip())
        if not found:
            raise InputError(key, text, "must be $step.output, or $case:step.output")
        if found[1] is None:
            return self.number(f"{found[2]}.{found[3]}", key)
        return self._other(found[1], key).number(f"{found[2]}.{found[3]}", key)

    def _other(self, name: str, key: str) -> Run:
        """The working-out of another shipped case, shared by all that refer to it."""
        waiting = (*self.within, self.case.name)
        if name in waiting:
            raise InputError(key, f"${name}", f"the cases refer to each other in a circle: {' → '.join(waiting)}")
        if name not in self.others:
            self.others[name] = Run(self.library(name), self.models, self.library, {}, waiting, self.others)
        return self.others[name]


def _needs(step: Step, steps: Mapping[str, Step]) -> Iterator[str]:
    """The steps of its own case that a step refers to; those that do not exist are refused where they are read."""
    for given in step.inputs.values():
        for item in given if isinstance(given, list) else [given]:
            found = REFERENCE.fullmatch(item.strip()) if isinstance(item, str) else None
            if found and found[1] is None and found[2] in steps:
                yield found[2]


def _origin(given: Any) -> Origin:
    return "reference" if isinstance(given, str) and given.startswith("$") else "given"


def _output(step: Step, name: str, signed: Signature, value: Any) -> OutputValue:
    made = signed.outputs[name].made
    if made is None:
        number, unit, formula = float(value.magnitude), unit_text(value), ""
    elif isinstance(value, bool | str):
        return OutputValue(name, value, "", made.formula)
    else:
        number, unit, formula = float(value), made.unit, made.formula
    if not math.isfinite(number):
        raise InputError(f"steps.{step.id}", None, f"these inputs leave no finite {name}")
    return OutputValue(name, number, unit, formula)


def _in_range(number: float, needed: Input, key: str) -> None:
    given = needed.given
    if number < given.least or (given.above and number == given.least) or number > given.most:
        value = shown(quantity(number, given.unit))
        if given.most == math.inf:
            raise InputError(key, value, f"must be {'>' if given.above else '>='} {given.least:g}")
        if given.least == -math.inf:
            raise InputError(key, value, f"must be <= {given.most:g}")
        at_least = "above" if given.above else "at least"
        raise InputError(key, value, f"must be {at_least} {given.least:g} and at most {given.most:g}")


def _unknown(what: str, name: str, known: Any) -> tuple[str, str | None]:
    """Rule and nearest names for a name that is not there."""
    nearest = nearest_names(name, known)
    return f'no {what} is called "{name}"' + ("" if nearest else f"; known: {', '.join(known)}"), nearest
