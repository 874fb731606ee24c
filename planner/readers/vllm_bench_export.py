"""A recording as the JSON of `vllm bench serve --save-result --save-detailed`, for tools that read that.

Names as in vLLM 0.32. Its clock starts when a request is sent, so what waited at the client does not show in here; our
own figures, from the scheduled arrival, stay in the records. Texts are not kept and left out. The warm-up is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from planner.errors import DataFileError
from planner.readers.recordings import F64, Recording
from planner.records import RunHeader
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.units import MS_PER_S

PERCENTS = (50, 90, 95, 99)


def vllm_bench_document(recording: Recording) -> dict[str, Any]:
    """The document of a run of our own. Raises DataFileError where no request was answered or there is no header."""
    header = recording.header
    if header is None:
        raise DataFileError("records", recording.path, "only records of planner loadtest are exported")
    places = np.flatnonzero((recording.request >= header.warmup * header.width) & np.isfinite(recording.sent_s))
    answered = recording.answered[places]
    if not answered.any():
        raise DataFileError("records", recording.path, "holds no answered request after the warm-up")
    sent_s, first_s, last_s = recording.sent_s[places], recording.first_token_s[places], recording.last_token_s[places]
    prompt = recording.prompt_tokens[places]
    output = np.where(answered, recording.output_tokens[places], 0)
    ttft_s = np.where(answered, first_s - sent_s, 0.0)  # theirs is 0, and the list of gaps empty, for a failed one
    latency_s = np.where(answered, last_s - sent_s, 0.0)
    starts = recording.gap_start
    gaps = [
        recording.gaps_s[starts[i] : starts[i + 1]] if good else np.zeros(0)
        for i, good in zip(places, answered, strict=True)
    ]
    duration_s = float(np.nanmax(np.where(answered, last_s, sent_s)) - sent_s.min())
    several = answered & (output > 1)
    tokens_in, tokens_out = int(prompt[answered].sum()), int(output.sum())
    completed = int(answered.sum())
    return {
        "date": datetime.fromisoformat(header.started_at).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai-chat" if header.api == "chat" else "openai",
        "backend": "openai-chat" if header.api == "chat" else "openai",
        "label": None,
        "model_id": header.model,
        "tokenizer_id": header.model,
        "num_prompts": len(places),
        **_demand(header),
        "duration": duration_s,
        "completed": completed,
        "failed": len(places) - completed,
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
        "request_throughput": completed / duration_s,
        "request_goodput": None,
        "output_throughput": tokens_out / duration_s,
        "total_token_throughput": (tokens_in + tokens_out) / duration_s,
        "input_lens": prompt.tolist(),
        "output_lens": output.tolist(),
        "ttfts": ttft_s.tolist(),
        "itls": [row.tolist() for row in gaps],
        "latencies": latency_s.tolist(),
        "start_times": sent_s.tolist(),
        "errors": [recording.errors[place] for place in places],
        **_statistics("ttft", ttft_s[answered]),
        **_statistics("tpot", (latency_s - ttft_s)[several] / (output[several] - 1)),
        **_statistics("itl", np.concatenate(gaps)),
        **_statistics("e2el", latency_s[answered]),
    }


def _demand(header: RunHeader) -> dict[str, Any]:
    """Their three settings of when requests are sent; "inf" = no rate of its own."""
    traffic: Mapping[str, Any] = header.scenario.get("traffic", {})
    arrivals = traffic.get("arrivals")
    closed = arrivals.get("closed", {}) if isinstance(arrivals, Mapping) else {}
    gamma = arrivals.get("gamma", {}) if isinstance(arrivals, Mapping) else {}
    rate: float | str = "inf"
    if header.demand == "open":
        cache = header.scenario.get("query", {}).get("response_cache") or {}
        emerging = "popularity" in cache
        hit_rate = response_hit_rate(Scenario.from_dict(header.scenario)) if emerging else cache.get("hit_rate", 0.0)
        rate = float(traffic["peak_qps"]) * (1.0 - hit_rate) * header.width
    return {
        "request_rate": rate,
        "burstiness": gamma.get("burstiness", 1.0),
        "max_concurrency": closed.get("concurrency", traffic.get("max_in_flight")),
    }


def _statistics(name: str, seconds: F64) -> dict[str, float]:
    """Mean, median, standard deviation and percentiles in milliseconds; 0 of nothing, as theirs."""
    values = (seconds if len(seconds) else np.zeros(1)) * MS_PER_S
    figures = {"mean": np.mean(values), "median": np.median(values), "std": np.std(values)}
    figures |= {f"p{percent}": np.percentile(values, percent) for percent in PERCENTS}
    return {f"{statistic}_{name}_ms": float(value) for statistic, value in figures.items()}
