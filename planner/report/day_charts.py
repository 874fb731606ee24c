"""Days of a fleet as a picture: the document of `simulate --days` in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from planner.report.charts import COLOURS
from planner.units import HOURS_PER_DAY

MISSED, LOAD, RANGE = "#FBE7DC", "#BFBFBF", "#BFDBEC"  # areas, opaque: one over another keeps its colour
LINEAR_UP_TO = 2.0  # times a limit: with figures beyond it, shares are drawn on a logarithmic axis
MOST_TICKS = 10


def days_chart(document: Mapping[str, Any]) -> Figure:
    """Load; replicas that serve beside those of a perfect scaler; each limit's figure as a share of the limit.

    An autoscaler's replicas are drawn with the fewest and most of each hour. Hours that miss a limit are shaded, and
    the legend of the limits says so. A statistic that so many failed queries reach into is infinite: a mark on top.
    """
    rows = document["days"]
    judged = bool(rows[0]["slo"])
    heights = [1.0, 1.5, 1.5] if judged else [1.0, 1.5]
    width = 7.5 if len(rows) <= 2 * HOURS_PER_DAY else 10.0
    figure = Figure(figsize=(width, 2.1 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    edges = [row["hour"] for row in rows] + [rows[-1]["hour"] + 1]
    _load(axes[0], rows, edges)
    _replicas(axes[1], rows, edges)
    if judged:
        _limits(axes[2], rows, edges)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_xlim(edges[0], edges[-1])
        for row in rows:
            if row["slo_met"] is False:
                axis.axvspan(row["hour"], row["hour"] + 1, color=MISSED, linewidth=0, zorder=0)
    step = 3 if len(rows) == HOURS_PER_DAY else HOURS_PER_DAY
    ticks = list(range(edges[0], edges[-1] + 1, step))
    names = [f"{tick % HOURS_PER_DAY:02d}:00" if step == 3 else f"day {tick // HOURS_PER_DAY + 1}" for tick in ticks]
    axes[-1].set_xticks(ticks, names if step == 3 else [*names[:-1], ""])
    axes[0].set_title(document["scenario"]["name"])
    return figure


def _load(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    axis.stairs([row["rate_qps"] for row in rows], edges, color=LOAD, fill=True)
    axis.set_ylabel("users'\nqueries/s")
    axis.set_ylim(bottom=0)


def _replicas(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    low, high = ([float(row["replicas"][key]) for row in rows] for key in ("min", "max"))
    if low != high:
        axis.stairs(high, edges, baseline=low, color=RANGE, fill=True, label="fewest to most")
    axis.stairs(
        [row["replicas"]["mean"] for row in rows], edges, baseline=None, color=COLOURS[0], label="serving, mean"
    )
    wanted = [row["perfect"]["mean"] for row in rows if row["perfect"]]
    if len(wanted) == len(rows):
        axis.stairs(wanted, edges, baseline=None, color=COLOURS[2], linestyle="--", label="perfect scaler")
    axis.set_ylabel("replicas")
    axis.set_ylim(0, 1.05 * max([*high, *wanted, 1.0]))
    _legend(axis, [])


def _limits(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    drawn, lost = [1.0], set()
    for place, check in enumerate(rows[0]["slo"]):
        values = [row["slo"][place]["value_ms"] for row in rows]
        lost |= {row["hour"] for row in rows if row["slo"][place]["value_ms"] is None and not row["slo"][place]["met"]}
        shares = [float("nan") if value is None else value / check["limit_ms"] for value in values]
        statistic, metric, _ = check["key"].split("_")
        label = f"{statistic} {metric.upper()} ÷ {check['limit_ms']:g} ms"
        axis.stairs(shares, edges, baseline=None, color=COLOURS[1 + place % 6], label=label)
        drawn += [share for share in shares if share > 0]
    axis.axhline(1.0, color="#777777", linewidth=1)
    if lost:
        style: dict[str, Any] = {"marker": "^", "linestyle": "none", "markersize": 4, "color": COLOURS[6]}
        middle, top = [hour + 0.5 for hour in sorted(lost)], axis.get_xaxis_transform()
        axis.plot(middle, [0.96] * len(middle), transform=top, label="too many failed for a figure", **style)
    axis.set_ylabel("figure ÷ limit")
    if max(drawn) <= LINEAR_UP_TO:
        axis.set_ylim(0, 1.1 * max(drawn))
    else:
        ticks = log_ticks(min(drawn), max(drawn))
        axis.set_yscale("log")
        axis.set_ylim(ticks[0], ticks[-1])
        axis.yaxis.set_major_locator(FixedLocator(ticks))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_formatter(NullFormatter())
    missed = any(row["slo_met"] is False for row in rows)
    _legend(axis, [Patch(color=MISSED, label="hour that misses a limit")] if missed else [])


def log_ticks(low: float, high: float) -> list[float]:
    """From `low` or below it to `high` or above it: 1, 2 and 5 of each power of ten, or the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        steps = [float(f"{digit}e{power}") for power in powers for digit in digits]
        first, last = max(step for step in steps if step <= low), min(step for step in steps if step >= high)
        ticks = [step for step in steps if first <= step <= last]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def _legend(axis: Axes, more: list[Patch]) -> None:
    """Above the panel, where it covers nothing."""
    handles, _ = axis.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "fontsize": "small"}
    axis.legend(handles=[*handles, *more], ncols=3, **place)
