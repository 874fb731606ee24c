"""Why there is no size: the setting that is in the way is known by itself, not read out of the words."""

from __future__ import annotations

from typing import Any, cast

import pytest

import planner
from planner.deployment import Deployment
from planner.economics import Prices
from planner.scenario import Scenario
from planner.sizing.replicas import Obstacle, Size
from planner.sizing.search import Option, _told
from tests.bad_scenarios import GOOD

NOBODY = cast(Deployment, None)  # nothing is asked of it


def size(obstacle: Obstacle | None, serving: int | None = None) -> Size:
    return Size(NOBODY, serving, True, 0.0, obstacle, ())


@pytest.mark.parametrize(
    ("obstacle", "scaled", "reason", "because"),
    [
        (Obstacle("9 do not do", too_few=True), 9, "fleet.autoscaler.max_replicas (=9): 9 do not do", "its bound"),
        (
            Obstacle("9 do not do", "fleet.max_gpus", True), 9,
            "fleet.autoscaler.max_replicas (=9): 9 do not do", "the tighter of two bounds is named",
        ),
        (Obstacle("9 do not do", "fleet.max_gpus", True), None, "fleet.max_gpus: 9 do not do", "no autoscaler"),
        (Obstacle("even 9 replicas are too few"), 9, "even 9 replicas are too few", "whatever the words are"),
        (None, 9, None, "there is a size"),
    ],
)  # fmt: skip
def test_an_autoscaler_is_blamed_for_its_own_bound_alone(
    obstacle: Obstacle | None, scaled: int | None, reason: str | None, because: str
):
    option = Option({}, NOBODY, Prices(1.0), (), 9, scaled)
    assert reason == _told(option, size(obstacle, None if obstacle else 3)).reason, because


def reason(**changes: Any) -> tuple[str, bool]:
    """Why a plan has no fleet."""
    document = planner.plan(Scenario.from_dict({**GOOD, **changes}), requests=1000, worlds=0).as_dict()
    (row,) = document["alternatives"]
    return row["reason"], document["feasible"]


def test_the_limit_on_gpus_is_named_where_it_binds():
    slow = {"fleet": {"max_gpus": 1}, "traffic": {"peak_qps": 200}}
    words, feasible = reason(**slow)
    assert not feasible
    assert words.startswith("fleet.max_gpus: even 1 serving replicas are too few (")
    words, _ = reason(traffic={"peak_qps": 200}, fleet={"max_gpus": 1, "min_replicas": 2})
    assert words.startswith("fleet.max_gpus: 1 serving replicas are fewer than fleet.min_replicas asks for")


def test_a_limit_that_the_load_never_reaches_is_not_blamed():
    """Three calls drawn onto three replicas at random: two meet by chance, and a hundred GPUs would not change it."""
    alone = planner.simulate(Scenario.from_dict({**GOOD, "traffic": {"arrivals": {"offline": {"requests": 1}}}}))
    limit_ms = 1.05 * alone.as_dict()["ttft_ms"]["p99"]
    words, feasible = reason(
        traffic={"arrivals": {"offline": {"requests": 3}}},
        fleet={"max_gpus": 100, "routing": "random"},
        slo={"p99_ttft_ms": f"<={limit_ms:.3f}"},
    )
    assert not feasible
    assert words.startswith("even 3 serving replicas are too few (p99_ttft_ms"), words
