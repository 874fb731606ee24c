"""The place of a percentile, for values, for gaps and for the bins of a day: one rule, and no rounding on the way."""

from __future__ import annotations

import numpy as np
import pytest

from planner.simulation.day_bins import BIN_ERROR, empty_bins, statistic_ms
from planner.simulation.kernel_state import GAP_EDGES_S, GAP_WIDTH, make_gaps
from planner.simulation.quantiles import gap_ms, quantile, rank

PLACES = [
    (99.9, 1000, 998, "999 of 1,000 values, though 0.999 · 1,000 is 999.0000000000001 in binary"),
    (99.9, 1001, 999, "999.999 of them: not fewer than 1,000"),
    (99.0, 100, 98, "99 of 100"),
    (95.0, 20, 18, "19 of 20"),
    (95.0, 21, 19, "19.95 of 21: not fewer than 20"),
    (50.0, 1, 0, "the only one"),
    (100.0, 7, 6, "all of them: the last"),
    (0.0, 7, 0, "none of them: the first all the same"),
    (7.0, 100, 6, "7 of 100, though 0.07 · 100 is 7.000000000000001"),
]
ABOVE_NONE = [row for row in PLACES if row[0] > 0]  # a histogram has no first value to begin with


@pytest.mark.parametrize(("percentile", "count", "place", "because"), PLACES, ids=[row[3] for row in PLACES])
def test_the_place_of_a_percentile(percentile: float, count: int, place: int, because: str):
    assert place == rank(percentile, count), because
    assert float(place) == quantile(np.arange(count, dtype=np.float64)[::-1], percentile)


@pytest.mark.parametrize(("percentile", "count", "place", "because"), PLACES, ids=[row[3] for row in PLACES])
def test_bins_of_a_day_have_the_same_place(percentile: float, count: int, place: int, because: str):
    """All values but the largest of those up to `place` lie in bin 100, that one in 200, whatever is above in 300."""
    bins = empty_bins(1)
    bins.queries[0] = count
    bins.counts[0, 0, 100], bins.counts[0, 0, 200], bins.counts[0, 0, 300] = place, 1, count - place - 1
    alone = empty_bins(1)
    alone.queries[0] = alone.counts[0, 0, 200] = 1
    expected = statistic_ms(alone, make_gaps(), 0, "ttft", 50.0)
    assert expected is not None
    assert expected == pytest.approx(statistic_ms(bins, make_gaps(), 0, "ttft", percentile), rel=BIN_ERROR), because


@pytest.mark.parametrize(("percentile", "count", "place", "because"), ABOVE_NONE, ids=[row[3] for row in ABOVE_NONE])
def test_gaps_have_the_same_place(percentile: float, count: int, place: int, because: str):
    counts = np.zeros(len(GAP_EDGES_S) - 1)
    counts[100], counts[200], counts[300] = place, 1, count - place - 1
    assert 1e3 * GAP_EDGES_S[200] * np.exp(GAP_WIDTH / 2) == pytest.approx(gap_ms(counts, 1.0, percentile, 0.0)), (
        because
    )
