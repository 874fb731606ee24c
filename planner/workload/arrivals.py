"""When queries arrive in an open loop, and which of them the response cache answers.

Gaps are drawn with mean 1 and divided by the rate: the same seed at another rate gives the same arrivals, only closer
together. Queries that the response cache answers are never drawn one by one, however many they are: between two that
reach the model lies a geometric number of them, drawn from a stream of its own, and the gap is the sum of so many gaps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.scenario import GammaArrivals
from planner.simulation.load import F64

MOST_QUERIES = 100_000_000  # beyond it the arrays alone take gigabytes
MOST_SECONDS = 2e13  # beyond it a float tells times apart only to several milliseconds


class Arrivals(NamedTuple):
    """`arrival_s` of the queries that reach the model, ascending, and how many the `users` asked up to the last."""

    arrival_s: F64
    users: float


def unit_gaps(law: str | GammaArrivals, count: int, rng: np.random.Generator) -> F64:
    """`count` inter-arrival gaps with mean 1.

    constant: all 1. poisson: exponential. gamma: shape `burstiness` and scale 1/burstiness, so that the coefficient
    of variation is 1/√burstiness, as in `vllm bench serve --burstiness`.
    """
    if isinstance(law, GammaArrivals):
        shape = law.gamma.burstiness
        return rng.standard_gamma(shape, count) / shape
    return np.ones(count) if law == "constant" else rng.standard_exponential(count)


def summed_gaps(law: str | GammaArrivals, skips: F64, hit_rate: float, rng: np.random.Generator) -> F64:
    """Gaps between queries of which only each `skips[i]`-th reaches the model: sums of so many `unit_gaps`, exactly.

    constant: the number itself. gamma: k gaps of shape a add up to one of shape k·a. poisson: a Poisson process of
    rate 1, thinned, is one of rate 1 − `hit_rate`; so every hit rate gives the same arrivals, only further apart.
    """
    if isinstance(law, GammaArrivals):
        shape = law.gamma.burstiness
        return rng.standard_gamma(shape * skips) / shape
    return skips if law == "constant" else rng.standard_exponential(len(skips)) / (1.0 - hit_rate)


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
    one gap after time 0. Raises ScenarioError where nothing arrives in time, more than MOST_QUERIES, or so seldom that
    the run would last longer than MOST_SECONDS.
    """

    def draw(count: int) -> tuple[F64, F64]:
        """The next gaps of queries that reach the model, and how many users' queries end each."""
        if hit_rate == 0:
            return unit_gaps(law, count, gaps_rng), np.ones(count)
        skips = cache_rng.geometric(1.0 - hit_rate, count).astype(np.float64)
        return summed_gaps(law, skips, hit_rate, gaps_rng), skips

    if queries is not None:
        if warmup + queries > MOST_QUERIES:
            rule = f"a run has at most {MOST_QUERIES} queries: ask for fewer, or lower traffic.peak_qps (={rate_qps:g})"
            raise ScenarioError("requests", warmup + queries, rule)
        gaps, skips = draw(warmup + queries)
        with np.errstate(over="ignore"):
            arrival_s = np.cumsum(gaps) / rate_qps
        if not arrival_s[-1] <= MOST_SECONDS:
            rule = (
                f"{warmup + queries} queries that reach the model take more than {MOST_SECONDS:.0e} s: too few to time"
            )
            raise ScenarioError("traffic.peak_qps", rate_qps, rule)
        return Arrivals(arrival_s, float(skips.sum()))
    if duration_s is None:
        raise ValueError("give queries or duration_s")
    expected = warmup + rate_qps * (1.0 - hit_rate) * duration_s
    gaps, skips = np.zeros(0), np.zeros(0)
    while True:
        reserve = (expected + 6.0 * np.sqrt(expected)) / (1 if len(gaps) == 0 else 10) + 16
        if len(gaps) + reserve > MOST_QUERIES:
            rule = f"more than {MOST_QUERIES} queries at traffic.peak_qps (={rate_qps:g}); ask for a shorter run"
            raise ScenarioError("duration", f"{duration_s:g} s", rule)
        more_gaps, more_skips = draw(int(reserve))
        gaps, skips = np.concatenate((gaps, more_gaps)), np.concatenate((skips, more_skips))
        times = np.cumsum(gaps) / rate_qps
        if len(times) < max(warmup, 1):
            continue
        end = duration_s + (times[warmup - 1] if warmup else 0.0)
        if times[-1] > end:
            break
    reached = int(np.searchsorted(times, end, side="right"))
    if reached <= warmup:
        raise ScenarioError("duration", f"{duration_s:g} s", f"no query arrives in it at {rate_qps:g} queries/s")
    return Arrivals(times[:reached], float(skips[:reached].sum()))
