"""Fleet and prices -> dollars per hour, per query and per million tokens."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, positive, share
from planner.economics.demand import Demand
from planner.units import HOURS_PER_DAY, TOKENS_PER_PRICE


@dataclass(frozen=True)
class Prices:
    """What things cost.

    `gpu_hour_usd`: one GPU for one hour; None = not given. `compute_share`: the part of inference spend that is
    compute, so that the rest (network, storage, staff on call) is charged on top of the GPUs; the authors of
    Yuan2.0-M32 put it at 0.95. `retrieval_usd_per_query`: search or grounding, for each query that the response
    cache does not answer. Raises InputError on values out of range; a GPU price of zero is a missing price.
    """

    gpu_hour_usd: float | None
    compute_share: float = 1.0
    retrieval_usd_per_query: float = 0.0

    def __post_init__(self) -> None:
        if self.gpu_hour_usd is not None:
            positive("prices.gpu_hour_usd", self.gpu_hour_usd)
        share("prices.compute_share", self.compute_share)
        positive("prices.compute_share", self.compute_share)
        not_negative("prices.retrieval_usd_per_query", self.retrieval_usd_per_query)


@dataclass(frozen=True)
class Cost:
    """What the fleet costs, by the hour, by the user's query (cached ones included), by a million tokens.

    `usd_per_million_tokens` counts prompt and output tokens of all model calls, and compute only: retrieval is not
    in it. None where the tokens are not known or no query reaches the model.
    """

    usd_per_hour: float
    usd_per_query: float
    usd_per_million_tokens: float | None


@dataclass(frozen=True)
class CostLine:
    """One line of a day's bill: quantity [unit] × unit_price_usd [$/unit] = product_usd."""

    what: str
    quantity: float
    unit: str
    unit_price_usd: float
    product_usd: float


def usd_per_hour(gpus: int, gpu_hour_usd: float, compute_share: float = 1.0) -> float:
    """GPUs · gpu_hour_usd ÷ compute_share, in $/h. `gpus` counts the spare replicas' too: they are paid for."""
    positive("gpus", gpus)
    return gpus * gpu_hour_usd / compute_share


def retrieval_per_query(prices: Prices, demand: Demand) -> float:
    """Retrieval in $ per user query: its price · the share of queries that are not answered from the cache."""
    return prices.retrieval_usd_per_query * demand.uncached_share


def fleet_cost(gpus: int, prices: Prices, demand: Demand) -> Cost | None:
    """The cost of a fleet of fixed size that is on all day. None without a GPU price.

    usd_per_query = 24 · usd_per_hour ÷ queries of the day + retrieval_usd_per_query · uncached share
    usd_per_million_tokens = 10⁶ · 24 · usd_per_hour ÷ (queries of the day · uncached share · tokens per query)
    """
    if prices.gpu_hour_usd is None:
        return None
    hourly = usd_per_hour(gpus, prices.gpu_hour_usd, prices.compute_share)
    daily = HOURS_PER_DAY * hourly
    per_query = daily / demand.day_queries + retrieval_per_query(prices, demand)
    tokens = demand.day_queries * demand.uncached_share * (demand.tokens_per_query or 0.0)
    return Cost(hourly, per_query, TOKENS_PER_PRICE * daily / tokens if tokens else None)


def cost_lines(gpus: int, prices: Prices, demand: Demand) -> tuple[CostLine, ...]:
    """A day's bill, line by line; the products add up to queries of the day · usd_per_query. Empty without a GPU price.

    Lines that would be zero (nothing beside compute, no retrieval) are left out.
    """
    if prices.gpu_hour_usd is None:
        return ()
    gpu_hours = float(gpus * HOURS_PER_DAY)
    lines = [_line("GPUs, spares included, all day", gpu_hours, "GPU-hour", prices.gpu_hour_usd)]
    if prices.compute_share < 1:
        beside = prices.gpu_hour_usd * (1 / prices.compute_share - 1)
        what = f"inference spend beside compute (compute is {prices.compute_share:.0%})"
        lines.append(_line(what, gpu_hours, "GPU-hour", beside))
    uncached = demand.day_queries * demand.uncached_share
    if prices.retrieval_usd_per_query > 0 and uncached > 0:
        lines.append(_line("retrieval", uncached, "uncached query", prices.retrieval_usd_per_query))
    return tuple(lines)


def _line(what: str, quantity: float, unit: str, unit_price_usd: float) -> CostLine:
    return CostLine(what, quantity, unit, unit_price_usd, quantity * unit_price_usd)
