"""A fleet that is asked for more than it serves has no headroom; spare replicas are there to be lost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from drift_specimens import demo, demo_model, document, window
from test_drift import part

from planner.drift import Drift, drift, fleet_model
from planner.drift.actual import actual_of
from planner.drift.capacity import serving_of
from planner.drift.mends import utilisation
from planner.drift.model import FleetModel
from planner.drift.queries import Shape
from planner.exporter.collector import exposition
from planner.exporter.page_words import states
from planner.planned import planned
from tests.live_snapshots import whole

QUEUE = {"running": 40.0, "waiting": 90.0}
USD_PER_HOUR = 4.0


@pytest.fixture(scope="module")
def model() -> FleetModel:
    return demo_model()


def room(found: Drift) -> dict[str, Any]:
    document: dict[str, Any] = found.document["capacity"]
    return document


LOADS = [  # (window, calls of a query, load, because)
    ({}, 1, 30.0, "all that is asked for is answered"),
    ({"failed_per_s": 6.0}, 1, 36.0, "aborted calls have made work"),
    ({"waiting_growth_per_s": 4.5}, 1, 34.5, "what joins the queue wants to be served"),
    ({"waiting_growth_per_s": -4.5}, 1, 25.5, "a queue that drains is served beside what is asked for"),
    ({"failed_per_s": 6.0, "waiting_growth_per_s": 4.0}, 1, 40.0, "both"),
    ({"requests_per_s": 15.0, "failed_per_s": 5.0}, 1, 40.0, "half of the queries are cached: ten made those five"),
    ({"requests_per_s": 45.0}, 1, 45.0, "calls that no user's query made are load"),
    ({"queries_per_s": None, "failed_per_s": 6.0}, 1, 36.0, "nobody tells the users' queries"),
    ({"requests_per_s": 60.0, "failed_per_s": 6.0}, 2, 33.0, "two calls a query"),
    ({"requests_per_s": 0.0, "waiting_growth_per_s": 30.0}, 1, 60.0, "engines that hang, and queries all the same"),
    ({"requests_per_s": 1.0, "queries_per_s": 1.0, "waiting_growth_per_s": -9.0}, 1, 0.0, "never below none"),
    ({"requests_per_s": None, "queries_per_s": None}, 1, None, "nobody tells anything"),
]


@pytest.mark.parametrize(("changes", "calls", "expected_qps", "because"), LOADS)
def test_the_load_is_all_that_the_engines_are_asked_for(
    changes: dict[str, Any], calls: int, expected_qps: float | None, because: str
) -> None:
    plan = replace(demo(), requests_per_query=calls)
    found = actual_of(plan, window(demo(), **changes)).load_qps
    assert (None if expected_qps is None else pytest.approx(expected_qps)) == found, because


@pytest.mark.parametrize("unserved", [{"failed_per_s": 20.0}, {"waiting_growth_per_s": 20.0}])
def test_calls_that_are_not_answered_use_up_headroom_and_cost_nothing_more(
    model: FleetModel, unserved: dict[str, float]
) -> None:
    """20 of 50 calls a second: a query that was answered costs what it did, but five replicas are too few."""
    calm, busy = (drift(demo(), window(demo(), **changes), model) for changes in ({}, unserved))
    assert 0.0 < room(calm)["headroom_fraction"] < 0.2
    assert room(calm)["qps"] == room(busy)["qps"]
    assert 50.0 == room(busy)["load_qps"]
    assert room(busy)["headroom_fraction"] == pytest.approx(room(calm)["qps"] / 50.0 - 1.0)
    assert room(busy)["replicas"]["wanted"] > 5 == room(calm)["replicas"]["wanted"]
    assert calm.document["cost"]["usd_per_query"] == busy.document["cost"]["usd_per_query"]
    wanted = room(busy)["replicas"]["wanted"]
    words = " ".join(str(busy).split())
    assert f"THE LOAD IS MORE THAN THE FLEET CARRIES within the service levels: {wanted} replicas wanted." in words
    assert "Asked for: 50 queries/s." in words


UNTOLD: list[tuple[str, dict[str, Any], int | None]] = [  # (why there is no headroom to bound, window, replicas wanted)
    ("no query is answered", {"requests_per_s": 0.0, "queries_per_s": 0.0}, 6),
    ("nobody tells the rate", {"requests_per_s": None, "queries_per_s": None}, 6),
    ("a load beyond what is simulated", {"requests_per_s": 400.0, "queries_per_s": 400.0}, 6),
    ("nobody tells the replicas", {"replicas": None}, None),
]


@pytest.mark.parametrize(("because", "changes", "wanted"), UNTOLD)
def test_a_queue_makes_headroom_where_none_could_be_told(
    model: FleetModel, because: str, changes: dict[str, Any], wanted: int | None
) -> None:
    calm, queued = (drift(demo(), window(demo(), **changes, **more), model) for more in ({}, QUEUE))
    assert room(calm)["headroom_fraction"] is None, because
    assert (True, 0.0) == (room(queued)["bound"], room(queued)["headroom_fraction"]), because
    least = room(queued)["replicas"]["wanted"]
    assert (room(calm)["replicas"]["wanted"] if wanted is None else wanted) == least, because
    shown = whole(observed=window(demo(), **changes, **QUEUE), drift=queued.document)
    assert ("overloaded", "bad") in states(shown, queued.document), because


def test_a_queue_makes_headroom_without_a_capacity_model() -> None:
    found = drift(demo(), window(demo(), **QUEUE), FleetModel(None, "closed demand"))
    assert (None, 0.0, 6) == (room(found)["qps"], room(found)["headroom_fraction"], room(found)["replicas"]["wanted"])
    assert "at least 6 replicas wanted" in " ".join(str(found).split())


def test_of_part_of_a_fleet_no_headroom_is_told_with_a_queue_either(model: FleetModel) -> None:
    found = drift(demo(), window(demo(), asked=6, answered=5, **QUEUE), model)
    assert (True, None) == (room(found)["bound"], room(found)["headroom_fraction"])


def test_one_number_of_replicas_is_wanted_in_words_figures_and_metrics(model: FleetModel) -> None:
    """Eight run, five were planned, one would do for so light a load; a queue stands all the same."""
    light = {"queries_per_s": 10.0, "requests_per_s": 10.0, "replicas": 8.0}
    seen = window(demo(), **light, **QUEUE)
    found = drift(demo(), seen, model, limit=0.1)
    assert 9 == room(found)["replicas"]["wanted"]
    assert "run 9 replicas or more instead of 8: a queue stands" == part(found, "utilisation")["mend"]
    metrics, _ = exposition(whole(observed=seen, drift=found.document), 0.0, "")
    assert re.search(r'^llm_replicas{[^}]*state="wanted"[^}]*} 9\.0$', metrics.decode(), re.MULTILINE)


def test_while_a_queue_stands_headroom_is_no_room(model: FleetModel) -> None:
    """The capacity model says that two replicas would do; 90 requests that wait for five say that it errs."""
    light = {"queries_per_s": 10.0, "requests_per_s": 10.0}
    calm, queued = (drift(demo(), window(demo(), **light, **changes), model) for changes in ({}, QUEUE))
    assert (False, True) == (room(calm)["bound"], room(queued)["bound"])
    assert room(calm)["headroom_fraction"] > 2.0
    assert 0.0 == room(queued)["headroom_fraction"]
    assert room(calm)["replicas"]["wanted"] <= 3
    assert 6 == room(queued)["replicas"]["wanted"]
    words = " ".join(str(queued).split())
    assert "A QUEUE STANDS BEFORE THE FLEET: it is asked for more than it serves: at least 6 replicas wanted." in words
    assert "Headroom over the load: at most 0 %. Replicas: 5 planned, 5 running, at least 6 wanted." in words
    assert "by how much the queue grows is not told" in words
    assert "QUEUE" not in str(calm)
    mend = part(drift(demo(), window(demo(), **light, **QUEUE), model, limit=0.1), "traffic")["mend"]
    assert "--set traffic.peak_qps=10" == mend


def test_beyond_what_it_carries_a_queue_leaves_the_overload_as_it_is(model: FleetModel) -> None:
    found = drift(demo(), window(demo(), **QUEUE, waiting_growth_per_s=20.0), model)
    assert -0.5 < room(found)["headroom_fraction"] < -0.3
    assert room(found)["replicas"]["wanted"] > 5
    assert any("the queue grows by 20 a second" in note for note in found.document["notes"])


def test_a_queue_before_engines_that_answer_nothing_is_said_first(model: FleetModel) -> None:
    stuck = window(demo(), requests_per_s=0.0, queries_per_s=0.0, waiting_growth_per_s=2.0, **QUEUE)
    assert "A QUEUE STANDS BEFORE THE FLEET" in " ".join(str(drift(demo(), stuck, model)).split())


@pytest.mark.parametrize(
    ("running", "wanted", "at_least", "expected", "because"),
    [
        (5.0, 8, False, "run 8 replicas instead of 5", "as many as the load wants"),
        (5.0, 8, True, "run 8 replicas or more instead of 5: a queue stands", "the load asked for may be more"),
        (5.0, None, True, None, "not known"),
    ],
)
def test_utilisation_is_mended_by_a_bound_while_a_queue_stands(
    running: float, wanted: int | None, at_least: bool, expected: str | None, because: str
) -> None:
    assert expected == utilisation(running, wanted, at_least=at_least), because


# --- spare replicas ---


@pytest.mark.parametrize(
    ("replicas", "spare", "running", "expected", "because"),
    [
        (6, 1, 6.0, 5, "as planned: the spare one is not counted on"),
        (6, 1, 5.0, 5, "the spare one is lost: that is what it is for"),
        (6, 1, 4.0, 4, "one more is not"),
        (6, 2, 5.0, 4, "one of two spare ones is left"),
        (6, 2, 3.0, 3, "one serving replica short"),
        (6, 1, 8.0, 7, "two more than planned serve"),
        (5, 0, 5.0, 5, "no spare one"),
        (6, 1, 0.0, 0, "none"),
        (6, 1, 4.6, 5, "engines that are not whole replicas"),
    ],
)
def test_replicas_that_are_counted_on(replicas: int, spare: int, running: float, expected: int, because: str) -> None:
    assert expected == serving_of(replace(demo(), replicas=replicas, spare=spare), running), because


def test_losing_the_spare_replica_leaves_the_headroom_as_planned() -> None:
    plan = planned(document(fleet__spare_replicas=1))
    model = fleet_model(plan)
    complete, lost, short = (room(drift(plan, window(plan, replicas=count), model)) for count in (6.0, 5.0, 4.0))
    assert complete["headroom_fraction"] == lost["headroom_fraction"] > 0
    assert short["headroom_fraction"] < 0


# --- the response cache ---


@pytest.mark.parametrize(
    ("hit_rate", "told", "factor", "because"),
    [
        (None, 0.5, 2.0, "half of the queries reach the model: twice as many users' queries are carried"),
        (0.4, 0.1, 0.6 / 0.9, "the plan lets 60 % through, the cache 90 %"),
        (0.4, 0.4, 1.0, "as planned"),
    ],
)
def test_capacity_is_in_users_queries_at_the_cache_as_it_is(
    hit_rate: float | None, told: float, factor: float, because: str
) -> None:
    plan = demo() if hit_rate is None else planned(document(query__response_cache={"hit_rate": hit_rate}))
    model = fleet_model(plan)
    assert model.simulated is not None
    base = model.simulated.capacity_qps(Shape(), 1.0, plan.serving)
    assert base is not None
    qps = plan.queries_per_s[0]
    found = drift(plan, window(plan, queries_per_s=qps, requests_per_s=qps * (1.0 - told)), model)
    assert base * factor == pytest.approx(room(found)["qps"]), because


def test_idle_engines_retrieve_nothing_so_usage_leaves_retrieval_whole() -> None:
    """Half the queries are cached and engines work a quarter of the time: 0.00002 · 0.5 + 4 / (3600 · 30) · 0.25."""
    plan = planned(document(prices__retrieval_usd_per_query=0.00002))
    found = drift(plan, window(plan, requests_per_s=15.0, busy_share=0.25), fleet_model(plan)).document["cost"]
    fleet_usd = USD_PER_HOUR / 3600.0 / 30.0
    assert 0.00001 + fleet_usd == pytest.approx(found["usd_per_query"])
    assert 0.00001 + fleet_usd / 4 == pytest.approx(found["usage_usd_per_query"])
