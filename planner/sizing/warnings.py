"""What to know of a plan before its figures are used: the `warnings` of its answer."""

from __future__ import annotations

from planner.deployment import Deployment, warnings_document
from planner.deployment.autoscaled import blinded
from planner.deployment.collapse import session_pause, size_warnings
from planner.deployment.no_effect import no_effect
from planner.scenario import Scenario
from planner.sizing.autoscaled import ScaledDay, scaled_warnings
from planner.sizing.search import Search, Sized


def plan_warnings(given: Scenario, still: Scenario, seed: int, found: Search, scaled: ScaledDay | None) -> list[str]:
    """A line each; `still` is the `given` scenario as it is at one moment, `scaled` its day under an autoscaler."""
    judged = _judged(found)
    lines = [*warnings_document(judged), *no_effect(given, judged, "plan")]
    if found.chosen is not None:
        lines += _collapse(still, seed, found.chosen)
        if scaled is not None:
            lines += blinded(given, found.chosen.option.deployment.config.max_num_seqs)
            lines += scaled_warnings(scaled, found.chosen.option.prices)
    return lines


def _judged(found: Search) -> list[Deployment]:
    """What the answer rests on: the chosen deployment. Where no fleet holds: the first one tried, unless the
    calibration belongs to another of them (a line for each of many candidates would hide the answer).
    """
    if found.chosen is not None:
        return [found.chosen.option.deployment]
    tried = [sized.option.deployment for sized in found.sized]
    return [] if any(deployment.calibrated for deployment in tried) else tried[:1]


def _collapse(scenario: Scenario, seed: int, chosen: Sized) -> list[str]:
    """What to know of a size that is near the collapse of its sessions' cache, or just above one that is."""
    if scenario.session is None:
        return []
    serving, size = chosen.replicas - chosen.spare, chosen.size
    peak, fewer = size.probe(serving), size.one_fewer
    pause = session_pause(size.deployment, scenario, peak.load, peak.outcome, serving, seed)
    seeds = [seed, *(probe.other_seed for probe in size.elsewhere(serving) if probe.other_seed is not None)]
    return size_warnings(pause, serving, seeds, None if fewer is None else fewer.other_seed)
