"""docs/economics.md tells the truth: its fragments are read, its output is printed, its keys are the schema's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.cli.options import examples_folder
from planner.scenario import Scenario, dotted_keys
from planner.scenario.yaml_text import parse

PAGE = (Path(__file__).parents[1] / "docs" / "economics.md").read_text()
FRAGMENTS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
OUTPUTS = re.findall(r"```\n((?:Cost|A subscriber).*?)```", PAGE, flags=re.DOTALL)
GOOD: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "traffic": {"peak_qps": 10},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
}


@pytest.mark.parametrize("text", FRAGMENTS, ids=range(len(FRAGMENTS)))
def test_a_fragment_is_a_part_of_a_scenario(text: str):
    fragment = parse(text, "fragment")
    scenario = Scenario.from_dict(GOOD | fragment)
    assert fragment.keys() <= scenario.as_dict().keys()


def test_every_key_of_money_is_shown_in_a_fragment():
    shown = " ".join(FRAGMENTS)
    last_names = {key.rsplit(".", 1)[-1] for key in dotted_keys() if key.startswith(("prices.", "revenue."))}
    assert set() == {name for name in last_names if not re.search(rf"\b{name}\b", shown)}


def test_the_output_is_what_the_example_prints():
    printed = str(planner.plan(Scenario.load(examples_folder() / "subscription-chat.yaml"), worlds=0))
    assert len(OUTPUTS) == 2
    for shown in OUTPUTS:
        assert shown in printed
