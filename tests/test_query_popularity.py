"""The law of popularity: what it is fitted to, by closed form and by a log that is drawn query by query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from response_cache_worlds import drawn

from planner.errors import InputError
from planner.response_cache.popularity import (
    FIRST_SHARE,
    LOG_QUERIES,
    SEEN_ONCE_SHARE,
    WEB_SEARCH,
    ZIPF,
    Popularity,
    fitted,
    groups,
    seen,
)
from tools.response_cache_table import lines


def test_the_web_search_law_has_both_figures_of_the_paper_to_within_half_a_hundredth_of_a_per_cent():
    found = seen(WEB_SEARCH, LOG_QUERIES)
    assert (FIRST_SHARE, SEEN_ONCE_SHARE) == pytest.approx((found.first, found.once), abs=5e-5)


def test_the_web_search_law_is_the_fit_at_its_stated_assumptions():
    found = fitted(LOG_QUERIES, ZIPF)
    assert WEB_SEARCH.queries == pytest.approx(found.queries, rel=1e-3)
    assert WEB_SEARCH.new_share == pytest.approx(found.new_share, abs=1e-4)


@pytest.mark.parametrize("zipf", [0.6, 0.75, 0.85, 0.9])
def test_a_year_scaled_down_and_drawn_query_by_query_has_both_figures(zipf):
    """2 million draws: the standard error of either share is below 0.0004."""
    count = 2_000_000
    queries = drawn(fitted(count, zipf), count, seed=3)
    times = np.unique(queries, return_counts=True)[1]
    assert FIRST_SHARE == pytest.approx(len(times) / count, abs=0.0015)
    assert SEEN_ONCE_SHARE == pytest.approx(np.count_nonzero(times == 1) / count, abs=0.0015)


def test_a_shorter_log_of_the_same_law_has_more_first_occurrences_and_a_longer_one_fewer():
    """Both figures are of the log's length: a tenth of the year would have looked far less cacheable."""
    firsts = [seen(WEB_SEARCH, count).first for count in (1e7, 1e8, 1e9, 1e10)]
    assert firsts == sorted(firsts, reverse=True)
    assert 0.65 == pytest.approx(firsts[1], abs=0.005)
    assert firsts[-1] > WEB_SEARCH.new_share  # those are new in any log


@pytest.mark.parametrize("log_queries", [1e7, 1e8, 1e9, 1e10])
def test_another_assumed_length_scales_the_number_of_queries_and_leaves_the_new_share(log_queries):
    found = fitted(log_queries, ZIPF)
    assert found.new_share == pytest.approx(WEB_SEARCH.new_share, abs=0.01)
    assert found.queries / log_queries == pytest.approx(WEB_SEARCH.queries / LOG_QUERIES, rel=0.13)


@pytest.mark.parametrize("zipf", [0.97, 1.0, 1.2])
def test_an_exponent_near_one_or_above_cannot_have_both_figures(zipf):
    with pytest.raises(InputError, match=r"^zipf \(=.*no share of new queries gives both figures"):
        fitted(LOG_QUERIES, zipf)


LAWS = [
    # zipf, queries, because
    (0.0, 50_000, "all alike"),
    (0.85, 50_000, "the web's exponent"),
    (1.0, 50_000, "the integral is a logarithm"),
    (1.4, 50_000, "nearly all mass in the head"),
    (0.85, 900, "fewer than stand alone: nothing is joined"),
    (0.85, 1, "one query"),
]


@pytest.mark.parametrize(("zipf", "queries", "because"), LAWS, ids=[row[2] for row in LAWS])
def test_joined_ranks_have_the_sums_of_ranks_that_stand_alone(zipf: float, queries: int, because: str):
    law = Popularity(zipf, queries, 0.25)
    found = groups(law)
    share = np.arange(1.0, queries + 1) ** -zipf
    share *= 0.75 / share.sum()
    assert queries == found.queries.sum()
    assert 0.75 == pytest.approx(float(found.queries @ found.share), rel=1e-12)
    for times in (10.0, 1e4, 1e6):
        alone = float(-np.expm1(-times * share).sum())
        assert alone == pytest.approx(float(found.queries @ -np.expm1(-times * found.share)), rel=1e-5)


@pytest.mark.parametrize(
    ("values", "key"),
    [((-0.1, 9, 0.0), "zipf"), ((1.0, 0, 0.0), "queries"), ((1.0, 9, 1.0), "new_share"), ((1.0, 9, -0.1), "new_share")],
)
def test_a_law_that_cannot_be_is_refused_by_name(values, key):
    with pytest.raises(InputError, match=rf"^popularity\.{key}"):
        Popularity(*values)


def test_the_page_has_the_tables_that_the_tool_prints():
    page = (Path(__file__).parents[1] / "docs" / "fleet.md").read_text(encoding="utf-8")
    printed = [line for line in lines() if line]
    assert 16 == len(printed)
    assert [] == [line for line in printed if line not in page]
