"""The page's pictures of service: each latency's distribution, and the sizes of fleet that were tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from planner.report.svg import BAD, BLUE, INK, PAPER, RULE, SERIES, SOFT, linear_ticks, log_ticks, set_ticks
from planner.summary.words import limit_name, number

Document = Mapping[str, Any]
TAIL = 0.001  # of the values on either side: how much of a distribution an axis may leave out
LOG_ABOVE = 6.0  # largest ÷ smallest from which an axis of ratios is logarithmic


def latency_chart(
    histogram: Document, rows: Sequence[tuple[str, float, Sequence[float] | None]], limits: Mapping[str, float]
) -> Any:
    """Paint one latency: its histogram above, below it a row for each statistic (name, ms, its 80 % band or None).

    `limits` are the limits of those statistics in ms, drawn through both.
    """

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, 0.62 * len(rows) + 0.5])
        low, high = _span(histogram, rows, limits)
        upper.stairs(histogram["counts"], histogram["edges"], fill=True, color=BLUE, alpha=0.22, linewidth=0)
        upper.stairs(histogram["counts"], histogram["edges"], color=BLUE, linewidth=1.1)
        upper.set_ylim(0, (1.24 if limits else 1.04) * max(histogram["counts"]))
        upper.yaxis.set_visible(False)
        upper.spines["left"].set_visible(False)
        upper.tick_params(axis="x", length=0, labelbottom=False)
        for axis in (upper, lower):
            axis.set_xscale("log")
            axis.set_xlim(low, high)
            for limit_ms in limits.values():
                axis.axvline(limit_ms, color=BAD, linewidth=1.3, linestyle=(0, (4, 2)))
        for name, limit_ms in limits.items():
            _limit_label(upper, f"{name} limit {number(limit_ms)} ms", limit_ms, low, high)
        _rows(lower, rows, set(limits))
        set_ticks(lower.xaxis, log_ticks(low, high), lambda value: f"{value:,.6g}")
        lower.set_xlabel("milliseconds, logarithmic")

    return paint


def capacity_chart(
    points: Sequence[Document],
    limits: Mapping[str, float],
    chosen: int,
    failing: int | None,
    unit: str,
    knee: int | None = None,
) -> Any:
    """Paint the judged figures of the sizes tried as shares of their limits; chosen and failing size and knee marked.

    `points` are rows of `capacity_curve`, one a size; `limits` in ms by key. A dot is the figure, the line above it
    reaches to the upper end of its interval, which is what the limit judges; hollow dots are shorter runs.
    """

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        heights = [1.0]
        for index, (key, limit_ms) in enumerate(limits.items()):
            drawn = [point for point in points if point.get(key) is not None]
            heights += _sizes(axes, drawn, key, limit_ms, SERIES[index % len(SERIES)])
        low, high = min(heights), max(heights)
        if high / low > LOG_ABOVE:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.4, high * 2.4)
            set_ticks(axes.yaxis, log_ticks(low / 1.4, high * 1.6), lambda value: f"{100 * value:,.6g} %")
        else:
            axes.set_ylim(0, high * 1.22)
            set_ticks(axes.yaxis, linear_ticks(0, high * 1.15), lambda value: f"{100 * value:.4g} %")
        axes.axhline(1, color=BAD, linewidth=1.3, linestyle=(0, (4, 2)))
        sizes = [point["serving"] for point in points]
        room = 0.3 * max(max(sizes) - min(sizes), 1)
        axes.set_xlim(min(sizes) - room, max(sizes) + room)
        axes.annotate("limit", (0, 1), (2, 3), ("axes fraction", "data"), "offset points", color=BAD, fontsize=9.5)
        axes.axvline(chosen, color=RULE, linewidth=1, zorder=0)
        _mark(axes, f"{chosen} chosen{', the knee' if knee == chosen else ''}", chosen, "left", INK)
        if failing is not None:
            axes.axvline(failing, color=RULE, linewidth=1, zorder=0)
            _mark(axes, f"{failing} fails{', the knee' if knee == failing else ''}", failing, "right", BAD)
        if knee is not None and knee not in (chosen, failing):
            axes.axvline(knee, color=RULE, linewidth=1.2, linestyle=(0, (1, 2)), zorder=0)
            _mark(axes, f"{knee} knee", knee, "left" if knee > chosen else "right", SOFT, 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 0 else "")
        axes.set_xlabel(unit)
        axes.set_ylabel("share of its limit")
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=2)

    return paint


def _span(
    histogram: Document, rows: Sequence[tuple[str, float, Sequence[float] | None]], limits: Mapping[str, float]
) -> tuple[float, float]:
    """The axis: the histogram without its thinnest tails, and whatever else is drawn."""
    edges, counts = histogram["edges"], histogram["counts"]
    total, seen, inner = sum(counts), 0.0, []
    for index, share in enumerate(counts):
        if seen + share > TAIL * total and seen < (1 - TAIL) * total:
            inner += [edges[index], edges[index + 1]]
        seen += share
    known = [*inner, *(value for _, value, _ in rows), *(end for _, _, band in rows if band for end in band)]
    known = [value for value in [*known, *limits.values()] if value > 0]
    return 0.93 * min(known), 1.07 * max(known)


def _limit_label(axes: Axes, words: str, limit_ms: float, low: float, high: float) -> None:
    beyond = math.log(limit_ms / low) / math.log(high / low) > 0.5
    axes.annotate(
        words,
        (limit_ms, 1.0),
        (-5 if beyond else 5, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="right" if beyond else "left",
        va="top",
        color=BAD,
        fontsize=9.5,
    )


def _rows(axes: Axes, rows: Sequence[tuple[str, float, Sequence[float] | None]], judged: set[str]) -> None:
    """A line for each statistic: its name and value, its band, its dot."""
    for place, (_, value, band) in enumerate(rows):
        if band:
            axes.plot(band, [place, place], color=BLUE, linewidth=6, alpha=0.3, solid_capstyle="butt")
        axes.plot(value, place, "o", color=BLUE, markersize=5.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    said = [
        f"{name}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{number(round(value) if value >= 99.95 else value)}"
        for name, value, _ in rows
    ]
    set_ticks(axes.yaxis, list(range(len(rows))), lambda place: said[int(place)])
    for label, (name, _, _) in zip(axes.get_yticklabels(), rows, strict=False):
        label.set_color(BAD if name in judged else INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _sizes(axes: Axes, points: Sequence[Document], key: str, limit_ms: float, colour: str) -> list[float]:
    """One limit's line over the sizes; returns the shares drawn."""
    x = [point["serving"] for point in points]
    y = [point[key] / limit_ms for point in points]
    upper = [max(point.get(f"{key}_upper", point[key]), point[key]) / limit_ms for point in points]
    axes.plot(x, y, color=colour, linewidth=1.4, label=f"{limit_name(key)} ÷ {number(limit_ms)} ms")
    axes.vlines(x, y, upper, color=colour, linewidth=2.4, alpha=0.5)
    for point, at, height in zip(points, x, y, strict=True):
        full = point.get("full_length")
        axes.plot(at, height, "o", color=colour, markerfacecolor=colour if full else PAPER, markersize=5)
    return [height for height in [*y, *upper] if height > 0]


def _mark(axes: Axes, words: str, at: float, side: str, colour: str, line: int = 0) -> None:
    """Words at the top of the upright line at `at`, on its right ("left"-aligned) or on its left, some lines down."""
    axes.annotate(
        words,
        (at, 1.0),
        (4 if side == "left" else -4, -2 - 13 * line),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha=side,
        va="top",
        fontsize=9.5,
        color=colour,
    )
