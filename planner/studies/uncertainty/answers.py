"""What the surfaces say of many draws at once: the fleet that each needs, what a query leaves, what matters most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.economics import day_queries, queries_by_hour
from planner.scenario import Scenario
from planner.studies.uncertainty.contenders import Contender, Rates
from planner.studies.uncertainty.surface import At, Surface
from planner.units import HOURS_PER_DAY, S_PER_HOUR

F64 = NDArray[np.float64]
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
GPU_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
OTHERS = ("peak_qps", "output_tokens", "price", "revenue")  # inputs beside the times
MONEY_SHARES = {"p10": LOW, "p50": MIDDLE, "p90": HIGH}


@dataclass(frozen=True)
class Draws:
    """Factors on the inputs, shape [draws] each; those on times [contenders, draws], each contender's own.

    `prompt_time` and `token_time` are beside `step_time`, see `surface.At`; they are 1 where the step time has a cv.
    """

    step_time: F64
    prompt_time: F64
    token_time: F64
    peak_qps: F64
    output_tokens: F64
    price: F64
    revenue: F64

    def with_quantile(self, share: float, *names: str) -> Draws:
        """The draws with these inputs, not times, at one quantile of their own, shape [1] each."""
        return replace(self, **{name: np.quantile(getattr(self, name), [share]) for name in names})

    def in_world(self, draw: int) -> Draws:
        """The times of one draw alone, all together, shape [contenders, 1]."""
        return replace(
            self,
            step_time=self.step_time[:, [draw]],
            prompt_time=self.prompt_time[:, [draw]],
            token_time=self.token_time[:, [draw]],
        )

    def at(self, place: int) -> At:
        """Where the surface of the contender at `place` is asked."""
        return At(self.step_time[place], self.prompt_time[place], self.output_tokens, self.token_time[place])


@dataclass(frozen=True)
class Money:
    """What is paid and earned whatever the fleet: $ beside the fleet and revenue per query, None where not known.

    `hourly_qps` is the planned load of each hour of the day, `queries` the day's. `training_usd_per_query` is a query's
    part of the training bill at the planned load; 0 without such a bill.
    """

    peak_qps: float
    hourly_qps: F64 = field(repr=False)
    queries: float
    usd_per_query_beside: float
    revenue_usd_per_query: float | None
    training_usd_per_query: float = 0.0


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
    revenue, trained = document["revenue"], (document["cost"] or {}).get("amortised_training_usd_per_query")
    return Money(
        peak,
        np.array(queries_by_hour(peak, scenario.traffic.day)) / S_PER_HOUR,
        day_queries(peak, scenario.traffic.day),
        beside,
        None if revenue is None else float(revenue["usd_per_query"]),
        trained or 0.0,
    )


def carried(capacity_qps: F64, money: Money, draws: Draws) -> F64:
    """Queries of a day that a fleet carries within the limits, over those planned: no hour has more than its most."""
    hours = money.hourly_qps[:, None]
    within = np.minimum(hours * draws.peak_qps, capacity_qps).sum(axis=0) / hours.sum()
    return np.where(money.peak_qps * draws.peak_qps <= capacity_qps, draws.peak_qps, within)


def usd_per_query(gpus: float | F64, rates: Rates, money: Money, draws: Draws, queries: F64 | None = None) -> F64:
    """$ of a query: 24 h of the fleet at the draws' price ÷ the queries of a day, + what is beside the fleet.

    `queries` are over those planned, all of the draws' where not given; inf where there are none.
    """
    hourly = rates.usd_per_hour(gpus, draws.price)
    with np.errstate(divide="ignore"):
        fleet = HOURS_PER_DAY * hourly / (money.queries * (draws.peak_qps if queries is None else queries))
    return np.asarray(fleet + money.usd_per_query_beside)


def margin(cost: F64 | None, money: Money, draws: Draws, queries: F64 | None = None) -> F64 | None:
    """Revenue less cost per query, and less its part of a training bill, which the queries share (`usd_per_query`)."""
    if cost is None or money.revenue_usd_per_query is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        trained = money.training_usd_per_query / (draws.peak_qps if queries is None else queries)
    trained = np.where(np.isnan(trained), 0.0, trained)  # no bill, and no query that could bear it
    return np.asarray(money.revenue_usd_per_query * draws.revenue - cost - trained)


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
    """Each input alone at its 10 % and 90 % quantile, the others at their medians; the widest swing first.

    A world has a time of a step and one of a prompt, and not the slowest of both: worlds are ranked by what they need,
    the other inputs at their medians, and `low` and `high` are the step-time factors of the 10 % and the 90 % one.
    """
    in_worlds, ranked = _worlds_by_need(few, surfaces, money, draws)
    middle = in_worlds.in_world(_place(ranked, MIDDLE))
    rows = []
    for name in names:
        row: dict[str, Any] = {"name": name}
        for end, share in (("low", LOW), ("high", HIGH)):
            if name == "step_time":
                at = in_worlds.in_world(_place(ranked, share))
            else:
                at = replace(middle, **{name: np.quantile(getattr(draws, name), [share])})
            answer = needed(few, surfaces, money, at)
            row[end] = float(getattr(at, name).flat[0])
            row |= {f"{key}_{end}": value for key, value in _first(answer).items()}
        rows.append(row)
    return sorted(rows, key=lambda row: -swing(row))


def at_medians(
    few: Sequence[Contender], surfaces: Sequence[Surface], money: Money, draws: Draws
) -> dict[str, float | None]:
    """{usd_per_query, margin, gpus} with every input at its median and the middle world: where a tornado begins."""
    in_worlds, ranked = _worlds_by_need(few, surfaces, money, draws)
    return _first(needed(few, surfaces, money, in_worlds.in_world(_place(ranked, MIDDLE))))


def _worlds_by_need(
    few: Sequence[Contender], surfaces: Sequence[Surface], money: Money, draws: Draws
) -> tuple[Draws, NDArray[np.int64]]:
    """The draws with all but their worlds at the medians, and these in the order of what they need."""
    in_worlds = draws.with_quantile(MIDDLE, *OTHERS)
    return in_worlds, _by_need(needed(few, surfaces, money, in_worlds), draws.step_time[0])


def _first(answer: Needed) -> dict[str, float | None]:
    """The first draw's answer; None where it is not known, or no fleet holds."""
    found = {"usd_per_query": answer.usd_per_query, "margin": answer.margin, "gpus": answer.gpus}
    return {
        key: None if values is None or not np.isfinite(values[0]) else float(values[0]) for key, values in found.items()
    }


def _by_need(answer: Needed, step_time: F64) -> NDArray[np.int64]:
    """The draws in the order of what they cost, or of their GPUs where nothing is priced; alike, of their step time."""
    need = answer.gpus if answer.usd_per_query is None else answer.usd_per_query
    return np.asarray(np.lexsort((step_time, need)))


def _place(ranked: NDArray[np.int64], share: float) -> int:
    """The draw that so large a share of the ranked ones come up to, as `quantiles` counts."""
    return int(ranked[max(math.ceil(share * len(ranked)) - 1, 0)])


def swing(row: Mapping[str, Any]) -> float:
    """How far an input moves what matters: the margin, else the cost, else the GPUs; inf where one end has no fleet."""
    for key in ("margin", "usd_per_query", "gpus"):
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        if low is not None and high is not None:
            return float(abs(high - low))
        if (low is None) != (high is None):
            return float("inf")
    return 0.0
