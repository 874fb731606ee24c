"""Alert rules on service levels, by burn rate over two windows at a time.

After B. Beyer et al., *The Site Reliability Workbook*, ch. 5, "Multiwindow, Multi-Burn-Rate Alerts": the share of
requests slower than the limit, against the share that the percentile allows. They read vLLM's own histograms: its
clock starts when a request reaches the server, and one model call counts as one, whatever query it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from planner.errors import ScenarioError
from planner.metrics import names
from planner.metrics.promql import FLEET, HISTOGRAM_OF, bounds_around, figure, mean, requests_in, series, slower_share
from planner.metrics.rules import Rule, alert
from planner.units import MS_PER_S

LEAST_REQUESTS = 100  # in an alert's long window: fewer say nothing of a percentile
SLOWER = "llm:requests_slower_than_slo:ratio_rate"  # + window: a recorded share, one series a service level
_KEY = re.compile(r"(?:p(\d+(?:\.\d+)?)|mean)_(ttft|tpot|itl|e2e)_ms")


class Burn(NamedTuple):
    """A row of the workbook's table: the allowance of slow requests goes `rate` times too fast, over both windows."""

    alert: str
    severity: str
    rate: float
    long: str
    short: str
    pending: str


BURNS = (
    Burn("LlmSloBurnFast", "critical", 14.4, "1h", "5m", "2m"),  # 2 % of 30 days' allowance within the hour
    Burn("LlmSloBurnSlow", "critical", 6.0, "6h", "30m", "5m"),  # 5 % of it within six hours
    Burn("LlmSloMissed", "warning", 1.0, "3d", "6h", "1h"),  # 10 % of it within three days: as fast as is allowed
)
WINDOWS = ("5m", "30m", "1h", "6h", "3d")


class _Level(NamedTuple):
    key: str
    metric: str
    percentile: float | None
    limit_ms: float


def _limit(key: str, limit_ms: float) -> _Level:
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise ScenarioError(
            key, limit_ms, "a service level is named pNN_<metric>_ms or mean_<metric>_ms", "p99_ttft_ms"
        )
    percentile = None if parts[1] is None else float(parts[1])
    if percentile is not None and not 0 < percentile < 100:
        raise ScenarioError(key, limit_ms, "the percentile must be above 0 and below 100")
    if not 0 < limit_ms < float("inf"):
        raise ScenarioError(key, limit_ms, "the limit must be above 0 and finite")
    return _Level(key, parts[2], percentile, limit_ms)


def slo_rules(slo: Sequence[tuple[str, float]], selector: Mapping[str, str]) -> list[Rule]:
    """Recorded shares of slow requests, and the alerts on them; nothing without service levels."""
    limits = [_limit(key, limit_ms) for key, limit_ms in slo]
    if not limits:
        return []
    percentiles = [level for level in limits if level.percentile is not None]
    shares = [
        {
            "record": SLOWER + window,
            "expr": slower_share(level.metric, level.limit_ms / MS_PER_S, selector, window),
            "labels": {**selector, "slo": level.key},  # sums drop what the selector asks for
        }
        for level in percentiles
        for window in WINDOWS
    ]
    burns = [_burn(burn, level, selector) for level in percentiles for burn in BURNS]
    means = [_mean(level, selector) for level in limits if level.percentile is None]
    return [*shares, *burns, *means, _unmeasured(limits, selector)]


def _burn(burn: Burn, level: _Level, selector: Mapping[str, str]) -> Rule:
    assert level.percentile is not None
    budget = 1 - level.percentile / 100
    # A wide budget cannot be burnt 14 times over: at most halfway from it to "all requests are slow".
    threshold = min(burn.rate * budget, (1 + budget) / 2)
    long, short = (series(SLOWER + window, selector, f'slo="{level.key}"') for window in (burn.long, burn.short))
    many = f"{requests_in(level.metric, selector, burn.long)} >= {LEAST_REQUESTS}"
    return alert(
        burn.alert,
        f"{long} > {threshold:.6g} and {short} > {threshold:.6g} and on ({FLEET}) {many}",
        burn.pending,
        burn.severity,
        f"{level.key} ≤ {level.limit_ms:g} ms: {_times(threshold / budget)} the allowed share missed it in {burn.long}",
        f"{{{{ $value | humanizePercentage }}}} of the model calls of the last {burn.long} were slower than "
        f"{level.limit_ms:g} ms; the plan allows {100 * budget:.4g} %. {_counted(level)} Look at waiting requests and "
        "headroom (dashboard Fleet); `planner drift PLAN` says which assumption no longer holds and how many replicas "
        "the load wants now.",
        slo=level.key,
    )


def _times(ratio: float) -> str:
    return "more than" if round(ratio, 2) == 1 else f"{ratio:.3g} times"


def _counted(level: _Level) -> str:
    """How closely vLLM's buckets tell the limit."""
    around = [bound * MS_PER_S for bound, _ in bounds_around(level.metric, level.limit_ms / MS_PER_S)]
    if len(around) == 2 or around[0] > level.limit_ms:
        low, high = around if len(around) == 2 else [0.0, around[0]]
        return f"vLLM's histogram has no bound there: interpolated between {low:g} and {high:g} ms."
    if around[0] < level.limit_ms:
        return f"vLLM's histogram ends at {around[0]:g} ms: all above that counts as slow."
    return "Counted at a bound of vLLM's histogram, by the server's clock."


def _mean(level: _Level, selector: Mapping[str, str]) -> Rule:
    limit_s = level.limit_ms / MS_PER_S
    many = f"{requests_in(level.metric, selector, '30m')} >= {LEAST_REQUESTS}"
    return alert(
        "LlmSloMeanMissed",
        f"{mean(level.metric, selector, '30m')} > {limit_s:.6g} and on ({FLEET}) {many}",
        "10m",
        "critical",
        f"{level.key} ≤ {level.limit_ms:g} ms: the mean of half an hour is above it",
        "The mean is {{ $value | humanizeDuration }}. `planner drift PLAN` says which assumption no longer holds and "
        "how many replicas the load wants now.",
        slo=level.key,
    )


def _unmeasured(limits: Sequence[_Level], selector: Mapping[str, str]) -> Rule:
    count = series(HISTOGRAM_OF[limits[0].metric] + "_count", selector)
    return alert(
        "LlmSloNotMeasured",
        f"{figure(names.QUERIES_PER_SECOND.name, selector)} > 0 unless on () {count}",
        "15m",
        "warning",
        "Queries are served, and vLLM's latencies are not in this Prometheus",
        "The alerts on service levels see nothing. Let this Prometheus scrape the replicas' /metrics, and check that "
        "model_name and namespace are on their series.",
    )
