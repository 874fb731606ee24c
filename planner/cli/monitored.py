"""What the verbs that watch a running fleet share: the plan, where the fleet tells what it does, a share as a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from planner.cli.options import Number, find_scenario
from planner.cli.output import warn
from planner.cli.plan_documents import is_document, plan_document
from planner.errors import ScenarioError

if TYPE_CHECKING:
    from planner.planned import Planned
    from planner.scenario import Scenario
    from planner.scenario.monitor import Monitor

MOST_LIMIT = 100.0
NEEDS_PROMETHEUS = ("queries_promql", "revenue_promql", "cost_promql")


F = TypeVar("F", bound=Callable[..., Any])


def source_options(command: F) -> F:
    """--prometheus, --endpoint, --model-name, --namespace: where a fleet is read, and by which of its labels."""
    for decorate in (
        click.option("--namespace", metavar="NAME", help="Kubernetes namespace of its series in Prometheus."),
        click.option("--model-name", metavar="NAME", help="What the fleet's own metrics call the model."),
        click.option(
            "--endpoint", "endpoints", multiple=True, metavar="URL", help="A replica's address; may be repeated."
        ),
        click.option(
            "--prometheus", metavar="URL", help="Prometheus server that scrapes the fleet; instead of monitor."
        ),
    ):
        command = decorate(command)
    return command


class Share(click.types.FloatParamType):
    """A share: 0.15 or 15%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share as a number; a usage error for one that is not above 0 or absurdly large."""
        text = str(value).strip()
        number = Number(0, MOST_LIMIT * (100 if text.endswith("%") else 1), above=True)
        found = number.convert(text.removesuffix("%").strip(), param, ctx)
        return found / 100 if text.endswith("%") else found


def plan_to_watch(
    source: str,
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
    model_name: str | None = None,
    namespace: str | None = None,
) -> Planned:
    """The plan of a document, or of a scenario that is planned now, with these names in its `monitor`. Files that its
    scenario names are looked for beside it.
    """
    from planner.planned import planned

    document, where = plan_document(source, settings, requests, seed)
    path = Path(source)
    plan = planned(document, where, (path if is_document(path) else find_scenario(source)).parent)
    names = {"model_name": model_name, "namespace": namespace}
    values = {f"monitor.{key}": json.dumps(name) for key, name in names.items() if name is not None}
    return replace(plan, scenario=plan.scenario.with_values(values)) if values else plan


def monitor_of(
    scenario: Scenario,
    prometheus: str | None,
    endpoints: tuple[str, ...],
    window_s: float | None = None,
    interval_s: float | None = None,
) -> Monitor:
    """The scenario's `monitor`, the command line's values in place of its own. Raises ScenarioError where neither
    names a source, and a usage error where the command line names two.
    """
    if prometheus is not None and endpoints:
        raise click.UsageError("give only one of --prometheus, --endpoint.")
    values: dict[str, Any] = {}
    if prometheus is not None:
        values = {"monitor.prometheus_url": json.dumps(prometheus), "monitor.endpoints": None}
    if endpoints:
        values = {"monitor.endpoints": list(endpoints), "monitor.prometheus_url": None}
        for key in NEEDS_PROMETHEUS:
            if getattr(scenario.monitor, key, None) is not None:
                warn(f"monitor.{key} has no effect: with --endpoint there is no Prometheus server to ask it of")
                values[f"monitor.{key}"] = None
    if window_s is not None:
        values["monitor.window_s"] = window_s
    if interval_s is not None:
        values["monitor.interval_s"] = interval_s
    monitor = (scenario.with_values(values) if values else scenario).monitor
    if monitor is None or (monitor.prometheus_url is None and not monitor.endpoints):
        rule = "is required: say where the fleet tells what it does, or give --prometheus URL or --endpoint URL"
        raise ScenarioError("monitor", None, rule, "monitor: {endpoints: [http://127.0.0.1:8000]}")
    return monitor
