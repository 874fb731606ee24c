"""Answers of Prometheus' API (`/api/v1/query`) as samples, or what is wrong with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from planner.live.endpoint import Answer
from planner.observed import Trouble

TOKEN_VARIABLE = "PROMETHEUS_TOKEN"


class Sample(NamedTuple):
    """One element of an answer; a value that is no number is None."""

    labels: Mapping[str, str]
    value: float | None


def samples_of(answer: Answer, source: str) -> list[Sample] | Trouble:
    """The elements of an answer: those of a vector, or the one number of a scalar; a trouble of `source` otherwise."""
    if answer.status in (401, 403):
        text = f"HTTP {answer.status}; put a token into the environment as {TOKEN_VARIABLE}"
        return Trouble(source, "down", text)
    try:
        document = json.loads(answer.text)
        if document["status"] != "success":
            return Trouble(source, "garbage", f"it says: {str(document['error'])[:300]}")
        data = document["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, _number(data["result"][1]))]
        if data["resultType"] != "vector":
            kind = str(data["resultType"])[:20]
            return Trouble(source, "garbage", f"gives a {kind}, must be one number at a time")
        return [Sample(dict(row["metric"]), _number(row["value"][1])) for row in data["result"]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        if answer.status != 200:
            return Trouble(source, "down", f"HTTP {answer.status}; is this a Prometheus server?")
        return Trouble(source, "garbage", "no answer of Prometheus' API; is this a Prometheus server?")


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
