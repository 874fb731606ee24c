"""The README tells the truth: its scenario, its commands and what they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import planner
from planner.cli.app import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def console(command: str) -> str:
    """What the README shows below `$ command`."""
    return README.split(f"$ {command}\n", 1)[1].split("\n```", 1)[0]


def test_make_plan_prints_what_the_readme_shows():
    shown = console("make plan").split("\n\n… ", 1)[0]
    plan = planner.plan(planner.Scenario.load(ROOT / "examples" / "ai-search.yaml"))
    assert shown == str(plan)[: len(shown)]


SHORTENED = [
    "planner plan ai-search --waterfall",
    "planner economics ai-search --reconcile",
    "planner economics --list",
    "planner economics two-stage-search-summarizer",
]


@pytest.mark.parametrize("command", SHORTENED)
def test_a_shortened_output_is_what_the_command_prints(command: str):
    shown = console(command).split("\n$ ")[0]
    result = CliRunner().invoke(cli, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    pieces = [piece.strip("\n") for piece in re.split(r"^…$", shown, flags=re.MULTILINE) if piece.strip()]
    assert pieces
    for piece in pieces:
        assert piece in result.stdout


def test_the_scenario_of_the_readme_is_the_example():
    shown = README.split("```yaml\n", 1)[1].split("\n```", 1)[0]
    assert shown.strip() == (ROOT / "examples" / "ai-search.yaml").read_text().strip()


def test_every_verb_of_the_readme_is_a_command():
    verbs = set(re.findall(r"planner (\w+)", README.split("## The verbs", 1)[1].split("```", 1)[0]))
    assert verbs == set(cli.commands)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
