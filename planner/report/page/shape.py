"""What the page reads of a plan's document, name by name. Other names are let through unread."""

from __future__ import annotations

from typing import TypedDict

from planner.report.page.money_shape import Autoscaler, Cost, Hour, Line, LoadShape, ResponseCache, Revenue
from planner.report.page.service_shape import Confidence, Fleet, Histogram, Model, Run, Scenario, SpareProof
from planner.report.page.study_shape import Alternative, Step, Uncertainty


class _Origin(TypedDict, total=False):
    what: str
    kind: str
    source: str
    value: str
    date: str
    errs: str


class _Needed(TypedDict):
    scenario: Scenario
    feasible: bool
    alternatives: list[Alternative]


class PlanShape(_Needed, total=False):
    """A plan's document; what a plan may leave out is optional, what it may not know is null."""

    seed: int | None
    warnings: list[str] | None
    response_cache: ResponseCache | None
    model: Model | None
    fleet: Fleet | None
    at_peak: Run | None
    one_fewer: Run | None
    one_fewer_gap: str | None
    spare_proof: SpareProof | None
    day: list[Hour]
    capacity_curve: list[dict[str, float | bool | None]]
    distributions: dict[str, Histogram]
    cost: Cost | None
    cost_lines: list[Line]
    revenue: Revenue | None
    margin: dict[str, float | None] | None
    break_even: dict[str, float | None]
    break_even_after_training: dict[str, float | None] | None
    economics_notes: list[str]
    confidence: Confidence | None
    provenance: list[_Origin]
    waterfall: list[Step] | None
    uncertainty: Uncertainty | None
    load_shape: LoadShape | None
    autoscaler: Autoscaler | None
