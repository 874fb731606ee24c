"""`planner drift` as a command: exit codes, JSON, text, what it refuses, a fleet that is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from drift_specimens import demo, document, truth

import planner.live.fleet
from planner.cli.app import cli
from planner.observed import Observed, Trouble, read_observed
from planner.scenario import Monitor


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document()))
    return path


def window_file(folder: Path, observed: Observed) -> str:
    path = folder / "window.json"
    path.write_text(json.dumps(observed.as_dict()))
    return str(path)


def drift(*words: Any) -> Result:
    """The verb in this process."""
    return CliRunner().invoke(cli, ["drift", *map(str, words)])


@pytest.mark.parametrize(
    ("changes", "options", "expected", "words"),
    [
        ({}, [], 0, "WITHIN THE PLAN: A query costs $0.0000370, as planned at this hour"),
        ({"usd": 2.0}, [], 1, "NOT AS PLANNED: A query costs $0.0000741, 100 % more than planned at this hour"),
        ({"usd": 1.2}, ["--limit", "15%"], 1, "the limit is 15.0 %"),
        ({"usd": 1.2}, ["--limit", "0.25"], 0, "20.0 % more than planned"),
        ({"qps": 0.5}, ["--limit", "0.1"], 1, "traffic.peak_qps: --set traffic.peak_qps=15"),
    ],
)
def test_a_recorded_window_is_judged(
    plan_file: Path, tmp_path: Path, changes: dict[str, Any], options: list[str], expected: int, words: str
) -> None:
    result = drift(plan_file, "--observed", window_file(tmp_path, truth(demo(), **changes)), *options)
    assert expected == result.exit_code
    assert words in " ".join(result.stdout.split())


def test_a_missed_service_level_is_said_first_and_is_exit_1(plan_file: Path, tmp_path: Path) -> None:
    """Cost is as planned to the cent, an answer begins after nine seconds."""
    seen = truth(demo())
    slow = replace(seen, latencies_ms={**seen.latencies_ms, "ttft_ms.p95": 9000.0})
    result = drift(plan_file, "--observed", window_file(tmp_path, slow))
    words = " ".join(result.stdout.split())
    assert 1 == result.exit_code
    assert "THE SERVICE LEVELS ARE MISSED: p95 TTFT 9,000 ms > 800 ms. A query costs $0.0000370" in words
    assert "WITHIN THE PLAN" not in words
    found = json.loads(drift(plan_file, "--observed", window_file(tmp_path, slow), "--json").stdout)
    assert found["within"] is False
    assert {"key": "p95_ttft_ms", "limit_ms": 800.0, "actual_ms": 9000.0, "met": False} in found["slo"]


def test_a_fleet_that_answers_in_part_is_no_reason_to_plan_again(plan_file: Path, tmp_path: Path) -> None:
    half = replace(truth(demo()), asked=2, answered=1, replicas=1.0, queries_per_s=6.0, requests_per_s=6.0,
                   cost_usd_per_hour=0.8)  # fmt: skip
    result = drift(plan_file, "--observed", window_file(tmp_path, half), "--limit", "10%")
    assert 1 == result.exit_code
    assert result.stdout.splitlines()[2].startswith("1 of 2 sources read: traffic, utilisation and capacity")
    assert "traffic.peak_qps" not in result.stdout
    assert "fleet.replicas" not in result.stdout
    assert "WITHIN THE PLAN" not in result.stdout


def test_json_is_one_document(plan_file: Path, tmp_path: Path) -> None:
    result = drift(plan_file, "--observed", window_file(tmp_path, truth(demo(), usd=2.0)), "--json")
    found = json.loads(result.stdout)
    assert (1, False, 1) == (found["schema_version"], found["within"], result.exit_code)
    assert {
        "schema_version", "scenario_name", "ended_unix_s", "window_s", "hour", "limit", "within", "sources", "model",
        "slo", "cost", "planned", "revenue", "margin", "parts", "total", "capacity", "savings", "quantities", "assumed",
        "notes", "troubles",
    } == set(found)  # fmt: skip
    by_name = {row["name"]: row for row in found["quantities"]}
    assert 2.0 == by_name["gpu_hour_usd"]["ratio"]
    assert 0.004 == found["revenue"]["usd_per_query"]
    assert found["margin"]["usd_per_query"] == pytest.approx(0.004 - found["cost"]["usd_per_query"])


@pytest.mark.parametrize(
    "observed",
    [
        Observed(1.7e9, 60.0, troubles=(Trouble("10.0.0.7:8000", "down", "nobody listens there"),)),
        Observed(1.7e9, 60.0),
    ],
)
def test_a_fleet_that_nobody_answers_for_is_exit_3(plan_file: Path, tmp_path: Path, observed: Observed) -> None:
    result = drift(plan_file, "--observed", window_file(tmp_path, observed))
    assert 3 == result.exit_code
    said = observed.troubles[0].text if observed.troubles else "nobody answered"
    assert said in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "0"], "must be above 0"),
        (["--limit", "much"], "not a valid number"),
        (["--limit", "nan"], "finite"),
        (["--endpoint", "http://127.0.0.1:1", "--prometheus", "http://127.0.0.1:1"], "give only one of"),
        (["--set", "traffic.peak_qps=3"], "finished plan"),
        (["--observed", "WINDOW", "--window", "60"], "not of --observed"),
        (["--observed", "WINDOW", "--endpoint", "http://127.0.0.1:1"], "give only one of"),
        (["--observed", "PLAN"], "is no window of a fleet"),
        (["--observed", "TEXT"], "is not JSON"),
        (["--window", "nan", "--endpoint", "http://127.0.0.1:1"], "nan must be above 0 and finite"),
        (["--window", "1", "--endpoint", "http://127.0.0.1:1"], "window_s"),
        ([], "monitor: is required"),
    ],
)
def test_bad_input_is_exit_2_and_one_line(plan_file: Path, tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "text.json").write_text('{"window_s": ')
    names = {
        "WINDOW": window_file(tmp_path, truth(demo())),
        "PLAN": str(plan_file),
        "TEXT": str(tmp_path / "text.json"),
    }
    result = drift(plan_file, *(names.get(option, option) for option in options))
    assert 2 == result.exit_code
    assert words in result.stderr
    assert 1 == len(result.stderr.splitlines())


def test_a_cut_off_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(document())[:5000])
    result = drift(tmp_path / "plan.json", "--observed", window_file(tmp_path, truth(demo())))
    assert 2 == result.exit_code
    assert "is cut off" in result.stderr


def test_a_scenario_is_planned_first(tmp_path: Path) -> None:
    result = drift("demo", "--requests", 2000, "--observed", window_file(tmp_path, truth(demo())))
    assert 0 == result.exit_code
    assert "WITHIN THE PLAN" in result.stdout


def test_a_fleet_is_read_and_its_window_kept(plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's source stands in place of the scenario's; the window can be judged again from its file."""
    asked: list[tuple[Monitor, float]] = []
    seen = replace(truth(demo(), qps=0.5), troubles=(Trouble("10.0.0.8:8000", "slow", "no answer within 5 s"),))

    def read_fleet(monitor: Monitor, **_: object) -> Observed:
        asked.append((monitor, monitor.window_s))
        return seen

    monkeypatch.setattr(planner.live.fleet, "read_fleet", read_fleet)
    kept = tmp_path / "kept.json"
    url = "http://127.0.0.1:8000"
    result = drift(plan_file, "--endpoint", url, "--window", 20, "--save-observed", kept, "--limit", "0.1")
    assert 1 == result.exit_code
    monitor, window_s = asked[0]
    assert ((url,), None, 20.0) == (monitor.endpoints, monitor.prometheus_url, window_s)
    assert seen == read_observed(json.loads(kept.read_text()))
    assert "10.0.0.8:8000: no answer within 5 s" in result.stderr
    again = drift(plan_file, "--observed", kept, "--limit", "0.1")
    assert (result.stdout, 1) == (again.stdout, again.exit_code)


def test_a_prometheus_server_takes_the_place_of_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Monitor] = []

    def read_fleet(monitor: Monitor, **_: object) -> Observed:
        asked.append(monitor)
        return truth(demo())

    monkeypatch.setattr(planner.live.fleet, "read_fleet", read_fleet)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document(monitor={"endpoints": ["http://10.0.0.7:8000"], "window_s": 120})))
    assert 0 == drift(path).exit_code
    assert 0 == drift(path, "--prometheus", "http://10.0.0.9:9090").exit_code
    assert (("http://10.0.0.7:8000",), None) == (asked[0].endpoints, asked[0].prometheus_url)
    assert ((), "http://10.0.0.9:9090", 120.0) == (asked[1].endpoints, asked[1].prometheus_url, asked[1].window_s)
