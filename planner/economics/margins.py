"""What a query leaves, and the values at which it leaves nothing."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.cost import Cost, Prices, bought_per_query, cache_usd_per_day
from planner.economics.demand import Demand, day_queries
from planner.economics.revenue import MILLE, Revenue
from planner.units import HOURS_PER_DAY


@dataclass(frozen=True)
class Margin:
    """Revenue less cost of one user query. The shares are of revenue and add up to 1; None where it earns nothing.

    `after_training_usd_per_query` also bears the query's part of a training bill; None where none was given.
    """

    usd_per_query: float
    fraction: float | None
    cost_share_of_revenue: float | None
    after_training_usd_per_query: float | None = None


@dataclass(frozen=True)
class BreakEven:
    """Each the one value, everything else and the fleet unchanged, at which the margin is 0. None = there is none.

    `qps` is a peak rate, the day keeping its shape; `rpm_usd` the revenue of 1,000 queries; `gpu_hour_usd` a GPU's
    price, with its part of the staff where hardware is owned. A training bill is not in it.
    """

    qps: float | None
    rpm_usd: float | None
    gpu_hour_usd: float | None


def margin(cost: Cost, revenue: Revenue, training_usd_per_query: float | None = None) -> Margin:
    """revenue − cost per query; (revenue − cost)/revenue; cost/revenue; revenue − cost − training."""
    left = revenue.usd_per_query - cost.usd_per_query
    after = None if training_usd_per_query is None else left - training_usd_per_query
    if revenue.usd_per_query == 0:
        return Margin(left, None, None, after)
    return Margin(left, left / revenue.usd_per_query, cost.usd_per_query / revenue.usd_per_query, after)


def break_even(
    gpus: int, prices: Prices, demand: Demand, cost: Cost | None, revenue: Revenue | None
) -> tuple[BreakEven, tuple[str, ...]]:
    """Solve `(24·H + c)/(q·D) + r = R` for one letter at a time; beside the values, a sentence for each that is absent.

    H = fleet $/h = gpus · gpu_hour_usd ÷ compute_share (in the price: the GPU's part of any staff), q = peak_qps,
    D = queries of the day per query/s at the peak, c = the response cache's own $/day, r = what is bought by the query
    = retrieval_usd_per_query · uncached share + its fee for a hit · (1 − uncached share), R = revenue $/query:

        q = (24·H + c) / (D·(R − r))    gpu_hour_usd = ((R − r)·q·D − c)·compute_share / (24·gpus)
        R = (24·H + c)/(q·D) + r

    At another q the response cache is taken to answer the same share.

    q exists only where R > r, the GPU price where the queries then pay for c too: when retrieval alone eats what a
    query earns, neither more traffic nor a cheaper GPU helps. The GPU price needs no price, R no revenue: each is also
    the answer to "what may it be?".
    """
    qps = rpm_usd = gpu_hour_usd = None
    reasons = []
    if cost is None:
        reasons.append("break-even rpm_usd and qps left out: no GPU price was given")
    else:
        rpm_usd = cost.usd_per_query * MILLE
    if revenue is None:
        reasons.append("break-even gpu_hour_usd and qps left out: no revenue was given")
        return BreakEven(qps, rpm_usd, gpu_hour_usd), tuple(reasons)
    left, per_day = revenue.usd_per_query - bought_per_query(prices, demand.uncached_share), cache_usd_per_day(prices)
    if left > 0:
        for_gpus = left * demand.day_queries - per_day
        if for_gpus > 0:
            gpu_hour_usd = for_gpus * prices.compute_share / (HOURS_PER_DAY * gpus)
        else:
            reasons.append("break-even gpu_hour_usd does not exist: the response cache alone costs what queries earn")
        if cost is not None:
            qps = (HOURS_PER_DAY * cost.usd_per_hour + per_day) / (day_queries(1.0, demand.day) * left)
    else:
        why = "retrieval alone costs what a query earns, or more" if revenue.usd_per_query else "a query earns nothing"
        reasons.append(f"break-even gpu_hour_usd and qps do not exist: {why}")
    return BreakEven(qps, rpm_usd, gpu_hour_usd), tuple(reasons)
