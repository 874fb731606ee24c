"""All objects of a plan's deployment, in the order in which a cluster needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner.errors import DataFileError, MisfitError
from planner.manifests import autoscaling, exporter, haproxy, loadtest, monitoring, replicas, router, watching
from planner.manifests.facts import Facts
from planner.manifests.naming import LONGEST, Object, base_name, checked_label
from planner.manifests.settings import Settings
from planner.metrics.alerts import BLIND_S, alert_groups, missing_of_load, missing_of_plan

BLIND_INTERVALS = 3.0  # readings that may fail before the exporter counts as blind


class Manifests(NamedTuple):
    """`standing` is deployed, `load_test` run when somebody wants to know; `notes` say what was left out, and why."""

    standing: list[Object]
    load_test: list[Object]
    notes: tuple[str, ...]


def name_of(facts: Facts, settings: Settings) -> str:
    """The base of every object's name. Raises InputError for one that Kubernetes would refuse."""
    if settings.name is None:
        return base_name(facts.scenario_name)
    return checked_label("--name", settings.name, LONGEST)


def kubernetes(facts: Facts, settings: Settings) -> Manifests:
    """Every object. Raises InputErrors: names, a GPU or a format that cannot be rendered."""
    name = name_of(facts, settings)
    notes = [*watching.notes(facts, settings), *haproxy.admission_notes(facts, router.routers(facts))]
    notes += router.size_notes(facts)
    made = [
        replicas.pods_service(name),
        replicas.deployment(facts, name, settings, autoscaled=autoscaling.runs(facts, settings)),
        replicas.disruption_budget(facts, name),
        *router.objects(facts, name),
    ]
    if "autoscaling" not in settings.without:
        if facts.open_demand:
            made.append(autoscaling.scaled_object(facts, name, settings))
        else:
            notes.append("no autoscaler: the demand is closed, offline or a trace, which has no load to follow")
    notes += autoscaling.notes(facts, settings)
    if "exporter" not in settings.without:
        made += exporter.objects(facts, name, settings)
    if "monitoring" not in settings.without:
        made += _monitoring(facts, name, settings)
    test: list[Object] = []
    try:
        read = loadtest.master_files(facts)
    except (DataFileError, MisfitError) as missing:
        notes.append(f"no load test: {missing}")
    else:
        test = loadtest.objects(facts, name, settings, read)
    if settings.namespace is not None:
        namespace = checked_label("--namespace", settings.namespace)
        made, test = _within(made, namespace), _within(test, namespace)
    return Manifests(made, test, tuple(notes))


def _monitoring(facts: Facts, name: str, settings: Settings) -> list[Object]:
    """What is read, and the rules over it."""
    made = [monitoring.pod_monitor(name, replicas.COMPONENT, "http")]
    if router.needed(facts):
        made.append(monitoring.pod_monitor(name, router.COMPONENT, "metrics"))
    if "exporter" not in settings.without:
        made.append(monitoring.pod_monitor(name, exporter.COMPONENT, "metrics", honor_labels=True))
    # The instance beside the model: a second plan of the same model in one namespace has alerts of its own.
    selected = {**watching.fleet_labels(facts, settings), monitoring.INSTANCE: name}
    made.append(monitoring.prometheus_rule(name, rule_groups(facts, settings, selected)))
    # An operator may read only what carries a label of its own choosing.
    return [_labelled(one, dict(settings.labels)) for one in made]


def rule_groups(facts: Facts, settings: Settings, selector: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    """The alerts of this plan, on the series that carry the labels of `selector`."""
    return alert_groups(
        facts.limits,
        selector=selector,
        spare_replicas=facts.spare_replicas,
        blind_s=max(BLIND_S, BLIND_INTERVALS * facts.monitor_interval_s),
        missing=missing_of_load if autoscaling.runs(facts, settings) else missing_of_plan,
    )


def _labelled(made: Object, labels: dict[str, str]) -> Object:
    return made | {"metadata": {**made["metadata"], "labels": {**made["metadata"]["labels"], **labels}}}


def _within(objects: list[Object], namespace: str) -> list[Object]:
    return [made | {"metadata": {**made["metadata"], "namespace": namespace}} for made in objects]
