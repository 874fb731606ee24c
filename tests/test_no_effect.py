"""Settings that do nothing are said, by the words that a scenario has for them; those that do something are not."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.deployment import deploy, only_candidate
from planner.deployment.no_effect import no_effect
from planner.errors import ScenarioError
from planner.scenario import Scenario
from tests.bad_scenarios import GOOD

CLOSED = {"arrivals": {"closed": {"concurrency": 4, "requests": 20}}}
BATCH = {"arrivals": {"offline": {"requests": 20}}}
RANKS = {"engine": {"data_parallel_size": 2}}
STOP = [{"stop": {"replicas": 1, "at_s": 9}}]
TURNS = {"turns": 3, "think_s": 1}

# verb, section, its keys, what is said, because
CASES: list[tuple[Any, str, dict[str, Any], str, str]] = [
    ("plan", "fleet", {"retry": False}, "fleet.retry: false has no effect", "no spare replica stops in the proof"),
    ("plan", "fleet", {"retry": False, "spare_replicas": 1}, "", "the proof of the spare stops one"),
    ("plan", "fleet", {"retry_after_s": 2}, "fleet.retry_after_s: 2 has no effect here: no replica", "likewise"),
    ("plan", "fleet", {"retry": True, "retry_after_s": 0}, "", "as if they were not given"),
    ("simulate", "fleet", {"retry": False, "replicas": 2, "failures": STOP}, "", "a replica stops"),
    (
        "simulate", "fleet", {"retry": False, "retry_after_s": 2, "replicas": 2, "failures": STOP},
        "fleet.retry_after_s: 2 has no effect here: retry is false", "nobody is sent again",
    ),
    ("simulate", "fleet", {"retry": False, "replicas": 2}, "fleet.retry: false has no effect", "none stops"),
    ("simulate", "fleet", {"replicas": 3, "spare_replicas": 1}, "fleet.spare_replicas: 1 has no effect", "all serve"),
    ("plan", "fleet", {"replicas": 3, "spare_replicas": 1}, "", "plan keeps it"),
    ("simulate", "traffic", CLOSED | {"max_in_flight": 4}, "traffic.max_in_flight: 4 has no effect", "4 clients"),
    ("simulate", "traffic", CLOSED | {"max_in_flight": 3}, "", "one of 4 clients waits"),
    ("capacity", "fleet", {"replicas": 3, "spare_replicas": 1}, "", "they idle while the rest carries the load"),
    ("simulate", "fleet", {"spare_replicas": 1}, "fleet.spare_replicas: 1 has no effect here: simulate runs one", "it"),
    ("days", "fleet", {"spare_replicas": 1}, "fleet.spare_replicas: 1 has no effect here: simulate runs one", "it too"),
    ("days", "fleet", {"retry": False}, "fleet.retry: false has no effect", "days refuse failures"),
    ("capacity", "fleet", {"retry": False}, "fleet.retry: false has no effect", "so does capacity"),
    ("capacity", "traffic", CLOSED | {"max_in_flight": 4}, "", "it looks for more clients than 4: some would wait"),
    ("simulate", "traffic", BATCH | {"max_in_flight": 20}, "traffic.max_in_flight: 20 has no effect", "a batch of 20"),
    ("simulate", "traffic", BATCH | {"max_in_flight": 19}, "", "one of 20 waits"),
    ("simulate", "fleet", {"routing": "session_affinity", "replicas": 2}, "session_affinity draws", "no sessions"),
    ("simulate", "fleet", {"routing": "prefix_aware", "replicas": 2}, "", "caching is on"),
]  # fmt: skip


def said(verb: Any, changes: dict[str, Any]) -> list[str]:
    scenario = Scenario.from_dict({**GOOD, **changes})
    return no_effect(scenario, [deploy(only_candidate(scenario, verb))], verb)


@pytest.mark.parametrize(("verb", "section", "keys", "words", "because"), CASES)
def test_a_setting_without_effect_is_said(verb: Any, section: str, keys: dict[str, Any], words: str, because: str):
    found = said(verb, {section: keys if "arrivals" in keys else {**GOOD.get(section, {}), **keys}})
    assert ([True] if words else []) == [words in text for text in found], because


def test_prefix_aware_without_a_prefix_cache_is_said():
    changes = {"fleet": {"routing": "prefix_aware"}, "engine": {"enable_prefix_caching": False}}
    (text,) = said("simulate", changes)
    assert "goes by queues and KV use alone" in text


# verb, spare replicas, traffic, ranks, what is said, because
RETRIES = [
    ("simulate", 1, {}, {}, "no replica stops (a stop in fleet.failures)", "spare replicas serve like any other"),
    ("simulate", 1, CLOSED, {}, "no replica stops (a stop in fleet.failures)", "likewise"),
    ("capacity", 1, {}, {}, "no replica stops in a search", "the spare ones idle"),
    ("days", 0, {}, {}, "no replica stops at once", "who is scaled in drains"),
    ("plan", 1, {}, {}, "", "the proof of the spare stops one"),
    ("plan", 1, CLOSED, {}, "the spare ones do so only under open arrivals", "nothing is proved for clients"),
    ("plan", 1, BATCH, {}, "the spare ones do so only under open arrivals", "nor for a batch"),
    ("plan", 1, {}, RANKS, "and with engine.data_parallel_size 1", "nor beside ranks"),
    ("plan", 0, {}, {}, "fleet.spare_replicas is 0", "there is none to be proved"),
]


@pytest.mark.parametrize(("verb", "spare", "traffic", "ranks", "words", "because"), RETRIES)
def test_a_retry_is_tried_only_where_a_replica_stops(
    verb: Any, spare: int, traffic: dict[str, Any], ranks: dict[str, Any], words: str, because: str
):
    fleet = {"retry": False, "spare_replicas": spare, "replicas": 2}
    found = said(verb, {"fleet": fleet, "traffic": traffic or GOOD["traffic"], **ranks})
    about = [text for text in found if text.startswith("fleet.retry")]
    assert ([True] if words else []) == [words in text for text in about], because


def test_a_plan_whose_deployments_are_not_known_is_silent():
    """Of many candidates none is judged: whether the spare of one is put to the proof cannot be said."""
    scenario = Scenario.from_dict({**GOOD, "fleet": {"retry": False, "spare_replicas": 1}})
    assert [] == no_effect(scenario, [], "plan")


CALLS = {"calls": 3, "samples": 2}
# traffic, changes to the stage, room, whether it is said, because
ROOMS = [
    (CLOSED, {}, 4, True, "four clients, one call each, may all be at one replica"),
    (CLOSED, {}, 3, False, "one of four may find it full"),
    (CLOSED, CALLS, 24, True, "six model calls a query"),
    (CLOSED, CALLS, 23, False, "one fewer"),
    (BATCH, {}, 20, True, "a batch of twenty"),
    (BATCH | {"max_in_flight": 5}, {}, 5, True, "five of it at a time"),
    ({"peak_qps": 10, "max_in_flight": 5}, {}, 5, True, "so it is for open arrivals"),
    ({"peak_qps": 10}, {}, 100_000, False, "nothing bounds what comes"),
    (CLOSED | {"timeout_s": 5}, {}, 4, False, "what is given up may still be in a replica's hand"),
]


@pytest.mark.parametrize(("traffic", "stage", "room", "idle", "because"), ROOMS)
def test_room_that_is_never_filled_is_said(
    traffic: dict[str, Any], stage: dict[str, Any], room: int, idle: bool, because: str
):
    (usual,) = GOOD["query"]["stages"]
    fleet = {"replicas": 2, "admission": {"max_requests_per_replica": room}, "routing": "random"}
    changes = {"traffic": traffic, "fleet": fleet, "query": {"stages": [usual | stage]}}
    words = f"fleet.admission.max_requests_per_replica: {room} has no effect here"
    assert idle == any(text.startswith(words) for text in said("simulate", changes)), because
    if idle and "arrivals" in traffic:
        run = planner.simulate(Scenario.from_dict({**GOOD, **changes}))
        without = planner.simulate(Scenario.from_dict({**GOOD, **changes, "fleet": fleet | {"admission": None}}))
        assert run.run.last_token_s.tolist() == pytest.approx(without.run.last_token_s.tolist(), rel=1e-9)
        assert 0 == run.as_dict()["rejected"]


DOCUMENT = {"document": {"tokens": 64, "corpus": 9}}


@pytest.mark.parametrize(
    "stage",
    [TURNS, {"shared_prefix": {"tokens": 64, "groups": 4}}, DOCUMENT, DOCUMENT | {"shared_prefix": {"tokens": 64}}],
)
def test_affinity_is_silent_where_something_belongs_together(stage: dict[str, Any]):
    (usual,) = GOOD["query"]["stages"]
    assert [] == said("simulate", {"fleet": {"routing": "session_affinity"}, "query": {"stages": [usual | stage]}})


def test_both_verbs_answer_with_the_warning():
    scenario = Scenario.from_dict({**GOOD, "fleet": {"retry": False}})
    for answer in (planner.simulate(scenario, requests=1000), planner.plan(scenario, requests=1000, worlds=0)):
        assert ["fleet.retry: false has no effect"] == [text[:32] for text in answer.as_dict()["warnings"]]
        assert "WARNING: fleet.retry: false" in str(answer)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"stop": {"at_s": None, "on": True}}, "k (={stop: {at_s: null, on: true}}): must"),
        (["a", {"b": [False]}], "k (=[a, {b: [false]}]): must"),
        ("a 'b'", "k (=a 'b'): must"),
        (1e-9, "k (=1e-09): must"),
        (None, "k: must"),
        (..., "k: must"),
    ],
)
def test_a_refusal_shows_a_value_as_a_scenario_has_it(value: Any, shown: str):
    assert shown == str(ScenarioError("k", value, "must"))
