"""What the simulated router does and the rendered one does not is a row of the answer that rests on it."""

from __future__ import annotations

from typing import Any

import pytest
from manifest_plans import facts

from planner import Scenario, plan, simulate
from planner.deployment.router_origins import admission_origins, retry_origins, stopped_in
from planner.manifests.router import routers
from tests.test_waterfall import scenario

STOP = {"fleet__failures": [{"stop": {"replicas": 1, "at_s": 5}}], "fleet__replicas": 2}
SLOW = {"fleet__failures": [{"slow": {"replicas": 1, "at_s": 5, "for_s": 5, "factor": 2}}], "fleet__replicas": 2}

RESTART = {"fleet__failures": [{"rolling_restart": {"at_s": 5}}], "fleet__replicas": 2, "fleet__startup_s": 5}
SPARE, QUICK = {"fleet__spare_replicas": 1}, {"traffic__peak_qps": 10}
CLOSED = {
    "traffic__arrivals": {"closed": {"concurrency": 16}},
    "traffic__peak_qps": None,
    "query__response_cache": None,
}
STAGE = {"name": "answer", "prompt_tokens": 600, "output_tokens": 60}


@pytest.mark.parametrize(
    ("changes", "said", "because"),
    [
        ({}, False, "nothing stops"),
        (SPARE, False, "a spare is one that may stop; in this run none does"),
        (STOP, True, "one stops in the run"),
        (SLOW, False, "a slow replica loses nothing"),
        (RESTART, False, "one that is restarted finishes what it has"),
        (STOP | {"fleet__retry": False}, False, "nothing is sent again"),
    ],
)
def test_a_simulation_assumes_retries_where_a_replica_stops(changes: dict[str, Any], said: bool, because: str) -> None:
    document = simulate(scenario(**QUICK, **changes), requests=500).as_dict()
    assert said == ("fleet.retry" in rows_of(document)), because


@pytest.mark.parametrize(
    ("changes", "proved", "said", "because"),
    [
        (QUICK, False, False, "no spare, no proof"),
        (QUICK | SPARE, True, True, "the proof stops one"),
        (QUICK | SPARE | {"fleet__retry": False}, True, False, "nothing is sent again"),
        (CLOSED | SPARE, False, False, "the proof is of open demand alone"),
        (QUICK | SPARE | {"engine__data_parallel_size": 2}, False, False, "nor beside data-parallel ranks"),
    ],
)
def test_a_plan_assumes_retries_where_its_proof_stops_a_replica(
    changes: dict[str, Any], proved: bool, said: bool, because: str
) -> None:
    document = plan(scenario(**changes), requests=1000, worlds=0).as_dict()
    assert said == ("fleet.retry" in rows_of(document)), because
    assert proved == (document["spare_proof"] is not None), because


def test_the_row_says_that_the_figures_are_too_good() -> None:
    (row,) = retry_origins(scenario(), stopped=True)
    assert ("fleet.retry", "assumed", "optimistic") == (row.what, row.kind, row.errs)
    assert "streams that broke off only the clients can send again" in row.source
    assert [stopped_in(scenario(**changes)) for changes in (STOP, SLOW, RESTART)] == [True, False, False]


ROOMS = [
    (9, 1, 2, "four calls for each of two"),
    (2, 1, 2, "one call for each of two"),
    (1, 1, 1, "a second router would have none to let in"),
    (7, 4, 1, "HAProxy counts calls, and one of four samples fits"),
    (8, 4, 2, "two do"),
    (3, 4, 1, "none fits, and one is let in all the same"),
]


@pytest.mark.parametrize(("room", "samples", "count", "because"), ROOMS)
def test_admission_says_how_many_routers_are_rendered(room: int, samples: int, count: int, because: str) -> None:
    admission = {"max_requests_per_replica": room}
    asked = scenario(fleet__admission=admission, query__stages=[STAGE | {"samples": samples}])
    (row,) = admission_origins(asked, "least_loaded")
    assert (count == 2) == ("of the two that manifests render" in row.source), because
    assert (count == 1) == ("manifests render one too" in row.source), because
    assert (count == 1 and samples == 4) == ("one call of 4 samples" in row.source), because
    stages = [{"name": "a", "samples": samples}]
    assert count == routers(facts(scenario__fleet__admission=admission, scenario__query__stages=stages)), because


@pytest.mark.parametrize(("routing", "first"), [("least_loaded", False), ("round_robin", False), ("random", True)])
def test_admission_says_which_router_chooses_before_it_looks_for_room(routing: str, first: bool) -> None:
    (row,) = admission_origins(scenario(fleet__admission={"max_requests_per_replica": 9}), routing)
    assert "9 requests a replica" == row.value
    assert first == ("chooses a replica before" in row.source)
    assert [] == admission_origins(scenario(), routing)


def rows_of(document: dict[str, Any]) -> set[str]:
    return {row["what"] for row in document["provenance"]}


def test_both_stand_in_the_answers_that_rest_on_them() -> None:
    asked: Scenario = scenario(**QUICK, **SPARE, fleet__admission={"max_requests_per_replica": 200})
    assert {"fleet.retry", "fleet.admission"} <= rows_of(plan(asked, requests=1000, worlds=0).as_dict())
    assert "fleet.retry" in rows_of(simulate(scenario(**STOP, **QUICK), requests=500).as_dict())
    assert not {"fleet.retry", "fleet.admission"} & rows_of(simulate(scenario(), requests=500).as_dict())
