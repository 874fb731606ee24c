"""Days of a whole fleet on one clock: all its requests in memory, its replicas constant or scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.autoscaler import Rule, Scaling
from planner.simulation.day_bins import empty_bins, fold
from planner.simulation.day_streams import DayFold
from planner.simulation.fleet import Routing, run_fleet
from planner.simulation.load import Load
from planner.simulation.operations import Control
from planner.specs import SchedulerConfig

F64 = NDArray[np.float64]
PLACES_BESIDE = 0.5  # of the most replicas: places for those that still drain when others start


def run_whole(
    load: Load,
    config: SchedulerConfig,
    cost: StepCost,
    replicas: int,
    routing: Routing,
    rng: np.random.Generator,
    hours: int,
    limits: F64,
    rule: Rule | None,
) -> tuple[DayFold, tuple[tuple[float, int], ...]]:
    """`replicas` replicas at midnight, and as `rule` has it afterwards, over `hours` hours.

    `limits` as for `day_bins.fold`. Also returns (s, replicas wanted) of every look at which the autoscaler changed
    something. Raises as `run_fleet` does.
    """
    places = replicas if rule is None else rule.most + max(2, round(PLACES_BESIDE * rule.most))
    control = Control(serving=replicas, scaling=Scaling(hours, rule))
    run = run_fleet(load, config, cost, places, routing, rng, control=control)
    watch = run.watch
    assert watch is not None  # there is a scaling
    bins = empty_bins(hours)
    fold(bins, load, run.arrival_s, run.failed, (run.first_token_s, run.last_token_s), limits)
    day = DayFold(
        bins=bins,
        gaps=run.gaps,
        busy_s=np.diff(watch.busy_s, prepend=0.0),
        served_s=np.diff(watch.served_s, prepend=0.0),
        paid_s=np.diff(watch.paid_s, prepend=0.0),
        serving=watch.serving,
        preemptions=int(run.ledger["preemptions"].sum()),
    )
    return day, tuple(watch.changes)
