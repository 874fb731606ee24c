"""What a case may hand to a model, read off the function's own signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from planner.economics.models import Model
from planner.economics.models.fields import Given, Made, Why
from planner.economics.quantity import Quantity, Rates
from planner.provenance import Provenance

Kind = Literal["number", "quantity", "text", "choice"]


@dataclass(frozen=True)
class Input:
    """One input: a `number` in the unit of `given`, a `quantity` of any unit, a `text`, or one of `choices`.

    `many`: a list of them. `default` is None where it is required, and where being left out means something of its own.
    """

    name: str
    kind: Kind
    many: bool
    given: Given
    choices: tuple[str, ...]
    required: bool
    default: Any
    why: str


@dataclass(frozen=True)
class Output:
    """One output; `made` is None where its unit follows from the inputs'."""

    name: str
    made: Made | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model by name; `wants_rates`: it takes the case's exchange rates as `rates`."""

    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    wants_rates: bool
    summary: str


@cache
def signature(model: Model) -> Signature:
    """The signature of a model. A TypeError on a function whose annotations a case cannot use is a defect."""
    hints = get_type_hints(model, include_extras=True)
    parameters = inspect.signature(model).parameters
    inputs = {
        name: _input(name, hints[name], parameter.default)
        for name, parameter in parameters.items()
        if hints[name] is not Rates
    }
    fields = get_type_hints(hints["return"], include_extras=True)
    outputs = {name: _output(name, hint) for name, hint in fields.items() if hint != tuple[Provenance, ...]}
    summary = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    return Signature(inputs, outputs, len(inputs) < len(parameters), summary)


def _input(name: str, hint: Any, default: Any) -> Input:
    hint, notes = _bare(hint)
    many = get_origin(hint) is tuple
    if many:
        hint, inner = _bare(get_args(hint)[0])
        notes = (*inner, *notes)
    hint = _given_type(hint)
    choices: tuple[str, ...] = ()
    if hint == Quantity:
        kind: Kind = "quantity"
    elif hint is float:
        kind = "number"
    elif hint is str:
        kind = "text"
    elif get_origin(hint) is Literal:
        kind, choices = "choice", get_args(hint)
    else:
        raise TypeError(f"{name}: a case has no value of type {hint}")
    given = [note for note in notes if isinstance(note, Given)]
    why = [note.text for note in notes if isinstance(note, Why)]
    required = default is inspect.Parameter.empty
    return Input(
        name,
        kind,
        many,
        given[-1] if given else Given(),
        choices,
        required,
        None if required else default,
        why[-1] if why else "",
    )


def _output(name: str, hint: Any) -> Output:
    hint, notes = _bare(hint)
    if hint == Quantity:
        return Output(name, None)
    made = [note for note in notes if isinstance(note, Made)]
    if hint not in (float, bool, str) or len(made) != 1:
        raise TypeError(f"{name}: an output must be a float, bool or str that says how it is made")
    return Output(name, made[0])


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations, and the annotations."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return kind, tuple(notes)
    return hint, ()


def _given_type(hint: Any) -> Any:
    """`float` of `float | None`: what a case may say of an input that it may also leave out."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if NoneType in get_args(hint) and len(kinds) == 1 else hint
