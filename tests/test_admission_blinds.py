"""Who is turned away is in nobody's hand: below an autoscaler's target an admission limit lets none be started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import Scenario, plan, simulate_days
from planner.deployment.autoscaled import blinded

WEEK = Path(__file__).parents[1] / "examples" / "week-autoscaler.yaml"
DAY = [0.2] * 12 + [1.0] * 12


def week(target: dict[str, float], room: int | None, **more: Any) -> Scenario:
    admission = None if room is None else {"max_requests_per_replica": room}
    scaler = {"target": target, "max_replicas": 6, "tolerance": 0.1}
    return Scenario.load(WEEK).with_values(
        {
            "traffic.rates": None,
            "traffic.peak_qps": 3.0,
            "traffic.day": DAY,
            "fleet.replicas": 2,
            "fleet.autoscaler": scaler,
            "fleet.admission": admission,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("target", "room", "said", "because"),
    [
        ({"requests": 15.0}, 16, True, "16 ÷ 15 lies within the tolerance"),
        ({"requests": 15.0}, 17, False, "17 ÷ 15 does not"),
        ({"requests": 15.0}, None, False, "everybody is let in"),
        ({"queue": 1.0}, 64, True, "64 seats, so nobody ever waits"),
        ({"queue": 1.0}, 66, False, "two may wait"),
        ({"utilisation": 0.5}, 1, False, "busy with a single request, too"),
    ],
)
def test_a_target_that_is_never_exceeded_is_named(
    target: dict[str, float], room: int | None, said: bool, because: str
) -> None:
    assert said == bool(blinded(week(target, room), 64)), because


def test_a_blinded_autoscaler_starts_nothing_and_both_answers_warn() -> None:
    asked = week({"requests": 15.0}, 8)
    document = simulate_days(asked, days=1).as_dict()
    assert document["totals"]["rejected"] > 0
    assert document["totals"]["peak_replicas"] == 2, "as many as it began with"
    assert any("fleet.admission never lets a replica have more than 8 in hand" in text for text in document["warnings"])
    text = " ".join(str(simulate_days(asked, days=1)).split())
    assert "found no room (fleet.admission), and failed. " in text.split("WARNING")[0]
    planned = plan(week({"requests": 40.0}, 40), requests=1000, worlds=0).as_dict()
    assert planned["feasible"]
    assert any("fleet.admission never lets a replica have more than 40" in text for text in planned["warnings"])


def test_why_no_fleet_holds_names_what_fails_the_queries() -> None:
    document = simulate_days(week({"requests": 15.0}, None, **{"traffic.timeout_s": 1.0}), days=1).as_dict()
    assert "of the queries fail, timed out (traffic.timeout_s)" in document["perfect"]["reason"]
