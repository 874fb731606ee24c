"""The share of the users' queries that a scenario's response cache answers. Everything that needs it asks here."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.response_cache.lru import Steady, steady
from planner.response_cache.popularity import F64, WEB_SEARCH, Popularity
from planner.scenario import Scenario
from planner.scenario.response_cache import QueryPopularity, ResponseCache
from planner.units import HOURS_PER_DAY, S_PER_HOUR

KEY = "query.response_cache"
MOMENTS = 12  # of an hour that its look back is averaged over
LEAST_UNCACHED = 1e-6  # below it nothing is left to size a fleet for


class DayHits(NamedTuple):
    """Hit rates: what the peak is sized with, the day's (Σ hits ÷ Σ queries), and those of the hours.

    `at_peak` is 1 − the most that reaches the model in an hour ÷ the users' peak: where a quieter hour finds less in
    the cache than the busiest, that hour is what must be held. `by_hour` is None where all are alike.
    """

    at_peak: float
    of_day: float
    by_hour: tuple[float, ...] | None = None

    @property
    def uncached_by_hour(self) -> tuple[float, ...] | None:
        """Shares that reach the model; None where all hours are alike."""
        return None if self.by_hour is None else tuple(1.0 - hit for hit in self.by_hour)


def response_hit_rate(scenario: Scenario, qps: float | None = None) -> float:
    """Share of the users' queries that the response cache answers; 0 without one.

    `qps`: at that rate of all users' queries, kept up for as long as an answer lives; None: what the scenario's own
    peak is sized with. Raises ScenarioError where the hit rate emerges from a rate that the scenario does not name, and
    where nothing is left for the model.
    """
    cache = scenario.query.response_cache
    if cache is None:
        return 0.0
    if cache.hit_rate is not None:
        return cache.hit_rate
    return day_hits(scenario).at_peak if qps is None else steady_at(cache, qps).hit_rate


def day_hits(scenario: Scenario) -> DayHits:
    """The hit rates of a scenario's day; errors as of `response_hit_rate`.

    Each hour is taken at the mean rate of the `ttl_s` seconds before it: what is found was made in that time. That is
    exact where the rate is even; over a day from a fifth of the peak to all of it simulated caches differ by less than
    0.01 for a TTL of an hour, and for one of many hours by 0.01 at the peak (more is found there) and 0.04 in a quiet
    hour (less is). For an LRU cache without a TTL the rate has no effect at all, only the order of the queries has.
    """
    cache = scenario.query.response_cache
    if cache is None or cache.hit_rate is not None:
        hit_rate = 0.0 if cache is None or cache.hit_rate is None else cache.hit_rate
        return DayHits(hit_rate, hit_rate)
    found = _day(cache, scenario.traffic.peak_qps, scenario.traffic.day)
    if found.at_peak > 1.0 - LEAST_UNCACHED:
        rule = "answers every query, so that nothing is left for the model: give ttl_s, or popularity.new_share above 0"
        raise ScenarioError(f"{KEY}.capacity_queries", cache.capacity_queries, rule)
    return found


@lru_cache(maxsize=1024)
def _day(cache: ResponseCache, peak_qps: float | None, day: tuple[float, ...]) -> DayHits:
    if peak_qps is None:
        rule = f"is required: the hit rate of {KEY}.popularity emerges from it"
        raise ScenarioError("traffic.peak_qps", None, rule, f"{KEY}: {{hit_rate: 0.3}}")
    rates = [round(peak_qps * of_peak, 12) for of_peak in looked_back(day, cache.ttl_s)]
    hits = {rate: steady_at(cache, rate).hit_rate for rate in set(rates)}
    by_hour = tuple(hits[rate] for rate in rates)
    at_peak = 1.0 - max(of_peak * (1.0 - hit) for of_peak, hit in zip(day, by_hour, strict=True))
    of_day = math.fsum(of_peak * hit for of_peak, hit in zip(day, by_hour, strict=True)) / math.fsum(day)
    return DayHits(at_peak, of_day, None if len(hits) == 1 else by_hour)


def looked_back(day: tuple[float, ...], ttl_s: float | None) -> tuple[float, ...]:
    """For each hour the mean load (share of the peak) of the `ttl_s` before each of its moments, the day repeating."""
    if ttl_s is None:
        return (1.0,) * HOURS_PER_DAY
    before = np.concatenate(([0.0], np.cumsum(day)))  # load of the day up to each full hour, in hours at the peak
    whole = float(before[-1])

    def load_up_to(hours: F64) -> F64:
        turns = np.floor(hours / HOURS_PER_DAY)
        of_day: F64 = np.interp(hours - turns * HOURS_PER_DAY, np.arange(HOURS_PER_DAY + 1.0), before)
        return turns * whole + of_day

    length_h = ttl_s / S_PER_HOUR
    moments = (np.arange(MOMENTS) + 0.5) / MOMENTS
    means = []
    for hour in range(HOURS_PER_DAY):
        at = hour + moments
        means.append(float(np.mean(load_up_to(at) - load_up_to(at - length_h))) / length_h)
    return tuple(means)


def steady_at(cache: ResponseCache, qps: float) -> Steady:
    """The cache of a scenario whose hit rate emerges, after a long time at one rate of the users' queries."""
    capacity = math.inf if cache.capacity_queries is None else float(cache.capacity_queries)
    return steady(law_of(cache), qps, capacity, math.inf if cache.ttl_s is None else cache.ttl_s)


def law_of(cache: ResponseCache) -> Popularity:
    """The law of popularity that a scenario names or states."""
    given = cache.popularity
    if isinstance(given, QueryPopularity):
        return Popularity(given.zipf, given.queries, given.new_share)
    return WEB_SEARCH
