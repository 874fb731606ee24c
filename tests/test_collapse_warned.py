"""Who answers for sessions near the collapse of their cache says so: capacity, days, sweeps and waterfalls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import Scenario, capacity, simulate_days
from planner.deployment.collapse import Pause, hours_warnings, most_warnings
from planner.summary.many_plans import sweep_warning_lines, waterfall_warning_lines

CHAT = Path(__file__).parents[1] / "examples" / "chat-sessions.yaml"


def test_the_most_load_of_sessions_is_the_edge_itself_and_says_so() -> None:
    """One replica of the example collapses between 5 and 6 turns/s (docs/fleet.md): its most load lies there."""
    document = capacity(Scenario.load(CHAT).with_values({"fleet.replicas": 1}), requests=10_000).as_dict()
    assert 4.5 < document["max_rate_qps"] < 6
    (text,) = document["warnings"]
    assert "near the collapse" in text
    assert "--seed 1 or --seed 2" in text
    assert document["at_max"]["session_pause"]["near_collapse"]


@pytest.mark.parametrize(("share", "said"), [(0.5, False), (0.9, True)])
def test_far_from_the_edge_nothing_is_said(share: float, said: bool) -> None:
    pause = Pause(1000 * share, 1000 * share, 1000)
    assert said == bool(most_warnings(pause, 0))
    assert said == bool(hours_warnings([{"session_pause": pause.as_dict()}], 0))
    assert [] == hours_warnings([{}], 0), "no sessions"


def test_days_warn_of_the_hours_that_come_near() -> None:
    day = [0.3] * 20 + [1.0] * 4
    asked = Scenario.load(CHAT).with_values({"fleet.replicas": 1, "traffic.peak_qps": 5.0, "traffic.day": day})
    document = simulate_days(asked, days=1).as_dict()
    (text,) = document["warnings"]
    assert text.startswith("in 4 of 24 hours a session's pause touches up to ")
    near = [row["hour"] for row in document["days"] if row["session_pause"]["near_collapse"]]
    assert [20, 21, 22, 23] == near


def point(routing: str, *warnings: str, feasible: bool = True) -> dict[str, Any]:
    return {"values": {"fleet.routing": routing}, "feasible": feasible, "warnings": list(warnings)}


@pytest.mark.parametrize(
    ("points", "expected", "because"),
    [
        ([point("random"), point("round_robin")], [], "nothing to warn of"),
        ([point("random", "old"), point("round_robin", "old")], ["WARNING: old."], "all have it"),
        ([point("random", "edge"), point("round_robin")], ["WARNING: routing=random: edge."], "one has it"),
        ([point("random", "edge")], ["WARNING: routing=random: edge."], "a single point is named"),
        (
            [point("random", "old", "edge"), point("round_robin", "old"), point("session_affinity", feasible=False)],
            ["WARNING: old.", "WARNING: routing=random: edge."],
            "a point without a fleet has no plan to warn of",
        ),
        (
            [point("a"), point("b"), point("c", "x", feasible=False), point("d", "x", feasible=False)],
            ["WARNING: routing=c; routing=d: x."],
            "none of the plans has it",
        ),
    ],
)
def test_a_sweep_says_each_warning_once(points: list[dict[str, Any]], expected: list[str], because: str) -> None:
    assert expected == sweep_warning_lines({"points": points}), because


def test_a_waterfall_leaves_the_plans_own_warnings_to_the_plan() -> None:
    rows = [{"step": step, "warnings": found} for step, found in [("a", ["x", "y"]), ("b", ["x"]), ("c", ["y"])]]
    assert ["  WARNING, a, b: x."] == waterfall_warning_lines(rows)
    assert [] == waterfall_warning_lines([{"step": "a"}]), "an older plan has none"
