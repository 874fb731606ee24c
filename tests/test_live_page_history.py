"""The past on the live page: lines and their gaps, the scale, windows that were still filling."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from planner.exporter.page import live_page
from planner.exporter.page_chart import GAP, HEIGHT, MOST_POINTS, WIDTH, chart, history, settled
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


FILLING = [
    ([(0, 9), (60, 5), (299, 2), (300, 1), (360, 1)], [None, None, None, 1, 1], "the first 300 s of the first run"),
    ([(0, 9), (60, 5)], [9, 5], "fewer than two whole windows: all that there is"),
    ([(0, 9), (300, 1)], [9, 1], "one whole window is no line either"),
    ([(0, 1), (300, 1), (360, None), (420, 1), (480, 1)], [None, 1, None, 1, 1], "a moment's silence ends no run"),
    ([(0, 1), (60, 1), (300, 1), (360, 1), (1000, 7), (1060, 5), (1300, 1)], [None, None, 1, 1, None, None, 1],
     "a silence of more than a window does"),
    ([(0, None), (100, None), (400, 9), (500, 8), (700, 1), (800, 1)], [None, None, None, None, 1, 1],
     "a run begins with the first figure, as when the load begins after the exporter"),
    ([(0, 1), (3600, 1), (7200, 1)], [None, 1, 1], "readings may be further apart than their windows are long"),
]  # fmt: skip


@pytest.mark.parametrize(("points", "expected", "because"), FILLING, ids=[row[2] for row in FILLING])
def test_points_of_windows_that_were_still_filling_are_left_out(points, expected, because):
    assert [at_s for at_s, _ in points] == [at_s for at_s, _ in settled(points, 300.0)]
    assert expected == [value for _, value in settled(points, 300.0)], because


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
