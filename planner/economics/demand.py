"""The users' queries over one day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np

from planner.economics.checks import not_negative, positive, share
from planner.errors import InputError
from planner.units import HOURS_PER_DAY, S_PER_HOUR

Day = tuple[float, ...]  # 24 shares of the peak rate, hour 0 first

FLAT_DAY: Day = (1.0,) * HOURS_PER_DAY


@dataclass(frozen=True)
class Demand:
    """What the users ask in a day.

    `peak_qps` counts user queries per second of the busiest hour, those that the response cache answers included;
    `uncached_share` of the day's reach the model, `uncached_by_hour` of each hour's (None: all hours alike). The token
    counts are means per query that reaches the model, summed over all its model calls; None = not known.
    `answer_tokens`: of them, the output tokens that the user gets (one sample of each call of the last stage);
    `prompt_once_tokens`: the prompt tokens with each prompt counted once for all its answers (None: no prompt has
    several); `cached_prompt_share`: the share of the prompt tokens that the prefix cache holds.
    `basis` says in words at which load a cost per query is stated (None: by the day, see `stated_at`).
    Raises InputError on a day that is not 24 finite shares, and on rates and shares out of range.
    """

    peak_qps: float
    day: Day | None = None  # None = flat
    uncached_share: float = 1.0
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    basis: str | None = None
    answer_tokens: float | None = None
    cached_prompt_share: float | None = None
    prompt_once_tokens: float | None = None
    uncached_by_hour: Day | None = None

    def __post_init__(self) -> None:
        positive("traffic.peak_qps", self.peak_qps)
        share("uncached_share", self.uncached_share)
        for name in ("prompt_tokens", "output_tokens", "answer_tokens", "prompt_once_tokens"):
            tokens = getattr(self, name)
            if tokens is not None:
                not_negative(name, tokens)
        if self.cached_prompt_share is not None:
            share("cached_prompt_share", self.cached_prompt_share)
        if (self.prompt_once_tokens or 0.0) > (self.prompt_tokens or 0.0):
            raise InputError("prompt_once_tokens", self.prompt_once_tokens, "must be part of prompt_tokens")
        if self.day is None:
            return
        if len(self.day) != HOURS_PER_DAY:
            raise InputError("traffic.day", f"{len(self.day)} values", f"must hold {HOURS_PER_DAY} shares of the peak")
        for hour, of_peak in enumerate(self.day):
            share(f"traffic.day[{hour}]", of_peak)
        positive("sum of traffic.day", fsum(self.day))

    @property
    def day_queries(self) -> float:
        """User queries in 24 hours, cached ones included."""
        return day_queries(self.peak_qps, self.day)

    @property
    def model_day(self) -> Day | None:
        """24 shares of the most that reaches the model; `day` where its share of the queries is the same in all hours.

        A mean of several days has no hour at the peak: its busiest one keeps its share.
        """
        if self.uncached_by_hour is None:
            return self.day
        day = FLAT_DAY if self.day is None else self.day
        loads = [of_peak * uncached for of_peak, uncached in zip(day, self.uncached_by_hour, strict=True)]
        return tuple(max(day) * load / max(loads) for load in loads)

    @property
    def stated_at(self) -> str:
        """In words, the load at which a cost per query is stated."""
        if self.basis is not None:
            return self.basis
        flat = self.day is None or min(self.day) == max(self.day)
        return "the peak load in all 24 hours: the day is flat" if flat else "the day's load shape"

    @property
    def tokens_per_query(self) -> float | None:
        """Prompt plus output tokens of one query that reaches the model; None where either is not known."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return None
        return self.prompt_tokens + self.output_tokens


def cached_once(prompt: float, prompt_once: float, cached: float) -> float:
    """Cached tokens of prompts that are counted once: prompt_once − min(prompt_once, prompt − cached).

    What the answers of one prompt share is found in the cache by all but the first; counted once it is not there.
    """
    return prompt_once - min(prompt_once, prompt - cached)


def queries_by_hour(peak_qps: float, day: Day | None) -> tuple[float, ...]:
    """Queries in each of the 24 hours: peak_qps · 3600 s · the hour's share. A `day` of None is flat."""
    return tuple(peak_qps * S_PER_HOUR * of_peak for of_peak in (FLAT_DAY if day is None else day))


def day_queries(peak_qps: float, day: Day | None) -> float:
    """Queries in 24 hours: peak_qps · 3600 s · Σ shares. A `day` of None is flat: peak_qps · 86,400 s."""
    return fsum(queries_by_hour(peak_qps, day))


def demand_at_own_rate(
    query_throughput: float,
    uncached_share: float = 1.0,
    prompt_tokens: float | None = None,
    output_tokens: float | None = None,
) -> Demand:
    """The demand of a load that names no peak (closed, offline, trace): its own rate, kept up all day.

    `query_throughput` counts queries per second *through the model*; the users' rate is that ÷ `uncached_share`, so
    that with no cache usd_per_query = usd_per_hour / (query_throughput · 3600).
    Raises InputError where no query reaches the model, since the users' rate cannot then be told.
    """
    positive("query_throughput", query_throughput)
    share("uncached_share", uncached_share)
    if uncached_share == 0:
        raise InputError("uncached_share", 0, "must be > 0 where the rate is that of the queries reaching the model")
    return Demand(
        peak_qps=query_throughput / uncached_share,
        uncached_share=uncached_share,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        basis="the run's own load, all day long",
    )


def utilisation_by_hour(demand: Demand, simulated: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Utilisation (busy ÷ elapsed) of each of the 24 hours, read off simulated loads.

    `simulated` holds (user queries per second, utilisation) of one and the same fleet, in any order; where not the
    same share of each hour's reaches the model, user queries that load it as much at the peak's share. Between two
    of them, and between no load and the lightest, it is interpolated linearly; beyond the heaviest it stays flat.
    Batching makes the true curve bend upwards early (a lightly loaded step serves few requests at nearly the price
    of a full one), so with the peak alone the quiet hours come out too idle.
    Raises InputError where nothing was simulated.
    """
    if not simulated:
        raise InputError("simulated", "none", "needs at least one simulated load")
    known = sorted({(0.0, 0.0), *simulated})
    rates = [demand.peak_qps * of_peak for of_peak in (FLAT_DAY if demand.model_day is None else demand.model_day)]
    values = np.interp(rates, [qps for qps, _ in known], [busy for _, busy in known])
    return tuple(float(value) for value in values)
