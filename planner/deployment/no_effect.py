"""Settings that a scenario gives and that do nothing in this answer: said, so that nobody believes they were tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from planner.deployment.runs import Deployment
from planner.scenario import Scenario
from planner.scenario.fleet import Fleet, StopFailure
from planner.scenario.sections import ClosedArrivals, OfflineArrivals
from planner.workload.prefixes import telling_tokens

Verb = Literal["simulate", "days", "capacity", "plan"]
CAUSE = "has no effect here: "
NO_STOPS = {
    "simulate": "no replica stops (a stop in fleet.failures)",
    "days": "no replica stops at once in a run of days",
    "capacity": "no replica stops in a search for the most load",
    "plan": "no replica stops: fleet.spare_replicas is 0, and plan stops the spare ones only",
}
NO_PROOF = "no replica stops: the spare ones do so only under open arrivals and with engine.data_parallel_size 1"


def no_effect(scenario: Scenario, deployments: Sequence[Deployment], verb: Verb) -> list[str]:
    """One sentence a setting that certainly changes nothing, for the `warnings` of an answer.

    A setting that another verb reads from the same file is not named, unless its silence here would mislead.
    """
    said = [*_of_retries(scenario, deployments, verb), *_of_spare(scenario.fleet, verb), *_of_limits(scenario, verb)]
    said += [text for deployment in deployments if (text := _of_routing(scenario, deployment))]
    return list(dict.fromkeys(said))


def _of_retries(scenario: Scenario, deployments: Sequence[Deployment], verb: Verb) -> list[str]:
    """What is said of a replica that stops, where none does."""
    fleet, usual, why, said = scenario.fleet, Fleet(), _why_none_stops(scenario, deployments, verb), []
    if fleet.retry != usual.retry and why:
        said.append(f"fleet.retry: false {CAUSE}{why}")
    if fleet.retry_after_s != usual.retry_after_s and (why or not fleet.retry):
        said.append(f"fleet.retry_after_s: {fleet.retry_after_s:g} {CAUSE}{why or 'retry is false'}")
    return said


def _why_none_stops(scenario: Scenario, deployments: Sequence[Deployment], verb: Verb) -> str:
    """Why no replica stops at once, with what it has in hand; "" where one does, or may.

    In a plan it is the spare ones that do, to prove themselves: `sizing.spare.spare_proof` says when.
    """
    fleet = scenario.fleet
    if verb == "simulate" and any(isinstance(failure, StopFailure) for failure in fleet.failures):
        return ""
    if verb != "plan" or fleet.spare_replicas == 0:
        return NO_STOPS[verb]
    ranks = [deployment.candidate.options.data_parallel_size for deployment in deployments]
    proved = scenario.demand == "open" and (not ranks or min(ranks) == 1)
    return "" if proved else NO_PROOF


def _of_spare(fleet: Fleet, verb: Verb) -> list[str]:
    """Spare replicas, which serve like any other where the fleet's size is given."""
    if verb not in ("simulate", "days") or fleet.spare_replicas == 0:
        return []
    all_serve = "lets all of fleet.replicas serve" if fleet.replicas is not None else "runs one replica, which serves"
    return [f"fleet.spare_replicas: {fleet.spare_replicas} {CAUSE}simulate {all_serve}; plan keeps some spare"]


def _of_limits(scenario: Scenario, verb: Verb) -> list[str]:
    """Limits that cannot be reached, because no more queries are ever under way."""
    traffic, admission, said = scenario.traffic, scenario.fleet.admission, []
    most, who = traffic.max_in_flight, "queries under way at most"
    came, whose = _at_once(scenario, verb)
    if came is not None and (most is None or most >= came):
        if most is not None:
            said.append(f"traffic.max_in_flight: {most} {CAUSE}{came} {whose} never have more queries under way")
        most, who = came, whose
    calls = max((stage.calls * stage.samples for stage in scenario.query.stages), default=1)
    if admission is None or most is None or traffic.timeout_s is not None:
        return said
    room = admission.max_requests_per_replica
    if most * calls <= room:
        why = f"{most} {who} have {most * calls} unfinished requests at most, all replicas together"
        said.append(f"fleet.admission.max_requests_per_replica: {room} {CAUSE}{why}")
    return said


def _at_once(scenario: Scenario, verb: Verb) -> tuple[int | None, str]:
    """The most queries that clients or a batch ever have under way, and who has them. Capacity varies its clients."""
    match scenario.traffic.arrivals:
        case ClosedArrivals(closed=clients) if verb != "capacity":
            return clients.concurrency, "clients"
        case OfflineArrivals(offline=batch):
            return batch.requests, "queries of the batch"
    return None, ""


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
    return any(telling_tokens(stage) is not None for stage in scenario.query.stages)
