"""KEDA's ScaledObject: the plan's own autoscaler, or the planned load of a replica as what one is added for."""

from __future__ import annotations

import json
import math
from itertools import pairwise

from planner.manifests.facts import Facts
from planner.manifests.monitoring import instance_matcher
from planner.manifests.naming import Object, metadata
from planner.manifests.planned_scaler import LEAST_THRESHOLD, TOLERANCE, planned_scaling, unsaid
from planner.manifests.replicas import COMPONENT as REPLICAS
from planner.manifests.settings import Settings
from planner.manifests.watching import fleet_labels, prometheus_url
from planner.units import S_PER_HOUR

COMPONENT = "autoscaling"
LEFT_OUT = "fleet.autoscaler: not rendered, so the whole fleet is on all day; the plan's cost is that of its autoscaler"
POLL_S = 15
LEAST_WINDOW_S, MOST_WINDOW_S, MOST_PERIOD_S = 300, 3600, 1800  # the upper ones are Kubernetes' own


def least_replicas(facts: Facts) -> int:
    """What is never gone below: the scenario's own floor, and one replica that serves beside the spares."""
    return min(facts.replicas, max(facts.min_replicas, facts.spare_replicas + 1))


def rise(day: tuple[float, ...], startup_s: float) -> float:
    """The largest share by which the load of the day grows while a replica starts, the day going round."""
    hours = [*day, *day[:1]]
    steepest = max((later / now - 1 for now, later in pairwise(hours) if now > 0), default=0.0)
    return max(0.0, steepest) * startup_s / S_PER_HOUR


def threshold(facts: Facts) -> float:
    """Requests, running and waiting, for each serving replica, above which one is added.

    What a serving replica holds at the planned peak, divided by what the load may grow by while a replica starts, and
    by the tolerance within which the autoscaler does not act.
    """
    return facts.requests_per_replica / (1 + rise(facts.day, facts.startup_s) + TOLERANCE)


def spare_requests(facts: Facts) -> float:
    """Requests that are added to those in hand, so that every size of the fleet keeps the spares beside what serves.

    The autoscaler wants ceil((in hand + these) / threshold) replicas, and leaves a fleet alone that wants TOLERANCE
    more: hence as much more than one threshold for each.
    """
    return facts.spare_replicas * (1 + TOLERANCE) * threshold(facts)


def runs(facts: Facts, settings: Settings) -> bool:
    """Whether an autoscaler is to be at work: the plan's cost is of one, or it was asked for."""
    wanted = settings.autoscale or facts.scaler is not None
    return wanted and facts.open_demand and "autoscaling" not in settings.without


def notes(facts: Facts, settings: Settings) -> list[str]:
    """What a plan with an autoscaler is to know of the rendered one."""
    if facts.scaler is None:
        return []
    if not runs(facts, settings):
        return [LEFT_OUT]
    return unsaid(facts.scaler)


def scaled_object(facts: Facts, name: str, settings: Settings) -> Object:
    """The autoscaler that the plan's cost is of, `fleet.autoscaler`; else one that is made of the planned load.

    The latter is held at the plan's size by an annotation unless `settings.autoscale`: what was priced is a fleet of
    that size all day; an autoscaler that nobody asked for would run another one.
    """
    where = instance_matcher(name, REPLICAS, fleet_labels(facts, settings).get("namespace"))
    if facts.scaler is None:
        return _of_load(facts, name, settings, where)
    found = planned_scaling(facts, facts.scaler, prometheus_url(facts, settings), where)
    notes = {"planned": "fleet.autoscaler, as the plan simulated it"}
    otherwise = unsaid(facts.scaler)
    if otherwise:
        notes["otherwise"] = "; ".join(otherwise)
    made = metadata(name, COMPONENT, suffix="replicas", notes=notes)
    return _object(made, name, found.least, found.most, found.behavior, found.triggers, facts)


def _of_load(facts: Facts, name: str, settings: Settings, where: str) -> Object:
    """Made of the planned load of one replica."""
    query = f"sum(vllm:num_requests_running{{{where}}}) + sum(vllm:num_requests_waiting{{{where}}})"
    if facts.spare_replicas:
        query += f" + {spare_requests(facts):.3f}"
    notes = {
        "load-shape": _shape(facts),
        "threshold": "planned requests in hand of a replica at the peak, less the growth while one starts and 10 %",
        "query": f"requests in hand, and what makes room for {facts.spare_replicas} spare at any size",
    }
    made = metadata(name, COMPONENT, suffix="replicas", notes=notes)
    if not settings.autoscale:
        made["annotations"]["autoscaling.keda.sh/paused-replicas"] = str(facts.replicas)
    start_s = math.ceil(facts.startup_s)
    window_s = min(MOST_WINDOW_S, max(LEAST_WINDOW_S, 2 * start_s))
    period_s = min(MOST_PERIOD_S, max(60, start_s))
    up = {"type": "Pods", "value": max(1, math.ceil(facts.replicas / 4)), "periodSeconds": 60}
    down = {"type": "Pods", "value": 1, "periodSeconds": period_s}
    behavior = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [up]},
        "scaleDown": {"stabilizationWindowSeconds": window_s, "policies": [down]},
    }
    trigger = {
        "type": "prometheus",
        "name": "requests-in-hand",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": prometheus_url(facts, settings),
            "query": query,
            "threshold": f"{max(LEAST_THRESHOLD, threshold(facts)):.3f}",
            # No figure is not no load: KEDA then falls back to the whole fleet.
            "ignoreNullValues": "false",
        },
    }
    return _object(made, name, least_replicas(facts), facts.replicas, behavior, [trigger], facts)


def _object(
    made: Object, name: str, least: int, most: int, behavior: Object, triggers: list[Object], facts: Facts
) -> Object:
    """The ScaledObject about triggers and bounds; without figures KEDA falls back to the planned fleet."""
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{name}-{REPLICAS}"},
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "pollingInterval": POLL_S,
        "cooldownPeriod": max(LEAST_WINDOW_S, math.ceil(facts.startup_s)),
    }
    if any(trigger["type"] != "cron" for trigger in triggers):  # a clock always has a figure
        spec["fallback"] = {"failureThreshold": 4, "replicas": facts.replicas}
    spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": made,
        "spec": spec | {"triggers": triggers},
    }


def _shape(facts: Facts) -> str:
    """The replicas that the plan's own arithmetic would have run in each hour of the day, where it has them."""
    shape = facts.document.get("load_shape")
    following = shape.get("following") if isinstance(shape, dict) else None
    hours = following.get("replicas") if isinstance(following, dict) else None
    return f"replicas by the hour, following the load: {json.dumps(hours)}" if hours else "not planned"
