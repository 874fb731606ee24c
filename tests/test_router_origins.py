"""What the simulated router does and the rendered one does not is a row of the answer that rests on it."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, plan, simulate
from planner.deployment.router_origins import admission_origins, retry_origins
from tests.test_waterfall import scenario

STOP = {"fleet__failures": [{"stop": {"replicas": 1, "at_s": 5}}], "fleet__replicas": 2}
SLOW = {"fleet__failures": [{"slow": {"replicas": 1, "at_s": 5, "for_s": 5, "factor": 2}}], "fleet__replicas": 2}


@pytest.mark.parametrize(
    ("changes", "said", "because"),
    [
        ({}, False, "nothing stops"),
        ({"fleet__spare_replicas": 1}, True, "the proof stops one"),
        (STOP, True, "one stops in the run"),
        (SLOW, False, "a slow replica loses nothing"),
        (STOP | {"fleet__retry": False}, False, "nothing is sent again"),
    ],
)
def test_retries_are_an_assumption_where_a_replica_stops(changes: dict[str, Any], said: bool, because: str) -> None:
    rows = retry_origins(scenario(**changes))
    assert said == bool(rows), because
    assert all((row.what, row.kind, row.errs) == ("fleet.retry", "assumed", "optimistic") for row in rows)


@pytest.mark.parametrize(("routing", "first"), [("least_loaded", False), ("round_robin", False), ("random", True)])
def test_admission_says_which_router_chooses_before_it_looks_for_room(routing: str, first: bool) -> None:
    (row,) = admission_origins(scenario(fleet__admission={"max_requests_per_replica": 9}), routing)
    assert "9 requests a replica" == row.value
    assert first == ("chooses a replica before" in row.source)
    assert [] == admission_origins(scenario(), routing)


def rows_of(document: dict[str, Any]) -> set[str]:
    return {row["what"] for row in document["provenance"]}


def test_both_stand_in_the_answers_that_rest_on_them() -> None:
    asked: Scenario = scenario(
        traffic__peak_qps=10, fleet__spare_replicas=1, fleet__admission={"max_requests_per_replica": 200}
    )
    assert {"fleet.retry", "fleet.admission"} <= rows_of(plan(asked, requests=1000, worlds=0).as_dict())
    assert "fleet.retry" in rows_of(simulate(scenario(**STOP, traffic__peak_qps=10), requests=500).as_dict())
    assert not {"fleet.retry", "fleet.admission"} & rows_of(simulate(scenario(), requests=500).as_dict())
