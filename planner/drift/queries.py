"""A plan's queries as users ask them now: other mean token counts, other shared prefixes, the same scenario otherwise.

Every change is a value of the scenario, so that what drift finds can be written into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.scenario import Distribution, Histogram, Joint, Lognormal, Normal, Scenario, Stage, Uniform
from planner.workload.tables import read_samples

FITS, CLOSE = 12, 0.002  # rounds of a fit, and how near its means come
FAR, FAR_TOKENS = 0.02, 0.75  # how far off they may end: whole tokens cannot come nearer to a short mean
Means = tuple[float, float]  # prompt and output tokens of a model call


class Shape(NamedTuple):
    """How queries differ from the plan's.

    `prompt` and `output`: mean tokens of a model call over the plan's. `prefix`: tokens of each stage's shared prefix,
    None = as planned.
    """

    prompt: float = 1.0
    output: float = 1.0
    prefix: tuple[int, ...] | None = None


def without_files(scenario: Scenario) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario with every token count of a file as a lognormal of its mean and cv, which can be scaled; notes."""
    values: dict[str, Any] = {}
    notes = []
    for index, stage in enumerate(scenario.query.stages):
        key = f"query.stages[{index}]"
        for name, (file, columns) in _files(stage).items():
            samples = read_samples(scenario.resolve(file), f"{key}.{name}", columns)
            for column, of in zip(samples, _named(name, columns), strict=True):
                held = np.maximum(column.astype(np.float64), 1.0)
                mean = float(held.mean())
                values[f"{key}.{of}"] = {"lognormal": {"mean": mean, "cv": float(held.std()) / mean}}
            notes.append(f"{key}.{name}: the capacity model takes a lognormal with the file's mean and cv in its place")
    return (scenario.with_values(values) if values else scenario), tuple(notes)


def _files(stage: Stage) -> dict[str, tuple[str, list[str]]]:
    """The token counts of a stage that come from files: file and columns by key."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name in ("prompt_tokens", "output_tokens"):
        given = getattr(stage, name)
        if isinstance(given, Histogram):
            found[name] = given.histogram.file, [given.histogram.column]
        elif isinstance(given, Joint) and name == "prompt_tokens":
            found[name] = given.joint.file, list(given.joint.columns)
    return found


def _named(name: str, columns: list[str]) -> list[str]:
    return [name] if len(columns) == 1 else ["prompt_tokens", "output_tokens"]


def scaled(distribution: Distribution | None, ratio: float) -> Any:
    """A distribution's YAML value with its mean times `ratio`, its shape kept."""

    def tokens(count: int) -> int:
        return max(round(count * ratio), 1)

    match distribution:
        case Uniform(uniform=(low, high)):
            return {"uniform": [tokens(low), tokens(high)]}
        case Lognormal(lognormal=moments):
            return {"lognormal": {"mean": max(moments.mean * ratio, 1.0), "cv": moments.cv}}
        case Normal(normal=moments):
            mean, least = max(moments.mean * ratio, 1.0), math.floor(moments.min * ratio)
            value = {"mean": mean, "sd": moments.sd * ratio, "min": max(least, 1)}
            return {"normal": value if moments.max is None else value | {"max": math.ceil(max(moments.max * ratio, 1))}}
        case int():
            return tokens(distribution)
    raise TypeError(f"cannot be scaled: {distribution!r}")


def shaped(base: Scenario, shape: Shape, planned: Means, means_of: Callable[[Scenario], Means]) -> Scenario:
    """`base` (without files) with queries of `shape`.

    Tokens are cut to fit the context and prompts raised above their prefix, so the scale of a distribution is not the
    scale of its mean: `means_of` tells what comes of a scenario, and the scales are moved until the means are right.
    Raises ScenarioError where no scale has them; with a prefix of its own a shape may end with longer prompts.
    """
    target = (planned[0] * shape.prompt, planned[1] * shape.output)
    scales = [shape.prompt, shape.output]
    found = _scaled(base, scales, shape.prefix)
    if shape == Shape():
        return base
    for _ in range(FITS):
        means = means_of(found)
        off = [wanted / mean for wanted, mean in zip(target, means, strict=True)]
        if max(abs(math.log(ratio)) for ratio in off) < CLOSE:
            break
        scales = [scale * ratio for scale, ratio in zip(scales, off, strict=True)]
        found = _scaled(base, scales, shape.prefix)
    for key, wanted, mean in zip(("prompt_tokens", "output_tokens"), target, means_of(found), strict=True):
        if shape.prefix is None and abs(wanted - mean) > max(FAR * wanted, FAR_TOKENS):
            rule = f"no scale has a mean of {wanted:.0f} tokens within max_model_len: it ends at {mean:.0f}"
            raise ScenarioError(f"query.stages[].{key}", None, rule)
    return found


def _scaled(base: Scenario, scales: list[float], prefix: tuple[int, ...] | None) -> Scenario:
    values: dict[str, Any] = {}
    for index, stage in enumerate(base.query.stages):
        key = f"query.stages[{index}]"
        prompt = scaled(stage.prompt_tokens, scales[0])
        values[f"{key}.prompt_tokens"] = prompt
        values[f"{key}.output_tokens"] = scaled(stage.output_tokens, scales[1])
        given, behind = stage.shared_prefix, stage.document.tokens if stage.document else 0
        tokens = (given.tokens if given else 0) if prefix is None else prefix[index]
        if isinstance(prompt, int):
            tokens = min(tokens, prompt - 1 - behind)
        if tokens < 1:
            values[f"{key}.shared_prefix"] = None
        elif given is None or tokens != given.tokens:
            values[f"{key}.shared_prefix.tokens"] = tokens
    return base.with_values(values)


def prefix_at(base: Scenario, prompts: tuple[float, ...], place: float) -> tuple[int, ...]:
    """Shared tokens of each stage on the way from none (`place` 0) to all of the mean prompt but its document (1).

    Stages keep the plan's proportions; where it has no shared prefix at all, every stage has one, in proportion to
    its mean prompt (`prompts`, by stage).
    """
    planned = [float(stage.shared_prefix.tokens) if stage.shared_prefix else 0.0 for stage in base.query.stages]
    weights = planned if any(planned) else list(prompts)
    behind = [stage.document.tokens if stage.document else 0 for stage in base.query.stages]
    rooms = zip(prompts, behind, weights, strict=True)
    most = max(min((prompt - document) / weight for prompt, document, weight in rooms if weight), 0.0)
    return tuple(round(place * most * weight) for weight in weights)
