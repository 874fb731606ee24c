"""Caches that are simulated query by query, to hold the formulas against; scenarios with a cache in front."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner import Scenario
from planner.response_cache.popularity import Popularity

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# The shape of the web's law, small enough to be simulated.
SMALL_LAW = Popularity(zipf=0.85, queries=20_000, new_share=0.3)

SCENARIO: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"quantization": "fp8", "max_model_len": 2048},
    "traffic": {"peak_qps": 40.0},
    "query": {
        "stages": [{"name": "answer", "prompt_tokens": 600, "output_tokens": 100}],
        "response_cache": {"popularity": "web_search", "capacity_queries": 100_000, "ttl_s": 600},
    },
    "slo": {"p99_ttft_ms": "<=1000"},
    "prices": {"gpu_hour_usd": 2.0},
}
DAY = tuple(round(0.6 - 0.4 * math.cos(math.pi * hour / 12), 3) for hour in range(24))  # 0.2 at midnight, 1 at noon


def cached_scenario(cache: dict[str, Any] | None = None, **traffic: Any) -> Scenario:
    """SCENARIO with another cache (None: its own) and other traffic."""
    query = SCENARIO["query"] if cache is None else {**SCENARIO["query"], "response_cache": cache}
    return Scenario.from_dict({**SCENARIO, "query": query, "traffic": {**SCENARIO["traffic"], **traffic}})


def drawn(law: Popularity, count: int, seed: int) -> I64:
    """So many queries of a law, one by one: ranks from 1, and below 0 those that nobody asked before."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, law.queries + 1, dtype=np.float64) ** -law.zipf
    mass = np.cumsum(weights)
    again = 1 + np.searchsorted(mass, rng.random(count) * mass[-1], side="right")
    return np.where(rng.random(count) < law.new_share, -1 - np.arange(count), again)


def found_in_cache(at_s: F64, queries: I64, capacity: int | None, ttl_s: float | None) -> NDArray[np.bool_]:
    """Which queries an LRU cache answers whose answers expire `ttl_s` after they were made, and leave then."""
    kept: OrderedDict[int, float] = OrderedDict()  # query -> when its answer was made; the last used stands last
    made: deque[tuple[float, int]] = deque()
    hits = np.zeros(len(queries), np.bool_)
    for place, (now, query) in enumerate(zip(at_s.tolist(), queries.tolist(), strict=True)):
        while ttl_s is not None and made and made[0][0] + ttl_s <= now:
            born, old = made.popleft()
            if kept.get(old) == born:  # not evicted meanwhile, nor made anew
                del kept[old]
        if query in kept:
            hits[place] = True
            kept.move_to_end(query)
            continue
        kept[query] = now
        made.append((now, query))
        if capacity is not None and len(kept) > capacity:
            kept.popitem(last=False)
    return hits


def simulated_hit_rate(law: Popularity, qps: float, capacity: int | None, ttl_s: float | None, count: int) -> float:
    """Over the second half of `count` queries, which come as a Poisson process."""
    rng = np.random.default_rng(7)
    at_s = np.cumsum(rng.standard_exponential(count)) / qps
    return float(found_in_cache(at_s, drawn(law, count, 11), capacity, ttl_s)[count // 2 :].mean())
