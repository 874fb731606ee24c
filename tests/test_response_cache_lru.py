"""Hit rates by formula against caches that are simulated query by query."""

from __future__ import annotations

import math

import numpy as np
import pytest
from response_cache_worlds import DAY, SMALL_LAW, cached_scenario, drawn, found_in_cache, simulated_hit_rate

from planner.response_cache.hits import day_hits
from planner.response_cache.lru import hit_probability, steady
from planner.response_cache.popularity import WEB_SEARCH, Popularity

INF = math.inf
QUERIES = 300_000
# Twice the standard error of 150,000 draws, 0.0026, and what Che's approximation is off at the smallest room here.
WITHIN = 0.005

CACHES = [
    # capacity, ttl_s at 10 queries/s, because
    (100, None, "LRU alone, small"),
    (1000, None, "LRU alone"),
    (8000, None, "LRU alone, large"),
    (None, 20.0, "TTL alone, short"),
    (None, 2000.0, "TTL alone, long"),
    (3000, 60.0, "room that is never filled: the TTL decides"),
    (1000, 200.0, "a TTL of 1.6 characteristic times"),
    (1000, 500.0, "4 characteristic times"),
    (1000, 1500.0, "12: beyond the finite sum"),
    (100, 1500.0, "more than a hundred"),
]


@pytest.mark.parametrize(("capacity", "ttl_s", "because"), CACHES, ids=[row[2] for row in CACHES])
def test_the_hit_rate_is_that_of_the_simulated_cache(capacity: int | None, ttl_s: float | None, because: str):
    found = steady(SMALL_LAW, 10.0, capacity or INF, ttl_s or INF)
    assert found.hit_rate == pytest.approx(simulated_hit_rate(SMALL_LAW, 10.0, capacity, ttl_s, QUERIES), abs=WITHIN)
    assert (found.characteristic_time_s is None) == (capacity in (None, 3000))


@pytest.mark.parametrize("zipf", [0.5, 1.2])
def test_other_laws_hold_too(zipf):
    law = Popularity(zipf, 5000, 0.0)
    assert steady(law, 10.0, 500, 100.0).hit_rate == pytest.approx(
        simulated_hit_rate(law, 10.0, 500, 100.0, QUERIES), abs=WITHIN
    )


def test_the_shorter_of_both_times_alone_would_be_wrong_where_both_matter():
    """With min(T, ttl) in either formula the cache of the table's "1.6 characteristic times" is missed by far more."""
    both = steady(SMALL_LAW, 10.0, 1000, 200.0)
    assert both.characteristic_time_s is not None
    shorter = min(both.characteristic_time_s, 200.0)
    true = simulated_hit_rate(SMALL_LAW, 10.0, 1000, 200.0, QUERIES)
    as_lru, as_ttl = steady(SMALL_LAW, 10.0, 1000, INF).hit_rate, steady(SMALL_LAW, 10.0, INF, shorter).hit_rate
    assert as_lru > true + 2 * WITHIN
    assert as_ttl < true - 2 * WITHIN


@pytest.mark.parametrize("asked", [0.05, 0.7, 1.0, 1.3, 4.0])  # requests in a characteristic time
@pytest.mark.parametrize("until", [1.3, 2.5, 7.0, 8.5, 30.0])  # the TTL in characteristic times
def test_one_query_between_both_limits_is_found_as_often_as_in_simulated_cycles(asked, until):
    """Cycles from a miss to the next; the standard error of 40,000 of them is below 0.0025."""
    rng = np.random.default_rng(5)
    gaps = rng.standard_exponential((40_000, int(asked * until + 6 * math.sqrt(asked * until) + 20))) / asked
    hits = np.logical_and.accumulate((gaps <= 1.0) & (np.cumsum(gaps, axis=1) < until), axis=1).sum()
    simulated = hits / (hits + len(gaps))
    assert simulated == pytest.approx(hit_probability(np.array([asked]), 1.0, until)[0], abs=0.005)


def test_the_formula_runs_through_its_two_ends_without_a_jump():
    rates = np.geomspace(1e-4, 1e3, 50)
    just_above = hit_probability(rates, 1.0, 1.0 + 1e-9)
    assert hit_probability(rates, 1.0, 1.0) == pytest.approx(just_above, abs=1e-7)
    assert hit_probability(rates, 1.0, INF) == pytest.approx(hit_probability(rates, 1.0, 1e12), abs=1e-6)
    at_eight = hit_probability(rates, 1.0, 8.0 + 1e-9)
    assert hit_probability(rates, 1.0, 8.0) == pytest.approx(at_eight, abs=1e-7)


def test_more_room_and_longer_lives_answer_more_up_to_what_comes_again():
    table = [
        [steady(WEB_SEARCH, 120.0, room, ttl).hit_rate for ttl in (60, 3600, 86_400, INF)] for room in (1e4, 1e6, 1e8)
    ]
    assert all(row == sorted(row) for row in table)
    assert all(list(column) == sorted(column) for column in zip(*table, strict=True))
    assert table[-1][-1] < 1 - WEB_SEARCH.new_share


def test_the_rate_matters_to_a_time_to_live_and_not_to_lru():
    with_ttl = [steady(WEB_SEARCH, qps, INF, 600.0).hit_rate for qps in (10.0, 100.0, 1000.0)]
    assert with_ttl[0] < with_ttl[1] < with_ttl[2]
    slow, fast = (steady(WEB_SEARCH, qps, 1e5, INF) for qps in (10.0, 1000.0))
    assert slow.hit_rate == pytest.approx(fast.hit_rate, rel=1e-6)
    assert slow.characteristic_time_s == pytest.approx(100 * (fast.characteristic_time_s or 0.0), rel=1e-6)


def test_what_is_kept_is_the_capacity_or_less_where_the_answers_expire_first():
    assert 1e5 == steady(WEB_SEARCH, 120.0, 1e5, 86_400.0).kept
    never_full = steady(WEB_SEARCH, 120.0, 1e5, 60.0)
    assert None is never_full.characteristic_time_s
    assert 120.0 * 60 > never_full.kept > 0.9 * 120 * 60 * (1 - never_full.hit_rate)


HOURLY = [
    # capacity, ttl_s, an hour is right to within, because
    (None, 900.0, 0.02, "answers of the same hour"),
    (2000, 6 * 3600.0, 0.02, "the room decides, and rates have no effect on it"),
    (None, 6 * 3600.0, 0.05, "what many asked at noon expires at once in the evening"),
    (None, 30 * 3600.0, 0.045, "longer than a day"),
]


@pytest.mark.parametrize(("capacity", "ttl_s", "within", "because"), HOURLY, ids=[row[3] for row in HOURLY])
def test_each_hour_of_a_day_is_that_of_a_simulated_day(capacity: int | None, ttl_s: float, within: float, because: str):
    """Six days of 86,000 queries, the first two left out; an hour's standard error is 0.007 at night, 0.003 by day.

    The day goes from a fifth of the peak to all of it: harder on "the mean rate of a TTL before" than people's days.
    """
    peak, days = 5.0 / 3, 6
    law = {"zipf": SMALL_LAW.zipf, "queries": SMALL_LAW.queries, "new_share": SMALL_LAW.new_share}
    room = {} if capacity is None else {"capacity_queries": capacity}
    scenario = cached_scenario({"popularity": law, "ttl_s": ttl_s, **room}, peak_qps=peak, day=list(DAY))
    rng = np.random.default_rng(3)
    at_s = np.sort(
        np.concatenate(
            [
                (24 * day + hour + rng.random(rng.poisson(peak * 3600 * of_peak))) * 3600
                for day in range(days)
                for hour, of_peak in enumerate(DAY)
            ]
        )
    )
    hits = found_in_cache(at_s, drawn(SMALL_LAW, len(at_s), 11), capacity, ttl_s)
    hour = (at_s // 3600).astype(int)
    simulated = [hits[(hour % 24 == of) & (hour >= 48)].mean() for of in range(24)]
    found = day_hits(scenario)
    assert found.by_hour is not None
    assert list(found.by_hour) == pytest.approx(simulated, abs=within)
    assert found.of_day == pytest.approx(hits[hour >= 48].mean(), abs=0.006)
    most = max(of_peak * (1 - hit) for of_peak, hit in zip(DAY, simulated, strict=True))
    assert found.at_peak == pytest.approx(1 - most, abs=0.02)
