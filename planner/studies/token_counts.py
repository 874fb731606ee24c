"""Token counts of a scenario's stages: their mean, and the same law with more or fewer tokens."""

from __future__ import annotations

from typing import Any

from planner.scenario import Distribution, Lognormal, Normal, Uniform


def mean_of(distribution: Distribution | None) -> float | None:
    """The mean as stated; None where a file holds the counts, or none are given."""
    match distribution:
        case int():
            return float(distribution)
        case Uniform():
            return sum(distribution.uniform) / 2.0
        case Lognormal():
            return distribution.lognormal.mean
        case Normal():
            return distribution.normal.mean
        case _:
            return None


def scaled(distribution: Distribution | None, factor: float) -> int | dict[str, Any]:
    """The distribution times a factor, as the scenario file has it, no count below 1. TypeError on counts of a file."""
    match distribution:
        case int():
            return _tokens(factor * distribution)
        case Uniform(uniform=(low, high)):
            return {"uniform": [_tokens(factor * low), _tokens(factor * high)]}
        case Lognormal(lognormal=moments):
            return {"lognormal": {"mean": max(1.0, factor * moments.mean), "cv": moments.cv}}
        case Normal(normal=moments):
            ends = {"min": _tokens(factor * moments.min)}
            if moments.max is not None:
                ends["max"] = _tokens(factor * moments.max)
            mean = max(float(ends["min"]), factor * moments.mean)
            return {"normal": {"mean": min(mean, float(ends.get("max", mean))), "sd": factor * moments.sd, **ends}}
    raise TypeError(f"samples of a file cannot be scaled: {distribution!r}")


def _tokens(count: float) -> int:
    return max(1, round(count))
