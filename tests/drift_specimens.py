"""A plan of the demo, and windows of fleets whose truth is known: simulated, with a seed of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

from planner import Scenario, plan
from planner.cli.output import json_text
from planner.deployment import deploy, idle_e2e_s, idle_outcome, make_load, only_candidate, run, run_length
from planner.drift import FleetModel, fleet_model
from planner.observed import Observed
from planner.planned import Planned, planned

DEMO = "examples/demo.yaml"
REQUESTS, WORLDS = 2000, 20
TRUTH_SEED, TRUTH_QUERIES = 7, 30_000
ENDED_UNIX_S = 1_700_000_000.0  # 22:13:20 UTC
LATENCIES = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")


@cache
def _document(settings: str) -> str:
    scenario = Scenario.load(DEMO).with_values(json.loads(settings))
    return json_text(plan(scenario, requests=REQUESTS, worlds=WORLDS).as_dict())


def document(**settings: Any) -> dict[str, Any]:
    """The plan's JSON; `traffic__peak_qps=40` is --set traffic.peak_qps=40."""
    values = {key.replace("__", "."): value for key, value in settings.items()}
    read: dict[str, Any] = json.loads(_document(json.dumps(values)))
    return read


@cache
def demo(**settings: Any) -> Planned:
    """The demo's plan, read back."""
    return planned(document(**settings))


@cache
def demo_model() -> FleetModel:
    """The demo's capacity model, which remembers from test to test."""
    return fleet_model(demo())


def window(of: Planned, **changes: Any) -> Observed:
    """A window that is exactly as planned, but for what is said; nothing is simulated."""
    rate = of.queries_per_s[0]
    whole = Observed(
        ended_unix_s=ENDED_UNIX_S,
        window_s=600.0,
        replicas=float(of.replicas),
        requests_per_s=rate * of.uncached_share * of.requests_per_query,
        queries_per_s=rate,
        cost_usd_per_hour=of.usd_per_hour,
        busy_share=0.5,
    )
    return replace(whole, **changes)


def truth(
    of: Planned,
    values: dict[str, Any] | None = None,
    *,
    qps: float = 1.0,
    step: float = 1.0,
    replicas: int | None = None,
    hit_rate: float | None = None,
    usd: float = 1.0,
) -> Observed:
    """What a fleet tells whose scenario has other `values`, whose steps take `step` times as long, …

    `qps` is a factor on the planned peak, `usd` one on the price, `hit_rate` the response cache's.
    """
    uncached = of.uncached_share if hit_rate is None else 1.0 - hit_rate
    peak = max(of.queries_per_s) * qps
    model_qps = peak * uncached
    scenario = of.pinned.with_values({**(values or {}), "traffic.peak_qps": model_qps, "query.response_cache": None})
    fleet = of.replicas if replicas is None else replicas
    deployment = deploy(only_candidate(scenario, "drift"))
    deployment = replace(deployment, cost=deployment.cost.slower(step))
    _, idle = idle_outcome(deployment, scenario, 1000, TRUTH_SEED)
    length = run_length(scenario, TRUTH_QUERIES, idle_e2e_s(idle), 10)
    load = make_load(scenario, deployment.config.max_model_len, TRUTH_SEED, length)
    figures = run(deployment, scenario, load, fleet, TRUTH_SEED).figures
    assert of.usd_per_hour is not None
    return Observed(
        ended_unix_s=ENDED_UNIX_S,
        window_s=600.0,
        replicas=float(fleet),
        requests_per_s=model_qps * of.requests_per_query,
        prompt_tokens=float(load.prompt_tokens.mean()),
        output_tokens=float(load.output_tokens.mean()),
        prefix_hit_rate=figures["prefix_cache_hit_rate"],
        latencies_ms={
            f"{name}.{statistic}": value for name in LATENCIES for statistic, value in (figures[name] or {}).items()
        },
        running=figures["ledger"]["running_mean"] * fleet,
        waiting=figures["ledger"]["waiting_mean"] * fleet,
        kv_usage_mean=figures["kv_cache_usage"]["mean"],
        kv_usage_max=figures["kv_cache_usage"]["max"],
        busy_share=figures["utilisation"],
        queries_per_s=peak,
        cost_usd_per_hour=of.usd_per_hour * usd * fleet / of.replicas,
    )
