"""Snapshots of an exporter by hand, under the names of `Snapshot` and of a Drift's document: nothing runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from planner.exporter.snapshot import Moment, PlanFacts, Snapshot
from planner.observed import Observed, Trouble

NOW = 1_763_900_000.0  # 2025-11-23 12:13:20 UTC
PLAN = PlanFacts(
    scenario_name="AI search, answer page",
    model_name="meta-llama/Llama-3.3-70B-Instruct",
    namespace="llm",
    hardware="h100-sxm-80gb",
    routing="least_loaded",
    kernel_path="known",
    replicas=22,
    slo_s={"p99_ttft_ms": 1.0, "p99_tpot_ms": 0.05},
)
OBSERVED = Observed(
    ended_unix_s=NOW,
    window_s=300.0,
    replicas=22.0,
    asked=22,
    answered=22,
    requests_per_s=78.4,
    prompt_tokens=1804.0,
    output_tokens=391.0,
    prefix_hit_rate=0.221,
    latencies_ms={"ttft_ms.p99": 812.0, "tpot_ms.p99": 52.4, "itl_ms.mean": 31.0},
    running=1310.0,
    waiting=4.0,
    kv_usage_mean=0.61,
    queries_per_s=112.0,
)


def part(cause: str, key: str, planned: Any, actual: Any, usd: Any, share: Any, **other: Any) -> dict[str, Any]:
    holds = None if share is None else abs(share) <= 0.1
    row = {"cause": cause, "key": key, "planned": planned, "actual": actual, "ratio": None, "factor": None}
    return row | {"usd_per_query": usd, "share": share, "holds": holds, "mend": None, "note": ""} | other


def quantity(name: str, unit: str, planned: float | None, actual: float | None) -> dict[str, Any]:
    ratio = actual / planned if planned and actual is not None else None
    return {"name": name, "unit": unit, "planned": planned, "actual": actual, "ratio": ratio}


def document(**other: Any) -> dict[str, Any]:
    """Answers 30 % longer than planned, and a few queries fewer."""
    length = "--set 'query.stages[0].output_tokens={lognormal: {mean: 391, cv: 0.7}}'"
    return {
        "schema_version": 1,
        "scenario_name": "AI search, answer page",
        "ended_unix_s": NOW,
        "window_s": 300.0,
        "hour": 12,
        "limit": 0.1,
        "within": False,
        "sources": {"asked": 22, "answered": 22},
        "slo": [
            {"key": "p99_ttft_ms", "limit_ms": 1000.0, "actual_ms": 812.0, "met": True},
            {"key": "p99_tpot_ms", "limit_ms": 50.0, "actual_ms": 52.4, "met": False},
        ],
        "cost": {
            "usd_per_hour": 481.2,
            "usd_per_query": 0.001193,
            "usage_usd_per_query": 0.001072,
            "usd_per_million_tokens": 0.776,
            "usage_usd_per_million_tokens": 0.697,
        },
        "planned": {"usd_per_hour": 438.0, "usd_per_query": 0.001005, "day_usd_per_query": 0.00124},
        "revenue": {"usd_per_query": 0.0449, "query_rpm_usd": 44.9},
        "margin": {"usd_per_query": 0.043707, "usage_usd_per_query": 0.043828},
        "parts": [
            part("traffic", "traffic.peak_qps", 117.6, 112.0, 0.0000531, 0.0528),
            part("token_lengths", "query.stages[].prompt_tokens, output_tokens", 2104.0, 2195.0, 0.000201, 0.2,
                 mend=length, note="prompt 1,804 against 1,800 tokens, output 391.0 against 300.4"),
            part("prefix_hit_rate", "query.stages[].shared_prefix.tokens", 0.222, 0.221, 0.0000012, 0.0012),
            part("response_hit_rate", "query.response_cache.hit_rate", 0.3, 0.3, 0.0, 0.0),
            part("step_speed", "calibration", 30.2, 31.0, 0.0000211, 0.021),
            part("utilisation", "fleet.replicas", 27.4, 22.0, -0.0000884, -0.088),
            part("price", "prices", 4.98, None, None, None),
        ],
        "total": {"usd_per_query": 0.000188, "fraction": 0.187},
        "capacity": {
            "qps": 118.0,
            "headroom_fraction": 0.0536,
            "replicas": {"planned": 22, "running": 22.0, "wanted": 23},
        },
        "savings": [
            {"cache": "prefix", "fraction": 0.121, "usd_per_hour": 66.2},
            {"cache": "response", "fraction": 0.3, "usd_per_hour": 206.2},
        ],
        "quantities": [
            quantity("qps", "queries/s", 117.6, 112.0),
            quantity("prompt_tokens", "tokens", 1800.2, 1804.0),
            quantity("output_tokens", "tokens", 300.4, 391.0),
            quantity("prefix_cache_hit_rate", "share", 0.222, 0.221),
            quantity("response_cache_hit_rate", "share", 0.3, 0.3),
            quantity("kv_cache_usage.mean", "share", 0.48, 0.61),
            quantity("busy_share", "share", None, 0.9),
            quantity("gpu_hour_usd", "USD", 4.98, None),
            quantity("ttft_ms.mean", "ms", 148.0, 171.0),
            quantity("ttft_ms.p99", "ms", 644.0, 812.0),
            quantity("ttft_ms.p95", "ms", 400.0, 500.0),
            quantity("itl_ms.mean", "ms", 30.2, 31.0),
            quantity("tpot_ms.p99", "ms", 48.1, 52.4),
        ],
        "assumed": [{"figure": "gpu_hour_usd", "from": "the plan's price of a GPU-hour"}],
        "notes": ["the KV cache is fuller than planned"],
        "troubles": [],
    } | other  # fmt: skip


def history(points: int = 720, step_s: float = 30.0) -> tuple[Moment, ...]:
    """Six hours of a rising load, an hour of which nothing was known."""
    moments = []
    for index in range(points):
        at_s = NOW - (points - 1 - index) * step_s
        qps = 80 + 30 * math.sin(index / points * 2.2) + 2 * math.sin(index)
        planned, cost = 0.1 / (qps + 5), 0.1182 / qps
        unknown = 200 <= index < 320
        moments.append(Moment(at_s, *([None] * 3 if unknown else [qps, cost, planned])))
    return tuple(moments)


def whole(**other: Any) -> Snapshot:
    given: dict[str, Any] = {
        "plan": PLAN,
        "interval_s": 15.0,
        "window_s": 300.0,
        "stale_after_s": 300.0,
        "observed": OBSERVED,
        "drift": document(),
        "taken_unix_s": NOW,
        "age_s": 4.0,
        "poll_s": 0.21,
        "sources": {f"10.0.0.{number}:8000": True for number in range(22)},
        "asked": 22,
        "answered": 22,
        "history": history(),
    }
    return Snapshot(**(given | other))


def begun() -> Snapshot:
    """Half an hour old: of its first readings few queries were known, and a query seemed to cost 40 times as much."""
    first = [0.0448, 0.0094, 0.0041, 0.0022, 0.0014]
    costs = [*first, *(0.0011 + 0.00005 * math.sin(index) for index in range(26))]
    start_s = NOW - 60.0 * (len(costs) - 1)
    moments = [
        Moment(start_s + 60.0 * index, 0.12 / cost, cost, 0.001005, min(12.0 + 60.0 * index, 300.0))
        for index, cost in enumerate(costs)
    ]
    return whole(history=tuple(moments))


def as_planned() -> Snapshot:
    held = [
        row | {"holds": True, "mend": None, "share": 0.004, "usd_per_query": 0.000004} for row in document()["parts"]
    ]
    parts = document(within=True, parts=held, total={"usd_per_query": 0.00002, "fraction": 0.02})
    parts["capacity"] = {
        "qps": 150.0,
        "headroom_fraction": 0.34,
        "replicas": {"planned": 22, "running": 22, "wanted": 20},
    }
    parts["slo"] = [row | {"met": True} for row in parts["slo"]]
    fast = replace(OBSERVED, latencies_ms={"ttft_ms.p99": 512.0, "tpot_ms.p99": 42.4})
    return whole(drift=parts, observed=fast)


def losing() -> Snapshot:
    """Overloaded, at a loss, and two sources gone."""
    room = {"qps": 90.0, "headroom_fraction": -0.196, "replicas": {"planned": 22, "running": 20.0, "wanted": 26}}
    money = {"revenue": {"usd_per_query": 0.001, "query_rpm_usd": 1.0}, "margin": {"usd_per_query": -0.000193}}
    gone = {"10.0.0.3:8000": False, "10.0.0.9:8000": False}
    told = (
        Trouble("10.0.0.3:8000", "down", "nobody listens there: connection refused"),
        Trouble("10.0.0.9:8000", "slow", "no answer within 10 s"),
    )
    some = replace(OBSERVED, replicas=20.0)
    sources = whole().sources | gone
    counts = {"down": 14, "slow": 3, "garbage": 0}
    return whole(drift=document(capacity=room, **money), observed=some, sources=sources, answered=20, troubles=told,
                 trouble_counts=counts, age_s=61.0)  # fmt: skip


def half_known() -> Snapshot:
    """No price, no revenue, no capacity model: loads and latencies only."""
    nothing = dict.fromkeys(("usd_per_hour", "usd_per_query", "usage_usd_per_query", "usd_per_million_tokens"))
    parts = [row | {"usd_per_query": None, "share": None, "holds": None, "mend": None} for row in document()["parts"]]
    capacity = {"qps": None, "headroom_fraction": None, "replicas": {"planned": 22, "running": 22.0, "wanted": None}}
    known = document(
        cost=nothing, planned=nothing, revenue=None, margin=None, parts=parts, capacity=capacity, savings=[]
    )
    known["slo"] = [known["slo"][0], known["slo"][1] | {"actual_ms": None, "met": None}]
    known |= {"total": {"usd_per_query": None, "fraction": None}, "within": True}
    told = replace(OBSERVED, latencies_ms={"ttft_ms.p99": 812.0})
    return whole(drift=known, observed=told, history=(Moment(NOW, 112.0, None, None),))


def waiting() -> Snapshot:
    gone = (Trouble("10.0.0.1:8000", "down", "connection refused"),)
    return Snapshot(PLAN, 15.0, 300.0, 300.0, age_s=31.0, asked=22, answered=0, troubles=gone, poll_s=0.02)


def blind() -> Snapshot:
    """There were figures; they are too old to show."""
    gone = tuple(Trouble(source, "down", "connection refused") for source in whole().sources)
    sources = dict.fromkeys(whole().sources, False)
    return whole(sources=sources, answered=0, troubles=gone, trouble_counts={"down": 484}).aged(1250.0)


def uncompared() -> Snapshot:
    return whole(drift=None, troubles=(Trouble("plan", "garbage", "the comparison failed"),), history=())


def hostile() -> Snapshot:
    """Names that would like to be markup."""
    bad = '<script>alert("1")</script>&<img src=x onerror=y>\x00\x1b[31m'
    plan = PlanFacts(bad, bad, bad, bad, bad, bad, 3, {"p99_ttft_ms": 1.0})
    parts = [part(bad, bad, 1.0, 2.0, 0.5, 0.5, mend=bad, note=bad)]
    rows = [quantity(bad, bad, 1.0, 2.0)]
    known = document(
        scenario_name=bad, parts=parts, quantities=rows, notes=[bad], assumed=[{"figure": bad, "from": bad}]
    )
    known["savings"] = [{"cache": bad, "fraction": math.nan, "usd_per_hour": math.inf}]
    return whole(
        plan=plan, drift=known, sources={bad: False}, troubles=(Trouble(bad, bad, bad),), trouble_counts={bad: 1}
    )


SNAPSHOTS = {
    "whole": whole,
    "begun": begun,
    "as planned": as_planned,
    "losing": losing,
    "half known": half_known,
    "waiting": waiting,
    "blind": blind,
    "uncompared": uncompared,
    "hostile": hostile,
}
