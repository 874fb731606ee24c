"""Usage and allocation: the busy part of the bill, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from planner.economics.cost import Cost, Prices, bought_per_query, cache_usd_per_day
from planner.economics.demand import Demand
from planner.units import HOURS_PER_DAY


@dataclass(frozen=True)
class Allocation:
    """One query's cost, split. usage_usd_per_query + idle_usd_per_query = what it is allocated: cost.usd_per_query.

    Busy is a GPU whose engine runs a step, however small its batch (see `utilisation`): the idle part is what no load
    touched, not all that a smaller fleet would save. `load_shape` answers that.
    """

    usage_usd_per_query: float
    idle_usd_per_query: float
    busy_gpu_hours: float
    idle_gpu_hours: float


def allocation(gpus: int, prices: Prices, demand: Demand, cost: Cost, utilisation: Sequence[float]) -> Allocation:
    """Split a static fleet's day by the 24 hours' utilisation (busy ÷ elapsed).

        usage = Σ utilisation ÷ 24 · fleet $/day ÷ queries + retrieval        idle = Σ (1 − utilisation) ÷ 24 · …

    Retrieval and hits are bought by the query, and the response cache serves all day: all of that is usage.
    """
    busy = fsum(utilisation) / HOURS_PER_DAY
    idle = fsum(1 - hour for hour in utilisation) / HOURS_PER_DAY
    gpu_hours = gpus * HOURS_PER_DAY
    fleet_per_query = HOURS_PER_DAY * cost.usd_per_hour / demand.day_queries
    beside = bought_per_query(prices, demand.uncached_share) + cache_usd_per_day(prices) / demand.day_queries
    return Allocation(
        usage_usd_per_query=busy * fleet_per_query + beside,
        idle_usd_per_query=idle * fleet_per_query,
        busy_gpu_hours=busy * gpu_hours,
        idle_gpu_hours=idle * gpu_hours,
    )
