"""A case worked out again with other inputs: its variants, and its sensitivity to each input alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from planner.economics.cases.evaluate import OutputValue, Run
from planner.economics.cases.schema import Variant
from planner.economics.cases.signature import Input, signature
from planner.economics.models import MODELS
from planner.economics.models.sensitivity import Solution, elasticity, solve
from planner.economics.quantity import magnitude, unit_text
from planner.errors import InputError


@dataclass(frozen=True)
class Varied:
    """One input: where it stands, what the answer does when it moves, where the answer meets the target."""

    input: str
    value: float
    unit: str
    elasticity: float | None
    break_even: float | None
    jumps_over: bool = False  # the target lies in a step of the answer


@dataclass(frozen=True)
class Variation:
    """All of a case's, for one output in `unit`; `target` is None where none is asked for."""

    of: str
    value: float
    unit: str
    target: float | None
    rows: tuple[Varied, ...]


@dataclass(frozen=True)
class VariantValue:
    """One output of the case with the variant's inputs."""

    variant: Variant
    output: OutputValue


def variants(run: Run) -> list[VariantValue]:
    """The case's variants, each worked out for its own output."""
    values = []
    for variant in run.case.variants:
        try:
            changed = run.case.with_values(variant.changes)
            other = Run(changed, run.models, run.library, {}, run.within, run.others)
            values.append(VariantValue(variant, other.output(variant.of, "of")))
        except InputError as error:
            key = f"variants.{variant.id}.{error.key}"
            raise type(error)(key, error.value, error.rule, error.nearest) from None
    return values


def variation(run: Run) -> Variation | None:
    """Elasticities and break-even values that the case asks for; None if it asks for none."""
    asked = run.case.sensitivity
    if asked is None:
        return None
    simulating = next((step for step in run.needed(asked.of, "sensitivity.of") if step.model not in MODELS), None)
    if simulating is not None:
        rule = (
            f"needs {simulating.id}, which simulates ({simulating.model}): that takes a hundred runs an input; vary it"
        )
        raise InputError("sensitivity.of", asked.of, f"{rule} by variants")
    of = run.number(asked.of, "sensitivity.of")
    unit = unit_text(of)
    target = None
    if asked.equals is not None:
        target = magnitude(run.literal(asked.equals, "sensitivity.equals"), unit, run.case.rates, "sensitivity.equals")
    rows = []
    for index, path in enumerate(asked.inputs):
        key = f"sensitivity.inputs[{index}]"
        step, needed = _varied(run, path, key)
        found = run.step(step, key).inputs[needed.name].value
        if found is None:
            raise InputError(key, path, f"cannot be varied: it is not given ({needed.why})")
        at = float(found)
        answer = partial(_answer, run, asked.of, unit, (step, needed.name))
        even = Solution(None)
        if target is not None:
            even = solve(answer, target, at, needed.given.least, needed.given.most)
        rows.append(Varied(path, at, needed.given.unit, elasticity(answer, at), even.at, even.jumps_over))
    return Variation(asked.of, float(of.magnitude), unit, target, tuple(rows))


def _answer(run: Run, of: str, unit: str, place: tuple[str, str], x: float) -> float | None:
    """The output with another number at one place; None outside that input's range."""
    other = replace(run, varied={place: x}, _done={})
    try:
        return magnitude(other.number(of, "sensitivity.of"), unit, run.case.rates, "sensitivity.of")
    except InputError:
        return None


def _varied(run: Run, path: str, key: str) -> tuple[str, Input]:
    """The step and the input that a path names; only single numbers can be varied."""
    step, dot, name = path.partition(".")
    if not dot:
        raise InputError(key, path, "must be step.input")
    worked_out = run.step(step, key)
    inputs = signature(run.models[worked_out.step.model]).inputs
    if name not in inputs:
        raise InputError(key, path, f'{step} has no input "{name}"; it has {", ".join(inputs)}')
    if inputs[name].kind != "number" or inputs[name].many:
        raise InputError(key, path, "cannot be varied: it is not a single number")
    return step, inputs[name]
