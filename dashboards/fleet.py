"""The dashboard *Fleet*: load, latency against the service levels, cache, replicas; from vLLM's own metrics."""

from __future__ import annotations

from dashboards.panels import AMBER, FLEET, GREEN, RED, Panel, Query, bars, figure, lines, llm, quantile, rate, vllm
from planner import vllm_metrics
from planner.metrics import names
from planner.metrics.burn_rates import SLOWER
from planner.metrics.promql import HISTOGRAM_OF

TITLE = "LLM fleet"
PERCENTILES = (0.5, 0.9, 0.99)
ABOUT = {
    "ttft": (
        "Time to first token",
        "From a request's arrival at the server to its first token. The plan's limit counts from the query's scheduled "
        "arrival, and over all its stages: this is a part of it.",
    ),
    "tpot": ("Time per output token", "Mean time per token after the first, of each finished request."),
    "itl": ("Inter-token latency", "Gaps between successive tokens of a request."),
    "e2e": ("End-to-end latency", "From a request's arrival at the server to its last token."),
}
QPS, CAPACITY = llm(names.QUERIES_PER_SECOND), llm(names.CAPACITY_QPS)


def panels() -> list[tuple[str, list[Panel]]]:
    """Rows of panels: title, panels from left to right."""
    return [
        ("Now", _now()),
        ("Load and capacity", _load()),
        ("Latency against the service levels", [*(_latency(metric) for metric in HISTOGRAM_OF), *_slow()]),
        ("Engines", _engines()),
    ]


def _now() -> list[Panel]:
    running, waiting = (vllm(name) for name in (vllm_metrics.RUNNING, vllm_metrics.WAITING))
    return [
        figure(
            "Headroom",
            "How much the load may grow until the replicas that run, less the spare ones, no longer hold the service "
            "levels. Below 0: overloaded now.",
            "percentunit",
            [Query(llm(names.HEADROOM), "headroom")],
            steps=((None, RED), (0, AMBER), (0.1, GREEN)),
            decimals=0,
        ),
        figure(
            "Queries per second",
            "User queries, cached ones included, and the most that the replicas carry as queries are now.",
            "reqps",
            [Query(QPS, "now"), Query(CAPACITY, "capacity")],
            width=5,
        ),
        figure(
            "Replicas",
            "Planned; running = they answered; wanted now by the capacity model, spare ones included.",
            "none",
            [Query(llm(names.REPLICAS, f'state="{state}"'), state) for state in names.REPLICA_STATES],
            width=6,
        ),
        figure(
            "Requests",
            "In the engines' batches, and in their queues.",
            "none",
            [Query(f"sum({running})", "running"), Query(f"sum({waiting})", "waiting")],
            width=5,
        ),
        figure(
            "Fullest KV cache",
            "Share of its blocks that requests own, of the fullest replica. At 100 % requests wait or are preempted.",
            "percentunit",
            [Query(f"max({vllm(vllm_metrics.KV_USAGE)})", "fullest")],
            steps=((None, GREEN), (0.9, AMBER), (0.98, RED)),
            decimals=0,
        ),
    ]


def _load() -> list[Panel]:
    return [
        lines(
            "Load against capacity",
            "User queries per second, and the most that the replicas that run carry within the service levels with "
            "tokens and hit rates as they are now.",
            "reqps",
            [Query(QPS, "queries", "total"), Query(CAPACITY, "capacity", "limit")],
            width=8,
        ),
        lines(
            "Model calls that failed",
            "Aborted by the client, or ended in an error, a second. Their work is done: they count as load, not "
            "as queries.",
            "reqps",
            [Query(llm(names.FAILED_CALLS), "failed")],
            width=8,
        ),
        lines(
            "Replicas planned, running, wanted",
            "Fewer running than wanted: the service levels are at risk. More: they cost more than the load asks for.",
            "none",
            [
                Query(llm(names.REPLICAS, 'state="running"'), "running", "total"),
                Query(llm(names.REPLICAS, 'state="wanted"'), "wanted", "limit"),
                Query(llm(names.REPLICAS, 'state="planned"'), "planned", "plan"),
            ],
            width=8,
        ),
    ]


def _latency(metric: str) -> Panel:
    title, about = ABOUT[metric]
    histogram = HISTOGRAM_OF[metric]
    mean = f"{rate(histogram + '_sum')} / {rate(histogram + '_count')}"
    return lines(
        title,
        f"{about} Percentiles over all replicas, on straight lines within vLLM's buckets; the plan's limits dashed.",
        "s",
        [
            *(Query(quantile(histogram, share), f"p{100 * share:g}") for share in PERCENTILES),
            Query(mean, "mean"),
            Query(llm(names.SLO_LIMIT, f'slo=~".*_{metric}_ms"', by="slo"), "limit {{slo}}", "limit"),
        ],
    )


def _slow() -> list[Panel]:
    return [
        lines(
            "Requests slower than their limit",
            "Share of model calls of the last hour that were slower than a percentile's limit, as the alerts count "
            "them; p99 allows 1 %. Needs the recording rules of alerts.yaml.",
            "percentunit",
            [Query(f"max by (slo) ({SLOWER}1h{{{FLEET}}})", "{{slo}}")],
        ),
        lines(
            "Time in the queue",
            "From a request's arrival to its first step. What grows first when capacity runs out.",
            "s",
            [Query(quantile(vllm_metrics.QUEUE, share), f"p{100 * share:g}") for share in PERCENTILES],
        ),
    ]


def _engines() -> list[Panel]:
    usage = vllm(vllm_metrics.KV_USAGE)
    hits = f"{rate(vllm_metrics.PREFIX_HITS_TOTAL)} / {rate(vllm_metrics.PREFIX_QUERIES_TOTAL)}"
    planned_hits = llm(names.PLAN_QUANTITY, 'quantity="prefix_cache_hit_rate"')
    states = ((vllm_metrics.RUNNING, "running"), (vllm_metrics.WAITING, "waiting"))
    return [
        lines(
            "Requests running and waiting",
            "Sums over replicas. A queue that lasts means more load than seats, KV blocks or step time.",
            "none",
            [Query(f"sum({vllm(name)})", said) for name, said in states],
        ),
        lines(
            "KV cache in use",
            "Share of its blocks that requests own: mean over replicas, and of the fullest one.",
            "percentunit",
            [Query(f"avg({usage})", "mean"), Query(f"max({usage})", "fullest replica")],
        ),
        lines(
            "Prefix cache hit rate",
            "Prompt tokens found in the cache of those looked up, and what the plan expects.",
            "percentunit",
            [Query(hits, "hit rate", "total"), Query(planned_hits, "planned", "plan")],
        ),
        lines(
            "Preemptions",
            "Requests sent back to the queue for want of KV blocks, a second: each computes its tokens again.",
            "ops",
            [Query(rate(vllm_metrics.PREEMPTIONS_TOTAL), "preemptions")],
        ),
        lines(
            "Tokens per second",
            "Prompt tokens, cached ones included, and generated tokens.",
            "tokps",
            [
                Query(rate(vllm_metrics.PROMPT_TOKENS_TOTAL), "prompt"),
                Query(rate(vllm_metrics.GENERATION_TOKENS_TOTAL), "generated"),
            ],
        ),
        lines(
            "Requests that ended",
            "By reason, a second: stop and length are answers; abort and error are not.",
            "reqps",
            [Query(rate(vllm_metrics.SUCCESS_TOTAL, by="finished_reason"), "{{finished_reason}}")],
            stacked=True,
        ),
        bars(
            "KV cache in use by replica",
            "Where one replica is much fuller than the others, routing is uneven.",
            "percentunit",
            [Query(f"max by (instance) ({usage})", "{{instance}}")],
            width=24,
            steps=((None, GREEN), (0.9, AMBER), (0.98, RED)),
        ),
    ]
