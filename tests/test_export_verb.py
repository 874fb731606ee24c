"""`planner export`: its own options, from the command line to what the port answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from drift_specimens import document
from fleet_fakes import MODEL, exposition
from live_server import fake_server
from test_exporter_process import exporter, until

import planner.live.fleet
from planner.cli.app import cli
from planner.scenario.monitor import Monitor


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document()))
    return str(path)


@pytest.mark.parametrize("option", ["--window", "--interval"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_seconds_that_are_none_are_refused(plan: str, capsys: pytest.CaptureFixture[str], option: str, value: str):
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", plan, "--endpoint", "http://h:1", "--port", "0", option, value])
    said = capsys.readouterr().err
    assert (ended.value.code, option in said, len(said.splitlines())) == (2, True, 1)


def test_names_of_the_command_line_are_those_that_the_fleet_is_read_by(plan: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[Monitor] = []

    class Enough(Exception):
        pass

    def fleet_reader(monitor: Monitor, **_: Any) -> None:
        asked.append(monitor)
        raise Enough

    monkeypatch.setattr(planner.live.fleet, "fleet_reader", fleet_reader)
    with pytest.raises(Enough):
        cli.main(
            ["export", plan, "--prometheus", "http://h:1", "--port", "0", "--model-name", "m", "--namespace", "n"],
            standalone_mode=False,
        )
    assert [("m", "n", "http://h:1")] == [(one.model_name, one.namespace, one.prometheus_url) for one in asked]


def test_a_port_on_loopback_answers_its_own_names_and_says_which_model_it_met(plan: str):
    """The fleet serves another model than the plan's: its figures are told, and so is that."""
    with fake_server() as replica:
        replica.say("/metrics", 200, exposition(0.0))
        options = ["--endpoint", replica.url, "--interval", "1", "--window", "10", "--allow-host", "costs.example"]
        with exporter(plan, *options) as running:
            for host, status in (("costs.example", 200), ("localhost:1", 200), ("evil.example", 421)):
                asked = requests.get(f"{running.url}/-/healthy", headers={"Host": host}, timeout=10)
                assert status == asked.status_code, host
            until(lambda: running.get("/api/snapshot").status_code == 200)
            troubles = running.get("/api/snapshot").json()["troubles"]
            assert [("monitor.model_name", "missing")] == [(one["source"], one["reason"]) for one in troubles]
            assert troubles[0]["text"].startswith(f"the fleet serves {MODEL}, the plan is for meta-llama/Llama-3.1-8B;")
            until(lambda: 'reason="missing"} 0.0' not in running.get("/metrics").text)
