"""The first part of a load is that part in everything: arrivals, requests, prefixes, warm-up and cool-down."""

from __future__ import annotations

from planner.deployment import Length, make_load
from planner.scenario import Scenario
from planner.simulation.load import as_far_as

SCENARIO = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 12},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": 500,
                "output_tokens": 300,
                "samples": 2,
                "shared_prefix": {"tokens": 64, "groups": 8},
            }
        ]
    },
}


def test_a_load_is_cut_with_its_prefixes():
    """Two samples a query: 550 queries are 1,100 requests."""
    load = make_load(Scenario.from_dict(SCENARIO), 8192, 0, Length(1000, 100, 50))
    part = as_far_as(load, 550)
    assert (550, 1100, 100, 50) == (part.queries, part.requests, part.warmup, part.cooldown)
    assert part.arrival_s.tolist() == load.arrival_s[:550].tolist()
    assert part.prefixes is not None
    assert load.prefixes is not None
    assert part.prefixes.chain_start.tolist() == load.prefixes.chain_start[:1101].tolist()
    assert len(part.prefixes.chain_segment) == part.prefixes.chain_start[-1]
    assert as_far_as(load, load.queries) is load
