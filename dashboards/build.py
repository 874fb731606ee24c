"""Write the dashboards' JSON and the alert rules: `python -m dashboards.build`.

Nothing in them is drawn by chance or taken from the clock: the same sources give the same files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import against_plan, economics, fleet
from dashboards.panels import SOURCE, TAG, Panel
from planner import vllm_metrics
from planner.metrics import names
from planner.metrics.alerts import alert_groups
from planner.scenario import Scenario

FOLDER = Path(__file__).parent
EXAMPLE = FOLDER.parent / "examples" / "ai-search.yaml"
ALERTS = FOLDER / "alerts.yaml"
FILES = {"economics": economics, "fleet": fleet, "plan-against-actual": against_plan}
ABOUT = {
    "economics": "What a query costs, earns and leaves, beside what the plan expects at that hour.",
    "fleet": "Load, latency against the service levels, caches and replicas.",
    "plan-against-actual": "Which assumption of the plan moved, what that costs, and how well it is known.",
}
VALUES = {
    "$model": "meta-llama/Llama-3.3-70B-Instruct",
    "$namespace": "llm",
    "$cost_basis": "allocation",
    "$__rate_interval": "1m",
}
_KNOWN = f'{{__name__=~"{names.PLAN_INFO.name}|{vllm_metrics.RUNNING}"'


class BuiltQuery(NamedTuple):
    """One query of a dashboard, its variables filled in; the dashboard's file name, the panel's title."""

    dashboard: str
    panel: str
    expr: str


def built() -> dict[str, str]:
    """The text of each dashboard by its file's name."""
    return {f"{name}.json": _text(name, room.TITLE, room.panels()) for name, room in FILES.items()}


def alerts() -> str:
    """The rule file for the service levels of examples/ai-search.yaml."""
    scenario = Scenario.load(EXAMPLE)
    slo = [(limit.key, limit.limit_ms) for limit in scenario.slo]
    groups = alert_groups(slo, spare_replicas=scenario.fleet.spare_replicas)
    head = (
        "# Written by `python -m dashboards.build` for the service levels of examples/ai-search.yaml.\n"
        "# `planner manifests PLAN` writes the same rules for a plan of your own.\n"
        "# They are of a fleet of one size. For one that follows its load LlmReplicasMissing is another:\n"
        "# `planner manifests PLAN --autoscale` writes it, and alert_groups(…, missing=missing_of_load) gives it.\n"
    )
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=120)


def queries(values: dict[str, str] | None = None) -> list[BuiltQuery]:
    """Every query of every dashboard with Grafana's variables filled in from `values`, beside `VALUES`."""
    filled = {**VALUES, **(values or {})}
    found = []
    for name, text in built().items():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", []):
                expr = re.sub(r"\$\w+", lambda variable: filled[variable[0]], target["expr"])
                found.append(BuiltQuery(name, panel["title"], expr))
    return found


def write() -> None:
    """All files anew."""
    for name, text in built().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    ALERTS.write_text(alerts(), encoding="utf-8")


def _text(name: str, title: str, rows: list[tuple[str, list[Panel]]]) -> str:
    board = (
        dashboard.Dashboard(title)
        .uid(f"{TAG}-{name}")
        .description(ABOUT[name])
        .tags([TAG])
        .time("now-24h", "now")
        .refresh("30s")
        .timezone("browser")
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Other views")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in _variables():
        board = board.with_variable(variable)
    number = 0
    for heading, panels in rows:
        number += 1
        board = board.with_row(dashboard.Row(heading).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(panel.id(number))
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.CustomVariable]:
    models = _labels("model", "Model", f"label_values({_KNOWN}}}, model_name)")
    namespaces = _labels("namespace", "Namespace", f'label_values({_KNOWN}, model_name="$model"}}, namespace)')
    bases = [
        model.VariableOption(selected=basis == names.COST_BASES[0], text=basis, value=basis)
        for basis in names.COST_BASES
    ]
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        models,
        namespaces,
        dashboard.CustomVariable("cost_basis")
        .label("Cost basis")
        .description("allocation: the whole bill. usage: without the time in which engines stood idle.")
        .values(",".join(names.COST_BASES))
        .options(bases)
        .current(bases[0]),
    ]


def _labels(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


if __name__ == "__main__":
    write()
