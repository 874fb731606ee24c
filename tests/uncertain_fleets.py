"""A small scenario with ads, prices and a spare replica, its plan, and draws of what is not known of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import planner
from planner import Scenario
from planner.planning import Plan
from planner.studies.uncertainty import uncertainty, with_uncertainty

REQUESTS, PEAK_QPS = 1500, 300.0
SMALL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "hardware": ["h100-sxm-80gb", "a100-sxm-80gb"],
    "engine": {"max_model_len": 4096, "max_num_seqs": 64},
    "traffic": {"peak_qps": PEAK_QPS},
    "query": {
        "stages": [{"name": "answer", "prompt_tokens": {"lognormal": {"mean": 600, "cv": 0.5}}, "output_tokens": 120}]
    },
    "slo": {"p90_ttft_ms": "<=400", "mean_tpot_ms": "<=20"},
    "fleet": {"spare_replicas": 1},
    "prices": {"gpu_hour_usd": 3.0, "retrieval_usd_per_query": 0.00001},
    "revenue": {"ads": {"usd_per_query": 0.00006}},
}
FEW = 1000  # queries of a run where only the way is looked at, not the figures
VARIED = {"samples": 300, "peak_qps_cv": 0.2, "revenue_cv": 0.4, "price_cv": 0.1}


def scenario(given: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    return Scenario.from_dict(SMALL | ({} if given is None else {"uncertainty": given})).with_values(changes)


def planned(asked: Scenario) -> Plan:
    return planner.plan(asked, requests=REQUESTS, worlds=0)


@cache
def small_plan() -> Plan:
    return planned(scenario())


@cache
def small_document() -> dict[str, Any]:
    """A plan with its uncertainty: step time from its worlds, load, revenue and price drawn."""
    return with_uncertainty(small_plan(), scenario(VARIED), requests=REQUESTS).as_dict()


def drawn(plan: Plan, given: dict[str, Any], seed: int = 0, **changes: Any) -> dict[str, Any]:
    return uncertainty(plan.as_dict(), scenario(given, **changes), seed=seed, requests=REQUESTS)
