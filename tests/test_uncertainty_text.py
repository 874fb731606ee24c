"""The block "How sure": what it says of a document, in the document's own figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

import planner
from planner.studies.uncertainty import with_uncertainty
from planner.summary.uncertainty import uncertainty_lines
from tests.uncertain_fleets import FEW, VARIED, scenario


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A plan with its uncertainty: step time from its worlds, load, revenue and price drawn."""
    few = planner.plan(scenario(), requests=FEW, worlds=0)
    return with_uncertainty(few, scenario(VARIED), requests=FEW).as_dict()


def test_the_block_says_how_sure_in_the_document_s_own_figures(document: dict[str, Any]) -> None:
    lines = uncertainty_lines(document)
    text = " ".join(" ".join(lines).split())
    found = document["uncertainty"]
    assert lines[1] == "How sure: 300 draws of what is not known"
    assert all(len(line) <= 100 for line in lines)
    assert f"limits hold {100 * found['p_slo_held']:.1f} % of the draws" in text
    assert f"{found['gpus']['p50']:.0f} in 50 % of the draws" in text
    assert f"planned: {document['fleet']['gpus']}" in text
    assert f"read off {found['surface']['simulations']} simulations" in text
    widest = found["tornado"][0]
    assert f"revenue of a query {widest['low']:.3f} {widest['high']:.2f}" in text
    assert "Against whole plans of 10 draws" in text
    assert "Taken as known exactly: output tokens." in text


def test_a_rough_surface_and_a_lost_tail_are_said_so(document: dict[str, Any]) -> None:
    found = json.loads(json.dumps(document["uncertainty"]))
    found["surface"]["candidates"][0] |= {"error_share": 0.2, "beyond_points_share": 0.05}
    found["gpus"]["p99"] = None
    text = " ".join(" ".join(uncertainty_lines({**document, "uncertainty": found})).split())
    assert "which is ROUGH" in text
    assert "5.0 % of the draws lie beyond the simulated ones: extrapolated" in text
    assert "in 99 % of the draws no number is enough (a whole plan of that draw says " in text
    assert uncertainty_lines({**document, "uncertainty": None}) == []


@pytest.mark.parametrize(
    ("surface", "whole", "said"),
    [
        pytest.param(166.0, 108.0, " (a whole plan of that draw says 108: ROUGH)", id="54 % too many"),
        pytest.param(60.0, 108.0, " (a whole plan of that draw says 108: ROUGH)", id="44 % too few"),
        pytest.param(110.0, 108.0, " (a whole plan of that draw says 108)", id="2 % off"),
        pytest.param(110.0, None, " (a whole plan of that draw finds no fleet: ROUGH)", id="the surface alone"),
        pytest.param(None, 108.0, " (a whole plan of that draw says 108: ROUGH)", id="the plan alone"),
        pytest.param(None, None, "", id="neither finds one"),
    ],
)  # fmt: skip
def test_the_gpus_of_99_in_100_draws_stand_beside_a_whole_plan_of_that_draw(
    document: dict[str, Any], surface: float | None, whole: float | None, said: str
) -> None:
    found = json.loads(json.dumps(document["uncertainty"]))
    found["gpus"]["p99"] = surface
    found["checked"][-1]["plan"]["gpus"] = whole
    text = " ".join(" ".join(uncertainty_lines({**document, "uncertainty": found})).split())
    first = "in 99 % of the draws no number is enough" if surface is None else f"{surface:.0f} in 99 % of the draws"
    assert f"{first}{said}; planned" in text


def test_the_last_draw_that_is_checked_is_that_of_the_99_percent(document: dict[str, Any]) -> None:
    found = document["uncertainty"]
    assert found["checked"][-1]["surface"]["gpus"] == found["gpus"]["p99"]
