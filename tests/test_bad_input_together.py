"""What may not stand together in a scenario, and what may not yet: one line each."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import ScenarioError, UnsupportedError
from planner.scenario import Scenario
from tests.bad_scenarios import GOOD, INF, NO_LIST, changed

TOGETHER = [
    # engine, fleet, the line starts with, holds, because
    ({"max_num_seqs": [16, 65_536]}, {"replicas": 1000}, "engine.max_num_seqs", "50000000 over all 1000", "seats"),
    (
        {"num_gpu_blocks_override": 20_000_000},
        {"replicas": 26},
        "engine.num_gpu_blocks_override",
        "500000000",
        "blocks",
    ),
    ({"data_parallel_size": [1, 8]}, {"replicas": 2501}, "fleet.replicas (=2501)", "at most 20000", "ranks"),
]


@pytest.mark.parametrize(("engine", "fleet", "starts", "holds", "because"), TOGETHER, ids=[row[4] for row in TOGETHER])
def test_what_no_memory_holds_together_is_refused(
    engine: dict[str, Any], fleet: dict[str, Any], starts: str, holds: str, because: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD | {"engine": engine, "fleet": fleet})
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value), because


NOT_OPEN = [
    {"trace": {"format": "azure"}},
    {"closed": {"concurrency": 4}},
    {"offline": {"requests": 4}},
]


@pytest.mark.parametrize("arrivals", NOT_OPEN, ids=[next(iter(arrivals)) for arrivals in NOT_OPEN])
def test_a_day_stands_only_beside_a_rate(arrivals: dict[str, Any]) -> None:
    traffic = {"arrivals": arrivals, "day": [1.0] * 23 + [0.5]}
    with pytest.raises(ScenarioError, match=r"^traffic\.day \(=.*may not stand beside arrivals: "):
        Scenario.from_dict(GOOD | {"traffic": traffic})
    flat = Scenario.from_dict(GOOD | {"traffic": traffic | {"day": [1.0] * 24}})
    assert (1.0,) * 24 == flat.traffic.day


def test_a_response_cache_beside_a_closed_loop_is_not_supported_yet() -> None:
    data = GOOD | {"traffic": {"arrivals": {"closed": {"concurrency": 4, "think_s": 8}}}}
    query = GOOD["query"] | {"response_cache": {"hit_rate": 0.3}}
    with pytest.raises(
        UnsupportedError, match=r"^query\.response_cache\.hit_rate \(=0\.3\): .*closed is not supported"
    ):
        Scenario.from_dict(data | {"query": query})
    assert Scenario.from_dict(data | {"query": GOOD["query"] | {"response_cache": {"hit_rate": 0}}}).demand == "closed"


RESERVED = [
    ("query/classes", [{"name": "gold"}], "query.classes"),
    ("fleet/pools", [], "fleet.pools"),
    ("engine/speculative", {"tokens": 3}, "engine.speculative"),
]


@pytest.mark.parametrize(("where", "value", "starts"), RESERVED, ids=[row[0] for row in RESERVED])
def test_a_reserved_key_is_not_supported_yet(where: str, value: Any, starts: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Scenario.from_dict(changed(where, value))
    assert str(caught.value).startswith(starts)
    assert "not supported yet" in str(caught.value)


SESSION = {"name": "chat", "prompt_tokens": 100, "output_tokens": 10, "turns": 3, "think_s": 5}
BESIDE_TURNS = [
    # what is changed, the line starts with, and holds, because
    ({"query": {"stages": [SESSION | {"calls": 2}]}}, "query.stages[0].calls (=2)", "beside turns (=3)", "fan-out"),
    ({"query": {"stages": [SESSION | {"samples": 2}]}}, "query.stages[0].samples (=2)", "beside turns", "best of n"),
    (
        {"query": {"stages": [SESSION, GOOD["query"]["stages"][0]]}},
        "query.stages[0].turns (=3)",
        "beside other stages",
        "stages of a turn",
    ),
    (
        {"query": {"stages": [SESSION], "response_cache": {"hit_rate": 0.2}}},
        "query.response_cache.hit_rate (=0.2)",
        "beside turns (=3)",
        "a turn that is answered elsewhere",
    ),
    *(
        ({"traffic": {"arrivals": {kind: value}}}, "query.stages[0].turns (=3)", f"beside arrivals: {kind}", kind)
        for kind, value in (
            ("closed", {"concurrency": 4}),
            ("offline", {"requests": 4}),
            ("trace", {"file": "t.csv", "format": "azure"}),
        )
    ),
]


@pytest.mark.parametrize(("change", "starts", "holds", "because"), BESIDE_TURNS, ids=[row[3] for row in BESIDE_TURNS])
def test_what_may_not_yet_stand_beside_sessions(change: dict[str, Any], starts: str, holds: str, because: str) -> None:
    data = GOOD | {"query": {"stages": [SESSION]}} | change
    with pytest.raises(UnsupportedError) as caught:
        Scenario.from_dict(data)
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value)
    assert "not supported yet" in str(caught.value)
    assert "\n" not in str(caught.value)


TURNS = [
    ({"turns": 0}, "query.stages[0].turns (=0)", "must be >= 1", "none"),
    ({"turns": 257}, "query.stages[0].turns (=257)", "must be <= 256", "more than is kept in memory"),
    ({"turns": 2.5}, "query.stages[0].turns (=2.5)", "must be a whole number", "half a turn"),
    ({"turns": [2, 3]}, "query.stages[0].turns (=[2, 3])", NO_LIST, "no choice"),
    ({"turns": True}, "query.stages[0].turns (=true)", "must be a whole number", "no number"),
    ({"think_s": -1}, "query.stages[0].think_s (=-1)", "must be >= 0", "before the answer ends"),
    ({"think_s": INF}, "query.stages[0].think_s (=inf)", "must be finite", "for ever"),
    ({"think_s": {"lognormal": {"mean": 9, "cv": 1}}}, "query.stages[0].think_s", "must be a number", "drawn"),
    ({"turns": 1}, "query.stages[0].think_s (=5)", "give turns of at least 2", "a pause before nothing"),
]


@pytest.mark.parametrize(("change", "starts", "holds", "because"), TURNS, ids=[row[3] for row in TURNS])
def test_bad_turns_and_pauses_are_refused_in_one_line(
    change: dict[str, Any], starts: str, holds: str, because: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(GOOD | {"query": {"stages": [SESSION | change]}})
    assert str(caught.value).startswith(starts), because
    assert holds in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_of_a_few_mistakes_are_named() -> None:
    data = changed("traffic/peak_qps", -1) | {"fleet": {"replicas": 0, "max_gpus": "x"}}
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_dict(data)
    others = "fleet.replicas (=0): must be >= 1; fleet.max_gpus (=x): must be a whole number"
    assert f"traffic.peak_qps (=-1): must be > 0 (and 2 more to correct: {others})" == str(caught.value)


def test_of_many_mistakes_a_few_are_named_and_all_counted() -> None:
    fleet = {"replicas": 0, "max_gpus": "x", "spare_replicas": -1, "min_replicas": 0}
    with pytest.raises(ScenarioError, match=r"^traffic.peak_qps .*\(and 4 more to correct: .*; …\)$") as caught:
        Scenario.from_dict(changed("traffic/peak_qps", -1) | {"fleet": fleet})
    assert str(caught.value).count("(=") == 4
