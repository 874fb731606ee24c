"""What a running fleet did, by its own metrics, over one window of time. Made by `live`, judged by `drift`.

Whatever was not told is None, which is not zero: a fleet that says it served nothing is another thing than one that
says nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from planner.errors import DataFileError, nearest_names


@dataclass(frozen=True)
class Trouble:
    """A source that gave no figure, or one that cannot be: which, what is wrong in a word for a label, and in words.

    `reason` is one of `REASONS`.
    """

    source: str
    reason: str
    text: str


FLEET = "fleet"  # the source of a trouble that is of the whole fleet
REASONS = ("down", "slow", "garbage", "impossible", "restarted", "missing", "stale", "clock")


@dataclass(frozen=True)
class Observed:
    """One window of a fleet's life.

    Rates are per second over `window_s`, which ended at `ended_unix_s`. `requests_per_s` counts model calls that ended
    well; token means are per such call. What was asked of the engines is more: calls that ended badly and those that
    the queue grew by. Latencies are vLLM's own, from its arrival at the server: means and
    percentiles by name ("ttft_ms.p99"), percentiles read off histogram buckets by linear interpolation. `busy_share`
    is the share of replica-time in which any request ran. `complete` is false where part of the fleet did not answer:
    sums are then those of the part that did.
    """

    ended_unix_s: float
    window_s: float
    replicas: float | None = None  # that answered: engines, over those that one replica has (data_parallel_size)
    asked: int | None = None  # addresses; None where Prometheus says who there is
    answered: int | None = None  # of them
    dead_targets: int | None = None  # of the fleet's scrape jobs, whose last scrape failed; None without Prometheus
    requests_per_s: float | None = None
    failed_per_s: float | None = None  # model calls that were aborted or ended in an error
    prompt_tokens: float | None = None  # mean of a model call
    output_tokens: float | None = None
    prefix_hit_rate: float | None = None  # cached ÷ looked-up prompt tokens
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    running: float | None = None  # requests in all batches, at the end of the window
    waiting: float | None = None
    waiting_growth_per_s: float | None = None  # of the queue over the window; below 0 where it shrank
    kv_usage_mean: float | None = None  # shares, over replicas, at the end of the window
    kv_usage_max: float | None = None
    preemptions_per_s: float | None = None
    busy_share: float | None = None
    queries_per_s: float | None = None  # users' queries, from the application's own metrics
    revenue_usd_per_s: float | None = None
    cost_usd_per_hour: float | None = None
    model_name: str | None = None  # as the fleet's own metrics call the model
    restarts: int = 0  # counters that began anew within the window; their increase since then is counted
    troubles: tuple[Trouble, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everybody who was asked answered."""
        return self.asked is None or self.answered == self.asked

    @property
    def queue_stands(self) -> bool:
        """Whether more requests wait than run: the fleet is asked for more than it serves."""
        return self.running is not None and self.waiting is not None and self.waiting > max(self.running, 1.0)

    @property
    def blind(self) -> bool:
        """Whether nothing at all is known of the fleet."""
        return self.replicas is None or self.requests_per_s is None

    def as_dict(self) -> dict[str, Any]:
        """A JSON document that `read_observed` reads back to an equal window."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "troubles": [asdict(one) for one in self.troubles]}


SCHEMA_VERSION = 1
SHARES = ("prefix_hit_rate", "kv_usage_mean", "kv_usage_max", "busy_share")
GROWTH = "waiting_growth_per_s"
SIGNED = (GROWTH, "revenue_usd_per_s")
COUNTS = ("asked", "answered", "dead_targets", "restarts")
MOST_UNIX_S, MOST, LEAST = 1e11, 1e15, 1e-15  # between them ratios of rates stay numbers


ROUNDING = 1e-3  # by which a share of two rates may be above 1


def believable(observed: Observed, source: str) -> Observed:
    """A window without the figures that cannot be, each a trouble of `source`: what is left, `read_observed` reads."""
    left_out: dict[str, Any] = {}
    troubles = list(observed.troubles)
    for one in fields(Observed):
        value = getattr(observed, one.name)
        if not isinstance(value, int | float):
            continue
        if one.name in SHARES and 1.0 < value <= 1.0 + ROUNDING:
            left_out[one.name] = 1.0
            continue
        try:
            _number(one.name, value, source)
        except DataFileError:
            what = "a share" if one.name in SHARES else "no figure of a fleet"
            troubles.append(Trouble(source, "impossible", f"{one.name} is {value:.4g}, {what}: it is left out"))
            left_out[one.name] = None
    return replace(observed, **left_out, troubles=tuple(troubles)) if left_out else observed


def read_observed(document: Any, where: str = "observed") -> Observed:
    """The window of a JSON document. Raises DataFileError for what is none: an unknown key, an impossible value."""
    if not isinstance(document, Mapping) or "ended_unix_s" not in document or "window_s" not in document:
        raise DataFileError(where, None, "is no window of a fleet: write one with planner drift --save-observed FILE")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataFileError(where, None, f"schema_version (={version!r}) must be {SCHEMA_VERSION}")
    known = [one.name for one in fields(Observed)]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key == "schema_version":
            continue
        if key not in known:
            raise DataFileError(where, None, f"{key}: unknown key", nearest_names(str(key), known, count=1))
        if key == "latencies_ms":
            values[key] = _latencies(value, where)
        elif key == "troubles":
            values[key] = _troubles(value, where)
        elif key == "model_name":
            values[key] = _text(key, value, where)
        elif value is not None:
            values[key] = _number(key, value, where)
    for key in ("ended_unix_s", "window_s", "restarts"):
        empty = key == "window_s" and values.get(key) == 0 and values.get("requests_per_s") is not None
        if document.get(key, 0) is None or empty:
            raise DataFileError(where, None, f"{key} (={document.get(key)!r}): must be a number above 0")
    return Observed(**values)


def _number(key: str, value: Any, where: str) -> float | int:
    kind = int if key in COUNTS else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind):
        what = "whole number" if key in COUNTS else "number"
        raise DataFileError(where, None, f"{key} (={json.dumps(value)[:40]}): must be a {what}")
    most = 1.0 if key in SHARES else MOST_UNIX_S if key == "ended_unix_s" else MOST
    least = -MOST if key in SIGNED else 0
    if not least <= value <= most:  # nor NaN
        raise DataFileError(where, None, f"{key} (={value}): must be from {least:g} to {most:g}")
    if 0 < abs(value) < LEAST and key != GROWTH:  # that is a difference, of which something tiny may be left
        raise DataFileError(where, None, f"{key} (={value}): must be 0, or at least {LEAST:g}")
    return value if key in COUNTS else float(value)


def _text(key: str, value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise DataFileError(where, None, f"{key} (={json.dumps(value)[:40]}): must be a text")
    return value


def _latencies(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise DataFileError(where, None, "latencies_ms: must be a mapping of names to milliseconds")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
            raise DataFileError(where, None, f"latencies_ms.{name}: must be a number of at least 0")
    return {str(name): float(number) for name, number in value.items()}


def _troubles(value: Any, where: str) -> tuple[Trouble, ...]:
    keys = {one.name for one in fields(Trouble)}
    if not isinstance(value, list):
        raise DataFileError(where, None, "troubles: must be a list")
    for one in value:
        if not isinstance(one, Mapping) or set(one) != keys or not all(isinstance(text, str) for text in one.values()):
            raise DataFileError(where, None, f"troubles: each must have the texts {', '.join(sorted(keys))}")
        if one["reason"] not in REASONS:
            rule = f"troubles: reason (={one['reason']!r}) must be one of {', '.join(REASONS)}"
            raise DataFileError(where, None, rule)
    return tuple(Trouble(**one) for one in value)
