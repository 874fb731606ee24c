"""Documents as `plan`, `simulate` and `capacity` write them: the material of the summary's tests."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def latency(scale: float) -> Document:
    return {"mean": scale, "p50": 0.8 * scale, "p90": 1.7 * scale, "p95": 2.1 * scale, "p99": 3 * scale}


def limit(key: str, limit_ms: float, value_ms: float | None, upper_ms: float | None) -> Document:
    judged = value_ms if upper_ms is None else upper_ms
    met = judged is not None and judged <= limit_ms
    return {"key": key, "limit_ms": limit_ms, "value_ms": value_ms, "upper_ms": upper_ms, "met": met}


def run(ttft_p99: float = 812.3, tpot_p99: float = 41.04, upper: float | None = 1.03) -> Document:
    slo = [
        limit("p99_ttft_ms", 1000.0, ttft_p99, None if upper is None else ttft_p99 * upper),
        limit("p99_tpot_ms", 50.0, tpot_p99, None if upper is None else tpot_p99 * upper),
    ]
    return {
        "requests": 100_000,
        "queries": 100_000,
        "duration_s": 1190.5,
        "request_throughput": 84.0,
        "query_throughput": 84.0,
        "output_throughput": 25_204.2,
        "total_token_throughput": 176_400.4,
        "ttft_ms": latency(270.1),
        "ttft_from_send_ms": latency(270.1),
        "tpot_ms": latency(13.0),
        "itl_ms": latency(13.2),
        "e2e_ms": latency(4100.4),
        "band80": {},
        "goodput_rps": 83.4,
        "goodput_share": 0.993,
        "failed": 0,
        "slo_met": all(row["met"] for row in slo),
        "slo": slo,
        "saturated": False,
        "kv_cache_tokens": 438_912,
        "kv_cache_usage": {"mean": 0.312, "max": 0.561},
        "prefix_cache_hit_rate": 0.2222,
        "num_preemptions": 0,
        "utilisation": 0.871,
        "clipped_share": 0.0021,
        "cached_share": 0.3,
        "notes": ["12 prompts were raised to 401 tokens"],
        "memory": {"usable_gib": 72.8, "weights_other_layers_gib": 33.1, "cuda_graphs_gib": 0, "kv_cache_gib": 39.7},
        "ledger": {"steps": 120_000, "running_mean": 46.1, "waiting_mean": 0.3},
    }


SCENARIO: Document = {
    "version": 1,
    "name": "AI search, answer page",
    "model": "llama-3.3-70b",
    "hardware": ["h100-sxm-80gb", "h200-sxm-141gb"],
    "traffic": {"peak_qps": 120.0, "arrivals": "poisson"},
    "slo": {"p99_ttft_ms": "<=1000", "p99_tpot_ms": "<=50"},
    "fleet": {"spare_replicas": 1, "min_replicas": 1},
}
FLEET: Document = {
    "hardware": "h100-sxm-80gb",
    "gpus": 14,
    "replicas": 7,
    "spare_replicas": 1,
    "gpus_per_replica": 2,
    "routing": "least_loaded",
    "engine": {"quantization": "fp8", "kv_cache_dtype": "auto", "tensor_parallel_size": 2, "data_parallel_size": 1},
}
MODEL = {"name": "llama-3.3-70b", "hf_repo": "meta-llama/Llama-3.3-70B-Instruct"}
DAY_QUERIES = 7_702_560.0


def origin(kind: str, what: str, errs: str = "") -> Document:
    row = {"what": what, "kind": kind, "source": "a source with a long title, read by hand " * 3, "errs": errs}
    return row | {"value": "5.2 ms", "date": "2026-11-22", "vllm_version": "0.12"}


PROVENANCE = [
    origin("assumed", "engine loop", "unknown"),
    origin("assumed", "asynchronous scheduling", "optimistic"),
    *(origin("fitted", f"overhead {index}") for index in range(9)),
    origin("datasheet", "hardware.h100-sxm-80gb"),
]
TOO_BIG = (
    "engine.tensor_parallel_size (=1): llama-3.3-70b in bf16 does not fit {}: weights 131.4 GiB + overhead 2.7 GiB > "
    "{} GiB usable a GPU; nearest: tensor_parallel_size 4"
)


def alternative(hardware: str, tp: int, gpus: int | None, usd_per_query: float | None, **other: Any) -> Document:
    row: Document = {"model": "llama-3.3-70b", "hardware": hardware, "routing": "least_loaded", "reason": None}
    row |= {"engine": {"quantization": "bf16", "tensor_parallel_size": tp}, "feasible": gpus is not None}
    row |= {"replicas": None if gpus is None else gpus // tp, "gpus": gpus, "usd_per_query": usd_per_query}
    row |= {"usd_per_hour": None if gpus is None else 3.0 * gpus, "utilisation": 0.8, "verified": True}
    return row | {"chosen": False} | other


ALTERNATIVES = [
    alternative("h100-sxm-80gb", 2, 14, 0.0012, chosen=True),
    alternative("h200-sxm-141gb", 2, 16, 0.00138, verified=False),
    alternative("h100-sxm-80gb", 1, None, None, reason=TOO_BIG.format("h100-sxm-80gb", 72.8), model=None, routing=None),
    alternative("h200-sxm-141gb", 1, None, None, reason=TOO_BIG.format("h200-sxm-141gb", 129.1)),
]
PLAN: Document = {
    "schema_version": 1,
    "scenario": SCENARIO,
    "seed": 0,
    "model": MODEL,
    "feasible": True,
    "fleet": FLEET,
    "at_peak": run(),
    "one_fewer": run(ttft_p99=2310.0, tpot_p99=46.0),
    "one_fewer_gap": "p99_ttft_ms 2,379 > 1,000",
    "day": [
        {"hour": hour, "queries": DAY_QUERIES / 24 * share, "cost": 42.0, "utilisation": 0.8 * share}
        for hour, share in enumerate([0.5] * 12 + [1.5] * 12)
    ],
    "capacity_curve": [{"serving": 5, "met": False}, {"serving": 6, "met": True}],
    "distributions": {},
    "cost": {"usd_per_hour": 385.128, "usd_per_query": 0.0012, "usd_per_million_tokens": 0.815},
    "cost_lines": [
        {"what": "GPUs", "quantity": 336.0, "unit": "GPU-hour", "unit_price_usd": 2.985, "product_usd": 1002.96},
        {"what": "retrieval", "quantity": 5e6, "unit": "uncached query", "unit_price_usd": 1e-5, "product_usd": 50.0},
    ],
    "revenue": {"usd_per_query": 0.0449, "query_rpm_usd": 44.9},
    "margin": {"usd_per_query": 0.0437, "fraction": 0.9733, "cost_share_of_revenue": 0.0267},
    "break_even": {"qps": 3.21, "rpm_usd": 1.2, "gpu_hour_usd": 111.7},
    "economics_notes": ["cost per query is stated at the day's load shape, cached queries included"],
    "alternatives": ALTERNATIVES,
    "waterfall": [],
    "confidence": {"rule": "the upper end decides", "level": 0.95, "batches": 20, "samples": 100_000},
    "provenance": PROVENANCE,
}
SIMULATION: Document = {
    "schema_version": 1,
    "scenario": SCENARIO,
    "seed": 7,
    "model": MODEL,
    "fleet": FLEET,
    **run(),
    "wall_s": 0.0213,
    "provenance": PROVENANCE,
}


def probe(rate: float, ttft_ms: float, upper_ms: float, saturated: bool = False) -> Document:
    figures = {"p99_ttft_ms": ttft_ms, "p99_ttft_ms_upper": upper_ms, "utilisation": 0.9}
    met = upper_ms <= 1000 and not saturated
    return {"rate_qps": rate, "met": met, "saturated": saturated, "full_length": True, **figures}


CAPACITY: Document = {
    "schema_version": 1,
    "scenario": SCENARIO,
    "seed": 0,
    "vary": "rate",
    "max_rate_qps": 20.2,
    "limited_by": "p99_ttft_ms 1,031 > 1,000",
    "probes": [probe(20.0, 930, 951), probe(20.2, 970, 990), probe(20.4, 1002, 1031), probe(40.0, 9e4, 9.2e4, True)],
    "model": MODEL,
    "fleet": FLEET,
    "at_max": run(970.0),
    "kv_cache_tokens": 438_912,
    "provenance": PROVENANCE,
}
NO_FLEET: Document = PLAN | {
    "feasible": False,
    "model": None,
    "fleet": None,
    "at_peak": None,
    "one_fewer": None,
    "day": [],
    "cost": None,
    "alternatives": [
        alternative("h100-sxm-80gb", 1, None, None, reason=TOO_BIG.format("h100-sxm-80gb", 72.8)),
        alternative("h100-sxm-80gb", 2, None, None, reason="even an idle replica misses p99_ttft_ms 1,010 > 1,000"),
        alternative(
            "h200-sxm-141gb",
            2,
            None,
            None,
            reason="fleet.max_gpus: 4 serving replicas are too few (p99_tpot_ms 61 > 50)",
        ),
    ],
    "scenario": SCENARIO | {"fleet": {"max_gpus": 8, "spare_replicas": 0}},
}
