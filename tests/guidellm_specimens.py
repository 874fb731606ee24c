"""Reports of GuideLLM with single requests, written by hand after the schemas of its releases.

Every key that the releases write on a request stands here, also those that nobody reads: a reader must bear them.
Three requests each: one answered, one errored before it was sent, one cut off after its first token.
"""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
START = 1_790_000_000.0  # a day of 2026, in Unix seconds


def current(strategy: str = "constant", **changes: Any) -> Document:
    """GuideLLM 0.8.1: `GenerativeRequestStats` of guidellm/schemas/base/request_stats.py, times in `info.timings`.

    `changes` are of the answered request.
    """
    answered = {
        "type_": "generative_request_stats",
        "request_id": "a",
        "response_id": "cmpl-1",
        "request_args": '{"stream":true}',
        "output": "four tokens of text",
        "reasoning_output": None,
        "tool_calls": None,
        "info": _info("completed", START + 0.1, START + 0.3, START + 0.6, 4),
        "input_metrics": _usage(100) | {"cached_tokens": 64},
        "response_metrics": None,
        "output_metrics": _usage(4) | {"cached_tokens": None},
        "request_start_time": START + 0.1,
        "request_end_time": START + 0.62,
        "request_latency": 0.52,
        "request_dispatch_delay": 0.1,
        "prompt_tokens": 100,
        "cached_tokens": 64,
        "output_tokens": 4,
        "total_tokens": 104,
        "time_to_first_token_ms": 200.0,
        "time_per_output_token_ms": 125.0,
        "inter_token_latency_ms": 100.0,
    }
    unsent = answered | {"info": _info("errored", None, None, None, 0), "request_start_time": None}
    cut = answered | {"info": _info("cancelled", START + 0.2, START + 0.5, START + 0.55, 2), "output_tokens": None}
    cut |= {"output_metrics": _usage(None), "input_metrics": _usage(50), "prompt_tokens": 50}
    return {
        "metadata": {"version": 2, "guidellm_version": "0.8.1"},
        "config": {"backend": {"kind": "openai_http", "model": "m"}},
        "benchmarks": [
            {
                "type_": "generative_benchmark",
                "config": {"strategy": {"type_": strategy, "rate": 10.0}, "sample_size": None},
                "scheduler_metrics": {"requests_made": {"successful": 1, "errored": 1, "incomplete": 1, "total": 3}},
                "metrics": {"request_totals": {"successful": 1, "errored": 1, "incomplete": 1, "total": 3}},
                "requests": {
                    "successful": [answered | changes],
                    "errored": [unsent],
                    "incomplete": [cut],
                    "total": None,
                },
            }
        ],
        "conclusions": [],
    }


def previous(strategy: str = "constant", **changes: Any) -> Document:
    """GuideLLM 0.4.0 and 0.5: as now, but no tokens from the cache, `request_type` and, in 0.4.0, `input_tokens`."""
    report = current(strategy)
    report["metadata"] = {"version": 1, "guidellm_version": "0.4.0"}
    report["args"] = {"target": "http://127.0.0.1:8000", "model": "m"}
    del report["config"], report["conclusions"]
    (benchmark,) = report["benchmarks"]
    for group in ("successful", "errored", "incomplete"):
        for request in benchmark["requests"][group]:
            for name in ("cached_tokens", "reasoning_output", "tool_calls", "response_metrics"):
                del request[name]
            request |= {"request_type": "text_completions", "input_tokens": request["prompt_tokens"]}
            request["input_metrics"] = _usage(request["prompt_tokens"])
    benchmark["requests"]["successful"][0] |= changes
    return report


def flat(strategy: str = "constant", **changes: Any) -> Document:
    """GuideLLM 0.3.1: `GenerativeTextResponseStats` of guidellm/benchmark/benchmark.py, times flat on the request.

    A time that never came is −1, or null on a request that errored.
    """
    scheduled = {"targeted_start_time": START, "queued_time": START - 1.0, "process_id": 3, "completed": True}
    answered = {
        "type_": "generative_text_response",
        "request_id": "a",
        "request_type": "text_completions",
        "scheduler_info": scheduled,
        "prompt": "a hundred tokens of text",
        "output": "four tokens of text",
        "prompt_tokens": 100,
        "output_tokens": 4,
        "start_time": START + 0.1,
        "end_time": START + 0.62,
        "first_token_time": START + 0.3,
        "last_token_time": START + 0.6,
        "request_latency": 0.52,
        "time_to_first_token_ms": 200.0,
    }
    errored = answered | {"type_": "generative_text_error", "error": "ReadTimeout", "output": None}
    unsent = errored | {"start_time": -1.0, "end_time": -1.0, "first_token_time": None, "last_token_time": None}
    cut = errored | {"start_time": START + 0.2, "first_token_time": START + 0.5, "last_token_time": START + 0.55}
    cut |= {"prompt_tokens": 50, "output_tokens": 2, "scheduler_info": scheduled | {"targeted_start_time": -1}}
    return {
        "benchmarks": [
            {
                "type_": "generative_benchmark",
                "args": {"strategy": {"type_": strategy, "rate": 10.0}, "warmup_number": None},
                "run_stats": {"requests_made": {"successful": 1, "errored": 1, "incomplete": 1, "total": 3}},
                "request_totals": {"successful": 1, "errored": 1, "incomplete": 1, "total": 3},
                "request_samples": None,
                "requests": {
                    "successful": [answered | changes],
                    "errored": [unsent],
                    "incomplete": [cut],
                    "total": None,
                },
            }
        ]
    }


def _info(status: str, sent: float | None, first: float | None, last: float | None, tokens: int) -> Document:
    timings = {
        "targeted_start": START,
        "queued": START - 1.0,
        "dequeued": START - 0.1,
        "scheduled_at": START,
        "resolve_start": sent,
        "request_start": sent,
        "first_request_iteration": first,
        "first_token_iteration": first,
        "last_token_iteration": last,
        "last_request_iteration": last,
        "request_iterations": tokens,
        "token_iterations": tokens,
        "request_end": None,
        "resolve_end": START + 0.62,
        "finalized": START + 0.63,
    }
    return {"request_id": "a", "status": status, "scheduler_node_id": 1, "timings": timings, "error": None}


def _usage(tokens: int | None) -> Document:
    return {"text_tokens": tokens, "text_words": None, "image_tokens": None, "total_tokens": tokens}
