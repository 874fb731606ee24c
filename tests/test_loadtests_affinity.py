"""What a load test says its sessions are, so that a router that keeps sessions together keeps the planned ones."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifest_plans import facts

from loadtests.schedule import Part, parts_of
from loadtests.wire import parse_address, request_head, request_tail
from planner import vllm_metrics
from planner.live import connect, scrape
from planner.simulation.fleet_draws import draws
from planner.simulation.load import Load, Prefixes, Stage
from tests.emulator_process import emulator
from tests.fault_server import fault_server
from tests.haproxy import haproxy, needs_haproxy
from tests.loadtest_process import loadtest, write_scenario
from tests.session_loads import sessions

TURNS = 4
STAGE: dict[str, Any] = {
    "name": "chat",
    "prompt_tokens": {"uniform": [40, 60]},
    "output_tokens": {"uniform": [5, 20]},
    "turns": TURNS,
    "think_s": 0.1,
}
SCENARIO = {"query": {"stages": [STAGE]}, "traffic": {"peak_qps": 40}}


def grouped(groups: list[int], stages: tuple[Stage, ...] = (Stage("a"),)) -> Load:
    """Calls whose prompts begin by their group."""
    count = len(groups)
    prefixes = Prefixes(np.arange(count + 1), np.array(groups, np.int32), np.full(max(groups) + 1, 8, np.int32))
    queries = count // sum(stage.requests for stage in stages)
    ones = np.ones(count, np.int32)
    return Load(np.arange(queries) / 8, 16 * ones, ones, stages, prefixes)


def together(load: Load, workers: int = 1) -> set[frozenset[int]]:
    """Requests that say the same of their session, those that say nothing left out."""
    found: dict[str, set[int]] = {}
    for part in parts_of(load, [1] * workers):
        sent = Part.decode(part.encode())
        for place, query in enumerate(sent.query.tolist()):
            for column in range(sent.width):
                name = sent.session_name(place * sent.width + column)
                found.setdefault(name, set()).add(query * sent.width + column)
    found.pop("", None)
    return {frozenset(requests) for requests in found.values()}


def kept_together(load: Load) -> set[frozenset[int]]:
    """Requests for which the simulator's session_affinity draws the same number."""
    drawn = draws(load, 1 << 20, "session_affinity", np.random.default_rng(5))
    return {frozenset(np.flatnonzero(drawn == number).tolist()) for number in set(drawn.tolist())}


KEPT = [
    (sessions([0.0, 0.5, 1.0], [[(8, 4)] * 3] * 3, think_s=2.0), 3, "three sessions of three turns"),
    (sessions([0.0, 0.5, 1.0], [[(8, 4)]] * 3, prefix=4), 3, "three sessions of which the run has one turn"),
    (grouped([0, 1, 2, 1, 0, 2, 2, 0]), 3, "three system prompts"),
    (replace(grouped([0, 1, 2, 3]), group_links=(0,)), 4, "four of many documents, each read once"),
    (replace(grouped([0] * 4), group_links=(0,)), 1, "of several system prompts one was drawn"),
    (grouped([0, 0, 1, 1, 1, 1, 0, 0], (Stage("a", 2, 2),)), 2, "calls of two samples, of two system prompts"),
]


@pytest.mark.parametrize(("load", "count", "because"), KEPT, ids=[because for *_, because in KEPT])
@pytest.mark.parametrize("workers", [1, 3])
def test_requests_say_the_same_session_where_the_simulator_keeps_them_together(load, count, because, workers):
    assert count == len(together(load, workers)), because
    assert kept_together(load) == together(load, workers)


ALONE = [
    (replace(grouped([0, 1, 2, 1]), group_links=(None,)), "equal beginnings that tell no groups apart"),
    (grouped([0, 1, 2, 3]), "recorded, each begins as no other does"),
    (grouped([0] * 8), "one system prompt: kept together, all would go to one replica"),
    (Load(np.arange(4.0), np.full(8, 9), np.full(8, 2), (Stage("a", 1, 2),)), "samples of a call are one request"),
]


@pytest.mark.parametrize(("load", "because"), ALONE, ids=[because for _, because in ALONE])
def test_requests_of_no_session_say_nothing(load, because):
    assert set() == together(load), because


def test_the_session_is_a_header_of_its_request_alone():
    head = request_head(parse_address("http://127.0.0.1:8000"), "/v1/completions", "")
    sent = (head + request_tail(b"{}", "2a")).decode()
    assert "\r\nx-session-id: 2a\r\nContent-Length: 2\r\n\r\n{}" in sent
    plain = (head + request_tail(b"{}", "")).decode()
    assert sent.replace("x-session-id: 2a\r\n", "") == plain


def test_a_session_s_turns_say_what_no_other_session_says(tmp_path: Path):
    """A turn's prompt begins with all of the one before: so it is known which belong together."""
    with fault_server("--first-s", "0.005", "--gap-s", "0.001") as server:
        run = loadtest(write_scenario(tmp_path, **SCENARIO), server.url, tmp_path / "r.jsonl", "--requests", "60")
        log = json.loads(urllib.request.urlopen(f"{server.url}/log", timeout=10).read())
    assert {row.error for row in run.rows} == {""}, run.output
    said: dict[str, list[list[int]]] = {}
    for row in log:
        said.setdefault(row["session"], []).append(row["prompt"])
    assert "" not in said
    begins = sum(before < 0 for part in [_load(run)] for before in part.follows.tolist())
    assert begins == len(said), "a name for each session"
    for prompts in said.values():
        prompts.sort(key=len)
        for before, after in pairwise(prompts):
            assert before == after[: len(before)], "equal within a session"


def _load(run: Any) -> Load:
    from planner.deployment.recorded import recorded_load, recorded_scenario

    return recorded_load(run.header, recorded_scenario(run.header))


@needs_haproxy
def test_behind_the_rendered_router_every_turn_finds_its_history(tmp_path: Path):
    """Two emulated replicas find together what one would: of each later turn all full blocks that were computed."""
    scenario = write_scenario(tmp_path, **SCENARIO)
    with emulator(scenario) as one, emulator(scenario) as two:
        servers = [f"{server.host}:{server.port}" for server in (one, two)]
        with haproxy(facts("demo", fleet__routing="session_affinity"), servers, tmp_path) as url:
            run = loadtest(scenario, url, tmp_path / "r.jsonl", "--requests", "60", "--served-model", "qwen3-0.6b")
        totals = [scrape(connect(server.url)).totals for server in (one, two)]
    assert {row.error for row in run.rows} == {""}, run.output
    load = _load(run)
    assert load.follows is not None
    later = np.flatnonzero(load.follows >= 0)
    before = load.follows[later]
    said = np.minimum(load.prompt_tokens[before] + load.output_tokens[before], load.prompt_tokens[later]) - 1
    assert (said // 16 * 16).sum() == sum(each[vllm_metrics.PREFIX_HITS_TOTAL] for each in totals)
    assert min(each[vllm_metrics.PREFIX_QUERIES_TOTAL] for each in totals) > 0, "and both serve"
