"""Options of a waterfall that are the fleet's: ranks of a replica, routing, admission, spare replicas, autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.scenario import Scenario
from planner.scenario.fleet import Fleet
from planner.studies.waterfall_option import Option, choice_words, unused
from planner.summary.words import plural

DEFAULT_ROUTING: str = Fleet().routing[0]


def ranks(scenario: Scenario) -> Option:
    """Data-parallel ranks, held against the same GPUs as one tensor-parallel engine, of a node's GPUs at most."""
    engine, step, key = scenario.engine, "data-parallel ranks", "engine.data_parallel_size"
    if max(engine.data_parallel_size) == 1:
        return unused(step, f"the scenario has one rank a replica ({key})")
    most = scenario.fleet.gpus_per_node
    whole = sorted({min(tp * dp, most) for tp in engine.tensor_parallel_size for dp in engine.data_parallel_size})
    values = {key: list(engine.data_parallel_size), "engine.tensor_parallel_size": list(engine.tensor_parallel_size)}
    without: dict[str, Any] = {key: 1, "engine.tensor_parallel_size": whole}
    what = f"{choice_words(engine.data_parallel_size)} schedulers and KV caches a replica"
    if any(engine.enable_expert_parallel):
        values["engine.enable_expert_parallel"] = list(engine.enable_expert_parallel)
        without["engine.enable_expert_parallel"] = False
        what += ", the experts spread over them,"
    one = f"one engine over {choice_words(whole)} GPUs (TP)"
    return Option(step, f"{what} in place of {one}", values, without, one)


def routing(scenario: Scenario) -> Option:
    """Held against the default, which is what a fleet has whose owner says nothing."""
    given, key, step = list(scenario.fleet.routing), "fleet.routing", "routing"
    if "routing" not in scenario.fleet.model_fields_set:
        return unused(step, f"the scenario leaves it to the default, {given[0]} ({key})")
    if given == [DEFAULT_ROUTING]:
        return unused(step, f"the scenario's, {given[0]}, is the default ({key})")
    lacking = f"the default routing, {DEFAULT_ROUTING}"
    what = f"{choice_words(given)} in place of the default, {DEFAULT_ROUTING}"
    return Option(step, what, {key: given}, {key: DEFAULT_ROUTING}, lacking)


def admission(scenario: Scenario) -> Option:
    """A limit saves no GPUs while the service levels hold: who is turned away has failed."""
    limit, key, step = scenario.fleet.admission, "fleet.admission", "admission"
    if limit is None:
        return unused(step, f"the scenario lets everybody in ({key})")
    what = (
        f"a call that finds {limit.max_requests_per_replica} requests at every replica is turned away, and has failed"
    )
    return Option(step, what, {key: limit.model_dump(mode="json")}, lacking="no limit of admission")


def spares(scenario: Scenario) -> Option:
    """What it costs that replicas may fail at the peak."""
    spare, key, step = scenario.fleet.spare_replicas, "fleet.spare_replicas", "spare replicas"
    if not spare:
        return unused(step, f"the scenario has none ({key})")
    what = f"{plural(spare, 'replica')} may fail at the peak, and the limits still hold"
    return Option(step, what, {key: spare}, {key: 0}, "no spare replica")


def autoscaler(scenario: Scenario, document: Mapping[str, Any]) -> Option:
    """`document` is the plan, whose `autoscaler` says what ran."""
    scaler, key, step = scenario.fleet.autoscaler, "fleet.autoscaler", "autoscaler"
    if scaler is None:
        return unused(step, f"the scenario has none ({key})")
    found = document["autoscaler"]
    said = f"{found['mean_paid_replicas']:.1f} of {found['static']['replicas']} replicas paid for on average"
    values = {key: scaler.model_dump(mode="json", exclude_unset=True)}
    return Option(step, said, values, lacking="a fleet of one size")
