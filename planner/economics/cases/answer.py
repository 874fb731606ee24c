"""A case worked out, as one document: the answer, every step, the printed figures beside ours, what is assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from planner.economics.cases.evaluate import Library, OutputValue, Run, StepValue
from planner.economics.cases.schema import GRADES, Case, Printed
from planner.economics.cases.sentence import Placeholder, parts_of
from planner.economics.cases.variation import VariantValue, variants, variation
from planner.economics.models import Model
from planner.economics.quantity import Quantity, magnitude, parse, quantity, unit_text
from planner.errors import InputError, nearest_names
from planner.provenance import Provenance, weakest_first
from planner.summary.case import answer_sentence, case_text

SCHEMA_VERSION = 1
REPRODUCED, DIFFERS = "reproduced", "does not reproduce"
BY_CHANCE = "within the tolerance, but not by the document's own reading"


@dataclass(frozen=True)
class CaseAnswer:
    """A case worked out; `document` has the JSON names."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return case_text(self.document)

    def value(self, path: str) -> Any:
        """The output at `step.output`, that of `variant:id`, or `elasticity:` and `break_even:` with `step.input`.

        The number in the output's own unit. Raises InputError where there is none.
        """
        return self._found(path)["value"]

    def unit(self, path: str) -> str:
        """The unit of `value(path)`."""
        return str(self._found(path)["unit"])

    def _found(self, path: str) -> dict[str, Any]:
        kind, colon, name = path.partition(":")
        if colon:
            for row in (self.document["sensitivity"] or {"rows": []})["rows"]:
                if row["input"] == name and kind in ("elasticity", "break_even"):
                    return {"value": row[kind], "unit": row["unit"] if kind == "break_even" else ""}
            for row in self.document["variants"]:
                if kind == "variant" and row["id"] == name:
                    return dict(row)
        for step in self.document["steps"]:
            for output in step["outputs"]:
                if path == f"{step['id']}.{output['name']}":
                    return dict(output)
        raise InputError("output", path, "the case has none of this name")


def work_out(
    case: Case, models: Mapping[str, Model], library: Library, changed: Mapping[str, Any] | None = None
) -> CaseAnswer:
    """Work out every step of a case.

    `models` are those that its steps may name, `library` gives other cases by name for `$case:step.output`, `changed`
    says which inputs are not the file's own. Raises InputErrors.
    """
    run = Run(case, models, library)
    steps = run.everything()
    told = {path: run.output(path, "answer") for path in case.placeholders}
    _check_shares(case, told)
    _check_assumed(case, steps)
    others = {f"variant:{value.variant.id}": value for value in variants(run)}
    varied = variation(run)
    document = {
        "schema_version": SCHEMA_VERSION,
        "case": case.name,
        "title": case.title,
        "source": {
            "document": case.source.document,
            "grade": case.source.grade,
            "means": GRADES[case.source.grade],
            "note": case.source.note,
        },
        "exchange_rates": dict(case.exchange_rates),
        "days_per_month": case.days_per_month,
        "changed": dict(changed or {}),
        "answer": answer_sentence(_with_outputs(part, told) for part in parts_of(case.answer)),
        "headline": [{"output": path, "value": item.value, "unit": item.unit} for path, item in told.items()],
        "steps": [_step(step) for step in steps],
        "variants": [_variant(value) for value in others.values()],
        "sensitivity": None if varied is None else asdict(varied),
        "printed": [_held_against(run, others, printed, index) for index, printed in enumerate(case.printed)],
        "notes": list(case.notes),
        "provenance": [row.as_dict() for row in weakest_first(list(_provenance(case, steps)))],
    }
    return CaseAnswer(document)


def _with_outputs(part: str | Placeholder, told: Mapping[str, OutputValue]) -> str | tuple[Any, str, bool]:
    """A part of the answer as the summary puts it in words: text, or value, unit and whether it is told as per cent."""
    if isinstance(part, str):
        return part
    output = told[part.path]
    return output.value, output.unit, part.per_cent


def _check_shares(case: Case, told: Mapping[str, OutputValue]) -> None:
    """Per cent is of a plain number, or of one a year: of money or a count it would be 100 times what it is."""
    for part in parts_of(case.answer):
        if not isinstance(part, Placeholder) or not part.per_cent:
            continue
        found = told[part.path].quantity
        unit = None if found is None else unit_text(found)
        if unit is None or not (unit == "" or unit.startswith("/")):
            kind = "no number" if unit is None else f"in {unit}"
            rule = f"per cent is of a plain number, and {part.path} is {kind}"
            raise InputError("answer", f"{{{part.path}%}}", rule, f"{{{part.path}}}")


def _step(value: StepValue) -> dict[str, Any]:
    return {
        "id": value.step.id,
        "model": value.step.model,
        "because": value.step.because,
        "does": value.summary,
        "inputs": [asdict(item) for item in value.inputs.values()],
        "outputs": [asdict(item) for item in value.outputs.values()],
    }


def _variant(value: VariantValue) -> dict[str, Any]:
    return {
        "id": value.variant.id,
        "because": value.variant.because,
        "changes": dict(value.variant.changes),
        "output": value.variant.of,
        "value": value.output.value,
        "unit": value.output.unit,
    }


def _held_against(run: Run, others: Mapping[str, VariantValue], printed: Printed, index: int) -> dict[str, Any]:
    """A printed figure beside ours, both in the printed unit. Only what agrees *and* should agree is "reproduced"."""
    key, rates = f"printed[{index}]", run.case.rates
    if printed.output in others:
        output = others[printed.output].output
    elif printed.output.startswith("variant:"):
        nearest = nearest_names(printed.output, others)
        raise InputError(f"{key}.output", printed.output, "the case has no such variant", nearest)
    else:
        output = run.output(printed.output, f"{key}.output")
    theirs, tolerance = parse(printed.value, f"{key}.value"), parse(printed.tolerance, f"{key}.tolerance")
    unit = _unit_of(printed.value)
    if not unit_text(tolerance):
        tolerance = quantity(float(tolerance.magnitude), unit)
    value = magnitude(theirs, unit, rates, f"{key}.value")
    away = magnitude(tolerance, unit, rates, f"{key}.tolerance")
    if away < 0:
        raise InputError(f"{key}.tolerance", printed.tolerance, "must be >= 0: it is how far ours may be away")
    ours = magnitude(_number(output, key), unit, rates, f"{key}.value")
    within = abs(ours - value) <= away
    return {
        "output": printed.output,
        "value": value,
        "unit": unit,
        "tolerance": away,
        "ours": ours,
        "ratio": value / ours if ours else None,
        "agrees": printed.agrees,
        "within": within,
        "verdict": DIFFERS if not within else REPRODUCED if printed.agrees else BY_CHANCE,
        "says": printed.says,
    }


def _unit_of(value: Any) -> str:
    """The unit as the printed figure is written, so that it is shown as printed."""
    text = str(value).strip()
    number = text.split(maxsplit=1)
    return number[1] if len(number) > 1 else ""


def _number(output: OutputValue, key: str) -> Quantity:
    if isinstance(output.value, bool):
        return quantity(float(output.value))
    found = output.quantity
    if found is None:
        raise InputError(f"{key}.output", output.name, "is no number")
    return found


# --- what is assumed ---


def _check_assumed(case: Case, steps: list[StepValue]) -> None:
    known = [f"{value.step.id}.{name}" for value in steps for name in value.inputs]
    for path in case.assumed:
        if path not in known:
            raise InputError("assumed", path, "must be step.input", nearest_names(path, known))


def _provenance(case: Case, steps: list[StepValue]) -> Iterator[Provenance]:
    """Inputs that the case calls assumed, inputs left to a model's default, and what models assume themselves."""
    for value in steps:
        for name, item in value.inputs.items():
            what = f"{value.step.id}.{name}"
            if what in case.assumed:
                yield Provenance(what, "assumed", case.assumed[what], _shown(item.given))
            elif item.origin == "default":
                yield Provenance(what, "assumed", f"not given: {item.why}", _shown(item.value, item.unit))
        yield from value.provenance


def _shown(given: Any, unit: str = "") -> str:
    if given is None:
        return ""
    items = given if isinstance(given, list) else [given]
    return f"{', '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in items)} {unit}".strip()
