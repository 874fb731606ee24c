"""The page's pictures of money: the day, the break-even lines, the options one after the other, the tornado."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.report.svg import AMBER, BAD, BLUE, GOOD, INK, PAPER, SKY, SOFT, linear_ticks, log_ticks, set_ticks
from planner.summary.words import number, usd

Document = Mapping[str, Any]
Words = Callable[[float], str]
ROW_IN = 0.5  # height of a labelled bar
POINTS = 200  # of a drawn curve
WIDE = 6.0  # plan ÷ break-even, or the other way, from which their axis is logarithmic
NEAR = 3.0  # revenue is drawn beside the cost where it is no further off than this


def queries_chart(hours: Sequence[Document]) -> Any:
    """Paint the queries of each hour."""

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        queries = [hour["queries"] for hour in hours]
        axes.bar([hour["hour"] for hour in hours], queries, 0.86, align="edge", color=SKY, linewidth=0)
        _money_axis(axes, 0.0, 1.08 * max([*queries, 1e-9]), lambda value: f"{value:,.6g}")
        _hours(axes, hours)

    return paint


def hourly_cost_chart(
    hours: Sequence[Document], costs: Sequence[float | None], mean_usd: float | None, revenue_usd: float | None
) -> Any:
    """Paint the cost of a query in each hour (None: nobody bears it), the day's mean, revenue if it is near."""

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        edges = [*(hour["hour"] for hour in hours), hours[-1]["hour"] + 1]
        known = [float("nan") if cost is None else cost for cost in costs]
        axes.stairs(known, edges, baseline=None, color=BLUE, linewidth=2, label="in the hour")
        top = max([*(cost for cost in costs if cost is not None), mean_usd or 0.0, 1e-12])
        if mean_usd is not None:
            axes.axhline(
                mean_usd, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"mean of the day {usd(mean_usd)}"
            )
        if revenue_usd is not None and revenue_usd <= NEAR * top:
            axes.axhline(revenue_usd, color=GOOD, linewidth=1.4, label=f"revenue {usd(revenue_usd)}")
            top = max(top, revenue_usd)
        _money_axis(axes, 0.0, 1.12 * top, usd)
        _hours(axes, hours)
        figure.legend(loc="outside lower center", ncols=2)

    return paint


def break_even_chart(
    margin: Callable[[Any], Any], plan: float, zero: float | None, unit: str, words: Words, beyond: bool
) -> Any:
    """Paint the margin of a query against one value: a line through the plan's and, if there is one, the break-even.

    `margin` takes an array of the value; `beyond` draws the line dashed above the plan, where it promises too much.
    """

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        marks = [plan] if zero is None else [plan, zero]
        logarithmic = max(marks) / min(marks) > WIDE
        low = min(marks) / 1.8 if logarithmic else 0.45 * min(marks)
        high = 2.2 * max(marks) if logarithmic else 1.35 * max(marks)
        x = np.geomspace(low, high, POINTS) if logarithmic else np.linspace(low, high, POINTS)
        y = np.asarray(margin(x))
        solid = x <= plan if beyond else np.full(len(x), True)
        axes.plot(x[solid], y[solid], color=BLUE, linewidth=1.6)
        axes.plot(x[~solid], y[~solid], color=BLUE, linewidth=1.4, linestyle=(0, (3, 2)))
        axes.axhline(0, color=SOFT, linewidth=0.9)
        axes.fill_between(x, np.minimum(y, 0), 0, color=BAD, alpha=0.16, linewidth=0)
        bottom, top = float(y.min()), float(y.max())
        room = 0.24 * (max(top, 0) - min(bottom, 0) or 1e-12)
        axes.set_ylim(min(bottom, 0) - room, max(top, 0) + room)
        axes.set_xlim(low, high)
        if logarithmic:
            axes.set_xscale("log")
            set_ticks(axes.xaxis, log_ticks(low, high, 4), words)
        else:
            set_ticks(axes.xaxis, linear_ticks(low, high, 4), words)
        rising, first = bool(y[-1] > y[0]), zero is not None and plan < zero
        _point(axes, plan, float(margin(np.array([plan]))[0]), "o", INK, f"plan {words(plan)}", first, rising)
        if zero is not None:
            _point(axes, zero, 0.0, "D", BAD, f"break-even {words(zero)}", not first, rising)
        _money_axis(axes, *axes.get_ylim(), usd)
        axes.set_xlabel(unit)

    return paint


def waterfall_height_in(rows: Sequence[Document]) -> float:
    """How high the picture must be."""
    return 0.3 + ROW_IN * len(rows)


def waterfall_chart(rows: Sequence[Document], key: str, words: Words) -> Any:
    """Paint the steps as bars of `key` ("gpus", "usd_per_query"): what is left, and what the step took off or added."""

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        top = max([row[key] for row in rows if row.get(key) is not None], default=1.0)
        before: float | None = None
        for place, row in enumerate(rows):
            value = row.get(key)
            _label(axes, place, row["step"] if isinstance(row["step"], str) else row["what"], _left(row, value, words))
            if value is None:
                if row.get("feasible") is False:
                    axes.barh(place, top, 0.34, facecolor="none", edgecolor=SOFT, linewidth=0.8, linestyle=":")
                continue
            last = all(later.get(key) is None for later in rows[place + 1 :])
            axes.barh(place, value, 0.34, color=BLUE, alpha=1.0 if place == 0 or last else 0.55, linewidth=0)
            if before is not None and before > value:
                axes.barh(place, before - value, 0.34, left=value, color=GOOD, alpha=0.35, linewidth=0)
            elif before is not None and before < value:
                axes.barh(place, value - before, 0.34, left=before, color=BAD, alpha=0.8, linewidth=0)
            before = value
        axes.set_xlim(0, 1.02 * top)
        _bars_only(axes, len(rows))

    return paint


def tornado_chart(
    rows: Sequence[Document], keys: tuple[str, str], medians: float | None, plan: float | None, words: Words
) -> Any:
    """Paint, for each input, how far the answer moves between its low and its high end, the widest first.

    `keys` name the answer at the low and at the high end. Bars begin at `medians`, the answer with every input at its
    median; `plan`, the answer as planned, is elsewhere, as a median is not the value that was stated.
    """

    def paint(figure: Figure) -> None:
        axes: Axes = figure.subplots()
        ends = [row[key] for row in rows for key in keys]
        middle = next((value for value in (medians, plan) if value is not None), (min(ends) + max(ends)) / 2)
        for place, row in enumerate(rows):
            sides = zip(keys, (BLUE, AMBER), ("low", "high"), strict=True)
            for key, colour, end in sorted(
                sides, key=lambda side: -abs(row[side[0]] - middle)
            ):  # the longer one behind
                label = f"input at its {end} end" if place == 0 else None
                axes.barh(place, row[key] - middle, 0.34, left=middle, color=colour, linewidth=0, label=label)
            low, high = sorted(row[key] for key in keys)
            _label(axes, place, row["name"], f"{words(low)} to {words(high)}")
        lines = [middle] if plan is None else [middle, plan]
        low, high = min([*ends, *lines]), max([*ends, *lines])
        room = 0.04 * (high - low or abs(middle) or 1.0)
        axes.set_xlim(low - room, high + room)
        axes.axvline(middle, color=INK, linewidth=1)
        if plan is not None and plan != middle:
            axes.axvline(plan, color=SOFT, linewidth=1.2, linestyle=(0, (1, 2)), label="as planned")
        if low < 0 < high:
            axes.axvline(0, color=BAD, linewidth=1.2, linestyle=(0, (4, 2)))
        _bars_only(axes, len(rows))
        set_ticks(axes.xaxis, linear_ticks(low, high, 4), words)
        axes.tick_params(axis="x", length=3, labelbottom=True)
        axes.spines["bottom"].set_visible(True)
        figure.legend(loc="outside lower center", ncols=2)

    return paint


def _hours(axes: Axes, hours: Sequence[Document]) -> None:
    axes.set_xlim(hours[0]["hour"], hours[-1]["hour"] + 1)
    set_ticks(axes.xaxis, [0, 6, 12, 18, 24], lambda hour: f"{hour:02.0f}:00")


def _money_axis(axes: Axes, low: float, high: float, words: Words) -> None:
    axes.set_ylim(low, high)
    set_ticks(axes.yaxis, linear_ticks(low, high, 4), lambda value: "0" if value == 0 else words(value))
    axes.grid(axis="y")


def _point(axes: Axes, x: float, y: float, marker: str, colour: str, words: str, right: bool, rising: bool) -> None:
    """A marked point, its words on its right or left: above or below it, where the curve does not pass."""
    axes.plot(x, y, marker, color=colour, markersize=6.5, markeredgecolor=PAPER, markeredgewidth=1, zorder=5)
    above = right != rising
    axes.annotate(
        words,
        (x, y),
        (6 if right else -6, 6 if above else -6),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if above else "top",
        color=colour,
        fontsize=9.5,
    )


def _left(row: Document, value: float | None, words: Words) -> str:
    if value is not None:
        return words(value)
    return "no fleet fits" if row.get("feasible") is False else "left out"


def _label(axes: Axes, place: int, left: str, right: str) -> None:
    """Words above a bar: its name from the left edge, its figure at the right one."""
    for words, x, side in ((left, 0.0, "left"), (right, 1.0, "right")):
        axes.annotate(
            words if len(words) <= 34 else f"{words[:33].rstrip()}…",
            (x, place - 0.22),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha=side,
            va="bottom",
            fontsize=9.5,
            color=INK,
        )


def _bars_only(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.6, -0.85)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0, labelbottom=False)


def gpus_words(value: float) -> str:
    """ "42 GPUs"."""
    return f"{number(value)} GPU{'' if value == 1 else 's'}"
