"""The fleet size with the most margin when users who wait leave, and the service level that it gives.

More replicas cost more and answer sooner; who would have left then stays and earns. Somewhere the next replica costs
more than it brings back: the latency there is the one worth promising, whatever the scenario's `slo` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.deployment import Progress
from planner.economics import Demand, Patience, Prices, fleet_cost
from planner.errors import ScenarioError
from planner.pricing import leaving, patience_of, priced
from planner.scenario import Scenario
from planner.simulation.outcome import Latencies, Outcome
from planner.simulation.quantiles import quantile
from planner.sizing.day import DayRuns
from planner.sizing.replicas import MOST_REPLICAS, least_serving
from planner.sizing.search import demand_of
from planner.studies.fleet_runs import FleetRuns

Document = Mapping[str, Any]
FIRST_STRIDE = 20  # the first step away from the plan is a 20th of its replicas, at least one
SHOWN = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Money:
    """What the sizes share: prices, the users' demand, what a query earns before anyone leaves, the hours' runs."""

    prices: Prices
    demand: Demand
    gross_usd_per_query: float
    day: DayRuns

    def cost_usd_per_day(self, gpus: int) -> float:
        """The bill of a day of a fleet of so many GPUs, retrieval included."""
        cost = fleet_cost(gpus, self.prices, self.demand)
        if cost is None:
            raise ScenarioError("prices.gpu_hour_usd", None, "is required: margin is revenue less cost")
        return cost.usd_per_query * self.demand.day_queries


def best_slo(
    scenario: Scenario, document: Document, runs: FleetRuns, progress: Progress | None = None
) -> dict[str, Any] | None:
    """The size with the most margin a day beside the plan's own; None without `revenue.abandonment`.

    `document` is the plan, `runs` the fleet that it chose. Sizes are tried downwards and upwards from the plan's until
    the margin falls on both sides (or the load no longer fits, or fleet.max_gpus or min_replicas is reached), then
    between; all see the same arrivals. A size on which more arrives than is served has no steady latency and is not
    judged.

    The answer: {metric, slo {key: ms at the best size's peak}, best, own, gained_usd_per_day, ends [why the search
    went no further], sizes[]}; a size is {serving, replicas, gpus, slo_met, saturated, lost_share_at_peak, lost_share
    (of the day), cost_usd_per_day, revenue_usd_per_day, margin_usd_per_day, latencies {key: ms}}.
    """
    patience = patience_of(scenario)
    if patience is None or document["revenue"] is None or document["cost"] is None:
        return None
    fleet = document["fleet"]
    own = fleet["replicas"] - fleet["spare_replicas"]
    money = _money(scenario, document, runs, own)
    most = MOST_REPLICAS
    if scenario.fleet.max_gpus is not None:
        most = scenario.fleet.max_gpus // fleet["gpus_per_replica"] - fleet["spare_replicas"]
    rows: dict[int, dict[str, Any]] = {}

    def margin(serving: int) -> float:
        if serving not in rows:
            if progress is not None:
                progress("best SLO: fleet sizes", len(rows), 0)
            rows[serving] = _size(fleet, serving, runs, money, patience)
        value = rows[serving]["margin_usd_per_day"]
        return float("-inf") if value is None else float(value)

    least = min(least_serving(scenario), own)
    best = climb(margin, own, least, max(min(most, runs.load.requests), own))
    return {
        "metric": patience.metric,
        "slo": rows[best]["latencies"],
        "best": rows[best],
        "own": rows[own],
        "gained_usd_per_day": rows[best]["margin_usd_per_day"] - rows[own]["margin_usd_per_day"],
        "ends": _ends(rows, best, least, most),
        "sizes": [rows[serving] for serving in sorted(rows)],
    }


def climb(height: Callable[[int], float], start: int, least: int, most: int) -> int:
    """The highest point found from `start` within [least, most]: outwards in growing strides while it rises, then
    between its neighbours in halving ones, until the points one below and one above are lower or were tried.

    It finds the top of anything that only rises and then only falls; of other heights, a local one.
    """
    best, stride = start, max(1, start // FIRST_STRIDE)
    for direction in (-1, 1):
        step = stride
        while least <= (there := best + direction * step) <= most and height(there) > height(best):
            best, step = there, step * 2
        stride = max(stride, step)
    while stride >= 1:
        near = [point for point in (best - stride, best + stride) if least <= point <= most]
        higher = max(near, key=height, default=best)
        if height(higher) > height(best):
            best = higher
        else:
            stride //= 2
    return best


def _money(scenario: Scenario, document: Document, runs: FleetRuns, own: int) -> Money:
    """What the fleet sizes around a plan share; without a GPU price there is no plan to compare."""
    revenue = document["revenue"]
    lost = (revenue.get("abandonment") or {}).get("usd_per_query_lost") or 0.0
    gpu = runs.deployment.candidate.gpu
    return Money(
        prices=priced(gpu, scenario).prices,
        demand=demand_of(scenario, runs.load, runs.at(own)),
        gross_usd_per_query=revenue["usd_per_query"] + lost,
        day=runs.day(own),
    )


def _size(fleet: Document, serving: int, runs: FleetRuns, money: Money, patience: Patience) -> dict[str, Any]:
    """One fleet size: its cost, what its users earn, and its latencies at the peak."""
    replicas = serving + fleet["spare_replicas"]
    gpus = replicas * fleet["gpus_per_replica"]
    outcome = runs.at(serving)
    cost = money.cost_usd_per_day(gpus)
    row: dict[str, Any] = {
        "serving": serving,
        "replicas": replicas,
        "gpus": gpus,
        "slo_met": outcome.slo_met,
        "saturated": outcome.saturated,
        "lost_share_at_peak": None,
        "lost_share": None,
        "cost_usd_per_day": cost,
        "revenue_usd_per_day": None,
        "margin_usd_per_day": None,
        "latencies": {},
    }
    if outcome.saturated:
        return row

    def latencies_at(of_peak: float) -> Latencies:
        return outcome.latencies if of_peak == 1 else money.day.at(of_peak, serving).latencies

    told = leaving(runs.scenario, money.demand, latencies_at)
    if told is None:
        raise ScenarioError("revenue.abandonment", None, "is required: nobody is told to leave")
    _, lost = told
    revenue = money.gross_usd_per_query * money.demand.day_queries * (1.0 - lost.share)
    return row | {
        "lost_share_at_peak": lost.share_at_peak,
        "lost_share": lost.share,
        "revenue_usd_per_day": revenue,
        "margin_usd_per_day": revenue - cost,
        "latencies": _latencies(outcome, patience),
    }


def _latencies(outcome: Outcome, patience: Patience) -> dict[str, float]:
    """The statistic of each limit of the scenario, and of what the users wait for, in ms under the keys of `slo`."""
    told = {check.key: check.value_ms for check in outcome.checks if check.value_ms is not None}
    values = outcome.latencies.ttft_ms if patience.metric == "ttft" else outcome.latencies.e2e_ms
    for percentile in SHOWN:
        told.setdefault(f"p{percentile:g}_{patience.metric}_ms", float(quantile(values, percentile)))
    return told


def _ends(rows: Mapping[int, Document], best: int, least: int, most: int) -> list[str]:
    """What lies on both sides of the best size."""
    below, above = rows.get(best - 1), rows.get(best + 1)
    said = []
    if below is None:
        smallest = f"{least} serving replicas are the fewest that fleet.min_replicas allows"
        said.append(smallest if least > 1 else "one replica is the smallest fleet")
    elif below["saturated"]:
        said.append(f"with {best - 1} serving more arrives than is served")
    else:
        said.append(f"with {best - 1} serving more is lost to waiting than is saved")
    if above is None:
        said.append(f"{most} serving replicas are all that fleet.max_gpus allows" if best >= most else "")
    else:
        said.append(f"with {best + 1} serving the replica costs more than the users that it keeps")
    return [words for words in said if words]
