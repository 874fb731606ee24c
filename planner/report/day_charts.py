"""Days of a fleet as a picture: the document of `simulate --days` in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from planner.report.charts import COLOURS
from planner.units import HOURS_PER_DAY

MISSED = "#D55E00"


def days_chart(document: Mapping[str, Any]) -> Figure:
    """Load; replicas that serve beside those of a perfect scaler; each limit's figure as a share of the limit.

    An autoscaler's replicas are drawn with the fewest and most of each hour. Hours that miss a limit are shaded.
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
                axis.axvspan(row["hour"], row["hour"] + 1, color=MISSED, alpha=0.12, linewidth=0)
    step = 3 if len(rows) == HOURS_PER_DAY else HOURS_PER_DAY
    ticks = list(range(edges[0], edges[-1] + 1, step))
    names = [f"{tick % HOURS_PER_DAY:02d}:00" if step == 3 else f"day {tick // HOURS_PER_DAY + 1}" for tick in ticks]
    axes[-1].set_xticks(ticks, names if step == 3 else [*names[:-1], ""])
    axes[0].set_title(document["scenario"]["name"])
    return figure


def _load(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    axis.stairs([row["rate_qps"] for row in rows], edges, color=COLOURS[6], fill=True, alpha=0.25)
    axis.set_ylabel("users'\nqueries/s")
    axis.set_ylim(bottom=0)


def _replicas(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    low, high = ([float(row["replicas"][key]) for row in rows] for key in ("min", "max"))
    if low != high:
        axis.stairs(high, edges, baseline=low, color=COLOURS[0], fill=True, alpha=0.25, label="fewest to most")
    axis.stairs(
        [row["replicas"]["mean"] for row in rows], edges, baseline=None, color=COLOURS[0], label="serving, mean"
    )
    wanted = [row["perfect"]["mean"] for row in rows if row["perfect"]]
    if len(wanted) == len(rows):
        axis.stairs(wanted, edges, baseline=None, color=COLOURS[2], linestyle="--", label="perfect scaler")
    axis.set_ylabel("replicas")
    axis.set_ylim(0, 1.15 * max([*high, *wanted, 1.0]))
    axis.legend(fontsize="small", ncols=3, loc="upper left")


def _limits(axis: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> None:
    for place, check in enumerate(rows[0]["slo"]):
        shares = []
        for row in rows:
            value = row["slo"][place]["value_ms"]
            shares.append(float("nan") if value is None else value / check["limit_ms"])
        statistic, metric, _ = check["key"].split("_")
        name = f"{statistic} {metric.upper()}"
        axis.stairs(
            shares, edges, baseline=None, color=COLOURS[1 + place % 6], label=f"{name} ÷ {check['limit_ms']:g} ms"
        )
    axis.axhline(1.0, color="#777777", linewidth=1)
    axis.set_yscale("log")
    axis.set_ylim(top=max(2.0, axis.get_ylim()[1]))  # room for the legend above what holds
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("figure ÷ limit")
    axis.legend(fontsize="small", ncols=2, loc="upper left")
