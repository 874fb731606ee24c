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
MOMENTS = 12  # of an hour, or of a step, that its look back is averaged over
MOST_RATES = 96  # at which a hit rate is reckoned by itself; of more steps it is read off between so many
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
        raise _nothing_left(cache)
    return found


def step_hits(scenario: Scenario, edges_s: F64, qps: F64) -> F64:
    """Hit rates [K] of steps of the users' load: `qps[k]` from `edges_s[k]` to `edges_s[k + 1]`, the first at 0.

    Each step is taken at the mean rate of the `ttl_s` before it, as the hours of `day_hits` are, and before the first
    one all of them went by, over and over. A step that nobody asked anything for so long before finds nothing. Raises
    ScenarioError where nothing is left for the model.
    """
    cache = scenario.query.response_cache
    if cache is None or cache.hit_rate is not None:
        return np.full(len(qps), 0.0 if cache is None or cache.hit_rate is None else cache.hit_rate)
    hits = _hits_at(cache, looked_back(edges_s, qps, cache.ttl_s))
    if (qps * (1.0 - hits)).max() < LEAST_UNCACHED * qps.max():
        raise _nothing_left(cache)
    return hits


def _nothing_left(cache: ResponseCache) -> ScenarioError:
    rule = "answers every query, so that nothing is left for the model: give ttl_s, or popularity.new_share above 0"
    return ScenarioError(f"{KEY}.capacity_queries", cache.capacity_queries, rule)


def _hits_at(cache: ResponseCache, rates: F64) -> F64:
    """Hit rates [K] at rates [K] of the users' queries; of more than `MOST_RATES` between neighbours, by the logarithm
    of the rate, which is right to 1e-4.
    """
    most = rates.max()
    rates = most * np.round(rates / most, 12)
    known = np.unique(rates[rates > 0])
    if len(known) > MOST_RATES:
        known = np.geomspace(known[0], known[-1], MOST_RATES)
    hits = np.array([steady_at(cache, float(rate)).hit_rate for rate in known])
    found = np.zeros(len(rates))
    found[rates > 0] = np.interp(np.log(rates[rates > 0]), np.log(known), hits)
    return found


@lru_cache(maxsize=1024)
def _day(cache: ResponseCache, peak_qps: float | None, day: tuple[float, ...]) -> DayHits:
    if peak_qps is None:
        rule = f"is required: the hit rate of {KEY}.popularity emerges from it"
        raise ScenarioError("traffic.peak_qps", None, rule, f"{KEY}: {{hit_rate: 0.3}}")
    length_h = None if cache.ttl_s is None else cache.ttl_s / S_PER_HOUR
    rates = peak_qps * looked_back(np.arange(HOURS_PER_DAY + 1.0), np.array(day), length_h)
    by_hour = tuple(_hits_at(cache, rates).tolist())
    # Of several days the mean day has no hour at the peak: its busiest one stands for it.
    at_peak = 1.0 - max(of_peak * (1.0 - hit) for of_peak, hit in zip(day, by_hour, strict=True)) / max(day)
    of_day = math.fsum(of_peak * hit for of_peak, hit in zip(day, by_hour, strict=True)) / math.fsum(day)
    return DayHits(at_peak, of_day, None if len(set(by_hour)) == 1 else by_hour)


def looked_back(edges: F64, load: F64, length: float | None) -> F64:
    """For each step the mean load [K] of the `length` before each of its moments, the whole repeating.

    `edges` [K + 1] are the steps' beginnings, from 0, and the end, in the unit of `length`; None looks back at nothing.
    """
    if length is None:
        return np.full(len(load), load.max())
    end, lasting = float(edges[-1]), np.diff(edges)
    before = np.concatenate(([0.0], np.cumsum(load * lasting)))

    def load_up_to(at: F64) -> F64:
        turns = np.floor(at / end)
        so_far: F64 = turns * before[-1] + np.interp(at - turns * end, edges, before)
        return so_far

    at = edges[:-1, None] + lasting[:, None] * (np.arange(MOMENTS) + 0.5) / MOMENTS
    means: F64 = np.maximum((load_up_to(at) - load_up_to(at - length)).mean(axis=1), 0.0) / length
    return means


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
