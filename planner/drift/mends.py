"""What would make a line of the scenario true again: the `--set`, or what to run."""

from __future__ import annotations

import json
from typing import Any

from planner.drift.actual import Actual
from planner.drift.model import Simulated
from planner.drift.prefix import Imposed
from planner.drift.queries import Shape
from planner.planned import Planned

DIGITS = 3
MOVED = 0.005  # a scale nearer to 1 leaves a distribution as it is


def significant(value: float) -> float:
    """A number to write into a scenario."""
    return float(f"{value:.{DIGITS}g}")


def setting(values: dict[str, Any]) -> str | None:
    """`--set KEY=VALUE …` as a shell takes it; None without values."""
    return " ".join(f"--set {_quoted(key, _text(value))}" for key, value in values.items()) or None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return f"{value:.12g}" if isinstance(value, float) else json.dumps(value)


def _quoted(key: str, value: str) -> str:
    plain = not set(f"{key}{value}") & set(" []{}*?'\"")
    return f"{key}={value}" if plain else f"'{key}={value}'"


def traffic(planned: Planned, actual: Actual) -> dict[str, Any]:
    """The peak that makes this hour's queries; empty where the demand names no peak."""
    peak = planned.scenario.traffic.peak_qps
    if peak is None or not actual.queries_per_s:
        return {}
    return {"traffic.peak_qps": significant(peak * actual.queries_per_s / actual.planned_qps)}


def token_lengths(simulated: Simulated, exact: Shape) -> dict[str, Any]:
    """Each stage's distributions with the means that are now, before what the context cuts off."""
    now = simulated.scenario(exact._replace(prefix=None))
    values: dict[str, Any] = {}
    for index, stage in enumerate(now.query.stages):
        given = simulated.planned.pinned.query.stages[index]
        for key, ratio in (("prompt_tokens", exact.prompt), ("output_tokens", exact.output)):
            old, new = getattr(given, key), getattr(stage, key)
            joint = key == "output_tokens" and given.output_tokens is None
            if old != new and (joint or abs(ratio - 1.0) > MOVED):
                values[f"query.stages[{index}].{key}"] = _rounded(
                    new if isinstance(new, int) else new.model_dump(exclude_none=True)
                )
    return values


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value if isinstance(value, int) else significant(value)


def prefix_hit_rate(simulated: Simulated, found: Imposed) -> dict[str, Any]:
    """The shared prefix of each stage that makes the hits."""
    values: dict[str, Any] = {}
    for index, (tokens, stage) in enumerate(zip(found.tokens, simulated.base.query.stages, strict=True)):
        planned = stage.shared_prefix.tokens if stage.shared_prefix else 0
        if round(tokens) == planned:
            continue
        key = f"query.stages[{index}].shared_prefix"
        values |= {f"{key}.tokens": round(tokens)} if tokens >= 0.5 else {key: None}
    return values


def response_hit_rate(planned: Planned, actual: Actual) -> dict[str, Any]:
    """The share of queries that the cache answers now; a cache whose hit rate emerges is stated instead."""
    now, cache = significant(min(actual.hit_rate, 0.999)), planned.scenario.query.response_cache
    if cache is None or cache.popularity is None:
        return {"query.response_cache.hit_rate": now}
    stated = {"popularity": None, "capacity_queries": None, "ttl_s": None, "hit_rate": now}
    return {f"query.response_cache.{key}": value for key, value in stated.items()}


def price(planned: Planned, actual: Actual) -> dict[str, Any]:
    """A GPU-hour's price that makes the bill; empty where it is a mix or owned hardware, which has several keys."""
    prices = planned.scenario.prices
    if prices.gpu_hour_usd is None or actual.gpu_hour_usd is None:
        return {}
    return {"prices.gpu_hour_usd": significant(actual.gpu_hour_usd * prices.compute_share)}


STEP_SPEED = (
    "planner loadtest SCENARIO --host URL --out run.jsonl; planner calibrate run.jsonl --out calibration.json; "
    "then --set calibration=calibration.json"
)


def utilisation(running: float, wanted: int | None, *, at_least: bool = False) -> str | None:
    """How many replicas to run instead; None where it is not known. `at_least`: a queue stands, so it may be more."""
    if wanted is None:
        return None
    if at_least:
        return f"run {wanted} replicas or more instead of {running:g}: a queue stands"
    if wanted == round(running):
        return "as many replicas run as this load wants: plan again with what else has changed"
    return f"run {wanted} replicas instead of {running:g}"
