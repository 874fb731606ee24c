"""The verbs' wiring: what they pass on, what they print, and that help comes without the compiler."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import planner
from planner.cli.app import cli
from planner.cli.options import examples_folder, find_scenario, read_scenario
from planner.cli.output import aligned, json_text
from planner.scenario import json_schema

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@dataclass
class Answer:
    """What plan, simulate and capacity return, as far as the command line uses it."""

    document: dict[str, Any]
    feasible: bool = True

    def as_dict(self) -> dict[str, Any]:
        return self.document

    def __str__(self) -> str:
        return "the text of the answer"


@pytest.fixture
def calls(monkeypatch):
    """Replace the three functions; each call is noted with the scenario's peak, and answered at once."""
    noted: list[tuple[str, Any, dict[str, Any]]] = []

    def stand_in(name: str):
        def function(scenario, **options):
            noted.append((name, scenario, options))
            return Answer({"verb": name, "nothing": math.nan, "endless": [math.inf], "count": np.int64(3)})

        return function

    for name in ("plan", "simulate", "capacity"):
        monkeypatch.setattr(planner, name, stand_in(name), raising=False)
    return noted


PASSED_ON = [
    (("plan", "ai-search"), {"seed": 0, "requests": None, "progress": None}, "the defaults, no bar without a terminal"),
    (
        ("plan", "ai-search", "--seed", "7", "--requests", "5000"),
        {"seed": 7, "requests": 5000, "progress": None},
        "both",
    ),
    (("simulate", "two-stage-search"), {"seed": 0, "requests": None, "duration_s": None}, "the defaults"),
    (
        ("simulate", "two-stage-search", "--duration", "60"),
        {"seed": 0, "requests": None, "duration_s": 60.0},
        "seconds",
    ),
    (("capacity", "ai-search"), {"vary": "rate", "seed": 0, "requests": None, "progress": None}, "rate by default"),
    (
        ("capacity", "chat-closed-loop", "--vary", "concurrency"),
        {"vary": "concurrency", "seed": 0, "requests": None, "progress": None},
        "clients",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "because"), PASSED_ON)
def test_a_verb_calls_its_function_once_and_prints_the_answers_text(calls, arguments, options, because):
    result = run(*arguments)
    assert ("the text of the answer\n", 0) == (result.stdout, result.exit_code), because
    assert [(arguments[0], options)] == [(name, given) for name, _, given in calls]


@pytest.mark.parametrize("verb", ["plan", "simulate", "capacity"])
def test_json_is_one_document_without_nan_and_nothing_else(calls, verb):
    result = run(verb, "ai-search", "--json")
    assert {"verb": verb, "nothing": None, "endless": [None], "count": 3} == json.loads(result.stdout)
    assert "" == result.stderr


@pytest.mark.parametrize("verb", ["plan", "simulate", "capacity"])
def test_warnings_of_an_answer_stand_on_standard_error_too(monkeypatch, verb):
    answer = Answer({"verb": verb, "warnings": ["the calibration is of another model"]})
    monkeypatch.setattr(planner, verb, lambda scenario, **options: answer, raising=False)
    result = run(verb, "ai-search", "--json")
    assert "planner: warning: the calibration is of another model\n" == result.stderr
    assert answer.document == json.loads(result.stdout)


def test_set_changes_keys_in_order_the_last_one_wins(calls):
    run("plan", "ai-search", "--set", "peak_qps=1", "--set", "traffic.peak_qps=40", "--set", "hardware=[h100, h200]")
    _, scenario, _ = calls[0]
    assert (40, ("h100", "h200")) == (scenario.traffic.peak_qps, scenario.hardware)


def test_a_relative_trace_file_given_on_the_command_line_starts_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = read_scenario("trace-azure", ["traffic.arrivals.trace.file=trace 1.csv"])
    assert tmp_path / "trace 1.csv" == Path(scenario.traffic.arrivals.trace.file)


def test_out_writes_the_same_document_that_json_prints(calls, tmp_path):
    result = run("plan", "ai-search", "--json", "--out", str(tmp_path / "plan.json"))
    assert result.stdout == (tmp_path / "plan.json").read_text()


@pytest.mark.parametrize("verb", ["plan", "capacity"])
def test_exit_code_is_1_where_nothing_holds_and_the_answer_is_printed_all_the_same(monkeypatch, verb):
    monkeypatch.setattr(planner, verb, lambda *_, **__: Answer({}, feasible=False), raising=False)
    result = run(verb, "ai-search")
    assert ("the text of the answer\n", 1) == (result.stdout, result.exit_code)


def test_a_length_that_has_no_effect_is_warned_of_on_standard_error(calls):
    result = run("simulate", "chat-closed-loop", "--requests", "9", "--json")
    assert "planner: warning: --requests has no effect: closed demand has its own length\n" == result.stderr
    assert 0 == result.exit_code


def test_replicas_given_to_plan_are_warned_of_on_standard_error(calls):
    result = run("plan", "ai-search", "--set", "fleet.replicas=3", "--json")
    effect = "has no effect: plan chooses the replicas; fleet.min_replicas is the floor"
    assert f"planner: warning: fleet.replicas (=3) {effect}\n" == result.stderr
    assert {"verb", "nothing", "endless", "count"} == set(json.loads(result.stdout))


# --- finding a scenario ---

SHIPPED = ["ai-search", "ai-search.yaml", "examples/ai-search.yaml"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_example_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert examples_folder() / "ai-search.yaml" == find_scenario(name)


def test_a_file_of_that_name_is_preferred_to_the_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ai-search").write_text("version: 1")
    assert Path("ai-search") == find_scenario("ai-search")


# --- catalogue and schema ---


def test_schema_prints_the_scenarios_json_schema():
    assert json_schema() == json.loads(run("schema").stdout)


@pytest.mark.parametrize(
    ("what", "column", "name", "figure", "value"),
    [
        ("models", "name", "qwen3-30b-a3b", "experts", 128),
        ("hardware", "name", "h100-sxm-80gb", "memory_bytes", 85899345920),
        ("hardware", "name", "v100-sxm-32gb", "fp8_flop_per_s", None),
        ("prices", "gpu", "h100-sxm-80gb", "listed_as", "H100-SXM"),
    ],
)
def test_catalogue_json_has_every_column_whole_numbers_as_such_and_null_where_unknown(
    what, column, name, figure, value
):
    document = json.loads(run("catalogue", what, "--json").stdout)
    row = next(row for row in document[what] if row[column] == name)
    if figure != "listed_as":
        assert value == row[figure]
        assert type(value) is type(row[figure])
    assert row["source"]
    assert 1 == document["schema_version"]


@pytest.mark.parametrize(
    ("what", "line_begins", "holds"),
    [
        ("models", "qwen3-30b-a3b ", ["8 of 128", "30.5B", "32/4"]),
        ("hardware", "v100-sxm-32gb ", ["~12.5", "900", " - "]),
        ("prices", "h100-sxm-80gb ", ["on-demand", "6.88", "AWS", "2026-11-09"]),
    ],
)
def test_catalogue_tables_show_figures_and_sources(what, line_begins, holds):
    lines = run("catalogue", what).stdout.splitlines()
    assert any(line.startswith(line_begins) and all(part in line for part in holds) for line in lines)
    assert "source" in lines[0]


# --- output ---


def test_columns_of_a_table_are_aligned_without_trailing_blanks():
    assert "a     b\nlong  c\n      d" == aligned(["a", "b"], [["long", "c"], ["", "d"]])
    assert "a  b\nc" == aligned(["a", "b"], [["c", ""]])


def test_json_text_takes_numpys_numbers_and_arrays():
    text = json_text({"a": np.array([1.0, np.nan]), "b": (np.float64("inf"), np.bool_(True)), 3: "≤"})
    assert {"a": [1.0, None], "b": [None, True], "3": "≤"} == json.loads(text)
    assert "≤" in text


# --- help ---


def test_the_page_of_the_command_line_is_the_commands_own_help():
    spec = importlib.util.spec_from_file_location("cli_docs", ROOT / "tools" / "cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.page() == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_verbs_are_those_of_the_contract_in_its_order():
    verbs = [
        "init",
        "plan",
        "sweep",
        "simulate",
        "capacity",
        "economics",
        "emulate",
        "loadtest",
        "calibrate",
        "validate",
        "manifests",
        "export",
        "drift",
    ]
    assert [*verbs, "report", "catalogue", "schema"] == cli.list_commands(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["--version"], ["schema"], ["plan", "nowhere"]])
def test_help_schema_and_refusals_do_not_wait_for_heavy_imports(arguments):
    heavy = "numba", "pandas", "matplotlib", "scipy", "rich.console"
    code = (
        "import sys; from planner.cli.app import cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print('loaded', [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "loaded []" == done.stderr.splitlines()[-1]


def test_without_a_verb_the_help_is_shown():
    result = run()
    assert result.stdout.startswith("Usage: planner")
    assert 0 == result.exit_code


def test_compiling_is_said_once_in_a_process(capsys, monkeypatch):
    """A verb may simulate in several places, each of which would say so."""
    from numba.core import event

    from planner.cli import output

    monkeypatch.setattr(output, "_SAID", set())
    for _ in range(2):
        with output.compile_note():
            for _ in range(2):
                event.start_event("numba:compile")
                event.end_event("numba:compile")
    assert capsys.readouterr().err.count("compiling the simulator") == 1
