"""Days of a whole fleet on one clock: all its requests in memory, its replicas constant or scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.simulation.autoscaler import Rule, Scaling, Wishes
from planner.simulation.day_bins import empty_bins, fold
from planner.simulation.day_streams import DayFold
from planner.simulation.fleet import Routing, run_fleet
from planner.simulation.fleet_record import REJECTED
from planner.simulation.load import Load
from planner.simulation.operations import Control
from planner.specs import SchedulerConfig
from planner.units import S_PER_HOUR

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
    room: int = 0,
) -> tuple[DayFold, Wishes]:
    """`replicas` replicas at midnight, and as `rule` has it afterwards, over `hours` hours.

    `limits` as for `day_bins.fold`; `room` for so many unfinished requests a replica, 0 for any number. Also returns
    what the autoscaler wanted. Raises as `run_fleet` does.
    """
    places = replicas if rule is None else rule.most + max(2, round(PLACES_BESIDE * rule.most))
    control = Control(serving=replicas, scaling=Scaling(hours, rule), room=room)
    run = run_fleet(load, config, cost, places, routing, rng, control=control)
    watch = run.watch
    assert watch is not None  # there is a scaling
    bins = empty_bins(hours)
    fold(bins, load, run.arrival_s, run.failed, (run.first_token_s, run.last_token_s), limits)
    hour = np.minimum((run.arrival_s[run.why_failed == REJECTED] / S_PER_HOUR).astype(np.int64), hours - 1)
    day = DayFold(
        bins=bins,
        gaps=run.gaps,
        busy_s=np.diff(watch.busy_s, prepend=0.0),
        served_s=np.diff(watch.served_s, prepend=0.0),
        paid_s=np.diff(watch.paid_s, prepend=0.0),
        serving=watch.serving,
        preemptions=int(run.ledger["preemptions"].sum()),
        rejected=np.bincount(hour, minlength=hours).astype(np.float64) if room else None,
    )
    return day, Wishes(tuple(watch.changes), watch.held_back, watch.given_up, watch.unfinished)
