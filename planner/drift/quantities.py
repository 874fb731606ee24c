"""Every quantity that plan and fleet both tell, side by side."""

from __future__ import annotations

from typing import Any

from planner.drift.actual import Actual
from planner.drift.model import Simulated
from planner.observed import Observed
from planner.planned import Planned

LATENCIES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")


def quantities_of(
    planned: Planned, simulated: Simulated | None, observed: Observed, actual: Actual
) -> list[dict[str, Any]]:
    """Name, unit, planned, actual, ratio; what neither tells is left out.

    Latencies and cache usage are planned at the peak of the day; queries/s as expected at this hour.
    """
    prompt, output = (None, None) if simulated is None else simulated.means
    hit = actual.hit_rate if actual.hit_told else None
    rows = [
        _row("qps", "queries/s", actual.planned_qps, actual.queries_per_s),
        _row("prompt_tokens", "tokens", prompt, observed.prompt_tokens),
        _row("output_tokens", "tokens", output, observed.output_tokens),
        _row("prefix_cache_hit_rate", "share", planned.figure("prefix_cache_hit_rate"), observed.prefix_hit_rate),
        _row("response_cache_hit_rate", "share", 1.0 - planned.uncached_share, hit),
        _row("kv_cache_usage.mean", "share", planned.figure("kv_cache_usage.mean"), observed.kv_usage_mean),
        _row("kv_cache_usage.max", "share", planned.figure("kv_cache_usage.max"), observed.kv_usage_max),
        _row("busy_share", "share", planned.figure("utilisation"), observed.busy_share),
        _row("gpu_hour_usd", "USD", _price(planned), actual.gpu_hour_usd if actual.price_told else None),
    ]
    for latency in LATENCIES:
        for statistic in STATISTICS:
            name = f"{latency}.{statistic}"
            rows.append(_row(name, "ms", planned.figure(name), observed.latencies_ms.get(name)))
    return [row for row in rows if row["planned"] is not None or row["actual"] is not None]


def _price(planned: Planned) -> float | None:
    return None if planned.usd_per_hour is None else planned.usd_per_hour / planned.gpus


def _row(name: str, unit: str, planned: float | None, actual: float | None) -> dict[str, Any]:
    ratio = actual / planned if actual is not None and planned else None
    return {"name": name, "unit": unit, "planned": planned, "actual": actual, "ratio": ratio}
