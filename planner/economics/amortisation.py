"""A training bill spread over the queries that the model answers, and what makes a query pay that bears its part."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import positive
from planner.economics.cost import Cost, Prices, bought_per_query, cache_usd_per_day
from planner.economics.demand import Demand, day_queries
from planner.economics.revenue import MILLE, Revenue
from planner.provenance import Provenance
from planner.units import DAYS_PER_MONTH, HOURS_PER_DAY


@dataclass(frozen=True)
class Training:
    """`usd` paid once, to be earned back over `months` of serving. Raises InputError unless both are > 0.

    `provenance` says what a bill that was reckoned is made of.
    """

    usd: float
    months: float
    provenance: tuple[Provenance, ...] = ()

    def __post_init__(self) -> None:
        positive("prices.training.usd", self.usd)
        positive("prices.training.months", self.months)

    @property
    def usd_per_day(self) -> float:
        """usd ÷ (months · 365/12 days): straight-line, without interest."""
        return self.usd / (self.months * DAYS_PER_MONTH)


@dataclass(frozen=True)
class AfterTraining:
    """Break-even values as `margins.BreakEven`, the training bill of `training_usd` borne too. None = there is none.

    The bill is as large whatever is asked: more queries spread it thinner.
    """

    qps: float | None
    rpm_usd: float | None
    gpu_hour_usd: float | None
    training_usd: float


def training_usd_per_query(training: Training, demand: Demand) -> float:
    """usd ÷ (months · 365/12 days · queries of a day), straight-line; cached queries bear their part too."""
    return training.usd_per_day / demand.day_queries


def break_even_after_training(
    training: Training, gpus: int, prices: Prices, demand: Demand, cost: Cost | None, revenue: Revenue | None
) -> AfterTraining:
    """Solve `24·H/(q·D) + r + B/(q·D) = R` for one letter at a time; letters as in `margins.break_even`.

    B = training $/day, and c stands beside it:

        q = (24·H + B) / (D·(R − r))     gpu_hour_usd = ((R − r)·q·D − B)·compute_share / (24·gpus)
        R = (24·H + B)/(q·D) + r

    A GPU price exists only where the queries earn more than retrieval and the bill take, q only where R > r.
    """
    per_day = training.usd_per_day + cache_usd_per_day(prices)
    rpm_usd = None if cost is None else MILLE * (cost.usd_per_query + training.usd_per_day / demand.day_queries)
    qps = gpu_hour_usd = None
    left = None if revenue is None else revenue.usd_per_query - bought_per_query(prices, demand.uncached_share)
    if left is not None and left > 0:
        for_gpus = left * demand.day_queries - per_day
        if for_gpus > 0:
            gpu_hour_usd = for_gpus * prices.compute_share / (HOURS_PER_DAY * gpus)
        if cost is not None:
            qps = (HOURS_PER_DAY * cost.usd_per_hour + per_day) / (day_queries(1.0, demand.day) * left)
    return AfterTraining(qps, rpm_usd, gpu_hour_usd, training.usd)
