"""Every shipped example through its own verb, from the file to the answer. Lengths are cut, nothing is replaced."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import planner
from planner.cli.app import cli
from planner.cli.options import examples_folder
from planner.provenance import KINDS

EXAMPLES = sorted(examples_folder().glob("*.yaml"))
RUN = {"ttft_ms", "ttft_from_send_ms", "tpot_ms", "itl_ms", "e2e_ms", "band80", "goodput_rps", "slo_met", "saturated"}
RUN |= {"requests", "duration_s", "request_throughput", "query_throughput", "output_throughput"}
RUN |= {"total_token_throughput", "kv_cache_tokens", "kv_cache_usage", "prefix_cache_hit_rate", "num_preemptions"}
RUN |= {"utilisation", "clipped_share", "wall_s"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def answer(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert 0 == result.exit_code, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    assert 1 == document["schema_version"]
    assert {row["kind"] for row in document["provenance"]} <= set(KINDS)
    assert document["provenance"]
    return document


PLANS = [
    ("ai-search", 16),
    ("ai-search-h100", 24),
    ("two-stage-search", 1),
    ("fan-out-documents", 1),
    ("moe-vs-dense", 12),
    ("demo", 1),
    ("chat-sessions", 1),
    ("subscription-chat", 2),
    ("response-cache", 1),
    ("expert-parallel", 1),
]


@pytest.mark.parametrize(("example", "candidates"), PLANS)
def test_a_planned_example_has_a_fleet_its_cost_and_every_candidate(example, candidates):
    document = answer("plan", example, "--requests", "1500")
    fleet, peak = document["fleet"], document["at_peak"]
    assert fleet["gpus"] == fleet["replicas"] * fleet["gpus_per_replica"] > 0
    assert set() == RUN - {"wall_s"} - set(peak)
    assert True is peak["slo_met"]
    assert document["one_fewer"] is None or document["one_fewer"]["slo_met"] is not True
    assert candidates == len(document["alternatives"])
    assert all(row["reason"] for row in document["alternatives"] if not row["feasible"])
    assert 1 == sum(row["chosen"] for row in document["alternatives"])
    assert 0 < document["cost"]["usd_per_query"] < document["revenue"]["usd_per_query"]
    margin = document["revenue"]["usd_per_query"] - document["cost"]["usd_per_query"]
    assert margin == pytest.approx(document["margin"]["usd_per_query"])


@pytest.mark.parametrize(
    "example", ["chat-closed-loop", "two-stage-search", "cpu-tiny", "chat-sessions", "routing-sessions", "overload"]
)
def test_a_simulated_example_has_the_contracts_figures(example):
    document = answer("simulate", example, "--requests", "500")
    assert set() == RUN - set(document)
    assert 0 < document["ttft_ms"]["p50"] <= document["ttft_ms"]["p99"]
    assert document["ttft_ms"]["p99"] <= document["e2e_ms"]["p99"]
    assert 0 < document["utilisation"] <= 1


def test_the_example_of_failures_tells_what_each_did():
    document = answer("simulate", "failures")
    told = document["failures"]
    assert ["stop", "slow", "rolling_restart"] == [event["what"] for event in told["events"]]
    assert 0 == told["lost"]
    assert told["retried"] > 0
    for event in told["events"]:
        assert event["during"]["e2e_ms"]["p99"] > event["after"]["e2e_ms"]["p99"]
    assert 180.0 == pytest.approx(told["events"][0]["until_s"])


def test_the_closed_loop_example_finds_the_most_clients():
    document = answer("capacity", "chat-closed-loop", "--vary", "concurrency")
    assert document["max_concurrency"] >= 1
    assert True is document["at_max"]["slo_met"]
    over = [probe for probe in document["probes"] if not probe["met"]]
    assert over
    assert document["limited_by"]


def test_the_autoscaled_example_follows_its_week():
    document = answer("simulate", "week-autoscaler", "--days", "1")
    rows, totals, perfect = document["days"], document["totals"], document["perfect"]
    assert 24 == len(rows)
    assert totals["queries"] == totals["answered"] > 500_000
    assert 1.0 == totals["slo_hours_share"]
    assert perfect["gpu_hours"] < totals["gpu_hours"] < perfect["static"]["gpu_hours"]


TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2220670,879,55
2023-11-16 18:15:53.3908690,91,16
"""


def test_the_trace_example_replays_a_file_named_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conv.csv").write_text(TRACE)
    document = answer("simulate", "trace-azure", "--set", "traffic.arrivals.trace.file=conv.csv")
    assert (4, False) == (document["requests"], document["saturated"])
    tokens = (44 + 109 + 55 + 16) / document["output_throughput"]
    assert 6.7 < tokens < 9  # seconds from the first arrival to the last answer


def test_every_example_is_run_by_a_test():
    tested = {"ai-search", "two-stage-search", "moe-vs-dense", "chat-closed-loop", "trace-azure", "demo", "cpu-tiny"}
    tested |= {"ai-search-h100", "chat-sessions", "subscription-chat", "response-cache", "expert-parallel"}
    tested |= {"fan-out-documents", "week-autoscaler", "routing-sessions", "overload", "failures"}
    assert tested == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_names_its_own_command_and_reads_back(path):
    assert f"planner plan examples/{path.name}" in path.read_text() or (
        f"planner simulate examples/{path.name}" in path.read_text()
    )
    scenario = planner.Scenario.load(path)
    assert scenario == planner.Scenario.from_dict(scenario.as_dict(), path.parent)


def test_the_same_seed_gives_the_same_answer_and_another_seed_another():
    first, again, other = (
        answer("simulate", "two-stage-search", "--requests", "300", "--seed", seed) for seed in ("1", "1", "2")
    )
    for document in (first, again, other):
        document.pop("wall_s", None)  # the clock is not part of the answer
    assert first == again
    assert first["e2e_ms"] != other["e2e_ms"]


def test_what_the_command_prints_is_the_text_of_pythons_answer():
    path = examples_folder() / "two-stage-search.yaml"
    result = planner.plan(planner.Scenario.load(path), requests=1000)
    printed = run("plan", str(path), "--requests", "1000").stdout
    assert _without_clock(f"{result}\n") == _without_clock(printed)
    assert len(result.probes) >= 2


def _without_clock(text: str) -> str:
    return re.sub(r"simulated in\s+\S+ s", "", text)


def test_a_sweep_of_an_example_needs_more_gpus_for_more_queries():
    document = json.loads(
        run("sweep", "two-stage-search", "--vary", "peak_qps=5,40", "--requests", "1000", "--json").stdout
    )
    few, many = (point["gpus"] for point in document["points"])
    assert 0 < few < many


def test_a_fleet_that_may_not_grow_is_refused_with_reasons_and_exit_code_1():
    result = run("plan", "two-stage-search", "--requests", "1000", "--set", "fleet.max_gpus=1", "--json")
    document = json.loads(result.stdout)
    assert (1, False, None) == (result.exit_code, document["feasible"], document["fleet"])
    assert all(row["reason"] for row in document["alternatives"])
