"""How many GPUs serve this many queries per second within these latencies, and what does one query cost?

`Scenario.load(path)` reads the question; `plan`, `simulate`, `simulate_days` and `capacity` answer it, `report_page`
makes a page of a plan's document. Names are imported when they are first used, because the simulator brings a compiler
with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.days import Days, simulate_days
    from planner.deployment import Simulation, simulate
    from planner.errors import InputError, PlannerError
    from planner.planning import Plan, plan
    from planner.report.page import report_page
    from planner.scenario import Scenario
    from planner.sizing import Capacity, capacity

_HOMES = {
    "Capacity": "planner.sizing",
    "Days": "planner.days",
    "InputError": "planner.errors",
    "Plan": "planner.planning",
    "PlannerError": "planner.errors",
    "Scenario": "planner.scenario",
    "Simulation": "planner.deployment",
    "capacity": "planner.sizing",
    "plan": "planner.planning",
    "report_page": "planner.report.page",
    "simulate": "planner.deployment",
    "simulate_days": "planner.days",
}

__all__ = [
    "Capacity",
    "Days",
    "InputError",
    "Plan",
    "PlannerError",
    "Scenario",
    "Simulation",
    "capacity",
    "plan",
    "report_page",
    "simulate",
    "simulate_days",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
