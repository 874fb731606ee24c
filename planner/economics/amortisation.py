"""A training bill spread over the queries that the model answers."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import positive
from planner.economics.demand import Demand
from planner.units import DAYS_PER_MONTH


@dataclass(frozen=True)
class Training:
    """`usd` paid once, to be earned back over `months` of serving. Raises InputError unless both are > 0."""

    usd: float
    months: float

    def __post_init__(self) -> None:
        positive("prices.training.usd", self.usd)
        positive("prices.training.months", self.months)


def training_usd_per_query(training: Training, demand: Demand) -> float:
    """usd ÷ (months · 365/12 days · queries of a day), straight-line; cached queries bear their part too."""
    return training.usd / (training.months * DAYS_PER_MONTH * demand.day_queries)
