"""The page's charts: what is drawn is what the document says, and the SVG takes the page's colours and font."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

import planner.report
from planner.report.page.break_even import margin_lines
from planner.report.page.charts import capacity_chart, latency_chart
from planner.report.page.charts_money import hourly_cost_chart, tornado_chart, waterfall_chart
from planner.report.svg import VARIABLES, draw, linear_ticks, log_ticks
from planner.summary.words import usd
from tests.report_documents import full, histogram, losing

SHEET = (Path(planner.report.__file__).parent / "templates" / "style.css").read_text()
ROWS: list[tuple[str, float, list[float] | None]] = [("p50", 100.0, [80.0, 140.0]), ("p99", 600.0, None)]


def painted(paint: Callable[[Figure], None]) -> Figure:
    figure = Figure()
    paint(figure)
    return figure


def heights(axes: Any) -> list[float]:
    return [
        line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]


# --- what is drawn ---


def test_a_latency_chart_has_its_limit_through_both_parts_and_a_dot_and_band_for_each_percentile():
    upper, lower = painted(latency_chart(histogram(120, 0.4), ROWS, {"p99": 700.0})).axes
    assert 700.0 in heights(upper)
    assert 700.0 in heights(lower)
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in lower.lines if line.get_marker() == "o"]
    assert [(100.0, 0), (600.0, 1)] == dots
    bands = [list(line.get_xdata()) for line in lower.lines if line.get_linewidth() == 6]
    assert [[80.0, 140.0]] == bands  # p99 has none
    assert ["p50 100", "p99 600"] == [" ".join(label.get_text().split()) for label in lower.get_yticklabels()]
    low, high = lower.get_xlim()
    assert low < 80
    assert high > 700


def test_the_capacity_chart_draws_each_figure_as_a_share_of_its_limit_and_marks_the_chosen_and_the_failing_size():
    points = full()["capacity_curve"]
    points = [points[0], *points[2:]]  # one a size
    limits = {"p99_ttft_ms": 1000.0, "p99_tpot_ms": 50.0}
    (axes,) = painted(capacity_chart(points, limits, 6, 5, "replicas")).axes
    drawn = {line.get_label(): line for line in axes.lines if "÷" in line.get_label()}
    assert [4, 5, 6, 8] == list(drawn["p99 TTFT ÷ 1,000 ms"].get_xdata())
    assert [31.0, 2.29, 0.8123, 0.64] == pytest.approx(list(drawn["p99 TTFT ÷ 1,000 ms"].get_ydata()))
    assert [1.32, 0.92, 0.8208, 0.6] == pytest.approx(list(drawn["p99 TPOT ÷ 50 ms"].get_ydata()))
    assert {"6 chosen", "5 fails"} < {text.get_text() for text in axes.texts}
    assert {5, 6} == set(heights(axes))
    assert "log" == axes.get_yscale()  # 60 to 3,100 %
    hollow = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o" and _is_hollow(line)]
    assert [4, 8, 4, 8] == hollow  # the shorter runs


def _is_hollow(line: Any) -> bool:
    return line.get_markerfacecolor() != line.get_color()


def test_the_day_draws_what_a_query_costs_in_each_hour_and_leaves_out_hours_without_queries():
    hours = full()["day"]
    costs = [hour["cost"] / hour["queries"] for hour in hours]
    (axes,) = painted(hourly_cost_chart(hours, [None, *costs[1:]], 0.0002, 0.0449)).axes
    (steps,) = axes.patches
    values = steps.get_data().values
    assert math.isnan(values[0])
    assert costs[1:] == pytest.approx(list(values[1:]))
    labels = axes.get_legend_handles_labels()[1]
    assert ["in the hour", "mean of the day $0.000200"] == labels  # revenue is far above: it would flatten the rest


def test_revenue_is_drawn_where_it_is_near_the_cost():
    (axes,) = painted(hourly_cost_chart(full()["day"], [0.0002] * 24, 0.0002, 0.0003)).axes
    assert "revenue $0.000300" in axes.get_legend_handles_labels()[1]


@pytest.mark.parametrize("document", [full(), losing()], ids=["pays", "does not pay"])
def test_every_margin_line_passes_through_the_plan_and_is_zero_at_the_documents_break_even(document):
    lines = {line.name: line for line in margin_lines(document)}
    assert ["qps", "rpm", "price"] == list(lines)
    left, earned = document["margin"]["usd_per_query"], document["revenue"]["usd_per_query"]
    assert {"qps": 120.0, "rpm": 1000 * earned, "price": 3.0} == {name: line.plan for name, line in lines.items()}
    zeros = {"qps": "qps", "rpm": "rpm_usd", "price": "gpu_hour_usd"}
    for name, line in lines.items():
        assert line.zero == document["break_even"][zeros[name]]
        # Sums of a handful of terms no larger than `earned`: a few units of the last place.
        assert line.margin(line.plan) == pytest.approx(left, abs=1e-14)
        assert line.margin(line.zero) == pytest.approx(0.0, abs=1e-14)


def test_margin_lines_bend_as_they_must():
    lines = {line.name: line.margin for line in margin_lines(full())}
    x = np.array([1.0, 2.0, 4.0])
    assert (np.diff(lines["qps"](x)) > 0).all(), "more traffic spreads the fleet's cost"
    assert (np.diff(lines["rpm"](x)) > 0).all(), "more revenue"
    assert (np.diff(lines["price"](x)) < 0).all(), "dearer GPUs"
    assert np.diff(lines["qps"](x))[0] > np.diff(lines["qps"](x))[1], "a hyperbola: the gain of doubling halves"


def test_waterfall_bars_end_where_the_step_leaves_the_fleet_and_show_what_it_took():
    rows = full()["waterfall"]
    (axes,) = painted(waterfall_chart(rows, "gpus", str)).axes
    spans = [(round(bar.get_y() + 0.17), bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    expected = [(0, 0, 40), (1, 0, 28), (1, 28, 40), (2, 0, 24), (2, 24, 28), (3, 0, 14), (3, 14, 24)]
    expected += [(4, 0, 15), (4, 14, 15)]  # the last one adds
    assert [*expected, (5, 0, 40)] == spans  # nothing fits: an empty frame; left out: nothing
    said = [text.get_text() for text in axes.texts]
    assert "no fleet fits" in said
    assert "left out" in said


@pytest.mark.parametrize("medians", [None, 0.041], ids=["no medians: from the plan", "from the medians"])
def test_tornado_bars_reach_from_the_medians_to_both_ends(medians):
    rows = full()["uncertainty"]["tornado"][:2]
    plan = full()["margin"]["usd_per_query"]
    (axes,) = painted(tornado_chart(rows, ("margin_low", "margin_high"), medians, plan, usd)).axes
    ends = sorted(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert sorted(row[key] for row in rows for key in ("margin_low", "margin_high")) == pytest.approx(ends, abs=1e-15)
    begin = plan if medians is None else medians
    assert {begin} == {bar.get_x() for bar in axes.patches}
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert begin in lines.values()
    assert ("as planned" in lines) == (medians is not None)
    assert lines.get("as planned", plan) == plan


def test_of_two_ends_on_one_side_the_nearer_lies_in_front_of_the_other():
    rows = [{"name": "load", "margin_low": 0.030, "margin_high": 0.035}]
    (axes,) = painted(tornado_chart(rows, ("margin_low", "margin_high"), 0.04, None, usd)).axes
    assert [-0.010, -0.005] == pytest.approx([bar.get_width() for bar in axes.patches])
    assert {None} == {bar.get_alpha() for bar in axes.patches}  # no third colour where they overlap


TICKS = [
    ((40.0, 1500.0), [50, 100, 200, 500, 1000], "one and a half decades: 1, 2, 5"),
    ((1.0, 1e6), [1, 100, 10_000, 1e6], "six decades: every other power"),
    ((1000.0, 60_000.0), [1000, 3000, 10_000, 30_000], "nearly two decades: 1 and 3"),
    ((44.0, 48.0), [44, 45, 46, 47, 48], "no round number of the logarithm within: the linear ones"),
]


@pytest.mark.parametrize(("span", "expected", "because"), TICKS, ids=[row[2] for row in TICKS])
def test_logarithmic_ticks_are_round_and_few(span, expected, because):
    assert expected == pytest.approx(log_ticks(*span)), because


def test_linear_ticks_stay_within():
    assert [0.0, 2.0, 4.0, 6.0] == linear_ticks(0.0, 7.0, 4)


# --- how it stands in the page ---


def _square(figure: Figure) -> None:
    axes = figure.subplots()
    for height, colour in enumerate(VARIABLES):
        axes.plot([0, 1], [height, height], "o-", color=colour)
    axes.set_title("a < b & $c$")


def test_every_colour_is_a_variable_of_the_page_and_text_stays_text():
    svg = draw("square", 2.0, _square)
    assert [] == re.findall(r"#[0-9a-f]{6}", svg)
    assert {f"var({variable})" for variable in VARIABLES.values()} <= set(re.findall(r"var\([a-z-]+\)", svg))
    assert "a &lt; b &amp; $c$" in svg
    assert "font-family" not in svg
    assert not [word for word in ("http", "xmlns", "<style", "<metadata", "<!", "<?") if word in svg]


def test_ids_begin_with_the_charts_name_and_the_same_chart_is_the_same_text():
    svg = draw("square", 2.0, _square)
    assert svg == draw("square", 2.0, _square)
    root = ElementTree.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(name.startswith("square-") for name in ids)
    wanted = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
    assert wanted
    assert set(wanted) <= set(ids)
    assert not set(ids) & {element.get("id") for element in ElementTree.fromstring(draw("other", 2.0, _square)).iter()}


def _themes() -> dict[str, dict[str, str]]:
    """The variables of the sheet's three themes."""
    blocks = re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)
    found = [dict(re.findall(r"(--[a-z]+): (#[0-9a-f]{3,6});", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * letter for letter in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_words_and_lines_stand_out_from_the_paper(theme):
    colours = _themes()[theme]
    assert set(VARIABLES.values()) <= set(colours)
    paper = _luminance(colours["--paper"])
    for variable in sorted(set(VARIABLES.values()) - {"--paper", "--rule"}):
        light, dark = sorted((paper, _luminance(colours[variable])), reverse=True)
        least = 4.5 if variable in ("--ink", "--soft", "--good", "--bad") else 3.0  # WCAG 2: text, graphics
        assert (light + 0.05) / (dark + 0.05) >= least, variable
