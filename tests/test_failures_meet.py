"""Which replicas an event meets: those that are there, and one that stopped for good stays away."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, simulate
from planner.deployment.failure_changes import stopped_by
from planner.errors import ScenarioError
from planner.scenario.fleet import Failure, SlowFailure, Stop, StopFailure
from tests.failing_fleets import SHORT_ANSWERS


def stop(replicas: int, at_s: float, back_after_s: float | None = None) -> StopFailure:
    return StopFailure(stop=Stop(replicas=replicas, at_s=at_s, back_after_s=back_after_s))


SLOW = SlowFailure.model_validate({"slow": {"at_s": 1, "for_s": 5, "factor": 2}})

MET: list[tuple[list[Failure], dict[int, list[int]], str]] = [
    ([stop(2, 10)], {0: [3, 2]}, "from the last one down"),
    ([stop(1, 10), stop(1, 20)], {0: [3], 1: [2]}, "another one each time"),
    ([stop(1, 10), stop(3, 20, 5)], {0: [3], 1: [2, 1, 0]}, "the first stays away"),
    ([stop(3, 20, 5), stop(1, 10)], {0: [2, 1, 0], 1: [3]}, "in the order of time, not of the file"),
    ([stop(4, 10, 5), stop(4, 15, 5)], {0: [3, 2, 1, 0], 1: [3, 2, 1, 0]}, "they are back at that very moment"),
    ([stop(3, 10, 5), stop(2, 30)], {0: [3, 2, 1], 1: [0, 3]}, "the one not met yet, then from the last one down"),
    ([SLOW, stop(1, 2)], {1: [3]}, "a slow replica is there"),
]


@pytest.mark.parametrize(("failures", "expected", "because"), MET, ids=[row[-1] for row in MET])
def test_which_of_four_replicas_stop(failures: list[Failure], expected: dict[int, list[int]], because: str) -> None:
    assert expected == stopped_by(failures, 4), because


REFUSED: list[tuple[list[Failure], str, str, str]] = [
    ([stop(5, 10)], "fleet.failures[0].stop.replicas (=5)", "fleet.replicas is 4", "more than the fleet has"),
    (
        [stop(3, 10), stop(3, 50, 30)],
        "fleet.failures[1].stop.replicas (=3)",
        "only 1 of 4 are not stopped at 50 s",
        "one",
    ),
    ([stop(3, 50, 30), stop(3, 10)], "fleet.failures[0].stop.replicas (=3)", "only 1 of 4", "told of the later one"),
    ([stop(4, 10, 60), stop(1, 20)], "fleet.failures[1].stop.replicas (=1)", "only 0 of 4", "none is there"),
    ([stop(4, 10)], "fleet.failures[0].stop.replicas (=4)", "leaves none of 4 replicas for the rest", "for good"),
    ([stop(3, 10), stop(1, 20)], "fleet.failures[1].stop.replicas (=1)", "leaves none of 4", "the last one goes"),
]


@pytest.mark.parametrize(("failures", "key", "rule", "because"), REFUSED, ids=[row[-1] for row in REFUSED])
def test_what_meets_nobody_is_refused_by_the_event(failures: list[Failure], key: str, rule: str, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        stopped_by(failures, 4)
    text = str(caught.value)
    assert text.startswith(key), (because, text)
    assert rule in text, (because, text)


def test_who_stopped_for_good_does_not_serve_again() -> None:
    """Of four replicas one stops for good, then the other three for a while: three serve in the end."""
    given: list[dict[str, Any]] = [
        {"stop": {"replicas": 1, "at_s": 10}},
        {"stop": {"replicas": 3, "at_s": 20, "back_after_s": 5}},
    ]
    asked = Scenario.from_dict(SHORT_ANSWERS).with_values({"fleet.replicas": 4, "fleet.failures": given})
    table = simulate(asked, requests=3000).timeline_table(60)
    last = table[table["replica"].notna()].groupby("replica")["on_s"].last()
    assert [True, True, True, False] == [bool(seconds > 0) for seconds in last]


@pytest.mark.parametrize(
    ("failure", "startup_s", "said", "ended", "because"),
    [
        ({"rolling_restart": {"at_s": 10}}, 1000, True, False, "the first replica still starts when all is answered"),
        ({"rolling_restart": {"at_s": 10}}, 1, False, True, "over in time"),
        ({"stop": {"at_s": 10, "back_after_s": 5000}}, 1, True, False, "it is back after the end"),
        ({"stop": {"at_s": 10}}, 1, False, False, "it has no end to wait for"),
    ],
)
def test_an_event_that_the_run_does_not_see_the_end_of_is_said(
    failure: dict[str, Any], startup_s: float, said: bool, ended: bool, because: str
) -> None:
    asked = Scenario.from_dict(SHORT_ANSWERS).with_values(
        {"fleet.replicas": 4, "fleet.startup_s": startup_s, "fleet.failures": [failure]}
    )
    document = simulate(asked, requests=3000).as_dict()
    assert said == any("was not over when the run ended" in text for text in document["warnings"]), because
    assert ended == (document["failures"]["events"][0]["until_s"] is not None), because
