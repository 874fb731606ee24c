"""What a simulated fleet did: its limits, its latencies, its engines; and what it was asked to do."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts, paragraph, table
from planner.summary.words import ABSENT, gpu_name, limit_name, milliseconds, number, percent, plural

Document = dict[str, Any]

_LATENCIES = (
    ("TTFT", "ttft_ms"),
    ("TTFT from send", "ttft_from_send_ms"),
    ("TPOT", "tpot_ms"),
    ("ITL", "itl_ms"),
    ("E2E", "e2e_ms"),
)
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_REASONS = (("rejected", "rejected"), ("timed_out", "timed out"))
_FEW = 1e-4  # a share of failed queries below it is no news for a headline
_PARALLEL = (("tensor", "TP"), ("pipeline", "PP"), ("data", "DP"))


def fleet_words(fleet: Document, model: Document) -> str:
    """ "14 × H100 SXM 80 GB (7 replicas of llama-3.3-70b fp8, TP 2, 1 of them spare)"."""
    described = [f"{plural(fleet.get('replicas'), 'replica')} of {model.get('name') or 'the model'}"]
    described[0] += _suffixed(engine_words(fleet.get("engine") or {}))
    if fleet.get("spare_replicas"):
        described.append(f"{number(fleet['spare_replicas'])} of them spare")
    hardware = gpu_name(fleet.get("hardware") or "GPU")
    return f"{number(fleet.get('gpus'))} × {hardware} ({', '.join(described)})"


def engine_words(engine: Document) -> str:
    """ "fp8, TP 2, KV cache fp8": number format and how the model is split over GPUs."""
    words = [str(engine["quantization"])] if engine.get("quantization") else []
    for name, short in _PARALLEL:
        size = engine.get(f"{name}_parallel_size")
        if size is not None and size > 1:
            words.append(f"{short} {size}")
    if engine.get("enable_expert_parallel"):
        words.append("expert parallel")
    if engine.get("kv_cache_dtype") not in (None, "auto"):
        words.append(f"KV cache {engine['kv_cache_dtype']}")
    return ", ".join(words)


def demand_words(scenario: Document) -> str:
    """What the fleet has to serve, or "" where the scenario is not there: "120 queries/s"."""
    traffic = scenario.get("traffic") or {}
    arrivals = traffic.get("arrivals")
    kind = next(iter(arrivals)) if isinstance(arrivals, dict) and arrivals else None
    given = (arrivals or {}).get(kind) or {} if kind else {}
    match kind:
        case "closed":
            return f"a closed loop of {plural(given.get('concurrency'), 'client')}"
        case "offline":
            return f"a batch of {plural(given.get('requests'), 'query')}"
        case "trace":
            speed = given.get("speedup")
            return "the trace" + (f" at {number(speed)} × its own rate" if speed not in (None, 1) else "")
    return "" if traffic.get("peak_qps") is None else f"{number(traffic['peak_qps'])} queries/s"


def limits_of(scenario: Document, run: Document | None = None) -> list[Document]:
    """A run's judged limits; those of the scenario, unjudged, where there is no run."""
    judged = list((run or {}).get("slo") or [])
    known = {limit.get("key") for limit in judged}
    for key, value in (scenario.get("slo") or {}).items():
        if key not in known:
            judged.append({"key": key, "limit_ms": _bound_ms(value)})
    return judged


def judging_words(limits: list[Document]) -> str:
    """How limits are judged, as the end of a title."""
    if any(limit.get("upper_ms") is not None for limit in limits):
        return " (judged by the upper end of the 95 % interval)"
    judged = any(limit.get("value_ms") is not None for limit in limits)
    return " (judged by the run's own figure)" if judged else ""


def limit_lines(limits: list[Document]) -> list[str]:
    """Each limit with the value it judges, the upper end of the value's interval, and how far that is off."""
    if not limits:
        return ["  none given (slo): nothing is judged"]
    if all(limit.get("met") is None and limit.get("value_ms") is None for limit in limits):
        bare = [[limit_name(limit.get("key", "limit")), f"≤ {milliseconds(limit.get('limit_ms'))}"] for limit in limits]
        return table(bare, "<>")
    interval = any(limit.get("upper_ms") is not None for limit in limits)
    rows = [["", "limit", "value", "upper end" if interval else "", "", ""]]
    for limit in limits:
        rows.append(
            [
                limit_name(limit.get("key", "limit")),
                f"≤ {milliseconds(limit.get('limit_ms'))}",
                milliseconds(limit.get("value_ms")),
                milliseconds(limit["upper_ms"]) if limit.get("upper_ms") is not None else "",
                _verdict(limit.get("met")),
                distance(limit),
            ]
        )
    return table(rows, "<>>><<")


def distance(limit: Document) -> str:
    """How far the judged figure (the upper end, or else the value) is from its limit."""
    bound = limit.get("limit_ms")
    judged = limit.get("upper_ms") if limit.get("upper_ms") is not None else limit.get("value_ms")
    if not bound or judged is None:
        return _undetermined(limit.get("met"))
    if limit.get("met") is False and judged <= bound:
        return "the interval has no finite upper end"
    off = judged / bound - 1
    if off > 1:
        return f"{number(round(judged / bound, 1))} × the limit"
    return f"{percent(abs(off))} {'above' if off > 0 else 'below'} the limit"


def _failed(run: Document) -> str:
    """ "12 queries (10 rejected, 2 timed out), counted as missing the limits"."""
    if not run.get("failed"):
        return ""
    why = [f"{number(run[key])} {name}" for key, name in _REASONS if run.get(key)]
    shown = f" ({', '.join(why)})" if why else ""
    return f"{plural(run['failed'], 'query')}{shown}, counted as missing the limits"


def failed_sentence(run: Document) -> str:
    """What share of the queries got no answer, and why; "" below a hundredth of a per cent."""
    if not run.get("failed") or not run.get("queries") or run["failed"] / run["queries"] < _FEW:
        return ""
    why = [f"{percent(run[key] / run['queries'])} {name}" for key, name in _REASONS if run.get(key)]
    shown = f" ({', '.join(why)})" if why else ""
    return f"{percent(run['failed'] / run['queries'])} of the queries get no answer{shown}."


def judged_ms(figures: Document, key: str) -> float | None:
    """The judged figure of limit `key` among a run's named figures: its upper end if there is one."""
    upper = figures.get(f"{key}_upper")
    return figures.get(key) if upper is None else upper


def broken_limits(run: Document) -> list[str]:
    """Names of the limits that a run does not hold."""
    return [limit_name(limit.get("key", "limit")) for limit in run.get("slo") or [] if limit.get("met") is False]


def saturation_lines(run: Document, indent: str = "") -> list[str]:
    """The warning that no steady state stands behind the figures."""
    if not run.get("saturated"):
        return []
    return paragraph(
        "SATURATED: more arrives than is served, and the backlog was still growing when the run ended. The figures "
        "are those of this finite run, NOT of a steady state: a longer run would show longer waits.",
        indent,
    )


def warning_lines(document: Document) -> list[str]:
    """What must be known before the figures are believed."""
    return [line for text in document.get("warnings") or [] for line in paragraph(f"WARNING: {text}.", "", "  ")]


def latency_lines(run: Document) -> list[str]:
    """Mean and percentiles of every latency, in milliseconds."""
    rows = [
        [name, *(_bare_ms(run[key].get(statistic)) for statistic in _STATISTICS)]
        for name, key in _LATENCIES
        if run.get(key)
    ]
    return table([["[ms]", *_STATISTICS], *rows], "<>>>>>") if rows else []


def engine_lines(run: Document, fleet: Document) -> list[str]:
    """Throughput, cache, batch and utilisation of a run as aligned lines."""
    return facts(engine_facts(run, fleet))


def engine_facts(run: Document, fleet: Document) -> list[tuple[str, str]]:
    """Throughput, cache, batch and utilisation of a run, each with its name; no text where the run holds no figure."""
    ranks = (fleet.get("engine") or {}).get("data_parallel_size") or 1
    one = "per replica" if ranks == 1 else "per data-parallel rank"
    usage, ledger = run.get("kv_cache_usage") or {}, run.get("ledger") or {}
    return [
        ("throughput", _throughput(run)),
        ("goodput", _goodput(run)),
        ("utilisation", _and([(run.get("utilisation"), lambda x: f"engines busy {percent(x)} of the time")])),
        (
            "batch",
            _and(
                [
                    (ledger.get("running_mean"), lambda x: f"{number(x)} requests running {one}"),
                    (ledger.get("waiting_mean"), lambda x: f"{number(x)} waiting"),
                ],
                " (means over time)",
            ),
        ),
        (
            "KV cache",
            _and(
                [
                    (run.get("kv_cache_tokens"), lambda x: f"{number(x)} tokens {one}"),
                    (usage.get("mean"), lambda x: f"{percent(x)} in use on average"),
                    (usage.get("max"), lambda x: f"{percent(x)} at most"),
                ]
            ),
        ),
        (
            "prefix cache",
            _and(
                [
                    (run.get("prefix_cache_hit_rate"), lambda x: f"{percent(x)} of the prompt tokens found"),
                    (run.get("saved_prefill_tokens") or None, lambda x: f"{_many(x)} saved"),
                    (run.get("evicted_blocks") or None, lambda x: f"{_many(x)} cached blocks evicted"),
                ]
            ),
        ),
        ("preemptions", _and([(run.get("num_preemptions"), number)])),
        (
            "failed",
            _failed(run),
        ),
        ("clipped", _clipped(run)),
        (
            "response cache",
            f"answers {percent(run['cached_share'])} of the users' queries" if run.get("cached_share") else "",
        ),
    ]


def _throughput(run: Document) -> str:
    same = run.get("query_throughput") == run.get("request_throughput")
    return _and(
        [
            (run.get("query_throughput"), lambda x: f"{number(x)} queries/s through the model"),
            (None if same else run.get("request_throughput"), lambda x: f"{number(x)} requests/s"),
            (run.get("output_throughput"), lambda x: f"{number(round(x))} output tokens/s"),
            (run.get("total_token_throughput"), lambda x: f"{number(round(x))} with the prompts'"),
        ]
    )


def _goodput(run: Document) -> str:
    if not run.get("slo"):
        return ""
    return _and(
        [
            (run.get("goodput_rps"), lambda x: f"{number(x)} queries/s meet every limit"),
            (run.get("goodput_share"), lambda x: f"{percent(x)} of the queries"),
        ]
    )


def _clipped(run: Document) -> str:
    share = run.get("clipped_share")
    if not share:
        return "" if share is None else "no request was cut to fit max_model_len"
    return f"{percent(share)} of the requests were cut to fit max_model_len"


def _and(parts: list[tuple[Any, Any]], end: str = "") -> str:
    shown = [words(value) for value, words in parts if value is not None]
    return ", ".join(shown) + end if shown else ""


def _many(count: int) -> str:
    """A count, from a million on in millions."""
    return number(count) if count < 1e6 else f"{number(count / 1e6)} M"


def _verdict(met: bool | None) -> str:
    return "not judged" if met is None else "holds" if met else "FAILS"


def _undetermined(met: bool | None) -> str:
    if met is None:
        return "not simulated"
    return "no query has such a figure" if met else "not finite: too many queries failed"


def _bare_ms(value: float | None) -> str:
    return ABSENT if value is None else milliseconds(value).removesuffix(" ms")


def _bound_ms(value: Any) -> float | None:
    try:
        return float(str(value).removeprefix("<="))
    except ValueError:
        return None


def _suffixed(text: str) -> str:
    return f" {text}" if text else ""
