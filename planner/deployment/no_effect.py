"""Settings that a scenario gives and that do nothing in this answer: said, so that nobody believes they were tried."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from planner.deployment.runs import Deployment
from planner.scenario import Scenario
from planner.scenario.fleet import Fleet, StopFailure
from planner.scenario.sections import ClosedArrivals

Verb = Literal["simulate", "days", "capacity", "plan"]
CAUSE = "has no effect here: "


def no_effect(scenario: Scenario, deployments: Iterable[Deployment], verb: Verb) -> list[str]:
    """One sentence a setting that certainly changes nothing, for the `warnings` of an answer.

    A setting that another verb reads from the same file is not named, unless its silence here would mislead.
    """
    fleet, said = scenario.fleet, _of_retries(scenario)
    if verb in ("simulate", "days") and fleet.spare_replicas and fleet.replicas is not None:
        said.append(
            f"fleet.spare_replicas: {fleet.spare_replicas} {CAUSE}simulate lets all of fleet.replicas serve; plan "
            "keeps some spare"
        )
    arrivals, most = scenario.traffic.arrivals, scenario.traffic.max_in_flight
    if isinstance(arrivals, ClosedArrivals) and most is not None and most >= arrivals.closed.concurrency:
        clients = arrivals.closed.concurrency
        said.append(f"traffic.max_in_flight: {most} {CAUSE}{clients} clients never have more queries under way")
    said += [text for deployment in deployments if (text := _of_routing(scenario, deployment))]
    return list(dict.fromkeys(said))


def _of_retries(scenario: Scenario) -> list[str]:
    """What is said of a replica that stops, where none does."""
    fleet, usual = scenario.fleet, Fleet()
    stops = fleet.spare_replicas > 0 or any(isinstance(failure, StopFailure) for failure in fleet.failures)
    said = []
    if fleet.retry != usual.retry and not stops:
        said.append(f"fleet.retry: false {CAUSE}no replica stops (a stop in fleet.failures, or fleet.spare_replicas)")
    if fleet.retry_after_s != usual.retry_after_s and not (stops and fleet.retry):
        why = "no replica stops (a stop in fleet.failures, or fleet.spare_replicas)" if not stops else "retry is false"
        said.append(f"fleet.retry_after_s: {fleet.retry_after_s:g} {CAUSE}{why}")
    return said


def _of_routing(scenario: Scenario, deployment: Deployment) -> str:
    """A routing that asks for what this deployment, or this load, has not."""
    routing = deployment.candidate.routing
    if routing == "prefix_aware" and not deployment.candidate.options.enable_prefix_caching:
        return "fleet.routing: prefix_aware goes by queues and KV use alone: engine.enable_prefix_caching is off"
    if routing == "session_affinity" and not _begin_alike(scenario):
        return (
            "fleet.routing: session_affinity draws a replica for each call, as random does: there are no sessions "
            "(turns) and no prompts of several groups that begin alike"
        )
    return ""


def _begin_alike(scenario: Scenario) -> bool:
    """Whether there are sessions, or groups of prompts that begin alike; a trace may hold them."""
    if scenario.session is not None or scenario.demand == "trace":
        return True
    stages = scenario.query.stages
    several = any(stage.shared_prefix is not None and stage.shared_prefix.groups > 1 for stage in stages)
    return several or any(stage.document is not None for stage in stages)
