"""The few best candidates of a plan: the fleets among which a draw chooses the cheapest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import Deployment, deploy, only_candidate
from planner.economics import Prices, day_queries, usd_per_hour
from planner.pricing import priced
from planner.scenario import Scenario
from planner.sizing.replicas import MOST_REPLICAS, least_serving
from planner.studies.chosen import pinned
from planner.units import HOURS_PER_DAY

F64 = NDArray[np.float64]
MOST_CONTENDERS = 3


@dataclass(frozen=True)
class Rates:
    """A fleet's bill in $/h: `per_gpu` for each GPU, in proportion to the GPU price; `fixed` whatever its size."""

    per_gpu: float
    fixed: float

    def usd_per_hour(self, gpus: float | F64, price_factor: float | F64) -> float | F64:
        """$/h of so many GPUs at so many times the price."""
        return gpus * price_factor * self.per_gpu + self.fixed


def rates_of(prices: Prices) -> Rates | None:
    """The rates of a GPU's prices; None without a price."""
    if prices.gpu_hour_usd is None:
        return None
    return Rates(usd_per_hour(1, prices.gpu_hour_usd, prices.compute_share), prices.staff_usd_per_hour)


@dataclass(frozen=True)
class Contender:
    """A candidate that holds the service levels: how large it was planned, and what it costs (None: no price).

    `verified`: the size was found on full-length runs, so that one replica fewer is known to fail.
    """

    row: Mapping[str, Any] = field(repr=False)
    deployment: Deployment = field(repr=False)
    serving: int
    spare: int
    least: int
    most: int
    rates: Rates | None
    verified: bool

    @property
    def gpus_per_replica(self) -> int:
        """GPUs behind one endpoint."""
        return self.deployment.gpus_per_replica

    @property
    def gpus(self) -> int:
        """GPUs as planned, the spare replicas' included."""
        return (self.serving + self.spare) * self.gpus_per_replica

    def named(self) -> dict[str, Any]:
        """The keys of `alternatives` that tell it from others."""
        return {key: self.row[key] for key in ("model", "hardware", "routing", "engine")}


def contender(row: Mapping[str, Any], scenario: Scenario) -> Contender:
    """One feasible row of a plan's `alternatives`, made ready to run."""
    alone = pinned(scenario, {"alternatives": [{**row, "chosen": True}]})
    deployment, spare = deploy(only_candidate(alone, "uncertainty")), scenario.fleet.spare_replicas
    most = MOST_REPLICAS
    if scenario.fleet.max_gpus is not None:
        most = scenario.fleet.max_gpus // deployment.gpus_per_replica - spare
    return Contender(
        row=row,
        deployment=deployment,
        serving=row["replicas"] - spare,
        spare=spare,
        least=least_serving(scenario),
        most=most,
        rates=rates_of(priced(deployment.candidate.gpu, scenario).prices),
        verified=row["verified"],
    )


def few_rows(document: Mapping[str, Any], slow: Deployment | None) -> list[Mapping[str, Any]]:
    """At most `MOST_CONTENDERS` feasible rows of `alternatives`: the chosen one, the next cheapest, and `slow`.

    `slow` is what a plan of a slow world chooses: where the engine is slower than thought, another candidate may be
    the cheapest, and not one of those that are so as planned.
    """
    rows = [row for row in document["alternatives"] if row["feasible"]]
    few = rows[:MOST_CONTENDERS]
    if slow is not None:
        beyond = [row for row in rows[MOST_CONTENDERS:] if _is(row, slow)]
        few[len(few) - len(beyond) :] = beyond
    return few


def _is(row: Mapping[str, Any], deployment: Deployment) -> bool:
    """Whether a row of `alternatives` is of this deployment."""
    candidate = deployment.candidate
    chosen = {key.removeprefix("engine."): value for key, value in candidate.choice.items() if "engine." in key}
    return (row["model"], row["hardware"], row["routing"]) == (
        candidate.model.name,
        candidate.gpu.name,
        candidate.routing,
    ) and all(row["engine"][key] == value for key, value in chosen.items())


def usd_per_query_beside(document: Mapping[str, Any], scenario: Scenario) -> float:
    """What a query costs beside the fleet, whatever the fleet: retrieval, say. 0 where nothing is priced."""
    cost = document["cost"]
    if cost is None:
        return 0.0
    queries = day_queries(scenario.traffic.peak_qps or 0.0, scenario.traffic.day)
    return float(cost["usd_per_query"]) - HOURS_PER_DAY * float(cost["usd_per_hour"]) / queries
