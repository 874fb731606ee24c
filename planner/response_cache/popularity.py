"""How often which query is asked: a Zipf head of queries that come again, and a share that nobody has asked before.

One Zipf exponent has too little freedom. In a year of Yahoo UK logs (Baeza-Yates et al., "The impact of caching on
search engines", SIGIR 2007) queries seen once are 44 % of the volume, and a cache that forgets nothing hits 50 %: half
of the volume are first occurrences, of which all but 6 % of the volume are never seen again, while those 6 % come back
for the other half, 8.3 times each on average. Here

    p_i = (1 − new_share) · i^−zipf / Σ_{k ≤ queries} k^−zipf,  i = 1 … queries;  a share `new_share` is always new

and of n queries drawn from it, up to terms of order 1/n,

    seen at all   D(n)/n = new_share + Σ_i (1 − e^(−n·p_i)) / n
    seen once     S(n)/n = new_share + Σ_i p_i · e^(−n·p_i)

Both shares depend on n, so a fit needs the log's length, which the paper does not tell; and two figures fix two of the
three parameters. Assumed are `LOG_QUERIES` in that year and the exponent `ZIPF`; the two figures then fix `queries` and
`new_share`. At other lengths `queries` grows with the length and `new_share` hardly moves. An exponent near 1 or above
leaves no solution: at 10⁹ queries the pair itself bounds it to below 0.95.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from planner.errors import InputError

F64 = NDArray[np.float64]
ONE_BY_ONE = 2000  # ranks that stand alone; beyond them neighbours are joined
JOINED = 1.005  # last rank of a group ÷ its first: popularity differs by half a per cent within it

SEEN_ONCE_SHARE, FIRST_SHARE = 0.44, 0.50  # of the volume: the two figures of the paper
LOG_QUERIES = 1e9  # assumed: of a national portal in a year
ZIPF = 0.85  # assumed: its most popular query is then 0.6 % of the volume


class Groups(NamedTuple):
    """Queries of nearly equal popularity: how many they are, and what share of all that is asked each one has."""

    queries: F64
    share: F64


@dataclass(frozen=True)
class Popularity:
    """A stationary law: every query is drawn from it independently of those before.

    Raises InputError for values out of range.
    """

    zipf: float
    queries: int
    new_share: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.zipf) and self.zipf >= 0):
            raise InputError("popularity.zipf", self.zipf, "must be >= 0")
        if self.queries < 1:
            raise InputError("popularity.queries", self.queries, "must be >= 1")
        if not 0 <= self.new_share < 1:
            raise InputError("popularity.new_share", self.new_share, "must be >= 0 and < 1")


# Fitted by `fitted(LOG_QUERIES, ZIPF)` and rounded; the residual on either share is below 5e-5.
WEB_SEARCH = Popularity(zipf=ZIPF, queries=117_600_000, new_share=0.4085)


@lru_cache(maxsize=64)
def groups(law: Popularity) -> Groups:
    """The law's queries that come again, by falling popularity; Σ count · share = 1 − new_share.

    The mass of joined ranks a … b is ∫ x^−zipf over [a − ½, b + ½], right to a relative 1/(12·a²).
    """
    alone = np.arange(1, min(law.queries, ONE_BY_ONE) + 1, dtype=np.float64)
    count, weight = np.ones(len(alone)), alone**-law.zipf
    if law.queries > ONE_BY_ONE:
        steps = math.ceil(math.log(law.queries / ONE_BY_ONE) / math.log(JOINED))
        last = np.unique(np.round(ONE_BY_ONE * JOINED ** np.arange(steps + 1.0)).clip(max=law.queries))
        low, high = last[:-1] + 0.5, last[1:] + 0.5
        power = 1.0 - law.zipf
        mass = np.log(high / low) if abs(power) < 1e-9 else (high**power - low**power) / power
        count, weight = np.append(count, np.diff(last)), np.append(weight, mass / np.diff(last))
    return Groups(count, (1.0 - law.new_share) * weight / float(count @ weight))


class Seen(NamedTuple):
    """Of a log's volume: first occurrences (what a cache that forgets nothing misses), and queries seen once."""

    first: float
    once: float


def seen(law: Popularity, log_queries: float) -> Seen:
    """Expected shares in a log of so many queries, by the formulas at the top."""
    count, share = groups(law)
    times = log_queries * share
    first = float(count @ -np.expm1(-times)) / log_queries
    return Seen(law.new_share + first, law.new_share + float(count @ (share * np.exp(-times))))


def fitted(log_queries: float, zipf: float) -> Popularity:
    """The law of this exponent that has the paper's two shares in a log of so many queries.

    Raises InputError where there is none: the exponent is too large (or the log too short to tell).
    """

    def with_new(new_share: float) -> Popularity:
        """As many queries as give the share of first occurrences."""

        def excess(log_count: float) -> float:
            return seen(Popularity(zipf, round(math.exp(log_count)), new_share), log_queries).first - FIRST_SHARE

        count = brentq(excess, math.log(1e-3 * log_queries), math.log(1e3 * log_queries), xtol=1e-9)
        return Popularity(zipf, round(math.exp(count)), new_share)

    def off(new_share: float) -> float:
        return seen(with_new(new_share), log_queries).once - SEEN_ONCE_SHARE

    high = SEEN_ONCE_SHARE - 1e-3
    for low in np.arange(0.35, 0.0, -0.05):
        try:
            if off(low) < 0 < off(high):
                return with_new(brentq(off, low, high, xtol=1e-9))
        except ValueError:  # no number of queries gives the first share
            break
    raise InputError("zipf", zipf, f"no share of new queries gives both figures of a log of {log_queries:g} queries")
