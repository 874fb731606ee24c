"""The nearest choice that a refusal names is a plausible one, or there is none."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario
from planner.errors import ScenarioError
from tests.bad_scenarios import changed

UTILISATION = "fleet/autoscaler"
ROWS: list[tuple[str, Any, str | None, str]] = [
    ("fleet/admission/max", 3, "max_requests_per_replica", "it begins like the section's own key"),
    ("traffic/turns", 3, "query.stages[].turns", "one other section has it"),
    ("traffic/think_s", 3, "traffic.arrivals.closed.think_s or query.stages[].think_s", "two others have it"),
    ("traffic/mean", 3, None, "many have it: no guess"),
    ("traffic/nonsense", 3, None, "nobody has it"),
    (UTILISATION, {"target": {"utilisation": 80}, "max_replicas": 3}, "0.8", "per cent are meant"),
    (UTILISATION, {"target": {"utilisation": 101}, "max_replicas": 3}, None, "not per cent either"),
]


@pytest.mark.parametrize(("where", "value", "nearest", "because"), ROWS, ids=[row[-1] for row in ROWS])
def test_the_nearest_choice_is_a_plausible_one(where: str, value: Any, nearest: str | None, because: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(changed(where, value))
    assert nearest == caught.value.nearest, because
