"""Figures of another model than the plan's are held against it, but never without a word."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from drift_specimens import demo, demo_model, document, window

import planner.live.fleet
from planner.cli.app import cli
from planner.drift import drift
from planner.drift.model_name import served_of, wrong_model
from planner.observed import Observed, Trouble
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
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", None, False, "a checkpoint in the plan's FP8, of another publisher"),
    ("neuralmagic/Llama-3.1-8B-FP8-Dynamic", None, False, "scales taken at run time"),
    ("org/Llama-3.1-8B-AWQ", None, True, "four-bit weights where the plan has FP8"),
    ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", None, True, "another size in the plan's format"),
    ("meta-llama/Llama-3.1-8B-FP8", "meta-llama/Llama-3.1-8B", True, "not as it was named"),
]
FORMS = [  # (the plan's format, what the fleet tells, because)
    ("awq", "x/Llama-3.1-8B-Instruct-AWQ", "AWQ"),
    ("awq", "x/Llama-3.1-8B-AWQ-INT4", "and its width"),
    ("gptq", "x/Llama-3.1-8B-GPTQ-Int4", "GPTQ"),
    ("gptq", "x/Llama-3.1-8B-quantized.w4a16", "the same in compressed tensors"),
    ("int8", "x/Llama-3.1-8B-quantized.w8a8", "INT8 weights and activations"),
    ("int8", "x/Llama-3.1-8B-w8a8", "in short"),
    ("nvfp4", "nvidia/Llama-3.1-8B-Instruct-NVFP4", "NVFP4"),
    ("mxfp4", "x/Llama-3.1-8B-MXFP4", "MXFP4"),
    ("int4", "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "bitsandbytes"),
]


@pytest.mark.parametrize(("form", "told", "because"), FORMS)
def test_a_checkpoints_name_may_end_in_the_plans_format_and_in_no_other(form: str, told: str, because: str) -> None:
    read = document()
    for found, matches in ((form, True), ("bf16", False)):
        read["fleet"]["engine"]["quantization"] = found
        plan = replace(demo(), document=read)
        assert matches is served_of(plan, window(plan, model_name=told)).matches, because


@pytest.mark.parametrize(("told", "matches"), [(None, None), ("meta-llama/Llama-3.1-8B", True), (OTHER, False)])
def test_another_model_is_not_within_the_plan(told: str | None, matches: bool | None) -> None:
    found = drift(demo(), window(demo(), model_name=told), demo_model())
    assert {"planned": "meta-llama/Llama-3.1-8B", "told": told, "matches": matches} == found.document["model"]
    assert (matches is not False) == found.within


def test_it_is_said_also_where_part_of_the_fleet_is_silent() -> None:
    found = str(drift(demo(), window(demo(), model_name=OTHER, asked=6, answered=5), demo_model()))
    words = " ".join(found.split())
    assert words.index("IS IT THE PLAN'S MODEL?") < words.index("5 of 6 sources read") < words.index("A query costs")


def test_a_name_that_a_server_made_up_is_one_line_and_one_word_of_a_shell(tmp_path: Path) -> None:
    name = "x'; rm -rf ~ #\x1b[2J\x1b]0;owned\x07\nplanner: all is well"
    (trouble,) = wrong_model(demo(), window(demo(), model_name=name))
    setting = trouble.text.partition("under another name, set ")[2]
    assert [f"monitor.model_name={name}"] == shlex.split(setting)
    _, err, _ = run(tmp_path, name=name)
    assert 1 == err.count("\n")
    assert err.rstrip("\n").isprintable()
    assert "the fleet serves x'; rm -rf ~ # [2J ]0;owned planner: all is well, the plan" in err


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


def run(folder: Path, *options: str, name: str = OTHER) -> tuple[str, str, list[dict[str, str]]]:
    """Standard output and standard error of planner drift, and the troubles of its document."""
    plan, seen = folder / "plan.json", folder / "window.json"
    plan.write_text(json.dumps(document()))
    seen.write_text(json.dumps(window(demo(), model_name=name).as_dict()))
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


def test_what_a_server_said_is_one_clean_line_of_an_error_too(tmp_path: Path) -> None:
    told = Trouble("10.0.0.7:8000", "down", "\x1b]0;owned\x07 several\nmodels answer")
    plan, seen = tmp_path / "plan.json", tmp_path / "window.json"
    plan.write_text(json.dumps(document()))
    blind = window(demo(), replicas=None, requests_per_s=None, troubles=(told,))
    seen.write_text(json.dumps(blind.as_dict()))
    result = CliRunner().invoke(cli, ["drift", str(plan), "--observed", str(seen)])
    assert (3, 1, True) == (result.exit_code, result.stderr.count("\n"), result.stderr.rstrip("\n").isprintable())
    assert "]0;owned several models answer" in result.stderr
