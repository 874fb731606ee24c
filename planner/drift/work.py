"""The work of a user's query beside the plan's, cause by cause, asked of the capacity model.

w = (most queries/s that the plan's serving replicas carry within the SLO under the plan's conditions) ÷ (under changed
ones). Conditions are changed one after another (token lengths, prefix hits, step time), each on top of the ones
before, so that the product of the factors is the whole change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from planner.drift.actual import Actual
from planner.drift.model import Simulated, on_grid
from planner.drift.prefix import Imposed, imposed
from planner.drift.queries import Shape
from planner.drift.step_time import step_time_of
from planner.errors import PlannerError
from planner.observed import Observed


@dataclass(frozen=True)
class Factor:
    """What one cause multiplies the work by; 1 and `told` false where nobody tells.

    `planned` and `actual` are the quantity itself, as the cause's line of the scenario has it.
    """

    factor: float = 1.0
    told: bool = False
    planned: float | None = None
    actual: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Work:
    """The factors, and the conditions that they come from: `shape` and `step_time` of the fleet as it is."""

    token_lengths: Factor
    prefix_hit_rate: Factor
    step_speed: Factor
    shape: Shape
    exact: Shape  # not rounded to the grid
    step_time: float
    imposed: Imposed | None
    assumed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


NO_QUERIES = "no query ran in this window"


def work_of(simulated: Simulated | None, why: str, observed: Observed, actual: Actual) -> Work:
    """The work of a query as the fleet does it now; `why` there is no capacity model where `simulated` is None."""
    if simulated is None:
        told = Factor(note=why)
        assumed = tuple((name, f"the plan: {why}") for name in ("token_lengths", "prefix_hit_rate", "step_speed"))
        plain = replace(told, planned=None, actual=None)
        return Work(told, plain, plain, Shape(), Shape(), 1.0, None, assumed, ())
    assumed_lengths, lengths, shape, exact = _lengths(simulated, observed)
    assumed_prefix, prefix, found, shape, exact = _prefix(simulated, observed, actual, shape, exact)
    assumed_speed, speed, step_time = _speed(simulated, observed, actual, shape, exact)
    return Work(
        lengths,
        prefix,
        speed,
        shape,
        exact,
        step_time,
        found,
        (*assumed_lengths, *assumed_prefix, *assumed_speed),
        simulated.notes,
    )


Assumed = list[tuple[str, str]]


def _lengths(simulated: Simulated, observed: Observed) -> tuple[Assumed, Factor, Shape, Shape]:
    prompt, output = simulated.means
    now = [
        means if told is None or told <= 0 else told
        for told, means in ((observed.prompt_tokens, prompt), (observed.output_tokens, output))
    ]
    assumed: Assumed = [
        (name, "the plan's mean of a model call" + ("" if told is None else ": the fleet tells 0, which no call has"))
        for name, told in (("prompt_tokens", observed.prompt_tokens), ("output_tokens", observed.output_tokens))
        if not told
    ]
    planned, actual = prompt + output, sum(now)
    if len(assumed) == 2:
        return assumed, Factor(planned=planned, note="nobody tells token counts"), Shape(), Shape()
    exact = Shape(now[0] / prompt, now[1] / output)
    shape = Shape(on_grid(exact.prompt), on_grid(exact.output))
    said = [
        f"prompt {now[0]:,.0f} against {prompt:,.0f} tokens"
        if observed.prompt_tokens
        else "prompt as planned, not told",
        f"output {now[1]:,.1f} against {output:,.1f}" if observed.output_tokens else "output as planned, not told",
    ]
    note = ", ".join(said)
    known = Factor(1.0, not assumed, planned, actual, note)
    serving = simulated.planned.serving
    try:
        base, changed = simulated.capacity_qps(Shape(), 1.0, serving), simulated.capacity_of_lengths_qps(exact, serving)
        for one in (shape, exact):  # what is simulated later must fit the context too
            simulated.scenario(one)
    except PlannerError as error:
        why = f"{note}: the capacity model cannot run such queries ({error})"
        return [*assumed, ("token_lengths", "the plan")], replace(known, told=False, note=why), Shape(), Shape()
    if changed is None or base is None:
        why = f"{note}: no load at all would hold the service levels with such queries; the factor is that of tokens"
        return assumed, replace(known, factor=actual / planned, note=why), shape, exact
    return assumed, replace(known, factor=base / changed), shape, exact


def _away(simulated: Simulated, actual: Actual) -> str:
    """Why the fleet's own load is not simulated; empty where it is."""
    if not actual.model_qps or not actual.replicas:
        return NO_QUERIES
    return simulated.beyond(actual.model_qps / simulated.planned.uncached_share, actual.replicas)


def _prefix(
    simulated: Simulated, observed: Observed, actual: Actual, shape: Shape, exact: Shape
) -> tuple[Assumed, Factor, Imposed | None, Shape, Shape]:
    planned, told = simulated.planned.figure("prefix_cache_hit_rate"), observed.prefix_hit_rate
    known = Factor(planned=planned, actual=told)
    unknown: Assumed = [("prefix_cache_hit_rate", "the plan")]
    if not simulated.deployment.candidate.options.enable_prefix_caching:
        if not told:
            return [], replace(known, told=True, note="prefix caching is off, as planned"), None, shape, exact
        note = "the fleet has prefix caching on, the plan has it off: set engine.enable_prefix_caching and plan again"
        return unknown, replace(known, note=note), None, shape, exact
    if told is None:
        return unknown, replace(known, note="nobody tells prefix cache hits"), None, shape, exact
    if simulated.base.session is not None:
        note = "hits of sessions come of their history and of where turns are sent: they are not attributed"
        return unknown, replace(known, note=note), None, shape, exact
    if away := _away(simulated, actual):
        return unknown, replace(known, note=away), None, shape, exact
    assert actual.model_qps is not None
    assert actual.replicas is not None
    found = imposed(simulated, shape, told, on_grid(actual.model_qps), max(round(actual.replicas), 1))
    note = found.note
    if found.unchanged:
        return [], replace(known, told=True, note=note), found, shape, exact
    before = simulated.capacity_qps(shape, 1.0, simulated.planned.serving)
    ends = [simulated.capacity_qps(end, 1.0, simulated.planned.serving) for end in (found.low, found.high)]
    if before is None or ends[0] is None or ends[1] is None:
        note = "no load at all would hold the service levels with such hits"
        return unknown, replace(known, note=note), None, shape, exact
    work = (1.0 - found.place) / ends[0] + found.place / ends[1]
    nearest = found.nearest.prefix
    return (
        [],
        replace(known, told=True, factor=before * work, note=note),
        found,
        shape._replace(prefix=nearest),
        exact._replace(prefix=nearest),
    )


def _speed(
    simulated: Simulated, observed: Observed, actual: Actual, shape: Shape, exact: Shape
) -> tuple[Assumed, Factor, float]:
    """Step time from the mean ITL: of the fleet that runs, under the load and with the queries that it has."""
    unknown: Assumed = [("step_speed", "the plan")]
    itl_ms = observed.latencies_ms.get("itl_ms.mean")
    if itl_ms is None:
        return unknown, Factor(note="nobody tells the mean ITL"), 1.0
    if away := _away(simulated, actual):
        return unknown, Factor(actual=itl_ms, note=away), 1.0
    assert actual.model_qps is not None
    assert actual.replicas is not None
    found = step_time_of(simulated, exact, actual.model_qps, max(round(actual.replicas), 1), itl_ms)
    known = Factor(planned=found.planned_itl_ms, actual=itl_ms)
    if found.factor is None:
        return unknown, replace(known, note=found.note), 1.0
    serving = simulated.planned.serving
    before = simulated.capacity_qps(shape, 1.0, serving)
    after = simulated.capacity_qps(shape, found.factor, serving)
    note = f"an engine step takes {found.factor:.3g} times as long as the plan's" if found.factor != 1.0 else ""
    if before is None or after is None:
        why = f"{note}: no load at all would hold the service levels; the factor is that of the step"
        return [], replace(known, told=True, factor=found.factor, note=why.lstrip(": ")), found.factor
    if math.isclose(found.factor, 1.0):
        return [], replace(known, told=True), 1.0
    return [], replace(known, told=True, factor=before / after, note=note), found.factor
