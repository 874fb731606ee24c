"""Usage and allocation: the busy part of the bill, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from planner.economics.cost import Cost, Prices, bought_per_query, cache_usd_per_day
from planner.economics.demand import Demand
from planner.economics.paid_hours import PaidHours, billed_replicas
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


def following_allocation(
    prices: Prices,
    demand: Demand,
    cost: Cost,
    utilisation: Sequence[float],
    paid: PaidHours,
    usd_by_hour: Sequence[float],
) -> Allocation:
    """Split the day of a fleet that comes and goes, each hour's bill by the GPU-hours that it is for.

        busy(h) = utilisation(h) · replicas that run(h)        usage = Σ busy(h) ÷ billed(h) · $(h) ÷ queries + …

    `usd_by_hour` is the fleet's bill. Of what is billed, reserved replicas that are off are idle. None runs in an hour
    that nothing is billed of.
    """
    billed = billed_replicas(prices, paid)
    busy = [used * running for used, running in zip(utilisation, paid.by_hour, strict=True)]
    shares = [used / there if there else 0.0 for used, there in zip(busy, billed, strict=True)]
    used_usd = fsum(share * usd for share, usd in zip(shares, usd_by_hour, strict=True))
    beside = bought_per_query(prices, demand.uncached_share) + cache_usd_per_day(prices) / demand.day_queries
    usage = used_usd / demand.day_queries + beside
    each = paid.gpus_per_replica
    return Allocation(
        usage_usd_per_query=usage,
        idle_usd_per_query=cost.usd_per_query - usage,
        busy_gpu_hours=fsum(busy) * each,
        idle_gpu_hours=(fsum(billed) - fsum(busy)) * each,
    )
