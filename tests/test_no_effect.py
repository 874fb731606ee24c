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


@pytest.mark.parametrize("stage", [TURNS, {"shared_prefix": {"tokens": 64, "groups": 4}}])
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
