"""A cache with room for so many answers, the least recently used one leaving first, each answer valid for `ttl_s`.

Che's approximation (Che, Tung, Wang, JSAC 2002; why it is so good: Fricker, Robert, Roberts, ITC 2012): in a large
cache an answer that nobody asks for leaves after nearly the same time T, the characteristic time, whatever it is. The
time to live counts from when the answer was made and is not renewed by hits: what is kept is never older than `ttl_s`.
An expired answer gives its place back at once. Requests of query i are Poisson with rate λ. A cycle begins with a miss
at time 0; S(t) is the chance that up to t no gap between requests was longer than T. By PASTA the hits of a cycle are

    M = λ · ∫_0^ttl S(t) dt        hit probability = share of time that it is kept = M / (1 + M)

    ttl ≤ T (the TTL alone):  S = 1                    M = λ·ttl        hit = 1 − 1/(1 + λ·ttl)
    no ttl  (LRU alone):      ∫ S = (e^(λT) − 1)/λ                      hit = 1 − e^(−λT)
    between: an answer leaves at t if it was asked for at t − T and then no more, so S = 1 up to T, falls there by
    e^(−λT), and S'(t) = −λ·e^(−λT)·S(t − T) beyond. With r = λT, b = r·e^(−r), u = t/T and (x)₊ = max(x, 0)

        ∫_0^t S = T · Σ_j (−b)^j [ (u − j)₊^(j+1) − e^(−r)·(u − j − 1)₊^(j+1) ] / (j + 1)!

    used up to u = 8; beyond it S falls as e^(−xu), x the root of x·e^(−x) = b other than r (Lambert's W), to 1e-7.

T is where the expected number of kept answers is the capacity: Σ_i hit_i(T) + Λ·new_share·min(T, ttl) = capacity. Where
even T = ttl does not fill the cache there is no such T: it is never full, and the TTL alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import lambertw

from planner.response_cache.popularity import Groups, Popularity, groups

F64 = NDArray[np.float64]
TERMS = 8  # characteristic times that the sum is used for
MOST_KEPT = 1e15  # seconds: a cache that is not full by then never is


class Steady(NamedTuple):
    """A cache after a long time at one rate: its hit rate over all queries, T (None: never full), the answers kept."""

    hit_rate: float
    characteristic_time_s: float | None
    kept: float


def hit_probability(rate_qps: F64, kept_s: float, ttl_s: float) -> F64:
    """Chance that a query asked `rate_qps` [n] times a second is found, by the formulas above.

    `kept_s` is T, the time that LRU keeps what nobody asks for; either may be infinite, not both.
    """
    if ttl_s <= kept_s:
        hits = rate_qps * ttl_s
        return hits / (1.0 + hits)
    asked = rate_qps * kept_s
    if math.isinf(ttl_s):
        found: F64 = -np.expm1(-asked)
        return found
    hits = asked * _kept_times(asked, ttl_s / kept_s)
    return hits / (1.0 + hits)


def _kept_times(asked: F64, until: float) -> F64:
    """∫_0^until S du, in characteristic times: `asked` is r = λT [n], `until` > 1 is ttl ÷ T."""
    falls = asked * np.exp(-asked)
    near = min(until, float(TERMS))
    area, left = np.zeros(len(asked)), np.zeros(len(asked))
    for j in range(TERMS):
        early, late = max(near - j, 0.0), max(near - j - 1, 0.0)
        term = (-falls) ** j / math.factorial(j)
        lost = np.exp(-asked)
        area += term * (early ** (j + 1) - lost * late ** (j + 1)) / (j + 1)
        left += term * (early**j * (near >= j) - lost * late**j * (near >= j + 1))
    if until <= TERMS:
        return area
    # For r < 1 the other root lies above 1, on W's lower branch; at r = 1 both are 1, and W may fail to tell.
    upper, lower = lambertw(-falls, 0).real, lambertw(-np.maximum(falls, 1e-300), -1).real
    decay = np.nan_to_num(np.where(asked >= 1.0, -upper, -lower), nan=1.0)
    more = until - TERMS
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.where(decay * more > 1e-12, -np.expm1(-decay * more) / decay, more)
    summed: F64 = area + np.maximum(left, 0.0) * tail
    return summed


@lru_cache(maxsize=4096)
def steady(law: Popularity, rate_qps: float, capacity: float, ttl_s: float) -> Steady:
    """The cache under `rate_qps` queries a second of this law; `capacity` and `ttl_s` may be infinite, not both."""
    of_law = groups(law)

    def kept(kept_s: float) -> float:
        found = hit_probability(rate_qps * of_law.share, kept_s, ttl_s)
        return float(of_law.queries @ found) + rate_qps * law.new_share * min(kept_s, ttl_s)

    time_s = None if math.isinf(capacity) else _full_after_s(kept, rate_qps, capacity, ttl_s)
    if time_s is not None:
        return Steady(_hit_rate(of_law, rate_qps, time_s, ttl_s), time_s, float(capacity))
    if math.isinf(ttl_s):  # room for every query that there is
        return Steady(1.0 - law.new_share, None, float(of_law.queries.sum()))
    return Steady(_hit_rate(of_law, rate_qps, math.inf, ttl_s), None, kept(math.inf))


def _full_after_s(kept: Callable[[float], float], rate_qps: float, capacity: float, ttl_s: float) -> float | None:
    """T at which `kept` is the capacity; None where it never is. A query adds one answer at most: T ≥ capacity/rate."""
    low = capacity / rate_qps
    if low >= ttl_s:
        return None
    high = low
    while kept(high) < capacity:
        if high >= min(ttl_s, MOST_KEPT):
            return None
        high = min(2.0 * high, ttl_s)
    return low if high == low else float(brentq(lambda t: kept(t) - capacity, low, high, rtol=1e-9))


def _hit_rate(of_law: Groups, rate_qps: float, kept_s: float, ttl_s: float) -> float:
    """Over all queries; those that are new are never found."""
    found = hit_probability(rate_qps * of_law.share, kept_s, ttl_s)
    return float((of_law.queries * of_law.share) @ found)
