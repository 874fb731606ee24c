"""PromQL by parts: matchers, a fleet's figures, the margin of a day, and how many requests were slower than a limit by
vLLM's latency histograms.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping

from planner import vllm_metrics
from planner.errors import ScenarioError

HISTOGRAM_OF = {
    "ttft": vllm_metrics.TTFT,
    "tpot": vllm_metrics.TPOT,
    "itl": vllm_metrics.ITL,
    "e2e": vllm_metrics.E2E,
}
FLEET = "model_name, namespace"  # the labels that tell one fleet's series from another's
DAY_STEP_S, MOST_OF_A_DAY = 300, 260  # of the 288 steps of a day, nine tenths
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def series(name: str, selector: Mapping[str, str], *matchers: str) -> str:
    """A metric with equality matchers for `selector`, its values escaped, and with `matchers` as they are.

    Raises ScenarioError on a label that is none.
    """
    for label in selector:
        if not _LABEL.fullmatch(label):
            raise ScenarioError("selector", label, "is no label of Prometheus: letters, digits and _ alone")
    inside = [*(f"{label}={quoted(value)}" for label, value in selector.items()), *matchers]
    return f"{name}{{{', '.join(inside)}}}" if inside else name


def quoted(value: str) -> str:
    """A text as a PromQL string: its escapes are Go's, and JSON's are among those."""
    return json.dumps(value, ensure_ascii=False)


def figure(name: str, selector: Mapping[str, str], *matchers: str, by: str = FLEET) -> str:
    """A figure of `planner export`, one series a fleet: the largest where two exporters tell it, as for some minutes
    when one takes over from another. Two on one side of an operator would be an error.
    """
    return f"max by ({by}) ({series(name, selector, *matchers)})"


def least(name: str, selector: Mapping[str, str], *matchers: str, by: str = FLEET) -> str:
    """`figure`, the smallest where two exporters tell it: of what is worse the less there is of it."""
    return f"min by ({by}) ({series(name, selector, *matchers)})"


def day_margin(margin: str, queries_per_s: str, usd_per_hour: str, revenue: str, on: str) -> str:
    """USD that the last 24 hours left: margin · queries, and where no query came the bill alone.

    The figures are queries of one series for each set of the labels `on`, margin and revenue in USD a query. Absent
    until nine tenths of the day are known, and where no revenue has been known for a week: a fleet that nobody says
    to earn anything is not at a loss.
    """
    spent = f"(0 - {usd_per_hour} / 3600 and on ({on}) {queries_per_s} == 0)"  # no query, no margin of a query
    left = f"({margin} * on ({on}) {queries_per_s} or on ({on}) {spent})[1d:{DAY_STEP_S // 60}m]"
    known = f"count_over_time({left}) >= {MOST_OF_A_DAY}"
    earns = f"present_over_time({revenue}[1w:1h])"
    return f"(sum_over_time({left}) * {DAY_STEP_S} and on ({on}) {known} and on ({on}) {earns})"


def slower_share(metric: str, limit_s: float, selector: Mapping[str, str], window: str) -> str:
    """Share of the requests of `window` whose latency was above `limit_s`; NaN, or no series, without requests.

    A limit between two buckets' bounds is interpolated on a straight line, as `histogram_quantile` does: in a tail,
    which thins out, that counts rather too many requests as slow than too few. Above the last bound all that is
    beyond that bound counts.
    """
    histogram = HISTOGRAM_OF[metric]
    within = [
        f"sum by ({FLEET}) (rate({series(histogram + '_bucket', selector, _le(bound))}[{window}]))"
        if weight == 1
        else f"{weight:.6g} * sum by ({FLEET}) (rate({series(histogram + '_bucket', selector, _le(bound))}[{window}]))"
        for bound, weight in bounds_around(metric, limit_s)
    ]
    below = within[0] if len(within) == 1 else f"({' + '.join(within)})"
    return f"1 - {below} / sum by ({FLEET}) (rate({series(histogram + '_count', selector)}[{window}]))"


def bounds_around(metric: str, limit_s: float) -> list[tuple[float, float]]:
    """Bounds of vLLM's buckets around a limit, each with its weight: one bound where the limit falls on it."""
    bounds = vllm_metrics.HISTOGRAMS[HISTOGRAM_OF[metric]][1] or ()
    above = bisect_right(bounds, limit_s)
    lower = bounds[above - 1] if above else 0.0
    if above == len(bounds) or limit_s == lower:
        return [(lower, 1.0)]
    weight = (limit_s - lower) / (bounds[above] - lower)
    rest = [(lower, 1 - weight)] if lower else []  # nothing is below 0
    return [*rest, (bounds[above], weight)]


def requests_in(metric: str, selector: Mapping[str, str], window: str) -> str:
    """How many requests of `window` have this latency."""
    return f"sum by ({FLEET}) (increase({series(HISTOGRAM_OF[metric] + '_count', selector)}[{window}]))"


def mean(metric: str, selector: Mapping[str, str], window: str) -> str:
    """The mean of a latency over `window`, in seconds; NaN without requests."""
    total, count = (series(f"{HISTOGRAM_OF[metric]}_{part}", selector) for part in ("sum", "count"))
    return f"sum by ({FLEET}) (rate({total}[{window}])) / sum by ({FLEET}) (rate({count}[{window}]))"


def _le(bound: float) -> str:
    """The matcher of a bucket. Whole bounds are written "1.0" by vLLM's client and "1" by some that pass them on."""
    whole = f"{bound:.0f}"
    return f'le=~"{whole}|{whole}\\\\.0"' if bound == int(bound) else f'le="{bound!r}"'
