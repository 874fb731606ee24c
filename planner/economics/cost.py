"""Fleet and prices -> dollars per hour, per query and per million tokens."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

from planner.economics.checks import not_negative, positive, share
from planner.economics.demand import Demand
from planner.economics.gpu_price import PriceKind, PricePart, parts_usd
from planner.economics.lines import MoneyLine, money_line
from planner.errors import InputError
from planner.units import DAYS_PER_YEAR, HOURS_PER_DAY, HOURS_PER_YEAR, TOKENS_PER_PRICE

CostLine = MoneyLine


@dataclass(frozen=True)
class Prices:
    """What things cost.

    `gpu_hour_usd`: one GPU for one hour; None = not given. `compute_share`: the part of inference spend that is
    compute, so that the rest (network, storage, staff on call) is charged on top of the GPUs; the authors of
    Yuan2.0-M32 put it at 0.95. `retrieval_usd_per_query`: search or grounding, for each query that the response
    cache does not answer. `kind` says where the GPU price comes from; `parts`, where it is made of several, add up to
    it. `staff_usd_per_year` is of the whole fleet, whatever its size, and so in no GPU's price. The response cache
    costs `cache_usd_per_hit` for each query that it answers and `cache_usd_per_hour` all day.
    Raises InputError on values out of range; a GPU price of zero is a missing price.
    """

    gpu_hour_usd: float | None
    compute_share: float = 1.0
    retrieval_usd_per_query: float = 0.0
    kind: PriceKind = "given"
    parts: tuple[PricePart, ...] = ()
    staff_usd_per_year: float = 0.0
    cache_usd_per_hit: float = 0.0
    cache_usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        if self.gpu_hour_usd is not None:
            positive("prices.gpu_hour_usd", self.gpu_hour_usd)
        if self.parts and not isclose(parts_usd(self.parts), self.gpu_hour_usd or 0.0):
            raise InputError("prices.gpu_hour_usd", self.gpu_hour_usd, f"its parts come to {parts_usd(self.parts):g}")
        not_negative("prices.own.staff_usd_per_year", self.staff_usd_per_year)
        share("prices.compute_share", self.compute_share)
        positive("prices.compute_share", self.compute_share)
        not_negative("prices.retrieval_usd_per_query", self.retrieval_usd_per_query)
        not_negative("query.response_cache.usd_per_hit", self.cache_usd_per_hit)
        not_negative("query.response_cache.usd_per_hour", self.cache_usd_per_hour)

    @property
    def staff_usd_per_hour(self) -> float:
        """What the fleet's staff adds to its bill, whatever its size."""
        return self.staff_usd_per_year / HOURS_PER_YEAR / self.compute_share


@dataclass(frozen=True)
class Cost:
    """What the fleet costs, by the hour, by the user's query (cached ones included), by a million tokens.

    `usd_per_hour` is the fleet's alone: the response cache's own bill is in `usd_per_query`, as retrieval is.
    `usd_per_million_tokens` counts prompt and output tokens of all model calls, and compute only: neither is in it.
    None where the tokens are not known or no query reaches the model.
    """

    usd_per_hour: float
    usd_per_query: float
    usd_per_million_tokens: float | None


def usd_per_hour(
    gpus: float, gpu_hour_usd: float, compute_share: float = 1.0, staff_usd_per_year: float = 0.0
) -> float:
    """(GPUs · gpu_hour_usd + staff ÷ 8760) ÷ compute_share, in $/h.

    `gpus` counts the spare replicas' too: they are paid for.
    """
    positive("gpus", gpus)
    return (gpus * gpu_hour_usd + staff_usd_per_year / HOURS_PER_YEAR) / compute_share


def all_in_gpu_hour_usd(gpus: int, prices: Prices) -> float | None:
    """The price of a GPU-hour with its part of the staff, for a fleet of `gpus`; None without a GPU price."""
    if prices.gpu_hour_usd is None:
        return None
    return usd_per_hour(gpus, prices.gpu_hour_usd, staff_usd_per_year=prices.staff_usd_per_year) / gpus


def bought_per_query(prices: Prices, uncached_share: float) -> float:
    """What is bought by the query, in $ per user query: retrieval where it reaches the model, else the cache's fee."""
    return prices.retrieval_usd_per_query * uncached_share + prices.cache_usd_per_hit * (1.0 - uncached_share)


def cache_usd_per_day(prices: Prices) -> float:
    """The response cache's own bill of a day, whatever it answers."""
    return HOURS_PER_DAY * prices.cache_usd_per_hour


def fleet_cost(gpus: int, prices: Prices, demand: Demand) -> Cost | None:
    """The cost of a fleet of fixed size that is on all day. None without a GPU price.

    usd_per_query = 24 · (usd_per_hour + cache_usd_per_hour) ÷ queries of the day
                    + retrieval_usd_per_query · uncached share + cache_usd_per_hit · (1 − uncached share)
    usd_per_million_tokens = 10⁶ · 24 · usd_per_hour ÷ (queries of the day · uncached share · tokens per query)
    """
    if prices.gpu_hour_usd is None:
        return None
    hourly = usd_per_hour(gpus, prices.gpu_hour_usd, prices.compute_share, prices.staff_usd_per_year)
    daily = HOURS_PER_DAY * hourly
    beside = bought_per_query(prices, demand.uncached_share)
    per_query = (daily + cache_usd_per_day(prices)) / demand.day_queries + beside
    tokens = demand.day_queries * demand.uncached_share * (demand.tokens_per_query or 0.0)
    return Cost(hourly, per_query, TOKENS_PER_PRICE * daily / tokens if tokens else None)


def cost_lines(gpus: int, prices: Prices, demand: Demand, paid_gpu_hours: float | None = None) -> tuple[CostLine, ...]:
    """A day's bill, line by line; the products add up to queries of the day · usd_per_query. Empty without a GPU price.

    Lines that would be zero (nothing beside compute, no retrieval) are left out. `paid_gpu_hours` (None: all of the
    day's) is what the spend beside compute is told by.
    """
    if prices.gpu_hour_usd is None:
        return ()
    gpu_hours = float(gpus * HOURS_PER_DAY)
    if prices.parts:
        lines = [_part_line(part, gpu_hours) for part in prices.parts]
    else:
        lines = [money_line("GPUs, spares included, all day", gpu_hours, "GPU-hour", prices.gpu_hour_usd)]
    if prices.staff_usd_per_year > 0:
        lines.append(money_line("staff of the fleet", 1.0, "day", prices.staff_usd_per_year / DAYS_PER_YEAR))
    if prices.compute_share < 1:
        beside = (all_in_gpu_hour_usd(gpus, prices) or 0.0) * (1 / prices.compute_share - 1)
        what = f"inference spend beside compute (compute is {prices.compute_share:.0%})"
        told = gpu_hours if paid_gpu_hours is None else paid_gpu_hours
        lines.append(money_line(what, told, "GPU-hour", beside * gpu_hours / told))
    uncached = demand.day_queries * demand.uncached_share
    if prices.retrieval_usd_per_query > 0 and uncached > 0:
        lines.append(money_line("retrieval", uncached, "uncached query", prices.retrieval_usd_per_query))
    hits = demand.day_queries - uncached
    if prices.cache_usd_per_hit > 0 and hits > 0:
        lines.append(money_line("answers from the response cache", hits, "cached query", prices.cache_usd_per_hit))
    if prices.cache_usd_per_hour > 0:
        lines.append(money_line("response cache, all day", float(HOURS_PER_DAY), "hour", prices.cache_usd_per_hour))
    return tuple(lines)


def _part_line(part: PricePart, gpu_hours: float) -> MoneyLine:
    return money_line(part.what, part.quantity * gpu_hours, part.unit, part.unit_price_usd)
