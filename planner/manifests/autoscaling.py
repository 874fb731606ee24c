"""KEDA's ScaledObject: the planned load of one replica as the figure that a replica is added for."""

from __future__ import annotations

import json
import math
from itertools import pairwise

from planner.manifests.facts import Facts
from planner.manifests.monitoring import instance_matcher
from planner.manifests.naming import Object, metadata
from planner.manifests.replicas import COMPONENT as REPLICAS
from planner.manifests.settings import Settings
from planner.manifests.watching import fleet_labels, prometheus_url
from planner.units import S_PER_HOUR

COMPONENT = "autoscaling"
POLL_S = 15
TOLERANCE = 0.1  # within which Kubernetes' autoscaler does nothing
LEAST_WINDOW_S, MOST_WINDOW_S, MOST_PERIOD_S = 300, 3600, 1800  # the upper ones are Kubernetes' own
LEAST_THRESHOLD = 0.001  # KEDA counts in thousandths


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


def scaled_object(facts: Facts, name: str, settings: Settings) -> Object:
    """The autoscaler, held at the plan's size by an annotation unless `settings.autoscale`.

    What was priced is a fleet of that size all day; an autoscaler that nobody asked for would run another one.
    """
    where = instance_matcher(name, REPLICAS, fleet_labels(facts, settings).get("namespace"))
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
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": made,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{name}-{REPLICAS}"},
            "minReplicaCount": least_replicas(facts),
            "maxReplicaCount": facts.replicas,
            "pollingInterval": POLL_S,
            "cooldownPeriod": max(LEAST_WINDOW_S, start_s),
            "fallback": {"failureThreshold": 4, "replicas": facts.replicas},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [trigger],
        },
    }


def _shape(facts: Facts) -> str:
    """The replicas that the plan's own arithmetic would have run in each hour of the day, where it has them."""
    shape = facts.document.get("load_shape")
    following = shape.get("following") if isinstance(shape, dict) else None
    hours = following.get("replicas") if isinstance(following, dict) else None
    return f"replicas by the hour, following the load: {json.dumps(hours)}" if hours else "not planned"
