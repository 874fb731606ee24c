"""Studies in a plan's document: candidates, the waterfall, what uncertain inputs make of the answer."""

from __future__ import annotations

from typing import Any, TypedDict


class Alternative(TypedDict, total=False):
    """A candidate of the search."""

    model: str | None
    hardware: str | None
    routing: str | None
    engine: dict[str, str | float | bool | None]
    feasible: bool
    chosen: bool
    verified: bool
    replicas: int | None
    gpus: int | None
    usd_per_hour: float | None
    usd_per_query: float | None
    utilisation: float | None
    reason: str | None


class _Size(TypedDict, total=False):
    gpus: float | None
    usd_per_query: float | None


class _Alone(_Size, total=False):
    removed: _Size | None


class Step(TypedDict, total=False):
    """A row of the waterfall."""

    step: int | str
    what: str
    set: dict[str, Any] | None
    feasible: bool | None
    reason: str | None
    warnings: list[str] | None
    gpus: int | None
    usd_per_hour: float | None
    usd_per_query: float | None
    removed: _Size | None
    alone: _Alone | None
    interaction: _Size | None


class _Bar(TypedDict, total=False):
    name: str
    low: float | str | None
    high: float | str | None
    usd_per_query_low: float | None
    usd_per_query_high: float | None
    margin_low: float | None
    margin_high: float | None
    gpus_low: float | None
    gpus_high: float | None


class _Input(TypedDict, total=False):
    name: str
    law: str | None
    source: str | None
    kind: str | None


class _Fit(TypedDict, total=False):
    error_share: float | None
    typical_error_share: float | None
    beyond_points_share: float | None


class _Against(TypedDict, total=False):
    exact: float | None
    gpus: dict[str, float | None] | None
    other_candidate: float | None
    only_one_finds_a_fleet: float | None


class _Surface(TypedDict, total=False):
    simulations: float | None
    candidates: list[_Fit]
    error: _Size | None
    checked: _Against | None


class _Checked(TypedDict, total=False):
    draw: int | str | None
    surface: _Size | None
    plan: _Size | None


class Uncertainty(TypedDict, total=False):
    """What the drawn inputs make of the answer."""

    draws: int
    seed: int | None
    inputs: list[_Input]
    p_slo_held: float | None
    p_slo_held_within_error: list[float | None] | None
    p_margin_positive: float | None
    gpus: dict[str, float | None] | None
    usd_per_query: dict[str, float | None] | None
    margin_usd_per_query: dict[str, float | None] | None
    resized: dict[str, dict[str, float | None] | None] | None
    p_both: float | None
    p_no_fleet: float | None
    tornado: list[_Bar]
    at_medians: dict[str, float | None] | None
    surface: _Surface | None
    checked: list[_Checked]
