"""A snapshot as metrics: every figure under its name and labels, and nothing for what is not known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporter_fakes import DRIFT, FACTS, OBSERVED
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from planner.exporter.collector import exposition
from planner.exporter.snapshot import Snapshot
from planner.metrics import names
from planner.observed import REASONS, Observed

UNIX_S = 1_700_000_000.0
WHOLE = Snapshot(
    FACTS,
    interval_s=10.0,
    window_s=60.0,
    stale_after_s=60.0,
    observed=replace(OBSERVED, failed_per_s=0.5, dead_targets=3),
    drift=DRIFT,
    taken_unix_s=UNIX_S,
    age_s=7.5,
    poll_s=0.25,
    sources={"h:1": True, "h:2": False},
    asked=2,
    answered=1,
    trouble_counts={"down": 3},
)


def samples(snapshot: Snapshot) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, values of the labels beside the fleet's) -> value."""
    text = exposition(snapshot, UNIX_S, "")[0].decode()
    own = {metric.name: metric.labels for metric in names.METRICS}
    found = {}
    for family in parse_text(text):
        for sample in family.samples:
            assert (sample.labels["model_name"], sample.labels["namespace"]) == ("org/m", "prod")
            assert set(sample.labels) == {*names.FLEET_LABELS, *own[sample.name]}
            found[sample.name, tuple(sample.labels[label] for label in own[sample.name])] = sample.value
    return found


def test_every_figure_of_a_whole_snapshot():
    assert samples(WHOLE) == {
        ("llm_total_hourly_cost", ()): 4.0,
        ("llm_cost_per_million_tokens", ("allocation",)): 8.0,
        ("llm_cost_per_query", ("allocation",)): 0.002,
        ("llm_cost_per_query", ("usage",)): 0.001,
        ("llm_planned_cost_per_query", ()): 0.0016,
        ("llm_revenue_per_query", ()): 0.004,
        ("llm_margin_per_query", ("allocation",)): 0.002,
        ("llm_margin_per_query", ("usage",)): 0.003,
        ("llm_query_rpm", ()): 4.0,
        ("llm_cache_savings_fraction", ("prefix",)): 0.2,
        ("llm_cache_savings_usd_per_hour", ("prefix",)): 1.0,
        ("llm_queries_per_second", ()): 4.0,
        ("llm_failed_calls_per_second", ()): 0.5,
        ("llm_capacity_queries_per_second", ()): 5.0,
        ("llm_headroom_fraction", ()): 0.25,
        ("llm_replicas", ("planned",)): 5.0,
        ("llm_replicas", ("running",)): 2.0,
        ("llm_replicas", ("wanted",)): 4.0,
        ("llm_plan_quantity", ("qps",)): 3.0,
        ("llm_plan_quantity", ("ttft_ms.p99",)): 250.0,
        ("llm_actual_quantity", ("qps",)): 4.0,
        ("llm_actual_to_plan_ratio", ("qps",)): 4 / 3,
        ("llm_drift_usd_per_query", ("traffic",)): 0.0003,
        ("llm_drift_usd_per_query", ("token_lengths",)): 0.0001,
        ("llm_drift_fraction", ()): 0.25,
        ("llm_drift_limit_fraction", ()): 0.1,
        ("llm_slo_limit_seconds", ("p99_ttft_ms",)): 1.0,
        ("llm_slo_limit_seconds", ("mean_tpot_ms",)): 0.05,
        ("llm_plan_info", ("support bot", "l4-24gb", "least_loaded", "true", "calibrated")): 1.0,
        ("llm_calibration_age_seconds", ()): 1_000_000.0,
        ("llm_exporter_snapshot_age_seconds", ()): 7.5,
        ("llm_exporter_source_up", ("h:1",)): 1.0,
        ("llm_exporter_source_up", ("h:2",)): 0.0,
        ("llm_exporter_sources", ("asked",)): 2.0,
        ("llm_exporter_sources", ("answered",)): 1.0,
        ("llm_exporter_dead_targets", ()): 3.0,
        **{("llm_exporter_troubles_total", (reason,)): 3.0 * (reason == "down") for reason in REASONS},
        ("llm_exporter_poll_seconds", ()): 0.25,
        ("llm_exporter_assumed", ("price",)): 1.0,
    }


def test_every_metric_that_is_named_can_be_served():
    told = {name for name, _ in samples(WHOLE)}
    assert told == {metric.name for metric in names.METRICS}


def test_before_the_first_reading_only_the_plan_and_the_exporter_are_known():
    empty = Snapshot(FACTS, 10.0, 60.0, 60.0, age_s=3.0, asked=2)
    told = samples(empty)
    assert {name for name, _ in told} == {
        "llm_replicas",
        "llm_slo_limit_seconds",
        "llm_plan_info",
        "llm_calibration_age_seconds",
        "llm_exporter_snapshot_age_seconds",
        "llm_exporter_sources",
        "llm_exporter_troubles_total",
    }
    assert told["llm_replicas", ("planned",)] == 5.0
    assert ("llm_replicas", ("running",)) not in told
    assert ("llm_exporter_sources", ("answered",)) not in told
    assert told["llm_exporter_snapshot_age_seconds", ()] == 3.0


@pytest.mark.parametrize("count", [None, 0, 3])
def test_dead_targets_are_told_as_read_and_absent_where_nobody_tells(count: int | None):
    told = samples(replace(WHOLE, observed=replace(OBSERVED, dead_targets=count)))
    assert (None if count is None else float(count)) == told.get(("llm_exporter_dead_targets", ()))


def test_figures_that_are_too_old_are_gone_and_their_age_is_not():
    assert ("llm_cost_per_query", ("allocation",)) in samples(WHOLE.aged(60.0))
    told = samples(WHOLE.aged(60.5))
    assert ("llm_cost_per_query", ("allocation",)) not in told
    assert ("llm_queries_per_second", ()) not in told
    assert told["llm_exporter_snapshot_age_seconds", ()] == 60.5


def test_a_reading_that_could_not_be_compared_tells_what_was_read():
    observed = Observed(UNIX_S, 60.0, replicas=2.0, requests_per_s=4.0, failed_per_s=0.25, queries_per_s=9.0)
    told = samples(replace(WHOLE, drift=None, observed=observed))
    assert told["llm_replicas", ("running",)] == 2.0
    assert told["llm_queries_per_second", ()] == 9.0
    assert told["llm_failed_calls_per_second", ()] == 0.25
    assert ("llm_drift_fraction", ()) not in told


@pytest.mark.parametrize("drift", [DRIFT, None])
def test_failed_calls_that_nobody_tells_are_absent_and_none_is_zero(drift: dict[str, Any] | None):
    untold, none = (replace(OBSERVED, failed_per_s=failed) for failed in (None, 0.0))
    assert ("llm_failed_calls_per_second", ()) not in samples(replace(WHOLE, observed=untold, drift=drift))
    assert samples(replace(WHOLE, observed=none, drift=drift))["llm_failed_calls_per_second", ()] == 0.0


@pytest.mark.parametrize("broken", [None, math.nan, math.inf, "4", [4]])
def test_what_is_no_number_is_absent(broken: Any):
    told = samples(replace(WHOLE, drift={**DRIFT, "cost": {"usd_per_hour": broken}, "margin": broken, "revenue": None}))
    assert not {name for name, _ in told} & {
        "llm_total_hourly_cost",
        "llm_cost_per_query",
        "llm_margin_per_query",
        "llm_revenue_per_query",
    }


def test_names_that_hold_quotes_and_line_ends_stay_one_label():
    hostile = 'a"} 1\nllm_total_hourly_cost 99\n\\'
    facts = replace(FACTS, scenario_name=hostile, model_name=hostile)
    text = exposition(replace(WHOLE, plan=facts, sources={hostile: True}), UNIX_S, "")[0].decode()
    found = {(sample.name, *sample.labels.items()): sample for family in parse_text(text) for sample in family.samples}
    costs = [sample for key, sample in found.items() if key[0] == "llm_total_hourly_cost"]
    assert [(sample.value, sample.labels["model_name"]) for sample in costs] == [(4.0, hostile)]


def test_both_formats_by_the_accept_header():
    text, plain = exposition(WHOLE, UNIX_S, "")
    opened, openmetrics = exposition(WHOLE, UNIX_S, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.startswith("text/plain; version=0.0.4")
    assert openmetrics.startswith("application/openmetrics-text; version=1.0.0")
    assert opened.endswith(b"# EOF\n")
    parsed = (parse_text(text.decode()), parse_openmetrics(opened.decode()))
    told, also = (
        sorted((one.name, sorted(one.labels.items()), one.value) for family in families for one in family.samples)
        for families in parsed
    )
    assert told == also
    assert len(told) > 40


def test_the_page_of_metrics_is_that_of_the_names():
    """docs/export.md holds one row for each metric, as `names.METRICS` has it."""
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `llm_")]
    assert rows == [
        f"| `{metric.name}` | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in names.METRICS
    ]
