"""Drift moves the shared prefix of prompts that hold a document: what is left of the prompt is its bound."""

from __future__ import annotations

from typing import Any

import pytest

from planner.drift.queries import Shape, prefix_at, shaped
from planner.errors import ScenarioError
from planner.scenario import Scenario
from tests.workload_loads import scenario


def reading(**more: Any) -> Scenario:
    return scenario(stage__shared_prefix={"tokens": 100}, stage__document={"tokens": 600, "corpus": 9}, **more)


@pytest.mark.parametrize(
    ("place", "tokens", "because"),
    [
        (0.0, 0, "nothing is shared in front of the document"),
        (0.5, 200, "half of what is not the document"),
        (1.0, 400, "all of the prompt's 1,000 tokens but the document"),
    ],
)
def test_a_prefix_grows_into_what_the_document_leaves(place: float, tokens: int, because: str) -> None:
    assert prefix_at(reading(), (1000.0,), place) == (tokens,), because


def test_a_document_longer_than_the_prompt_leaves_no_room_for_a_prefix() -> None:
    assert prefix_at(reading(), (500.0,), 1.0) == (0,)


def lengths(made: Scenario) -> tuple[float, float]:
    (stage,) = made.query.stages
    assert isinstance(stage.prompt_tokens, int)
    assert isinstance(stage.output_tokens, int)
    return float(stage.prompt_tokens), float(stage.output_tokens)


def test_a_fixed_prompt_that_is_scaled_down_gives_up_its_prefix_and_keeps_its_document() -> None:
    found = shaped(reading(), Shape(prompt=0.65), (1000.0, 100.0), lengths)
    (stage,) = found.query.stages
    assert stage.prompt_tokens == 650
    assert stage.shared_prefix is not None
    assert stage.shared_prefix.tokens == 49
    assert stage.document == reading().query.stages[0].document


def test_a_prompt_shorter_than_its_document_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"prompt_tokens \(=500\): must be longer than its document.tokens"):
        shaped(reading(), Shape(prompt=0.5), (1000.0, 100.0), lengths)
