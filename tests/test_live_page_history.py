"""The past on the live page: lines and their gaps, the scale, windows that were still filling."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from planner.exporter.page import live_page
from planner.exporter.page_chart import GAP, HEIGHT, MOST_POINTS, ROOM, WIDTH, chart, history, settled
from planner.exporter.snapshot import Moment
from tests.live_snapshots import begun, whole
from tests.page_reader import Reader


def test_a_line_breaks_where_nothing_was_known_and_a_lone_point_is_a_dot():
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 2.0), (4.0, 1.0), (4.0 + GAP + 1, 1.0)]
    drawn = chart([("actual", points)])
    path = drawn.lines[0].path
    assert 3 == path.count("M")  # the start, after the unknown one, after the gap
    assert path.endswith("h0")
    assert drawn.top > 2.0
    assert path.startswith(f"M0.0 {HEIGHT * (1 - 1 / drawn.top):.1f}")
    assert f"{WIDTH:.1f}" in path


@pytest.mark.parametrize("points", [[], [(0.0, 1.0)], [(0.0, None), (1.0, None)], [(5.0, 1.0), (5.0, 2.0)]])
def test_without_two_moments_there_is_no_line(points):
    assert chart([("actual", points)]) is None


def test_a_long_past_is_thinned_and_a_line_at_zero_lies_on_the_ground():
    drawn = chart([("actual", [(float(second), 0.0) for second in range(10_000)])])
    path = drawn.lines[0].path
    assert path.count("M") + path.count("L") <= MOST_POINTS
    assert set(re.findall(r"(?<= )[\d.]+", path)) == {f"{HEIGHT:.1f}"}


FILLING = [  # (values, windows [s], expected, because)
    ([9, 5, 2, 1, 1], [0, 60, 240, 300, 300], [None, None, None, 1, 1], "the exporter has begun"),
    ([1, 1, 7, 5, 1], [300, 300, 37, 97, 300], [1, 1, None, None, 1], "Prometheus is back: its series fill again"),
    ([1, 1, 7, 1], [300, 293, 277, 281], [1, 1, None, 1], "readings do not fall on a window's very ends"),
    ([9, 5], [10, 70], [9, 5], "fewer than two whole windows: all that there is"),
    ([9, 1], [10, 300], [9, 1], "one whole window is no line either"),
    ([9, 8, 1, 1], [300, 300, 300, 300], [9, 8, 1, 1], "a costly beginning of whole windows was so"),
    ([None, 1, 1], [10, 300, 300], [None, 1, 1], "a moment of which nothing is known"),
    ([3, 1, 1], [None, 300, 300], [3, 1, 1], "nobody tells how long a window was"),
]


@pytest.mark.parametrize(("values", "windows_s", "expected", "because"), FILLING, ids=[row[3] for row in FILLING])
def test_points_of_windows_that_were_still_filling_are_left_out(values, windows_s, expected, because):
    moments = [
        Moment(60.0 * index, value, value, None, window_s)
        for index, (value, window_s) in enumerate(zip(values, windows_s, strict=True))
    ]
    drawn = [(moment.unix_s, moment.qps) for moment in moments]
    found = settled(drawn, [moment.window_s for moment in moments], 277.5)
    assert [at_s for at_s, _ in drawn] == [at_s for at_s, _ in found]
    assert expected == [value for _, value in found], because
    known = [value for value in expected if value is not None]
    _, load = history(whole(history=tuple(moments)))
    assert (ROOM * max(known) if len(known) > 1 else None) == (load.chart and load.chart.top), because


def test_first_readings_do_not_set_the_scale_and_are_said_to_be_left_out():
    cost, load = history(begun())
    assert cost.chart.top < 0.0013
    assert load.chart.top < 0.13 / 0.001
    assert ("$0.0448", "") == (cost.left_out, load.left_out)
    assert "between $0.00105 and $0.00115" in cost.label
    assert "Left out: windows that had not filled yet, up to $0.0448." in Reader(live_page(begun())).text
    assert "Left out" not in Reader(live_page(whole())).text


def test_the_past_says_in_words_what_it_shows():
    cost, load = history(whole())
    assert "cost of a query over 6 h: between $" in cost.label
    assert "queries per second over 6 h" in load.label
    assert [2, 1] == [len(cost.chart.lines), len(load.chart.lines)]
    broken = replace(whole(), history=(Moment(0.0, float("nan"), 1.0, None), Moment(60.0, None, 2.0, None)))
    cost, load = history(broken)
    assert cost.chart is not None
    assert load.chart is None
