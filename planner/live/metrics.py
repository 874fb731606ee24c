"""vLLM's /metrics: one scrape summed over engines, and what changed between two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from planner import vllm_metrics as names
from planner.errors import EndpointError
from planner.live.endpoint import Endpoint
from planner.units import MS_PER_S

GAUGES = (names.RUNNING, names.WAITING)
COUNTERS = (
    names.PREFIX_QUERIES_TOTAL,
    names.PREFIX_HITS_TOTAL,
    names.PROMPT_TOKENS_TOTAL,
    names.GENERATION_TOKENS_TOTAL,
    names.PREEMPTIONS_TOTAL,
    names.SUCCESS_TOTAL,
)
HISTOGRAMS = (
    names.TTFT,
    names.ITL,
    names.TPOT,
    names.E2E,
    names.QUEUE,
    names.PREFILL,
    names.DECODE,
    names.ITERATION,
    names.REQUEST_PROMPT,
    names.REQUEST_GENERATION,
)
_ENDS = ("_sum", "_count")
_BUCKET = r"^(%s)_bucket\{(.*)\} (\S+)(?: -?\d+)?$"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NO_TEXT = ("GET /metrics", "no Prometheus text", "is this vLLM's own port?")
_PARTS = tuple(name + end for name in HISTOGRAMS for end in _ENDS)
_WANTED = (*GAUGES, names.KV_USAGE, names.CACHE_CONFIG, *COUNTERS, *_PARTS)


@dataclass(frozen=True)
class Scrape:
    """One reading of /metrics. What the server does not tell is not in here, which is not the same as zero.

    `totals` has gauges, counters and histograms' `…_sum` and `…_count`, summed over engines; `success` the requests
    that ended, by reason; `cache_config` the labels of each engine's KV-cache settings; `buckets` the cumulative
    counts of those histograms whose buckets were asked for, by upper bound; `ragged` the names that some engines tell
    and others do not, as in a text that was cut off.
    """

    totals: Mapping[str, float]
    success: Mapping[str, float] = field(default_factory=dict)
    kv_usage: tuple[float, ...] = ()  # share in use, by engine
    cache_config: tuple[Mapping[str, str], ...] = ()
    engines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()  # values of the label `model_name`
    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    ragged: frozenset[str] = frozenset()

    def mean(self, histogram: str) -> float | None:
        """Mean of a histogram since the server started; None where it is not told or holds nothing."""
        return _mean(self.totals, histogram)

    @property
    def is_vllm(self) -> bool:
        """Whether any of vLLM's metrics was there."""
        return bool(self.totals)


def scrape(endpoint: Endpoint, timeout_s: float = 5.0) -> Scrape:
    """Read /metrics. Raises EndpointError where there is none."""
    answer = endpoint.get("/metrics", timeout_s)
    if answer.status != 200:
        raise EndpointError(endpoint.url, "GET /metrics", f"HTTP {answer.status}", "does a gateway hide it?")
    return parse_scrape(answer.text, endpoint.url)


def parse_scrape(
    text: str, url: str = "the server", *, buckets: Sequence[str] = (), model_name: str | None = None
) -> Scrape:
    """The metrics that are read here, out of a whole exposition, and the buckets of the histograms `buckets`; with
    `model_name` those of this model alone. Raises EndpointError for a text that is none.
    """
    # Most of a server's exposition is buckets that nobody reads here, and the library's parser is slow.
    kept = [line for line in text.splitlines() if line.startswith(_WANTED) and "_bucket{" not in line]
    totals: dict[str, float] = {}
    success: dict[str, float] = {}
    usage: list[float] = []
    configs: list[Mapping[str, str]] = []
    told_by: dict[str, set[str]] = {}
    models: set[str] = set()
    try:
        for family in text_string_to_metric_families("\n".join(kept) + "\n"):
            for sample in family.samples:
                if sample.name not in _WANTED:
                    continue
                if "model_name" in sample.labels:
                    models.add(sample.labels["model_name"])
                    if model_name is not None and sample.labels["model_name"] != model_name:
                        continue
                if "engine" in sample.labels:
                    told_by.setdefault(sample.name, set()).add(sample.labels["engine"])
                if sample.name == names.CACHE_CONFIG:
                    configs.append(dict(sample.labels))
                    continue
                if sample.name == names.KV_USAGE:
                    usage.append(sample.value)
                    continue
                if sample.name == names.SUCCESS_TOTAL:
                    reason = sample.labels.get("finished_reason", "")
                    success[reason] = success.get(reason, 0.0) + sample.value
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        counts = _buckets(text, buckets, model_name) if buckets else {}
    except (ValueError, KeyError, IndexError):
        raise EndpointError(url, *_NO_TEXT) from None
    engines = frozenset().union(*told_by.values())
    ragged = frozenset(name for name, told in told_by.items() if name in totals and told != engines)
    return Scrape(totals, success, tuple(usage), tuple(configs), engines, frozenset(models), counts, ragged)


def _buckets(text: str, histograms: Sequence[str], model_name: str | None) -> dict[str, dict[float, float]]:
    """Cumulative counts by upper bound, summed over engines. Raises KeyError or ValueError for lines that are none."""
    found: dict[str, dict[float, float]] = {}
    wanted = None if model_name is None else label_text(model_name)
    for name, labelled, value in re.findall(_BUCKET % "|".join(histograms), text, re.MULTILINE):
        labels = dict(_LABEL.findall(labelled))
        if wanted is not None and labels.get("model_name", wanted) != wanted:
            continue
        counts = found.setdefault(name, {})
        bound = float(labels["le"])
        counts[bound] = counts.get(bound, 0.0) + float(value)
    return found


def label_text(value: str) -> str:
    """A label's value as it stands between quotes in an exposition and in PromQL."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def changes(before: Scrape, after: Scrape) -> dict[str, Any]:
    """What the server did between two scrapes, by its own figures.

    What either scrape lacks is left out. Where a counter fell the server was restarted meanwhile: `restarted` then
    says so and nothing else is claimed.
    """
    common = before.totals.keys() & after.totals.keys()
    moved = {name: after.totals[name] - before.totals[name] for name in common if name not in GAUGES}
    if any(change < 0 for change in moved.values()):
        return {"restarted": True}
    found: dict[str, Any] = {}
    for key, name in (
        ("requests_finished", names.SUCCESS_TOTAL),
        ("prompt_tokens", names.PROMPT_TOKENS_TOTAL),
        ("generation_tokens", names.GENERATION_TOKENS_TOTAL),
        ("num_preemptions", names.PREEMPTIONS_TOTAL),
        ("steps", f"{names.ITERATION}_count"),
    ):
        if name in moved:
            found[key] = round(moved[name])
    reasons = {key: round(after.success[key] - before.success.get(key, 0.0)) for key in after.success}
    if any(reasons.values()):
        found["finished_reasons"] = {key: count for key, count in reasons.items() if count}
    queried = moved.get(names.PREFIX_QUERIES_TOTAL)
    if queried and names.PREFIX_HITS_TOTAL in moved:
        found["prefix_cache_hit_rate"] = moved[names.PREFIX_HITS_TOTAL] / queried
    for key, name in (
        ("ttft_mean_ms", names.TTFT),
        ("itl_mean_ms", names.ITL),
        ("e2e_mean_ms", names.E2E),
        ("queue_mean_ms", names.QUEUE),
        ("prefill_mean_ms", names.PREFILL),
        ("decode_mean_ms", names.DECODE),
    ):
        mean = _mean(moved, name)
        if mean is not None:
            found[key] = mean * MS_PER_S
    tokens = _mean(moved, names.ITERATION)
    if tokens is not None:
        found["step_tokens_mean"] = tokens
    return found


def _mean(moved: Mapping[str, float], name: str) -> float | None:
    count = moved.get(f"{name}_count")
    return moved[f"{name}_sum"] / count if count and f"{name}_sum" in moved else None
