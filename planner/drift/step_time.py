"""How long an engine step takes beside the plan's, from the mean gap between tokens."""

from __future__ import annotations

import math
from typing import NamedTuple

from planner.drift.model import SLOWEST, Simulated
from planner.drift.queries import Shape

ROUNDS, CLOSE = 8, 0.002  # of the search; how near the simulated mean ITL comes to the told one
AS_PLANNED = 0.01  # a mean ITL nearer to the simulated one than this is within the simulation's own chance
FIRST_POWER = 1.3  # with which ITL grows with step time: slower steps also make larger batches


class StepTime(NamedTuple):
    """`factor` on every duration of the step cost, None where it cannot be told; ITL as planned under this load."""

    factor: float | None
    planned_itl_ms: float | None
    note: str = ""


def step_time_of(simulated: Simulated, shape: Shape, model_qps: float, replicas: int, itl_ms: float) -> StepTime:
    """The factor at which the simulated mean ITL is the told one, for the load and the queries that the fleet has."""

    def log_itl(log_factor: float) -> float | None:
        row = simulated.figures(shape, model_qps, replicas, math.exp(log_factor))["itl_ms"]
        return math.log(row["mean"]) if row and row["mean"] > 0 else None

    first = log_itl(0.0)
    if first is None or itl_ms <= 0:
        return StepTime(None, None, "answers of one token have no gaps between tokens")
    target, planned_ms = math.log(itl_ms), math.exp(first)
    if abs(target - first) < AS_PLANNED:
        return StepTime(1.0, planned_ms)
    at, value, power = 0.0, first, FIRST_POWER
    most = math.log(SLOWEST)
    for _ in range(ROUNDS):
        reached = min(max(at + (target - value) / power, -most), most)
        if reached == at:
            break
        found = log_itl(reached)
        if found is None:
            break
        power = max((found - value) / (reached - at), 0.3)
        at, value = reached, found
        if abs(target - value) < CLOSE:
            return StepTime(math.exp(at), planned_ms)
    if abs(target - value) < AS_PLANNED:
        return StepTime(math.exp(at), planned_ms)
    note = f"a mean ITL of {itl_ms:.3g} ms is none of this fleet's under this load, however fast its steps"
    return StepTime(None, planned_ms, note)
