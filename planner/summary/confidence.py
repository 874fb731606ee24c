"""How sure the figures of a run are: their 80 % bands, and what the fleet does in other possible worlds."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, table
from planner.summary.words import milliseconds, number

Document = dict[str, Any]

_LATENCIES = (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("ITL", "itl_ms"), ("E2E", "e2e_ms"))
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_KERNELS = {
    "calibrated": "The step cost is CALIBRATED by load tests of this deployment.",
    "known": "The kernels that run were measured on this GPU.",
    "assumed": "The kernel path is ASSUMED: a kernel, or the engine's mode, stands in for the one that runs.",
}


def band_lines(run: Document) -> list[str]:
    """The bands of the main figures, whether the kernels are known, and how many worlds hold the limits."""
    bands = run.get("band80") or {}
    rows = [
        [f"{name} [ms]", *(_range_ms(bands.get(f"{key}.{statistic}")) for statistic in _STATISTICS)]
        for name, key in _LATENCIES
        if any(f"{key}.{statistic}" in bands for statistic in _STATISTICS)
    ]
    lines = table([["", *_STATISTICS], *rows], "<>>>>>") if rows else []
    rate = bands.get("request_throughput")
    if rate:
        lines += paragraph(f"throughput {number(rate[0])} to {number(rate[1])} requests/s", "  ")
    return [*lines, *_worlds(run.get("confidence") or {})] if lines else []


def _worlds(confidence: Document) -> list[str]:
    said = [_KERNELS[confidence["kernel_path"]]] if confidence.get("kernel_path") in _KERNELS else []
    count, holds, saturated = (confidence.get(key) for key in ("worlds", "holds_share", "saturated_share"))
    if count and holds is not None:
        said.append(f"Every limit holds in {number(round(holds * count))} of {number(count)} simulated worlds.")
    if count and saturated:
        said.append(f"In {number(round(saturated * count))} more arrives than is served.")
    return paragraph(" ".join(said), "  ")


def _range_ms(band: list[float] | None) -> str:
    if band is None:
        return ""
    low, high = (milliseconds(value).removesuffix(" ms") for value in band)
    return f"{low}–{high}"
