"""A good scenario with one value changed, and the words in which bad ones are refused."""

from __future__ import annotations

import copy
import math
from typing import Any

GOOD: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 10},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
    "slo": {"p99_ttft_ms": "<=1000"},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    """GOOD with one value put at a path of names and indices joined by slashes."""
    data = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in key.split("/")]
    place: Any = data
    for step in way:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    place[last] = value
    return data


NAN, INF = math.nan, math.inf
NO_LIST = "a list may not stand here"
