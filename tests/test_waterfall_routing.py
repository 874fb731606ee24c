"""Routing in the waterfall: held against the default, worth what the example says; and differences that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import Scenario, plan
from planner.studies.waterfall import _difference, with_waterfall
from planner.studies.waterfall_options import options_of
from planner.summary.waterfall import waterfall_lines

EXAMPLE = Path(__file__).parents[1] / "examples" / "routing-sessions.yaml"

# each: the routing that the scenario gives, and what the option says of it
ROUTINGS = [
    ("session_affinity", "session_affinity in place of the default, least_loaded"),
    ("random", "random in place of the default, least_loaded"),
    (["random", "prefix_aware"], "random or prefix_aware in place of the default, least_loaded"),
    (["least_loaded", "prefix_aware"], "least_loaded or prefix_aware in place of the default, least_loaded"),
]


@pytest.mark.parametrize(("given", "what"), ROUTINGS, ids=[str(row[0]) for row in ROUTINGS])
def test_routing_is_held_against_the_default(given: str | list[str], what: str):
    asked = Scenario.load(EXAMPLE).with_values({"fleet.routing": given})
    (option,) = (one for one in options_of(asked, {"model": {"name": asked.model[0]}}) if one.step == "routing")
    assert what == option.what
    assert {"fleet.routing": "least_loaded"} == option.without
    assert {"fleet.routing": [given] if isinstance(given, str) else given} == option.values
    assert option.lacking == "the default routing, least_loaded"


def test_what_routing_by_session_is_worth_in_the_example():
    """Every seed and routing stands in docs/fleet.md; here the pair that the waterfall shows, on shorter runs."""
    asked = Scenario.load(EXAMPLE).with_values({"engine.quantization": "bf16", "engine.max_num_seqs": None})
    answer = with_waterfall(plan(asked, requests=10_000, worlds=0), asked, requests=10_000)
    rows = {row["step"]: row for row in answer.as_dict()["waterfall"]}
    assert rows["routing"]["removed"]["gpus"] >= 3
    assert rows["routing"]["alone"]["removed"]["gpus"] <= 0, "without a prefix cache there is nothing to go back to"
    assert rows["prefix cache"]["gpus"] >= 2 * rows["routing"]["gpus"]


@pytest.mark.parametrize(
    ("one", "other", "of", "expected", "because"),
    [
        (0.3, 0.1 + 0.2, 0.3, 0.0, "the last digit of a float"),
        (6.16e-5, 6.16e-5 - 1.3e-19, 4e-4, 0.0, "what two subtractions leave"),
        (6, 5, 6, 1, "whole GPUs"),
        (5, 5, 6, 0, "no difference"),
        (1e-4, 1e-4 - 1e-13, 1e-4, pytest.approx(1e-13, rel=1e-2), "small, and real"),
        (None, 1.0, 1.0, None, "no price"),
    ],
)
def test_a_difference_below_rounding_is_none(one: Any, other: Any, of: Any, expected: Any, because: str):
    assert expected == _difference(one, other, of), because


def test_an_option_that_the_fleet_grows_with_says_so():
    row = {
        "what": "random in place of the default",
        "feasible": True,
        "gpus": 6,
        "step": "routing",
        "removed": {"gpus": -1},
    }
    assert "it takes nothing off here, it adds 1 GPU" in " ".join("\n".join(waterfall_lines([row])).split())
