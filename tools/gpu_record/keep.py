"""What is kept of a recording: single requests without their texts, and what the server was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The report's own names; texts, paths and what can be computed from these are left out.
SUMMARY = ("date", "num_prompts", "request_rate", "burstiness", "max_concurrency", "duration", "completed", "failed")
REQUESTS = ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")
DIGITS = 6  # µs
LOG_LINES = re.compile(
    r"KV cache size|non-default args|Initializing a V1 LLM engine|Using .* backend|model weights take"
)
A_PATH = re.compile(r"(?<![\w.])/[\w.+-]+(?:/[\w.+-]+)+")


class NothingRecordedError(RuntimeError):
    """A run gave no request that could be kept."""


def compact(report: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """A report of `vllm bench serve --save-detailed` as one short JSON document; `told` says what was asked."""
    absent = [name for name in REQUESTS if not isinstance(report.get(name), list)]
    if absent or not report.get("completed"):
        raise NothingRecordedError(f"of {report.get('num_prompts')} requests none completed; absent: {absent}")
    starts = report["start_times"]
    began = min(starts)
    kept: dict[str, Any] = {name: report[name] for name in SUMMARY if name in report}
    kept |= {name: report[name] for name in REQUESTS}
    # From the machine's uptime to the run's own clock.
    kept["start_times"] = [start - began for start in starts]
    return json.dumps({"load": dict(told), **rounded(kept)}, separators=(",", ":")) + "\n"


def rounded(value: Any) -> Any:
    """The same with every float cut to microseconds."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def telling_lines(log: Path) -> list[str]:
    """The log's lines that say how the server was set up, without paths and without who wrote them when."""
    lines = log.read_text(errors="replace").splitlines()
    return [A_PATH.sub("…", line.partition("] ")[2] or line) for line in lines if LOG_LINES.search(line)]


def cache_config(metrics: str) -> dict[str, str]:
    """The labels of vllm:cache_config_info."""
    found = re.search(r"^vllm:cache_config_info\{(.*)\}", metrics, re.MULTILINE)
    return dict(re.findall(r'(\w+)="([^"]*)"', found[1])) if found else {}
