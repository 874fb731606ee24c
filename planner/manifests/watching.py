"""Which Prometheus is asked, and which series in it are this fleet's: for exporter, alerts and autoscaler alike."""

from __future__ import annotations

import re
from typing import Any

from planner.manifests.facts import Facts
from planner.manifests.naming import checked_label
from planner.manifests.serve_arguments import served_name
from planner.manifests.settings import PROMETHEUS_URL, Settings, checked_url

# Inside a pod such an address is the pod itself.
_LOOPBACK = re.compile(r"https?://(localhost|127(\.\d+){3}|\[::1\])(?![\w.-])", re.IGNORECASE)
_REPLACED = frozenset({"endpoints", "prometheus_url", "model_name", "namespace"})


def prometheus_url(facts: Facts, settings: Settings) -> str:
    """--prometheus-url, else the scenario's own where a pod can reach it, else the operator's usual address.

    Raises InputError for an address of the scenario's with a password in it, or that is none.
    """
    if settings.prometheus_url is not None:
        return settings.prometheus_url
    own = facts.monitor_prometheus_url
    if own is None or _LOOPBACK.match(own):
        return PROMETHEUS_URL
    return checked_url("scenario.monitor.prometheus_url", own)


def fleet_labels(facts: Facts, settings: Settings) -> dict[str, str]:
    """Labels that the fleet's series carry and another fleet's do not: model_name, and the namespace where it is known.

    vLLM puts the served name into model_name, Prometheus' operator the pod's namespace into namespace.
    """
    namespace = settings.namespace if settings.namespace is not None else facts.monitor_namespace
    found = {"model_name": facts.monitor_model_name or served_name(facts)}
    if settings.namespace is not None:
        checked_label("--namespace", settings.namespace)
    return found | ({"namespace": namespace} if namespace else {})


def watched_document(facts: Facts, url: str, labels: dict[str, str]) -> dict[str, Any]:
    """The plan's document with this very deployment as what `monitor` of its scenario reads; the rest of it stays."""
    scenario = facts.document["scenario"]
    kept = {key: value for key, value in (scenario.get("monitor") or {}).items() if key not in _REPLACED}
    return facts.document | {"scenario": scenario | {"monitor": {**kept, "prometheus_url": url, **labels}}}


def notes(facts: Facts, settings: Settings) -> list[str]:
    """What of the scenario's `monitor` was not taken, and what will find nothing that this deployment serves."""
    found = []
    url, namespace, model = facts.monitor_prometheus_url, facts.monitor_namespace, facts.monitor_model_name
    if settings.prometheus_url is None and url is not None and _LOOPBACK.match(url):
        found.append(
            f"monitor.prometheus_url (={url}) is a pod's own address inside a cluster: {PROMETHEUS_URL} is asked; "
            "--prometheus-url names another"
        )
    if settings.prometheus_url is not None and _LOOPBACK.match(settings.prometheus_url):
        found.append(
            f"--prometheus-url {settings.prometheus_url} is a pod's own address inside a cluster: exporter and "
            f"autoscaler will find nothing there; the operator's usual address is {PROMETHEUS_URL}"
        )
    if namespace is not None and settings.namespace not in (None, namespace):
        found.append(f"monitor.namespace (={namespace}) gave way to --namespace {settings.namespace}")
    if model is not None and model != served_name(facts):
        found.append(
            f"exporter and alerts look for monitor.model_name (={model}), and the replicas call theirs "
            f"{served_name(facts)}: right only where Prometheus renames it"
        )
    return found
