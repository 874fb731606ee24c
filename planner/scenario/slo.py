"""Service levels: `p99_ttft_ms: "<=1000"`, as in `vllm bench sweep`, read into `Limit`s."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from planner.errors import nearest_names
from planner.scenario.types import broken
from planner.specs import Limit

METRICS = ("ttft", "tpot", "itl", "e2e")
MOST_PERCENTILE = 99.99  # a run counts 1,000 queries beyond the percentile: ten million here
_KEY = re.compile(r"(?P<statistic>[^_]+)_(?P<metric>.+)_ms")
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")
_VALUE = re.compile(r"\s*<=\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*")
_EXAMPLES = [f"{statistic}_{metric}_ms" for statistic in ("p50", "p90", "p95", "p99", "mean") for metric in METRICS]


def _limit(key: str, value: Any) -> Limit:
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise broken("an SLO is named pNN_<metric>_ms or mean_<metric>_ms", key, nearest=nearest_names(key, _EXAMPLES))
    statistic, metric = parts["statistic"], parts["metric"]
    if metric not in METRICS:
        close = nearest_names(metric, METRICS, count=1)
        raise broken(
            f"unknown metric {metric}; known: {', '.join(METRICS)}",
            key,
            nearest=f"{statistic}_{close}_ms" if close else None,
        )
    percentile: float | None = None
    if statistic != "mean":
        number = _PERCENTILE.fullmatch(statistic)
        if number is None:
            raise broken(
                "the statistic must be mean or a percentile such as p99", key, nearest=nearest_names(key, _EXAMPLES)
            )
        percentile = float(number[1])
        if not 0 < percentile < 100:
            raise broken("the percentile must be above 0 and below 100", key)
        if percentile > MOST_PERCENTILE:
            rule = (
                f"the percentile must be at most {MOST_PERCENTILE}: one above takes more than 10 million queries a run"
            )
            raise broken(rule, key)
        statistic = f"p{percentile!r}".removesuffix(".0")
    bound = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if bound is None:
        raise broken('must be written as "<=1000", in milliseconds', key)
    limit_ms = float(bound[1])
    if not 0 < limit_ms < math.inf:
        raise broken("the limit must be above 0 and finite", key)
    return Limit(metric, statistic, percentile, limit_ms)  # type: ignore[arg-type]  # metric is one of METRICS


def _parse(value: Any) -> tuple[Limit, ...]:
    if isinstance(value, tuple) and all(isinstance(item, Limit) for item in value):
        return value
    if not isinstance(value, Mapping):
        raise broken('must be a mapping such as {p99_ttft_ms: "<=1000"}')
    limits: dict[str, Limit] = {}
    for key, item in value.items():
        if item is None:
            continue
        limit = _limit(str(key), item)
        if limit.key in limits:
            raise broken("the same figure is limited twice", str(key))
        limits[limit.key] = limit
    return tuple(limits.values())


def _write(limits: tuple[Limit, ...]) -> dict[str, str]:
    return {limit.key: f"<={limit.limit_ms!r}".removesuffix(".0") for limit in limits}


Slo = Annotated[
    tuple[Limit, ...],
    PlainValidator(_parse),
    PlainSerializer(_write),
    WithJsonSchema(
        {
            "type": "object",
            "patternProperties": {
                rf"^(mean|p[0-9]+(\.[0-9]+)?)_({'|'.join(METRICS)})_ms$": {
                    "type": "string",
                    "pattern": r"^\s*<=\s*[0-9.]+([eE][+-]?[0-9]+)?\s*$",
                }
            },
            "additionalProperties": False,
        }
    ),
]
