"""A prefix cache collapses within a doubling of the load, where what a pause touches outgrows it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from planner.scenario import Scenario
from planner.simulation.load import Load
from tests.session_loads import FIVE_TURNS
from tools.prefix_collapse import PAGE, PICTURE, Point, fills_at_qps, picture, point, table, with_table

CHAT = Scenario.from_dict(FIVE_TURNS)


@cache
def at(turns_qps: float, cache_share: float = 1.0) -> Point:
    return point(CHAT, turns_qps, cache_share, turns=2000)


def test_hits_collapse_when_the_load_doubles():
    edge = at(4.0).fills_qps
    assert 5 < edge < 8
    before, after = at(0.75 * edge), at(1.5 * edge)
    assert before.hit_rate > 0.7
    assert after.hit_rate < 0.25
    assert after.p95_ttft_ms > before.p95_ttft_ms
    assert after.saved_tokens < before.saved_tokens, "more asked, less found"


def test_twice_the_cache_carries_twice_the_load():
    edge = at(4.0).fills_qps
    assert at(1.5 * edge, 2.0).hit_rate == pytest.approx(at(0.75 * edge).hit_rate, abs=0.03)
    assert at(4.0, 2.0).fills_qps == pytest.approx(2 * edge, rel=1e-3)


def test_the_edge_by_hand():
    """Two turns in the mean of 300 tokens, 10 s of pause and 2 s of answer: 3,600 token-seconds a turn."""
    load = Load(np.zeros(2), np.array([100, 400], np.int32), np.array([50, 50], np.int32))
    assert fills_at_qps(CHAT, load, 36_000, 2.0) == pytest.approx(36_000 / (12 * 300))


def test_the_page_has_the_tables_and_the_picture_is_there():
    page = PAGE.read_text()
    for name in ("collapse by load", "collapse by cache"):
        _, _, rest = page.partition(f"<!-- made: {name} -->\n")
        made, _, _ = rest.partition(f"<!-- end: {name} -->\n")
        assert made.count("\n| ") > 8
        assert with_table(page, name, made.strip("\n")) == page
    assert PICTURE.name in page
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="must stand in the page once"):
        with_table("no marks", "collapse by load", "")


def test_a_point_is_a_row_and_a_mark():
    points = [at(4.0), at(0.75 * at(4.0).fills_qps)]
    assert f"| 4 | 47,984 | {100 * points[0].hit_rate:.0f} % |" in table(points)
    drawn = picture(points, points)
    assert [2, 2, 2, 2] == [len(axes.lines[0].get_xdata()) for axes in drawn.axes]


def test_the_example_collapses_where_the_page_says():
    example = Scenario.load(Path(__file__).parents[1] / "examples" / "chat-sessions.yaml")
    assert point(example, 4.0, turns=1000).hit_rate > 0.7
    assert point(example, 8.0, turns=1000).hit_rate < 0.15
