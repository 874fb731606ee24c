"""Figures of another model than the plan's are held against it, but never without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from drift_specimens import demo, demo_model, document, window

import planner.live.fleet
from planner.cli.app import cli
from planner.drift import drift
from planner.drift.model_name import wrong_model
from planner.observed import Observed
from planner.planned import planned
from planner.scenario.monitor import Monitor

OTHER = "mistralai/Mistral-7B-v0.1"
NAMES = [  # (what the fleet tells, monitor.model_name, whether it is said, because)
    ("meta-llama/Llama-3.1-8B", None, False, "the plan's repository"),
    ("meta-llama/llama-3.1-8b", None, False, "in any case"),
    ("/models/Llama-3.1-8B/", None, False, "a folder of that name"),
    ("llama-3.1-8b", None, False, "the catalogue's name"),
    ("meta-llama/Llama-3.1-8B-Instruct", None, False, "instruction-tuned: the same shape"),
    ("meta-llama/Llama-3.1-70B", None, True, "nine times as large"),
    (OTHER, None, True, "another model"),
    ("prod", None, True, "--served-model-name: only the user knows"),
    ("prod", "prod", False, "and says so"),
    (OTHER, "prod", True, "a recorded window of another fleet"),
    (None, None, False, "nobody tells"),
]


@pytest.mark.parametrize(("told", "named", "said", "because"), NAMES)
def test_a_model_that_is_not_the_plans_is_said(told: str | None, named: str | None, said: bool, because: str) -> None:
    plan = demo() if named is None else planned(document(monitor={"model_name": named}))
    found = wrong_model(plan, window(plan, model_name=told))
    assert [("monitor.model_name", "missing")] * said == [(one.source, one.reason) for one in found], because


def test_it_is_said_first_and_not_refused() -> None:
    found = drift(demo(), window(demo(), model_name=OTHER), demo_model())
    first = " ".join(str(found).split()[4:])
    assert first.startswith(
        f"IS IT THE PLAN'S MODEL? The fleet serves {OTHER}, the plan is for meta-llama/Llama-3.1-8B; if it is the "
        f"plan's under another name, set monitor.model_name={OTHER}. A query costs $0.0000370"
    )
    assert ["missing"] == [row["reason"] for row in found.document["troubles"]]
    assert found.document["cost"]["usd_per_query"] is not None


def run(folder: Path, *options: str) -> tuple[str, str, list[dict[str, str]]]:
    """Standard output and standard error of planner drift, and the troubles of its document."""
    plan, seen = folder / "plan.json", folder / "window.json"
    plan.write_text(json.dumps(document()))
    seen.write_text(json.dumps(window(demo(), model_name=OTHER).as_dict()))
    words = ["drift", str(plan), "--observed", str(seen), *options]
    text, as_json = CliRunner().invoke(cli, words), CliRunner().invoke(cli, [*words, "--json"])
    return text.stdout, text.stderr, json.loads(as_json.stdout)["troubles"]


def test_model_name_on_the_command_line_settles_it(tmp_path: Path) -> None:
    """For a finished plan too, of which --set changes nothing."""
    out, err, troubles = run(tmp_path)
    assert "IS IT THE PLAN'S MODEL?" in out
    assert f"planner: warning: monitor.model_name: the fleet serves {OTHER}" in err
    assert 1 == len(troubles)
    out, err, troubles = run(tmp_path, "--model-name", OTHER)
    assert ("MODEL?" in out, err, troubles) == (False, "", [])


def test_options_stand_in_place_of_the_monitors_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Monitor] = []

    def read_fleet(monitor: Monitor, **_: object) -> Observed:
        asked.append(monitor)
        return replace(window(demo()), model_name=monitor.model_name)

    monkeypatch.setattr(planner.live.fleet, "read_fleet", read_fleet)
    path = tmp_path / "plan.json"
    source = {"prometheus_url": "http://10.0.0.9:9090", "model_name": "a", "namespace": "old", "utc_offset_h": 2.0}
    path.write_text(json.dumps(document(monitor=source)))
    for options, expected in (
        ([], ("a", "old")),
        (["--model-name", "0.30"], ("0.30", "old")),
        (["--model-name", "b", "--namespace", "[prod]"], ("b", "[prod]")),
    ):
        result = CliRunner().invoke(cli, ["drift", str(path), *options])
        assert 0 == result.exit_code, result.stderr
        assert (*expected, 2.0) == (asked[-1].model_name, asked[-1].namespace, asked[-1].utc_offset_h)
