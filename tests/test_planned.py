"""A plan's document read back: whole, or refused with the key that is wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from drift_specimens import demo, document

from planner import Scenario, plan
from planner.cli.output import json_text
from planner.drift import fleet_model
from planner.errors import InputError
from planner.planned import planned


def edited(path: str, value: Any) -> dict[str, Any]:
    """The demo's document with another value at a dotted place."""
    changed = copy.deepcopy(document())
    place: Any = changed
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return changed


def without(path: str) -> dict[str, Any]:
    """The demo's document without a key."""
    changed = copy.deepcopy(document())
    place: Any = changed
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    del place[last]
    return changed


def test_a_plan_is_read_back() -> None:
    found = demo()
    assert ("llama-3.1-8b", "l4-24gb") == (found.model_name, found.hardware)
    assert (5, 0, 5, 5) == (found.replicas, found.spare, found.serving, found.gpus)
    assert (30.0,) * 24 == pytest.approx(found.queries_per_s)
    assert (1.0, 1) == (found.uncached_share, found.requests_per_query)
    assert (4.0, 0.004) == (found.usd_per_hour, found.revenue_usd_per_query)
    assert found.figure("ttft_ms.p99") == document()["at_peak"]["ttft_ms"]["p99"]
    assert found.figure("ttft_ms.p17") is None
    assert 0.0 == found.staff_usd_per_hour


def test_a_list_is_pinned_to_what_was_chosen() -> None:
    found = planned(document(engine__max_num_seqs=[16, 64]))
    assert {} == found.pinned.choices()
    assert found.pinned.engine.max_num_seqs is not None
    assert found.scenario.engine.max_num_seqs == (16, 64)


def test_a_plan_without_money_has_none() -> None:
    found = planned(document(prices__gpu_hour_usd=None, revenue=None))
    assert (None, None, None) == (found.usd_per_hour, found.usd_per_query, found.revenue_usd_per_query)


def test_files_are_looked_for_beside_the_plan(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text("tokens\n100\n300\n")
    stages = "query: {stages: [{name: a, prompt_tokens: {histogram: {file: tokens.csv, column: tokens}},"
    engine = "model: llama-3.1-8b\nhardware: l4-24gb\nengine: {max_model_len: 4096}\n"
    text = f"version: 1\n{engine}{stages} output_tokens: 20}}]}}\n"
    (tmp_path / "s.yaml").write_text(text + "traffic: {peak_qps: 5}\nslo: {p95_ttft_ms: '<=2000'}\n")
    made = plan(Scenario.load(tmp_path / "s.yaml"), requests=1000, worlds=0)
    read = planned(json.loads(json_text(made.as_dict())), base=tmp_path)
    assert tmp_path / "tokens.csv" == read.pinned.resolve("tokens.csv")
    model = fleet_model(read).simulated
    assert model is not None
    held = {"lognormal": {"mean": 200.0, "cv": 0.5}}
    assert held == model.base.query.stages[0].model_dump()["prompt_tokens"]  # the file's own mean and cv
    assert ["query.stages[0].prompt_tokens: the capacity model takes a lognormal with the file's mean and cv in its "
            "place"] == list(model.notes)  # fmt: skip
    elsewhere = planned(json.loads(json_text(made.as_dict())), base=tmp_path / "other")
    with pytest.raises(InputError, match="no such file"):
        fleet_model(elsewhere)


@pytest.mark.parametrize(
    ("broken", "words", "because"),
    [
        ([], "is no plan", "a list"),
        ({}, "is no plan", "an empty document"),
        ({"feasible": True}, "is no plan", "cut off"),
        (edited("schema_version", 2), "schema_version (=2) must be 1", "of a later planner"),
        (edited("feasible", False), "no fleet fits", "there is nothing to run"),
        (edited("feasible", "yes"), "no fleet fits", "only true is true"),
        (edited("fleet.replicas", 0), "fleet.replicas (=0) must be a whole number of at least 1", "nothing runs"),
        (edited("fleet.replicas", 2.5), "fleet.replicas (=2.5)", "half a replica"),
        (edited("fleet.replicas", True), "fleet.replicas (=True)", "a truth value is no number"),
        (edited("fleet.spare_replicas", 5), "must be less than fleet.replicas (=5)", "none is left to serve"),
        (edited("fleet.gpus_per_replica", -1), "fleet.gpus_per_replica (=-1)", "fewer than none"),
        (edited("fleet.hardware", ["l4"]), "fleet.hardware", "a list"),
        (edited("fleet.hardware", "l4\n24"), "fleet.hardware", "two lines"),
        (
            edited("fleet.hardware", "b9000"),
            "fleet.hardware (='b9000') is not in the catalogue; nearest: gb300, gb200",
            "tampered with",
        ),
        (edited("scenario.hardware", "b9000"), "scenario.hardware (='b9000') is not in the catalogue", "the other one"),
        (
            edited("fleet.hardware", "h100-sxm-80gb"),
            "is not the scenario's hardware (=l4-24gb)",
            "a GPU of another plan",
        ),
        (edited("day", []), "day must have 24 hours", "an empty day"),
        (edited("day.3.queries", -5), "day.3.queries (=-5)", "fewer than none"),
        (edited("day.3.queries", 0), "day.3.queries (=0.0) must be above 0", "cost per query would be endless"),
        (edited("day.3.queries", float("nan")), "day.3.queries (=nan)", "not a number"),
        (edited("cost.usd_per_hour", "4"), "cost.usd_per_hour (='4')", "text"),
        (edited("revenue.usd_per_query", None), "revenue.usd_per_query", "a key without its value"),
        (edited("scenario", "demo"), "scenario (='demo') must be a mapping", "a name is no scenario"),
        (edited("scenario.traffic.peak_qps", -1), "traffic.peak_qps", "the scenario's own rules"),
        (edited("model.hf_repo", 7), "model.hf_repo", "a number"),
        (edited("at_peak", None), "at_peak", "no figures"),
        (without("seed"), "seed is missing", "cut out"),
        (without("at_peak"), "at_peak is missing", "cut out"),
        (without("model.name"), "model.name is missing", "cut out"),
    ],
)
def test_a_broken_plan_is_refused_by_its_key(broken: Any, words: str, because: str) -> None:
    with pytest.raises(InputError) as caught:
        planned(broken)
    assert words in str(caught.value), because


@pytest.mark.parametrize("alternatives", [None, 3, [], [{"chosen": True}, {"chosen": True}], [7]])
def test_a_plan_that_no_longer_says_what_it_chose_is_refused(alternatives: Any) -> None:
    with pytest.raises(InputError, match="chosen, must be one"):
        planned({**document(), "alternatives": alternatives})


def test_a_choice_that_is_not_of_the_scenarios_list_is_refused() -> None:
    changed = copy.deepcopy(document(engine__max_num_seqs=[16, 64]))
    for row in changed["alternatives"]:
        row["engine"] = {}
    with pytest.raises(InputError, match=r"engine\.max_num_seqs"):
        planned(changed)


def test_what_a_plan_tells_people_is_no_hindrance_to_those_who_read_its_fleet() -> None:
    """Warnings, the proof of the spare and the pause of a session are let through unread, whatever they hold."""
    told = {"warnings": ["fleet.spare_replicas: …"], "spare_proof": {"verdict": "fails", "seeds": [0, 1]}}
    pause = {"at_peak": document()["at_peak"] | {"session_pause": {"share": 0.8}}}
    rows = {"waterfall": [{"step": "baseline", "warnings": ["edge"]}], "later": {"key": 1}}
    found = planned(document() | told | pause | rows)
    assert found.pinned == demo().pinned
    assert (found.replicas, found.usd_per_hour) == (demo().replicas, demo().usd_per_hour)
