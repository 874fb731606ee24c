"""What Prometheus reads: PodMonitors and rules for its operator, and a configuration for one without."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from planner.manifests.naming import Object, metadata, selector
from planner.metrics.promql import quoted

SCRAPE_S = 15
EVALUATE_S = 30
_LABELS = ("app.kubernetes.io/instance", "app.kubernetes.io/component")
INSTANCE, COMPONENT = (re.sub(r"[^a-z0-9]", "_", label) for label in _LABELS)  # as Prometheus' operator spells them


def instance_matcher(name: str, component: str, namespace: str | None = None) -> str:
    """Label matchers for one component of one plan: the pods' labels, as the PodMonitors hand them on."""
    where = f"namespace={quoted(namespace)}, " if namespace is not None else ""
    return f'{where}{INSTANCE}="{name}", {COMPONENT}="{component}"'


def pod_monitor(name: str, component: str, port: str, *, honor_labels: bool = False) -> Object:
    """The operator's order to read `/metrics` of a component's pods, their labels kept.

    `honor_labels` where the pods speak of others than themselves: their own `namespace` label then stands.
    """
    endpoint: Object = {"port": port, "path": "/metrics", "interval": f"{SCRAPE_S}s"}
    if honor_labels:
        endpoint["honorLabels"] = True
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(name, component, suffix=component),
        "spec": {
            "selector": {"matchLabels": selector(name, component)},
            "podTargetLabels": list(_LABELS),
            "podMetricsEndpoints": [endpoint],
        },
    }


def prometheus_rule(name: str, groups: Sequence[Mapping[str, Any]]) -> Object:
    """Rule groups (`{"name": …, "rules": [{"alert": …, "expr": …}]}`, as in a rule file) for the operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(name, "rules", suffix="rules"),
        "spec": {"groups": [dict(group) for group in groups]},
    }


def prometheus_config(jobs: Mapping[str, Sequence[str]], rule_files: Sequence[str] = ()) -> Object:
    """Prometheus' own configuration: {job's name: its `host:port` targets}, for one box without an operator."""
    made: Object = {"global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{EVALUATE_S}s"}}
    if rule_files:
        made["rule_files"] = list(rule_files)
    made["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
    ]
    return made
