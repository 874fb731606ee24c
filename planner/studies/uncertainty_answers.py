"""What the surfaces say of many draws at once: the fleet that each needs, what a query leaves, what matters most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.economics import day_queries
from planner.scenario import Scenario
from planner.studies.uncertainty_contenders import Contender, Rates
from planner.studies.uncertainty_surface import At, Surface
from planner.units import HOURS_PER_DAY

F64 = NDArray[np.float64]
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
GPU_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MONEY_SHARES = {"p10": LOW, "p50": MIDDLE, "p90": HIGH}


@dataclass(frozen=True)
class Draws:
    """Factors on the inputs, shape [draws] each; those on times [contenders, draws], each contender's own.

    `prompt_time` is beside `step_time`, see `uncertainty_worlds`; it is 1 where the step time has a cv.
    """

    step_time: F64
    prompt_time: F64
    peak_qps: F64
    output_tokens: F64
    price: F64
    revenue: F64

    def quantile(self, share: float) -> Draws:
        """One draw: every input at its own quantile."""
        return Draws(
            *(np.quantile(times, share, axis=1)[:, None] for times in (self.step_time, self.prompt_time)),
            *(np.quantile(values, [share]) for values in (self.peak_qps, self.output_tokens, self.price, self.revenue)),
        )

    def at(self, place: int) -> At:
        """Where the surface of the contender at `place` is asked."""
        return At(self.step_time[place], self.prompt_time[place], self.output_tokens)


@dataclass(frozen=True)
class Money:
    """What is paid and earned whatever the fleet: $ beside the fleet and revenue per query, None where not known."""

    peak_qps: float
    queries: float
    usd_per_query_beside: float
    revenue_usd_per_query: float | None


@dataclass(frozen=True)
class Needed:
    """The cheapest contender that holds each draw, shape [draws]: its place among them (-1: none), GPUs, $, margin."""

    contender: NDArray[np.int64]
    gpus: F64
    usd_per_query: F64 | None
    margin: F64 | None


def money_of(document: Mapping[str, Any], scenario: Scenario, beside: float) -> Money:
    """The constants of a plan's document."""
    peak = scenario.traffic.peak_qps or 0.0
    revenue = document["revenue"]
    return Money(
        peak,
        day_queries(peak, scenario.traffic.day),
        beside,
        None if revenue is None else float(revenue["usd_per_query"]),
    )


def usd_per_query(gpus: float | F64, rates: Rates, money: Money, draws: Draws) -> F64:
    """$ of a query: 24 h of the fleet at the draws' price ÷ the draws' queries of a day, + what is beside the fleet."""
    hourly = rates.usd_per_hour(gpus, draws.price)
    return np.asarray(HOURS_PER_DAY * hourly / (money.queries * draws.peak_qps) + money.usd_per_query_beside)


def margin(cost: F64 | None, money: Money, draws: Draws) -> F64 | None:
    """Revenue less cost per query."""
    if cost is None or money.revenue_usd_per_query is None:
        return None
    return np.asarray(money.revenue_usd_per_query * draws.revenue - cost)


def needed(few: Sequence[Contender], surfaces: Sequence[Surface], money: Money, draws: Draws) -> Needed:
    """Size every contender for every draw and take the cheapest: per query, or by GPUs where nothing is priced."""
    gpus, prices = [], []
    for place, (contender, surface) in enumerate(zip(few, surfaces, strict=True)):
        rate = money.peak_qps * draws.peak_qps
        serving = surface.serving(draws.at(place), rate, contender.least)
        serving = np.where(serving > contender.most, np.inf, serving)
        gpus.append((serving + contender.spare) * contender.gpus_per_replica)
        prices.append(gpus[-1] if contender.rates is None else usd_per_query(gpus[-1], contender.rates, money, draws))
    table = np.array(prices)
    best = np.argmin(table, axis=0)
    draw = np.arange(table.shape[1])
    holds = np.isfinite(table[best, draw])
    cost = None if few[0].rates is None else table[best, draw]
    return Needed(
        np.where(holds, best, -1),
        np.array(gpus)[best, draw],
        cost,
        margin(cost, money, draws),
    )


def quantiles(values: F64 | None, shares: Mapping[str, float]) -> dict[str, float | None] | None:
    """The least value that so large a share of the draws stays within; None beyond all finite ones."""
    if values is None:
        return None
    found = np.quantile(values, list(shares.values()), method="inverted_cdf")
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(shares, found, strict=True)}


def tornado(
    names: Sequence[str], few: Sequence[Contender], surfaces: Sequence[Surface], money: Money, draws: Draws
) -> list[dict[str, Any]]:
    """Each input alone at its 10 % and 90 % quantile, the others at their medians; the widest swing first."""
    middle = draws.quantile(MIDDLE)
    rows = []
    for name in names:
        row: dict[str, Any] = {"name": name}
        for end, share in (("low", LOW), ("high", HIGH)):
            at = replace(middle, **{name: getattr(draws.quantile(share), name)})
            answer = needed(few, surfaces, money, at)
            row[end] = float(getattr(at, name).flat[0])
            for key, values in (
                ("usd_per_query", answer.usd_per_query),
                ("margin", answer.margin),
                ("gpus", answer.gpus),
            ):
                row[f"{key}_{end}"] = None if values is None or not np.isfinite(values[0]) else float(values[0])
        rows.append(row)
    return sorted(rows, key=lambda row: -swing(row))


def swing(row: Mapping[str, Any]) -> float:
    """How far an input moves what matters: the margin, else the cost, else the GPUs; inf where one end has no fleet."""
    for key in ("margin", "usd_per_query", "gpus"):
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        if low is not None and high is not None:
            return float(abs(high - low))
        if (low is None) != (high is None):
            return float("inf")
    return 0.0
