"""`fleet.autoscaler` of a plan as KEDA's triggers and Kubernetes' behaviour: what was simulated is what is rendered.

KEDA hands its triggers to Kubernetes' HorizontalPodAutoscaler, which wants ceil(total / threshold) replicas for an
average value, as the simulated rule does. What it cannot be told, `unsaid` says.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any, NamedTuple

from planner.manifests.facts import Facts
from planner.manifests.plan_shape import ScalerFacts
from planner.units import HOURS_PER_DAY

# Of a cluster's own settings, which no ScaledObject changes.
TOLERANCE, INTERVAL_S = 0.1, 15
MOST_WINDOW_S = 3600
MIDNIGHT = "Etc/UTC"
LEAST_THRESHOLD = 0.001  # KEDA counts in thousandths

Trigger = dict[str, Any]


class Scaling(NamedTuple):
    """What a ScaledObject says: bounds, triggers, and how fast."""

    least: int
    most: int
    triggers: list[Trigger]
    behavior: dict[str, Any]


def planned_scaling(facts: Facts, scaler: ScalerFacts, server: str, series: str) -> Scaling:
    """Of the scenario's autoscaler. `server` is Prometheus' address, `series` the labels of the fleet's vLLM series."""
    most = scaler.most
    if scaler.schedule:
        least, triggers = min(scaler.schedule), _cron(scaler.schedule)
    else:
        least, triggers = min(facts.min_replicas, most), [_prometheus(server, *_held(scaler, facts, series))]
    at_once = {"type": "Pods", "value": most, "periodSeconds": INTERVAL_S}
    window_s = min(MOST_WINDOW_S, round(scaler.scale_down_delay_s))
    behavior = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [at_once]},
        "scaleDown": {"stabilizationWindowSeconds": window_s, "policies": [at_once]},
    }
    return Scaling(least, most, triggers, behavior)


def unsaid(scaler: ScalerFacts) -> list[str]:
    """What of the scenario's autoscaler the rendered one does otherwise."""
    key, notes = "fleet.autoscaler", []
    if scaler.schedule:
        notes.append(f"{key}.schedule: its hours are rendered in {MIDNIGHT}")
        around = pairwise((*scaler.schedule, scaler.schedule[0]))
        small = sorted({f"{a} to {b}" for a, b in around if 0 < abs(b / a - 1) <= TOLERANCE + 1e-9})
        if small:
            notes.append(f"{key}.schedule: Kubernetes leaves a step of a tenth or less alone ({', '.join(small)})")
    elif scaler.tolerance != TOLERANCE:
        notes.append(f"{key}.tolerance (={scaler.tolerance:g}): Kubernetes has {TOLERANCE:g}, for the whole cluster")
    if scaler.interval_s != INTERVAL_S:
        rule = f"Kubernetes looks every {INTERVAL_S} s, for the whole cluster"
        notes.append(f"{key}.interval_s (={scaler.interval_s:g}): {rule}")
    if scaler.scale_down_delay_s > MOST_WINDOW_S:
        notes.append(f"{key}.scale_down_delay_s (={scaler.scale_down_delay_s:g}): Kubernetes' most is {MOST_WINDOW_S}")
    if scaler.target is not None and scaler.target.utilisation is not None:
        rule = "vLLM has no series of it; rendered is that share of the requests that a replica has at the planned peak"
        notes.append(f"{key}.target.utilisation (={scaler.target.utilisation:g}): {rule}")
    return notes


def _held(scaler: ScalerFacts, facts: Facts, series: str) -> tuple[str, float]:
    """What is summed over the fleet, and how much of it a replica is wanted for."""
    waiting, running = (f"sum(vllm:num_requests_{what}{{{series}}})" for what in ("waiting", "running"))
    target = scaler.target
    if target is not None and target.queue is not None:
        return waiting, target.queue
    if target is not None and target.requests is not None:
        return f"{running} + {waiting}", target.requests
    share = 1.0 if target is None or target.utilisation is None else target.utilisation
    return f"{running} + {waiting}", share * facts.requests_per_replica


def _prometheus(server: str, query: str, threshold: float) -> Trigger:
    return {
        "type": "prometheus",
        "name": "planned-target",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": server,
            "query": query,
            "threshold": f"{max(LEAST_THRESHOLD, threshold):.3f}",
            "ignoreNullValues": "false",  # no figure is not no load
        },
    }


def _cron(schedule: tuple[int, ...]) -> list[Trigger]:
    """One for each stretch of hours with more than the least number of replicas; across midnight it is one stretch."""
    least = min(schedule)
    begin = next((hour for hour in range(HOURS_PER_DAY) if schedule[hour] != schedule[hour - 1]), 0)
    hours = [(begin + k) % HOURS_PER_DAY for k in range(HOURS_PER_DAY)]
    stretches = [list(found) for _, found in groupby(hours, key=lambda hour: schedule[hour])]
    above = [found for found in stretches if schedule[found[0]] > least]
    if not above:
        return [_hours("all-day", "0 0 * * *", "59 23 * * *", least)]
    return [
        _hours(
            f"from-{found[0]:02d}",
            f"0 {found[0]} * * *",
            f"0 {(found[-1] + 1) % HOURS_PER_DAY} * * *",
            schedule[found[0]],
        )
        for found in above
    ]


def _hours(name: str, start: str, end: str, replicas: int) -> Trigger:
    metadata = {"timezone": MIDNIGHT, "start": start, "end": end, "desiredReplicas": str(replicas)}
    return {"type": "cron", "name": name, "metadata": metadata}
