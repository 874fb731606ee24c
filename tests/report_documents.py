"""A plan's document with everything that the page can show, written by hand under the JSON names: no simulation."""

from __future__ import annotations

import copy
import math
from typing import Any

from tests.summary_documents import DAY_QUERIES, NO_FLEET, PLAN

Document = dict[str, Any]
BINS = 40
HOURLY_USD, GPU_USD, REVENUE_USD = 42.0, 3.0, 0.0449
FLEET_PER_QUERY = 24 * HOURLY_USD / DAY_QUERIES
RETRIEVAL_USD = 0.0001
COST_USD = FLEET_PER_QUERY + RETRIEVAL_USD
SHARES = [0.44, 0.38, 0.35, 0.34, 0.36, 0.42, 0.52, 0.64, 0.76, 0.86, 0.93, 0.97]
SHARES += [0.98, 0.97, 0.96, 0.95, 0.94, 0.95, 0.97, 1.0, 0.98, 0.88, 0.72, 0.56]


def histogram(middle: float, spread: float, total: float = 100_000.0) -> Document:
    """A bell on a logarithmic axis."""
    edges = [middle * math.exp(spread * (8 * index / BINS - 4)) for index in range(BINS + 1)]
    weights = [math.exp(-((8 * (index + 0.5) / BINS - 4) ** 2) / 2) for index in range(BINS)]
    return {"edges": edges, "counts": [round(total * weight / sum(weights)) for weight in weights]}


def size(serving: int, ttft_ms: float, tpot_ms: float, full: bool) -> Document:
    upper = {"p99_ttft_ms_upper": 1.03 * ttft_ms, "p99_tpot_ms_upper": 1.03 * tpot_ms}
    met = 1.03 * ttft_ms <= 1000 and 1.03 * tpot_ms <= 50
    figures = {"serving": serving, "met": met, "saturated": False, "full_length": full, "utilisation": 0.9}
    return figures | {"p99_ttft_ms": ttft_ms, "p99_tpot_ms": tpot_ms} | upper


def step(name: str, what: str, gpus: int | None, before: int | None, alone: int | None, **other: Any) -> Document:
    """A row of the waterfall; each GPU costs the same, so the money follows."""
    each = GPU_USD * 24 / DAY_QUERIES
    row: Document = {"step": name, "what": what, "set": {}, "feasible": gpus is not None, "reason": None, "gpus": gpus}
    row |= {"usd_per_hour": None if gpus is None else GPU_USD * gpus}
    row |= {"usd_per_query": None if gpus is None else each * gpus, "removed": None, "alone": None, "interaction": None}
    if gpus is not None and before is not None and alone is not None:
        taken, by_itself = before - gpus, 40 - alone
        row["removed"] = {"gpus": taken, "usd_per_query": each * taken}
        row["alone"] = {"gpus": alone, "usd_per_query": each * alone}
        row["alone"]["removed"] = {"gpus": by_itself, "usd_per_query": each * by_itself}
        row["interaction"] = {"gpus": taken - by_itself, "usd_per_query": each * (taken - by_itself)}
    return row | other


def bar(name: str, low: float, high: float, gpus: tuple[int, int]) -> Document:
    costs = {"usd_per_query_low": COST_USD * low, "usd_per_query_high": COST_USD * high}
    margins = {"margin_low": REVENUE_USD - COST_USD * low, "margin_high": REVENUE_USD - COST_USD * high}
    return {"name": name, "low": low, "high": high, "gpus_low": gpus[0], "gpus_high": gpus[1], **costs, **margins}


WATERFALL = [
    step("baseline", "no response cache, no prefix cache, bf16", 40, None, None),
    step("response cache", "answers 30% of the queries without a GPU", 28, 40, 28, set={"query.response_cache": {}}),
    step("prefix cache", "a beginning that prompts share is computed once", 24, 28, 33),
    step("FP8", "bf16, fp8 weights; how well the answers are is not modelled", 14, 24, 25),
    step("batching limits", "max_num_seqs 64 in place of vLLM's own", 15, 14, 40),
    step("one GPU a replica", "tensor_parallel_size 1", None, None, None, reason="does not fit h100-sxm-80gb"),
    step("mixture of experts", "", None, None, None, feasible=None, reason="left out: the scenario's model is dense"),
]
UNCERTAINTY: Document = {
    "draws": 2000,
    "seed": 0,
    "inputs": [
        {"name": "step_time", "law": "lognormal, cv 0.12", "source": "residuals of the calibration", "kind": "fitted"},
        {"name": "peak_qps", "law": "lognormal, cv 0.10", "source": "not given: assumed", "kind": "assumed"},
    ],
    "p_slo_held": 0.873,
    "p_slo_held_within_error": [0.851, 0.894],
    "p_margin_positive": 0.9985,
    "gpus": {"p50": 14, "p90": 18, "p99": None},
    "usd_per_query": {"p10": 0.00021, "p50": 0.00023, "p90": 0.00027},
    "margin_usd_per_query": {"p10": 0.039, "p50": 0.0447, "p90": 0.0511},
    "tornado": [
        bar("revenue", 1.0, 1.2, (14, 14)),
        bar("time of an engine step", 0.4, 2.1, (12, 18)),
        bar("queries per second at the peak", 0.7, 1.6, (12, 16)),
        bar("price of a GPU-hour", 0.9, 1.1, (14, 14)),
    ],
    "at_medians": {"gpus": 14, "usd_per_query": 0.00023, "margin": 0.0441},
    "surface": {
        "simulations": 120,
        "candidates": [{"error_share": 0.15, "typical_error_share": 0.01, "beyond_points_share": 0.04}],
        "error": {"gpus": 0.6, "usd_per_query": 0.00001},
    },
    "checked": [
        {"draw": 17, "surface": {"gpus": 14, "usd_per_query": 0.00023}, "plan": {"gpus": 15, "usd_per_query": 0.00024}}
    ],
}


def full() -> Document:
    """Feasible, with every optional part."""
    document: Document = copy.deepcopy(PLAN)
    document["scenario"]["traffic"]["day"] = list(SHARES)
    hours = [120 * 3600 * share for share in SHARES]
    document["day"] = [
        {"hour": hour, "queries": queries, "cost": HOURLY_USD + RETRIEVAL_USD * queries, "utilisation": 0.8}
        for hour, queries in enumerate(hours)
    ]
    assert math.isclose(sum(hours), DAY_QUERIES)
    run = document["at_peak"]
    for limit in run["slo"]:
        run[limit["key"].removeprefix("p99_")]["p99"] = limit["value_ms"]
    run["band80"] = {f"{key}.{name}": [0.8 * run[key][name], 1.4 * run[key][name]] for key in KEYS for name in NAMES}
    run["confidence"] = {"kernel_path": "known", "worlds": 45, "holds_share": 0.8, "saturated_share": 0.0}
    document["confidence"] |= {"weakest": "assumed", **run["confidence"]}
    document["distributions"] = {
        "ttft_ms": histogram(220, 0.5),
        "tpot_ms": histogram(12, 0.25),
        "itl_ms": histogram(11, 0.3),
        "e2e_ms": histogram(3500, 0.6),
    }
    document["capacity_curve"] = [
        size(4, 31_000.0, 66.0, False),
        size(5, 2310.0, 46.0, False),
        size(5, 2290.0, 46.0, True),
        size(6, 812.3, 41.04, True),
        size(8, 640.0, 30.0, False),
    ]
    uncached = DAY_QUERIES
    document["cost"] = {
        "usd_per_hour": HOURLY_USD,
        "usd_per_query": COST_USD,
        "usd_per_million_tokens": 0.815,
        "price": {
            "kind": "commitments",
            "gpu_hour_usd": GPU_USD,
            "parts": [
                {"what": "reserved", "quantity": 0.6, "unit": "GPU-hour", "unit_price_usd": 2.0, "paid": "always"},
                {
                    "what": "on demand",
                    "quantity": 0.4,
                    "unit": "GPU-hour",
                    "unit_price_usd": 4.5,
                    "paid": "beyond_reserved",
                },
            ],
        },
        "usage_usd_per_query": 0.8 * FLEET_PER_QUERY + RETRIEVAL_USD,
        "idle_usd_per_query": 0.2 * FLEET_PER_QUERY,
        "amortised_training_usd_per_query": 0.00004,
        "currency": {"code": "CNY", "per_usd": 7.1},
    }
    document["cost_lines"] = [
        line("GPUs, spares included, all day", 336.0, "GPU-hour", GPU_USD),
        line("retrieval", uncached, "uncached query", RETRIEVAL_USD),
    ]
    document["revenue"] = {
        "usd_per_query": REVENUE_USD,
        "query_rpm_usd": 1000 * REVENUE_USD,
        "model": "ads",
        "lines": [line("queries, cached ones included", DAY_QUERIES, "query", REVENUE_USD)],
        "abandonment": {"metric": "ttft", "lost_share": 0.012, "usd_per_query_lost": 0.00054, "source": "given"},
    }
    left = REVENUE_USD - COST_USD
    document["margin"] = {
        "usd_per_query": left,
        "fraction": left / REVENUE_USD,
        "cost_share_of_revenue": COST_USD / REVENUE_USD,
    }
    earned = REVENUE_USD - RETRIEVAL_USD
    document["break_even"] = {
        "qps": 120 * FLEET_PER_QUERY / earned,
        "rpm_usd": 1000 * COST_USD,
        "gpu_hour_usd": GPU_USD * earned / FLEET_PER_QUERY,
    }
    for row, share in zip(document["alternatives"], (1.0, 1.15), strict=False):
        row["usd_per_query"] = share * COST_USD
    document["load_shape"] = {
        "static": {"gpu_hours": 336.0, "usd_per_day": 1008.0},
        "following": {"gpu_hours": 262.0, "usd_per_day": 786.0, "startup_gpu_hours": 2.5, "replicas": [7] * 24},
        "peak_replicas": 7,
        "mean_replicas": 5.4,
        "basis": "assumed: replicas are booked 300 s ahead",
    }
    document["spare_proof"] = spare_proof(document, "holds", 1.05)
    document["warnings"] = ["fleet.retry_after_s: 2 has no effect here: no replica stops"]
    document["waterfall"] = copy.deepcopy(WATERFALL)
    document["waterfall"][0]["warnings"] = ["a session's pause touches 82 % of the KV cache"]
    document["uncertainty"] = copy.deepcopy(UNCERTAINTY)
    return document


def line(what: str, quantity: float, unit: str, unit_price_usd: float) -> Document:
    product = quantity * unit_price_usd
    return {"what": what, "quantity": quantity, "unit": unit, "unit_price_usd": unit_price_usd, "product_usd": product}


def spare_proof(document: Document, verdict: str, slower: float) -> Document:
    """The proof of the plan's spare, whose loss makes each judged latency so many times longer."""
    slo = document["at_peak"]["slo"]

    def span(queries: int, times: float, more: Document) -> Document:
        limits = [
            {"key": row["key"], "limit_ms": row["limit_ms"]}
            | {key: times * row[key] for key in ("value_ms", "upper_ms")}
            | more
            for row in slo
        ]
        return {
            "queries": queries,
            "failed": 0,
            "retried": 0,
            "ttft_ms": {"p50": 218.0, "p99": 790.0},
            "limits": limits,
        }

    held = {"holds": True, "fails": False, "undecided": None}[verdict]
    hit = span(29, 3.0, {"upper_ms": None, "met": False})
    return {
        "replicas": document["fleet"]["replicas"],
        "stopped": document["fleet"]["spare_replicas"],
        "retried": 27,
        "verdict": verdict,
        "slo_met_after": held,
        "saturated_after": False,
        "before": span(9_971, 0.9, {"upper_ms": None, "met": True}),
        "after": span(40_000, slower, {"met": bool(held), "verdict": verdict}),
        "in_hand": hit | {"failed": 2, "retried": 27},
    }


def infeasible() -> Document:
    return copy.deepcopy(NO_FLEET)


def unproved() -> Document:
    """A plan whose spare does not bear its own loss."""
    document = full()
    document["spare_proof"] = spare_proof(document, "fails", 1.4)
    first = (
        "fleet.spare_replicas: when 1 of 7 replicas is lost at the peak, the limits do NOT hold (p99 TTFT, p99 TPOT)"
    )
    document["warnings"] = [f"{first}: see the proof of the spare", *document["warnings"]]
    return document


def losing() -> Document:
    """A query that costs more than it earns."""
    document = full()
    document["revenue"] = {"usd_per_query": 0.0002, "query_rpm_usd": 0.2}
    left = 0.0002 - COST_USD
    document["margin"] = {"usd_per_query": left, "fraction": left / 0.0002, "cost_share_of_revenue": COST_USD / 0.0002}
    rest = 0.0002 - RETRIEVAL_USD
    document["break_even"]["qps"] = 120 * FLEET_PER_QUERY / rest
    document["break_even"]["gpu_hour_usd"] = GPU_USD * rest / FLEET_PER_QUERY
    return document


KEYS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
NAMES = ("mean", "p50", "p90", "p95", "p99")
