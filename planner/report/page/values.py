"""The numbers that the page reads of a plan's document, each finite and within its range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import DataFileError

MOST = 1e18  # no number of a plan is larger
SLACK = 1e-9  # what rounding may leave below 0 or above 1


@dataclass(frozen=True)
class Range:
    """From `least` to `most`; `above`: `least` itself is not allowed; `endless`: an infinite one is left out instead
    (the latency of a query that was never answered).
    """

    least: float
    most: float = MOST
    above: bool = False
    endless: bool = False

    def words(self) -> str:
        """ "must be a finite number of at least 0 and at most 1"."""
        low = f" {'above' if self.above else 'of at least'} {self.least:g}" if self.least > -MOST else ""
        high = f" and at most {self.most:g}" if self.most < MOST else ""
        return f"must be a finite number{low}{high}"

    def holds(self, value: float) -> bool:
        """Whether a number lies within; NaN never does."""
        if self.endless and value == math.inf:
            return True
        low = value > self.least if self.above else value >= self.least - SLACK
        return low and value <= min(self.most + SLACK, MOST)


ANY, NOT_NEGATIVE, POSITIVE, COUNT = Range(-MOST), Range(0), Range(0, above=True), Range(1)
SHARE, LATENCY = Range(0, 1), Range(0, endless=True)
HOUR = Range(0, 23)

_RUN = {
    "slo.*.limit_ms": POSITIVE,
    "slo.*.value_ms": LATENCY,
    "slo.*.upper_ms": LATENCY,
    **{f"{metric}_ms.*": LATENCY for metric in ("ttft", "tpot", "itl", "e2e")},
    "band80.*.*": LATENCY,
    **{f"confidence.{key}": SHARE for key in ("holds_share", "saturated_share")},
    **{f"confidence.{key}": NOT_NEGATIVE for key in ("batches", "worlds")},
    **{f"{key}.*": NOT_NEGATIVE for key in ("memory", "ledger")},
    "kv_cache_usage.*": SHARE,
    **dict.fromkeys(("prefix_cache_hit_rate", "utilisation", "goodput_share", "clipped_share", "cached_share"), SHARE),
    **{f"{kind}_throughput": NOT_NEGATIVE for kind in ("query", "request", "output", "total_token")},
    **dict.fromkeys(("kv_cache_tokens", "num_preemptions", "goodput_rps", "duration_s", "wall_s"), NOT_NEGATIVE),
    **dict.fromkeys(("requests", "queries", "failed"), NOT_NEGATIVE),
}
_SPAN = {
    **dict.fromkeys(("queries", "failed", "retried"), NOT_NEGATIVE),
    "ttft_ms.*": LATENCY,
    "limits.*.limit_ms": POSITIVE,
    **{f"limits.*.{key}_ms": LATENCY for key in ("value", "upper")},
}
_MONEY = {
    "response_cache.by_hour.*": SHARE,
    **{f"response_cache.{key}": NOT_NEGATIVE for key in ("usd_per_hit", "usd_per_hour")},
    **{f"day.*.{key}": NOT_NEGATIVE for key in ("queries", "cost")},
    "day.*.hour": HOUR,
    "day.*.utilisation": SHARE,
    **{f"cost.{key}": POSITIVE for key in ("usd_per_hour", "usd_per_query", "usd_per_million_tokens")},
    **{f"cost.{key}_usd_per_query": NOT_NEGATIVE for key in ("usage", "idle", "amortised_training")},
    "cost.usd_per_query_with_training": POSITIVE,
    "cost.price.gpu_hour_usd": POSITIVE,
    **{f"cost.price.parts.*.{key}": NOT_NEGATIVE for key in ("quantity", "unit_price_usd", "usd_per_gpu_hour")},
    "cost.currency.per_usd": POSITIVE,
    **{f"cost_lines.*.{key}": NOT_NEGATIVE for key in ("quantity", "unit_price_usd", "product_usd")},
    **{f"revenue.{key}": NOT_NEGATIVE for key in ("usd_per_query", "query_rpm_usd")},
    **{f"revenue.lines.*.{key}": ANY for key in ("quantity", "product_usd")},  # what waiting loses is below 0
    "revenue.lines.*.unit_price_usd": NOT_NEGATIVE,
    **{f"revenue.abandonment.{key}": SHARE for key in ("lost_share", "lost_share_at_peak")},
    "revenue.abandonment.lost_impressions": NOT_NEGATIVE,
    "revenue.abandonment.usd_per_query_lost": NOT_NEGATIVE,
    **{f"revenue.abandonment.at_risk_usd_per_{of}_per_100ms": NOT_NEGATIVE for of in ("query", "day")},
    **{f"margin.{key}": ANY for key in ("usd_per_query", "fraction", "after_training_usd_per_query")},
    "margin.cost_share_of_revenue": NOT_NEGATIVE,
    **{f"break_even.{key}": POSITIVE for key in ("qps", "rpm_usd", "gpu_hour_usd")},
    **{f"break_even_after_training.{key}": POSITIVE for key in ("qps", "rpm_usd", "gpu_hour_usd", "training_usd")},
    **{
        f"load_shape.{way}.{key}": NOT_NEGATIVE
        for way in ("static", "following")
        for key in ("gpu_hours", "usd_per_day")
    },
    **{f"load_shape.following.{key}": NOT_NEGATIVE for key in ("startup_gpu_hours", "replicas.*")},
    **{f"load_shape.{key}": NOT_NEGATIVE for key in ("peak_replicas", "mean_replicas")},
    **{f"autoscaler.{key}_replicas": POSITIVE for key in ("peak", "mean_paid")},
    **{f"autoscaler.{of}{key}": NOT_NEGATIVE for of in ("", "static.") for key in ("gpu_hours_per_day", "usd_per_day")},
    **{f"autoscaler.{key}_share": SHARE for key in ("slo_hours", "goodput")},
    **{f"autoscaler.hours.*.{key}": NOT_NEGATIVE for key in ("hour", "rate_qps", "paid_replicas")},
    "autoscaler.static.replicas": COUNT,
    "autoscaler.days": COUNT,
}
RANGES = {
    **{f"fleet.{key}": COUNT for key in ("gpus", "replicas", "gpus_per_replica")},
    "fleet.spare_replicas": NOT_NEGATIVE,
    "scenario.traffic.peak_qps": POSITIVE,
    "scenario.traffic.arrivals.*.*": POSITIVE,
    "scenario.slo.*": POSITIVE,
    **{f"scenario.fleet.{key}": NOT_NEGATIVE for key in ("max_gpus", "min_replicas", "spare_replicas")},
    **{f"{run}.{key}": range_ for run in ("at_peak", "one_fewer") for key, range_ in _RUN.items()},
    **{key: range_ for key, range_ in _RUN.items() if key.startswith("confidence")},
    **{f"spare_proof.{key}": COUNT for key in ("replicas", "stopped")},
    "spare_proof.retried": NOT_NEGATIVE,
    **{f"spare_proof.{span}.{key}": range_ for span in ("before", "after", "in_hand") for key, range_ in _SPAN.items()},
    "distributions.*.counts.*": NOT_NEGATIVE,
    "capacity_curve.*.*": LATENCY,
    "capacity_curve.*.serving": COUNT,
    "capacity_curve.*.utilisation": SHARE,
    **_MONEY,
    **{f"alternatives.*.{key}": COUNT for key in ("gpus", "replicas")},
    **{f"alternatives.*.{key}": NOT_NEGATIVE for key in ("usd_per_hour", "usd_per_query")},
    "alternatives.*.utilisation": SHARE,
    "waterfall.*.gpus": COUNT,
    **{f"waterfall.*.{key}": NOT_NEGATIVE for key in ("usd_per_hour", "usd_per_query")},
    **{f"waterfall.*.{key}.*": ANY for key in ("removed", "interaction", "alone.removed")},
    **{f"waterfall.*.alone.{key}": NOT_NEGATIVE for key in ("gpus", "usd_per_query")},
    **{f"uncertainty.p_{key}": SHARE for key in ("slo_held", "slo_held_within_error.*", "margin_positive")},
    **{f"uncertainty.p_{key}": SHARE for key in ("both", "no_fleet")},
    **{f"uncertainty.{key}.*": NOT_NEGATIVE for key in ("gpus", "usd_per_query")},
    "uncertainty.margin_usd_per_query.*": ANY,
    **{f"uncertainty.tornado.*.{key}_{end}": ANY for key in ("margin", "gpus") for end in ("low", "high")},
    **{f"uncertainty.tornado.*.usd_per_query_{end}": NOT_NEGATIVE for end in ("low", "high")},
}


def check_values(document: Mapping[str, Any], where: str) -> None:
    """Raise DataFileError on the first number that the page reads and that is not finite or out of its range.

    What is no number is passed over: its type is checked elsewhere.
    """
    for pattern, allowed in RANGES.items():
        for key, value in _found(document, pattern.split("."), ""):
            if not allowed.holds(value):
                raise DataFileError(f"{where}: {key}", value, f"is damaged: {allowed.words()}; plan again")


def _found(value: Any, steps: list[str], path: str) -> Iterator[tuple[str, float]]:
    """The numbers at a pattern with their places; `*` is every name of a mapping and every item of a list."""
    if not steps:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield path, value
        return
    first, rest = steps[0], steps[1:]
    if isinstance(value, list):
        for index, item in enumerate(value) if first == "*" else ():
            yield from _found(item, rest, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for name in value if first == "*" else [first] if first in value else []:
            yield from _found(value[name], rest, f"{path}.{name}" if path else name)
