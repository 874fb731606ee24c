"""One replica's figures at one moment, or what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from planner import vllm_metrics as names
from planner.errors import EndpointError
from planner.live.endpoint import LATE, Endpoint
from planner.live.metrics import Scrape, parse_scrape
from planner.observed import ROUNDING, Trouble

MOST_SCRAPE_BYTES = 8_000_000  # an engine's exposition has some 60 kB
ENDED_WELL = ("stop", "length", "repetition")  # values of `finished_reason`: an answer came, whole or cut off
ENDED_BADLY = ("abort", "error")
GOOD, FAILED = "requests that ended well", "requests that failed"
COUNTERS = (
    names.PREFIX_QUERIES_TOTAL,
    names.PREFIX_HITS_TOTAL,
    names.GENERATION_TOKENS_TOTAL,
    names.PREEMPTIONS_TOTAL,
)
LATENCIES = {names.TTFT: "ttft_ms", names.TPOT: "tpot_ms", names.ITL: "itl_ms", names.E2E: "e2e_ms"}
MEANS = (*LATENCIES, names.REQUEST_PROMPT, names.REQUEST_GENERATION)
REQUIRED = (names.RUNNING, names.SUCCESS_TOTAL)
NOT_A_BUCKET = -1.0
MODEL_KEY = "monitor.model_name"
MORE_HITS = f"{names.PREFIX_HITS_TOTAL} grows by more than {names.PREFIX_QUERIES_TOTAL}, of which it is a part"
_GARBAGE = ("no Prometheus text", "half an answer", "more than", "a redirect", "no valid HTTP")

Key = tuple[str, float]  # a counter's name and NOT_A_BUCKET, or a histogram's name and a bucket's upper bound


class Reading(NamedTuple):
    """`at_s` is the steady clock's. `counts` only grow while the server lives; what it does not tell is not there."""

    at_s: float
    counts: Mapping[Key, float]
    running: float
    waiting: float | None
    kv_usage: tuple[float, ...]  # by engine
    models: frozenset[str]
    engines: int = 1


def read_replica(endpoint: Endpoint, source: str, model_name: str | None, timeout_s: float) -> Scrape | Trouble:
    """Scrape one replica. Whatever goes wrong with it is a Trouble, never an exception."""
    try:
        answer = endpoint.get("/metrics", timeout_s, MOST_SCRAPE_BYTES)
        if answer.status != 200:
            return Trouble(source, "down", f"HTTP {answer.status} to GET /metrics{_remedy(answer.status)}")
        if answer.text.lstrip()[:1] == "<":
            return Trouble(source, "garbage", "a web page instead of metrics; is this vLLM's own port?")
        if answer.text and not answer.text.endswith("\n"):
            return Trouble(source, "garbage", "an exposition that ends within a line")
        return parse_scrape(answer.text, endpoint.url, buckets=tuple(LATENCIES), model_name=model_name)
    except EndpointError as error:
        return trouble_of(source, error)


def trouble_of(source: str, error: EndpointError) -> Trouble:
    """What an unanswered question means: nobody there, too late, or no answer of the kind that was asked for."""
    reason = "slow" if error.came == LATE else "garbage" if error.came.startswith(_GARBAGE) else "down"
    return Trouble(source, reason, f"{error.came}{f'; {error.remedy}' if error.remedy else ''}")


def two_models(models: Sequence[str]) -> Trouble:
    """Figures of several models are those of no fleet that a plan is about."""
    text = f"several models answer: {', '.join(models[:5])}{' …' if len(models) > 5 else ''}; say which one"
    return Trouble(MODEL_KEY, "impossible", text)


def _remedy(status: int) -> str:
    return {401: "; does a gateway want a key?", 403: "; does a gateway want a key?", 404: "; is this vLLM?"}.get(
        status, ""
    )


def checked(scrape: Scrape, source: str, model_name: str | None, at_s: float) -> Reading | Trouble:
    """A scrape's figures once they have been looked at: a replica of which one is impossible is not believed at all."""
    missing = [name for name in REQUIRED if name not in scrape.totals]
    if model_name is not None and scrape.models and model_name not in scrape.models:
        found = ", ".join(sorted(scrape.models))
        return Trouble(source, "missing", f"no metrics of model {model_name}; it serves: {found}")
    if missing:
        return Trouble(source, "missing", f"no {' and no '.join(missing)}; is this vLLM's own port?")
    if scrape.ragged:
        return Trouble(source, "garbage", f"{min(scrape.ragged)} is told by some engines only: half an exposition")
    for name, value in _values(scrape):
        if not math.isfinite(value) or value < 0:
            return Trouble(source, "impossible", f"{name} is {value:g}")
    if any(share > 1.001 for share in scrape.kv_usage):
        return Trouble(source, "impossible", f"{names.KV_USAGE} is {max(scrape.kv_usage):g}, a share")
    broken = next((name for name in LATENCIES if not _is_histogram(scrape, name)), None)
    if broken is not None:
        return Trouble(source, "garbage", f"{broken}'s buckets do not add up to its count: half an exposition")
    counts: dict[Key, float] = {
        (name, NOT_A_BUCKET): scrape.totals[name]
        for name in (*COUNTERS, *(f"{name}{end}" for name in MEANS for end in ("_sum", "_count")))
        if name in scrape.totals
    }
    if more_hits_than_queries(counts):
        return Trouble(source, "impossible", MORE_HITS)
    counts[GOOD, NOT_A_BUCKET] = sum(scrape.success.get(reason, 0.0) for reason in ENDED_WELL)
    counts[FAILED, NOT_A_BUCKET] = sum(scrape.success.get(reason, 0.0) for reason in ENDED_BADLY)
    for name, buckets in scrape.buckets.items():
        counts |= {(name, bound): count for bound, count in sorted(buckets.items())}
    return Reading(
        at_s,
        counts,
        scrape.totals[names.RUNNING],
        scrape.totals.get(names.WAITING),
        scrape.kv_usage,
        scrape.models if model_name is None else frozenset({model_name}),
        max(len(scrape.engines), 1),
    )


def more_hits_than_queries(counts: Mapping[Key, float]) -> bool:
    """Whether more prompt tokens were found in the prefix cache than were looked up there."""
    hits, queries = (counts.get((name, NOT_A_BUCKET)) for name in (names.PREFIX_HITS_TOTAL, names.PREFIX_QUERIES_TOTAL))
    return hits is not None and queries is not None and hits > queries * (1.0 + ROUNDING)


def _values(scrape: Scrape) -> Iterable[tuple[str, float]]:
    yield from scrape.totals.items()
    for share in scrape.kv_usage:
        yield names.KV_USAGE, share
    for reason, count in scrape.success.items():  # a fall of one must not hide in the sum
        yield f'{names.SUCCESS_TOTAL}{{finished_reason="{reason}"}}', count
    for name, buckets in scrape.buckets.items():
        for count in buckets.values():
            yield f"{name}_bucket", count


def _is_histogram(scrape: Scrape, name: str) -> bool:
    """Whether a histogram is whole: cumulative buckets that end at its count, or not told at all."""
    buckets, count = scrape.buckets.get(name), scrape.totals.get(f"{name}_count")
    if not buckets or count is None:
        return not buckets and count is None
    counts = [buckets[bound] for bound in sorted(buckets)]
    return buckets.get(math.inf) == count and counts == sorted(counts) and f"{name}_sum" in scrape.totals
