"""When queries arrive in an open loop, and which of them the response cache answers.

Gaps are drawn with mean 1 and divided by the rate: the same seed at another rate gives the same arrivals, only closer
together. Whether a query is cached is drawn from a stream of its own, in the order of the users' queries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.scenario import GammaArrivals
from planner.simulation.load import F64, I64

MOST_QUERIES = 100_000_000  # beyond it the arrays alone take gigabytes


class Arrivals(NamedTuple):
    """`arrival_s` of the queries that reach the model, ascending, and how many `users` asked to produce them."""

    arrival_s: F64
    users: int


def unit_gaps(law: str | GammaArrivals, count: int, rng: np.random.Generator) -> F64:
    """`count` inter-arrival gaps with mean 1.

    constant: all 1. poisson: exponential. gamma: shape `burstiness` and scale 1/burstiness, so that the coefficient
    of variation is 1/√burstiness, as in `vllm bench serve --burstiness`.
    """
    if isinstance(law, GammaArrivals):
        shape = law.gamma.burstiness
        return rng.standard_gamma(shape, count) / shape
    return np.ones(count) if law == "constant" else rng.standard_exponential(count)


def open_arrivals(
    law: str | GammaArrivals,
    rate_qps: float,
    hit_rate: float,
    *,
    queries: int | None,
    duration_s: float | None,
    warmup: int,
    gaps_rng: np.random.Generator,
    cache_rng: np.random.Generator,
) -> Arrivals:
    """Arrivals of the warm-up and then of `queries` queries, or of those within `duration_s` after the warm-up.

    `rate_qps` is the users' rate; `queries` and `warmup` count those that reach the model. A user's first query comes
    one gap after time 0. Raises ScenarioError where nothing arrives in time, or more than MOST_QUERIES.
    """
    if queries is not None:
        kept = _let_through(warmup + queries, hit_rate, cache_rng)
        users = int(kept[-1]) + 1
        return Arrivals((np.cumsum(unit_gaps(law, users, gaps_rng)) / rate_qps)[kept], users)
    if duration_s is None:
        raise ValueError("give queries or duration_s")
    expected = warmup / (1.0 - hit_rate) + rate_qps * duration_s
    gaps, passed = np.zeros(0), np.zeros(0, np.bool_)
    while True:
        count = _reserve(expected / (1 if len(gaps) == 0 else 10), hit_rate, len(gaps))
        gaps = np.concatenate((gaps, unit_gaps(law, count, gaps_rng)))
        passed = np.concatenate((passed, cache_rng.random(count) >= hit_rate))
        times, kept = np.cumsum(gaps) / rate_qps, np.flatnonzero(passed)
        if len(kept) < warmup:
            continue
        end = duration_s + (times[kept[warmup - 1]] if warmup else 0.0)
        if times[-1] > end:
            break
    users = int(np.searchsorted(times, end, side="right"))
    kept = kept[kept < users]
    if len(kept) <= warmup:
        raise ScenarioError("duration", f"{duration_s:g} s", f"no query arrives in it at {rate_qps:g} queries/s")
    return Arrivals(times[kept], users)


def _let_through(wanted: int, hit_rate: float, rng: np.random.Generator) -> I64:
    """Places, in the users' order, of the first `wanted` queries that the response cache does not answer."""
    places: list[I64] = []
    drawn = found = 0
    while found < wanted:
        count = _reserve((wanted - found) / (1.0 - hit_rate), hit_rate, drawn)
        places.append(drawn + np.flatnonzero(rng.random(count) >= hit_rate))
        drawn, found = drawn + count, found + len(places[-1])
    return np.concatenate(places)[:wanted]


def _reserve(expected: float, hit_rate: float, drawn: int) -> int:
    """How many users' queries to draw next; some more than `expected`, so that a second round is rare."""
    count = expected + 6.0 * np.sqrt(expected) / (1.0 - hit_rate) + 16
    if drawn + count > MOST_QUERIES:
        rule = f"the run would draw more than {MOST_QUERIES} user queries; ask for a shorter one"
        raise ScenarioError("traffic", f"{drawn + count:.3g} user queries", rule)
    return int(count)
