"""The knee of the capacity curve: where it bends, marked in chart and words, not claimed where it cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from planner.report.page import report_page
from planner.report.page.charts import capacity_chart
from planner.report.page.knee import knee
from tests.page_reader import Reader
from tests.report_documents import full, size

KEY = "p99_ttft_ms"


def sizes(values: dict[int, float], upper: float = 1.0, **other: Any) -> list[dict[str, Any]]:
    return [{"serving": n, KEY: ms, f"{KEY}_upper": upper * ms, "saturated": False} | other for n, ms in values.items()]


def of_load(law: Any, over: range = range(4, 13)) -> list[dict[str, Any]]:
    """Sizes whose latency is a law of the load of one replica."""
    return sizes({n: law(1 / n) for n in over})


TOLD = [
    (
        sizes({10: 1000.0, 11: 200.0, 12: 150.0, 13: 120.0, 14: 100.0}),
        11,
        "one replica fewer than 11 costs 800 ms, one more brings 50",
    ),
    (of_load(lambda load: 100 + max(0.0, load - 1 / 8) * 1e5), 8, "flat up to an eighth of the load, steep beyond"),
    (of_load(lambda load: 100 / (1 - 3.9 * load)), 5, "a queue that fills up at 3.9 replicas"),
    (sizes({10: 1000.0, 11: 200.0, 12: 150.0, 13: 160.0, 14: 100.0}), 11, "a rise of 1 % of the height is noise"),
]


@pytest.mark.parametrize(("points", "expected", "because"), TOLD, ids=[row[2] for row in TOLD])
def test_the_knee_is_where_the_curve_lies_furthest_below_the_line_between_its_ends(points, expected, because):
    found = knee(points, KEY)
    assert expected == (found and found.serving), because
    by_size = {point["serving"]: point[KEY] for point in points}
    assert found is not None
    assert (by_size[found.serving], by_size[found.fewer], by_size[found.more]) == found[2:7:2]
    assert found.fewer < found.serving < found.more


UNTOLD = [
    (sizes({10: 1000.0, 11: 200.0, 12: 150.0, 14: 100.0}), "four sizes make no curve"),
    (of_load(lambda load: 50 + 4000 * load), "a straight line has no knee"),
    (of_load(lambda load: 50 + 4000 * load**0.5), "it bends the other way"),
    (of_load(lambda load: 50 + 4000 * load**1.2), "hardly bent"),
    (sizes(dict.fromkeys(range(4, 10), 100.0)), "flat: the ends are alike"),
    (sizes({10: 1000.0, 11: 200.0, 12: 700.0, 13: 120.0, 14: 100.0}), "noise as large as the curve"),
    (sizes({10: 1000.0, 11: 800.0, 12: 550.0, 13: 400.0, 14: 390.0}, 1.9), "bends less than the interval is wide"),
    (sizes({10: 9e9, 11: 200.0, 12: 150.0, 13: 120.0, 14: 100.0}, saturated=True), "a saturated run has no latency"),
    (sizes({10: float("inf"), 11: 200.0, 12: 150.0, 13: 120.0, 14: 100.0}), "an endless one neither"),
    ([{"serving": n} for n in range(4, 12)], "no latency at all"),
    ([], "nothing was tried"),
]


@pytest.mark.parametrize(("points", "because"), UNTOLD, ids=[row[1] for row in UNTOLD])
def test_no_knee_is_claimed_where_the_sizes_do_not_tell_one(points, because):
    assert knee(points, KEY) is None, because


def test_the_knee_does_not_depend_on_units():
    points = TOLD[0][0]
    in_s = [{**point, KEY: point[KEY] / 1000, f"{KEY}_upper": point[f"{KEY}_upper"] / 1000} for point in points]
    first, second = knee(points, KEY), knee(in_s, KEY)
    assert first is not None
    assert second is not None
    assert first.serving == second.serving


@pytest.fixture
def bent() -> dict[str, Any]:
    """A plan whose tightest limit, p99 TPOT, bends at 7 serving replicas."""
    document = full()
    figures = {5: (2290.0, 60.0), 6: (812.3, 41.04), 7: (700.0, 25.0), 8: (640.0, 23.0), 10: (600.0, 20.0)}
    document["capacity_curve"] = [size(n, ttft, tpot, n in (5, 6)) for n, (ttft, tpot) in figures.items()]
    return document


def test_the_page_says_where_the_knee_is_by_which_latency_and_by_which_method(bent):
    said = Reader(report_page(bent)).sections["capacity"]
    assert "The knee is at 7 serving replicas: p99 TPOT is 25 ms there, 41.0 ms with 6, 23 ms with 8." in said
    assert "Found by Kneedle on that latency against the load of one replica" in said
    assert "7 knee" in said  # in the chart
    assert "knee" not in Reader(report_page(full())).sections["capacity"]  # four sizes


@pytest.mark.parametrize(("at", "words"), [(7, "7 knee"), (6, "6 chosen, the knee"), (5, "5 fails, the knee")])
def test_the_chart_marks_the_knee_beside_or_with_the_chosen_and_the_failing_size(bent, at, words):
    figure = Figure()
    capacity_chart(bent["capacity_curve"], {"p99_tpot_ms": 50.0}, 6, 5, "replicas", at)(figure)
    (axes,) = figure.axes
    assert words in {text.get_text() for text in axes.texts}
    upright = [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert {5, 6, at} == set(upright)
