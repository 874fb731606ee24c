"""Dashboards: complete panels, names that exist, queries that Prometheus can read, files that are as built."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards import (
    build,
    panels,
)
from planner import vllm_metrics
from planner.metrics import names
from planner.metrics.burn_rates import SLOWER, WINDOWS
from tests.promtool import PROMTOOL, needs_promtool

FOLDER = Path(__file__).parent.parent / "dashboards"
BUILT = build.built()
BOARDS = {name: json.loads(text) for name, text in BUILT.items()}
SHOWN = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
QUERIES = build.queries()
PANEL_IDS = [f"{name}: {panel['title']}" for name, panel in SHOWN]
_NAME = re.compile(r"\b(?:llm_\w+|llm:\w+(?::\w+)*|vllm:\w+)")
_OURS = {metric.name: metric for metric in names.METRICS}


def _vllm_names() -> set[str]:
    histograms = {f"{name}_{end}" for name in vllm_metrics.HISTOGRAMS for end in ("bucket", "sum", "count")}
    counters = {f"{name}_total" for name in (*vllm_metrics.COUNTERS, vllm_metrics.SUCCESS)}
    return {*vllm_metrics.GAUGES, *counters, *histograms}


KNOWN = {*_OURS, *_vllm_names(), *(SLOWER + window for window in WINDOWS)}


@pytest.mark.parametrize("name", list(BUILT))
def test_the_files_are_as_built(name):
    assert BUILT[name] == (FOLDER / name).read_text(encoding="utf-8"), "run python -m dashboards.build"
    assert BUILT[name] == build.built()[name]  # twice built, the same


def test_there_is_no_other_dashboard_file():
    assert set(BUILT) == {path.name for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize(("name", "panel"), SHOWN, ids=PANEL_IDS)
def test_every_panel_has_a_title_a_unit_a_description_and_a_query(name, panel):
    assert panel["title"]
    assert len(panel["description"]) > 5
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert "not known" == panel["fieldConfig"]["defaults"]["noValue"]  # absent is not zero
    assert panel["targets"]
    assert all(target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("name", list(BOARDS))
def test_panels_lie_side_by_side_in_the_grid_and_their_ids_differ(name):
    cells = [
        (x, y)
        for panel in BOARDS[name]["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert list(range(1, len(ids) + 1)) == ids


@pytest.mark.parametrize("name", list(BOARDS))
def test_every_dashboard_is_chosen_by_datasource_model_namespace_and_cost_basis(name):
    variables = [variable["name"] for variable in BOARDS[name]["templating"]["list"]]
    assert ["datasource", "model", "namespace", "cost_basis"] == variables
    sources = {json.dumps(target["datasource"]) for target in _targets(name)}
    assert {json.dumps({"type": "prometheus", "uid": "$datasource"})} == sources


@pytest.mark.parametrize("query", QUERIES, ids=[f"{one.dashboard}: {one.panel}" for one in QUERIES])
def test_every_name_in_a_query_is_a_metric_with_these_labels(query):
    assert "$" not in query.expr
    bare = re.sub(r'"[^"]*"', '""', query.expr)
    for name in _NAME.findall(bare):
        assert name in KNOWN
    for name, inside in re.findall(r"\b(llm_\w+)\{([^}]*)\}", bare):
        labels = set(re.findall(r"(\w+)(?:=~|=)", inside))
        assert labels <= {*names.FLEET_LABELS, *_OURS[name].labels}
    for label in re.findall(r"max by \(([\w, ]+)\) \(llm_", bare):
        metric = re.search(rf"max by \({label}\) \((llm_\w+)", bare)[1]
        assert set(label.split(", ")) <= set(_OURS[metric].labels)


def test_every_metric_of_the_exporter_is_on_a_dashboard():
    shown = {name for query in QUERIES for name in _NAME.findall(query.expr)}
    assert set() == set(_OURS) - shown


def test_labels_that_a_query_asks_for_have_values_that_the_exporter_gives():
    values = {
        "cost_basis": names.COST_BASES,
        "cache": names.CACHES,
        "state": (*names.REPLICA_STATES, "asked", "answered"),
    }
    asked = [found for query in QUERIES for found in re.findall(r'\b(cost_basis|cache|state)="(\w+)"', query.expr)]
    assert len(asked) > 10
    assert [] == [(label, value) for label, value in asked if value not in values[label]]


def test_the_planned_figure_or_limit_is_a_dashed_series_of_its_own():
    dashed = {
        (name, panel["title"])
        for name, panel in SHOWN
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "custom.lineStyle" and one["value"]["fill"] == "dash"
    }
    for expected in (
        ("economics.json", "Cost and revenue per query"),
        ("fleet.json", "Time to first token"),
        ("fleet.json", "Load against capacity"),
        ("plan-against-actual.json", "Departure of the cost per query, by cause"),
    ):
        assert expected in dashed


def test_a_figure_is_the_largest_over_exporters_and_kept_apart_by_its_labels():
    assert 'max(llm_query_rpm{model_name="$model", namespace="$namespace"})' == panels.llm(names.QUERY_RPM)
    by_cause = panels.llm(names.DRIFT_PER_QUERY, by="cause")
    assert 'max by (cause) (llm_drift_usd_per_query{model_name="$model", namespace="$namespace"})' == by_cause


def test_variables_are_filled_in_as_asked():
    for_another = {query.expr for query in build.queries({"$model": "other", "$cost_basis": "usage"})}
    assert not any("Llama" in expr for expr in for_another)
    assert any('model_name="other"' in expr and 'cost_basis="usage"' in expr for expr in for_another)


@needs_promtool
def test_prometheus_can_read_every_query(tmp_path):
    rules = [{"record": f"one:query:{number}", "expr": query.expr} for number, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    asked = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert (0, f"SUCCESS: {len(QUERIES)} rules found") == (asked.returncode, asked.stdout.split("\n")[1].strip()), asked


DAY = """
evaluation_interval: 10m
tests:
  - interval: 5m
    input_series:
      - {series: 'llm_total_hourly_cost{FLEET}', values: '36+0x400'}
      - {series: 'llm_revenue_per_query{FLEET}', values: '0.02+0x400'}
      - {series: 'llm_queries_per_second{FLEET}', values: '1+0x191 0+0x208'}
      - {series: 'llm_margin_per_query{FLEET, cost_basis="allocation"}', values: '0.0025+0x191 stale _x208'}
    promql_expr_test:
      - {eval_time: 1290m, expr: 'EXPR', exp_samples: []}
      - {eval_time: 1430m, expr: 'round(EXPR, 0.001)', exp_samples: [{labels: '{}', value: -141}]}
      - {eval_time: 1720m, expr: 'round(EXPR, 0.001)', exp_samples: [{labels: '{}', value: -357}]}
"""


@needs_promtool
def test_the_margin_of_a_day_counts_the_bill_of_hours_without_a_query_and_waits_for_most_of_the_day(tmp_path):
    """36 USD an hour all day. 192 steps of 5 min earn 0.75 USD each, 95 (then 153) steps without a query cost 3 USD."""
    expr = next(query.expr for query in QUERIES if query.panel == "Margin over 24 hours")
    fleet = f'model_name="{build.VALUES["$model"]}", namespace="{build.VALUES["$namespace"]}"'
    file = tmp_path / "day.yaml"
    file.write_text(DAY.replace("FLEET", fleet).replace("EXPR", expr))
    asked = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert 0 == asked.returncode, asked.stdout + asked.stderr


def _targets(name: str) -> list[dict]:
    return [target for panel in BOARDS[name]["panels"] for target in panel.get("targets", [])]
