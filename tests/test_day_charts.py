"""The picture of days: what is drawn is what the document says, and nothing covers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from planner.report.day_charts import days_chart, log_ticks


def days(shares: Sequence[float | None], *, most: int = 3) -> Figure:
    """One day of two replicas whose p95 TTFT is `shares` [24] of its limit of 200 ms; None: infinite."""
    rows = []
    for hour, share in enumerate(shares):
        met = share is not None and share <= 1.0
        value_ms = None if share is None else 200.0 * share
        check = {"key": "p95_ttft_ms", "limit_ms": 200.0, "value_ms": value_ms, "error_ms": None, "met": met}
        replicas = {"mean": 2.0, "min": 2, "max": most}
        rows.append(
            {"hour": hour, "rate_qps": 5.0, "replicas": replicas, "perfect": None, "slo": [check], "slo_met": met}
        )
    return days_chart({"days": rows, "scenario": {"name": "a day"}})


def legend_of(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def shaded_hours(axis: Any) -> list[int]:
    return [round(patch.get_x()) for patch in axis.patches if type(patch).__name__ == "Rectangle"]


def test_hours_that_miss_a_limit_are_shaded_and_the_legend_says_so():
    figure = days([0.5] * 9 + [40.0, 90.0] + [0.5] * 13)
    assert [[9, 10]] * 3 == [shaded_hours(axis) for axis in figure.axes]
    assert ["p95 TTFT ÷ 200 ms", "hour that misses a limit"] == legend_of(figure.axes[2])


def test_where_every_limit_holds_no_shading_is_explained():
    figure = days([0.5] * 24)
    assert [[]] * 3 == [shaded_hours(axis) for axis in figure.axes]
    assert ["p95 TTFT ÷ 200 ms"] == legend_of(figure.axes[2])


@pytest.mark.parametrize("peak", [0.9, 90.0])
def test_no_legend_lies_over_what_is_drawn(peak: float):
    figure = days([0.3] * 8 + [peak] * 4 + [0.3] * 12, most=14)
    figure.canvas.draw()
    for axis in figure.axes[1:]:
        assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1 - 1


def test_an_hour_whose_statistic_is_infinite_is_marked_on_top():
    figure = days([0.5] * 20 + [None, None] + [0.5] * 2)
    marks = [line for line in figure.axes[2].lines if line.get_marker() == "^"]
    assert [[20.5, 21.5]] == [list(mark.get_xdata()) for mark in marks]
    assert ["p95 TTFT ÷ 200 ms", "too many failed for a figure", "hour that misses a limit"] == legend_of(
        figure.axes[2]
    )
    assert [] == [line for line in days([0.5] * 24).axes[2].lines if line.get_marker() == "^"]


AXES = [
    ([0.3] * 24, "linear", (0.0, 1.1), "the limit, and a little above it: nothing is beyond"),
    ([1.5] * 24, "linear", (0.0, 1.65), "a little above the highest"),
    ([0.3, 90.0] * 12, "log", (0.2, 100.0), "labelled ends, around all that is drawn"),
    ([0.3, 2e6] * 12, "log", (0.1, 1e7), "only powers of ten where others would be too many"),
    ([None] * 24, "linear", (0.0, 1.1), "nothing to draw but the limit"),
]


@pytest.mark.parametrize(("shares", "scale", "ends", "because"), AXES, ids=[row[3] for row in AXES])
def test_the_axis_of_limits(shares: list[float | None], scale: str, ends: tuple[float, float], because: str):
    axis = days(shares).axes[2]
    assert scale == axis.get_yscale(), because
    assert pytest.approx(ends) == axis.get_ylim(), because
    ticks = axis.get_yticks()
    if scale == "log":
        assert ends == (ticks[0], ticks[-1])
        assert len(axis.yaxis.get_minorticklocs()) == 0


@pytest.mark.parametrize("low", [0.001, 0.0312, 0.2, 0.99, 1.0])
@pytest.mark.parametrize("high", [1.0, 2.0, 3.7, 1e3, 4e9])
def test_ticks_stand_around_what_is_drawn(low: float, high: float):
    ticks = log_ticks(low, high)
    assert ticks[0] <= low
    assert high <= ticks[-1]
    assert (np.diff(ticks) > 0).all()
    assert all(f"{tick:e}"[0] in "125" for tick in ticks)
