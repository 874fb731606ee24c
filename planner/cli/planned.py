"""A scenario planned with what was asked for beside the plan: its options one after the other, how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.cli.output import compile_note, progress_bar

if TYPE_CHECKING:
    from planner.planning import Plan
    from planner.scenario import Scenario


def planned(scenario: Scenario, *, seed: int, requests: int | None, waterfall: bool) -> Plan:
    """The plan, with progress on standard error; `uncertainty` where the scenario asks for it."""
    from planner import plan

    if scenario.uncertainty is not None:
        from planner.studies.uncertainty import refuse_beside_uncertainty

        refuse_beside_uncertainty(scenario)  # before the work, not after it
    with compile_note(), progress_bar() as progress:
        result = plan(scenario, seed=seed, requests=requests, progress=progress)
        if waterfall:
            from planner.studies.waterfall import with_waterfall

            result = with_waterfall(result, scenario, seed=seed, requests=requests, progress=progress)
        if scenario.uncertainty is not None:
            from planner.studies.uncertainty import with_uncertainty

            result = with_uncertainty(result, scenario, seed=seed, requests=requests, progress=progress)
    return result
