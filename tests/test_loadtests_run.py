"""Whole runs of Locust processes against a server that keeps its own record."""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from planner import vllm_metrics
from planner.live import connect, scrape
from tests.emulator_process import emulator, fast_scenario
from tests.fault_server import FAST, fault_server
from tests.loadtest_process import (
    loadtest,
    stages,
    write_scenario,
)

# --- open loop ---


def test_every_query_goes_on_its_time_by_the_servers_own_clock(tmp_path: Path) -> None:
    """The server's record of when requests came agrees with what the client says it sent, and with the schedule."""
    with fault_server(*FAST) as server:
        run = loadtest(write_scenario(tmp_path), server.url, tmp_path / "r.jsonl", "--requests", "60")
        log = server.log()
    assert run.code == 0, run.output
    assert run.header.demand == "open"
    assert (run.header.queries, run.header.warmup, len(run.rows)) == (66, 6, 66)  # a tenth is warm-up
    assert run.end.reason == "complete"
    assert run.end.invalid == []
    began = datetime.fromisoformat(run.header.started_at).timestamp()
    received_s = sorted(row["received_at"] - began for row in log)
    sent_s = sorted(row.sent_s for row in run.rows if row.sent_s is not None)
    assert len(received_s) == len(sent_s) == 66
    for received, sent in zip(received_s, sent_s, strict=True):
        assert -0.002 < received - sent < 0.25  # header's clock is in whole ms; a busy machine may delay the server
    assert all(row.sent_s >= row.scheduled_s for row in run.rows if row.sent_s is not None), "nothing goes early"


def test_a_server_that_stalls_does_not_slow_the_arrivals(tmp_path: Path) -> None:
    """Coordinated omission: with no answer outstanding ever coming, the later queries are still sent on time."""
    with fault_server("--fault", "silent", "--every", "1") as server:
        options = ("--requests", "60", "--request-timeout-s", "3", "--warmup-s", "0")
        run = loadtest(write_scenario(tmp_path), server.url, tmp_path / "r.jsonl", *options)
    lags = sorted(row.sent_s - row.scheduled_s for row in run.rows if row.sent_s is not None)
    assert len(lags) == 60
    assert lags[30] < 0.05  # the first answer would come after an hour
    assert {row.error for row in run.rows} == {"query timed out"}
    assert run.code == 3  # nothing was answered
    assert "the endpoint answered nothing" in run.output


def test_latency_runs_from_the_schedule_not_from_the_send(tmp_path: Path) -> None:
    """With one query in flight at a time the others wait at the client, and their TTFT holds the wait."""
    traffic = {"peak_qps": 100, "max_in_flight": 1}
    with fault_server("--first-s", "0.05", "--gap-s", "0.001") as server:
        scenario = write_scenario(tmp_path, traffic=traffic)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "20", "--warmup-s", "0")
    rows = run.rows
    assert run.code == 0, run.output  # waiting for the limit is no send lag
    for before, row in pairwise(rows):
        assert before.ended_s <= row.sent_s + 1e-3, "one at a time, in the order of arrival"
    waited = [row for row in rows if row.held_s]
    assert len(waited) > 10
    for row in waited:
        assert row.first_token_s - row.scheduled_s >= row.held_s + 0.045
    assert "at most 1 in flight" in run.output


def test_stages_follow_one_another_and_calls_go_at_once(tmp_path: Path) -> None:
    query = stages({"name": "read", "calls": 3}, {"name": "answer", "samples": 2})
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, query=query)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "8", "--warmup-s", "0")
        log = server.log()
    assert (run.code, run.header.width, len(run.rows)) == (0, 5, 40), run.output
    for first in range(0, 40, 5):
        *read, one, two = run.rows[first : first + 5]
        assert {row.scheduled_s for row in read} == {read[0].query_s}
        assert one.scheduled_s == two.scheduled_s == max(row.ended_s for row in read)
        assert one.query_s == read[0].query_s
    assert sorted(row["asked"]["n"] for row in log) == [1] * 24 + [2] * 8
    for name in ("read", "answer"):
        assert re.search(rf"TTFT +{name} ", run.output), "each stage has its own TTFT in Locust's statistics"


def test_a_failed_stage_ends_its_query(tmp_path: Path) -> None:
    """What would have followed is never sent, and counted: that is the server's doing, the run stays valid."""
    query = stages({"name": "read"}, {"name": "answer"})
    with fault_server(*FAST, "--fault", "500", "--every", "3") as server:
        scenario = write_scenario(tmp_path, query=query)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "12", "--warmup-s", "0")
        calls = len(server.log())
    assert run.code == 0, run.output
    failed_first = [row for row in run.rows if row.error and row.request % 2 == 0]
    assert failed_first
    assert run.end.unsent == len(failed_first)
    assert len(run.rows) == calls == 24 - len(failed_first)
    assert run.end.invalid == []


def test_prompts_share_exactly_what_the_scenario_says(tmp_path: Path) -> None:
    shared = {"name": "answer", "prompt_tokens": 40, "shared_prefix": {"tokens": 24, "groups": 2}}
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, query=stages(shared))
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "30", "--warmup-s", "0")
        prompts = [row["prompt"] for row in server.log()]
    assert run.code == 0, run.output
    assert {len(prompt) for prompt in prompts} == {40}
    assert len({tuple(prompt[:24]) for prompt in prompts}) == 2
    assert len({tuple(prompt[24:]) for prompt in prompts}) == 30
    assert len({prompt[24] for prompt in prompts}) > 15  # the own parts differ from their first token on


# --- other demand ---


def test_a_closed_loop_keeps_its_clients_busy_and_no_more(tmp_path: Path) -> None:
    traffic = {"arrivals": {"closed": {"concurrency": 4, "requests_per_client": 5, "think_s": 0.01}}}
    with fault_server(*FAST) as server:
        run = loadtest(write_scenario(tmp_path, traffic=traffic), server.url, tmp_path / "r.jsonl")
    assert (run.code, run.header.demand, len(run.rows)) == (0, "closed", 20), run.output
    for client in range(4):
        mine = run.rows[client::4]  # client c sends queries c, c + 4, c + 8 …
        assert mine[0].scheduled_s == 0.0
        for before, row in pairwise(mine):
            assert row.scheduled_s == pytest.approx(before.ended_s + 0.01, abs=1e-5)
    assert "Ramping to 4 users" in run.output  # one Locust user for each client


def test_a_closed_loop_of_one_heap_gives_a_free_client_the_next_query(tmp_path: Path) -> None:
    traffic = {"arrivals": {"closed": {"concurrency": 3, "requests": 11}}}
    with fault_server(*FAST) as server:
        run = loadtest(write_scenario(tmp_path, traffic=traffic), server.url, tmp_path / "r.jsonl")
    assert (run.code, [row.request for row in run.rows]) == (0, list(range(11))), run.output


def test_an_offline_batch_is_all_due_at_once(tmp_path: Path) -> None:
    traffic = {"arrivals": {"offline": {"requests": 30}}}
    with fault_server(*FAST) as server:
        run = loadtest(write_scenario(tmp_path, traffic=traffic), server.url, tmp_path / "r.jsonl")
    assert (run.code, run.header.demand, len(run.rows)) == (0, "offline", 30), run.output
    assert {row.scheduled_s for row in run.rows} == {0.0}


def test_a_trace_is_sent_as_recorded(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 100 * place, "input_length": 600, "output_length": 3 + place, "hash_ids": [0, place + 1]}
        for place in range(5)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    traffic = {"arrivals": {"trace": {"file": "t.jsonl", "format": "mooncake", "speedup": 2}}}
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, traffic=traffic, query={"stages": [{"name": "answer"}]})
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl")
        prompts = [row["prompt"] for row in server.log()]
    assert (run.code, run.header.demand) == (0, "trace"), run.output
    assert [row.scheduled_s for row in run.rows] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert [row.output_tokens for row in run.rows] == [3, 4, 5, 6, 7]
    assert len({tuple(prompt[:512]) for prompt in prompts}) == 1  # equal hash ids, equal tokens
    assert len({tuple(prompt[512:]) for prompt in prompts}) == 5


# --- the emulator ---


def test_the_emulator_answers_the_load_test(tmp_path: Path) -> None:
    """Both sides are ours, and their counts agree: the client's rows, and what the server's /metrics say."""
    scenario = fast_scenario(tmp_path)
    with emulator(scenario) as server:
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "40", "--warmup-s", "0")
        after = scrape(connect(server.url))
    assert run.code == 0, run.output
    assert [(row.error, row.prompt_tokens, row.output_tokens, row.events) for row in run.rows] == [
        ("", 200, 20, 20)
    ] * 40
    assert after.totals[vllm_metrics.GENERATION_TOKENS_TOTAL] == 40 * 20
    assert after.totals[vllm_metrics.PROMPT_TOKENS_TOTAL] == 40 * 200
    assert run.header.server["kv_cache_tokens"] == 65_536
    assert all(row.first_token_s > row.sent_s for row in run.rows if row.first_token_s and row.sent_s)


def test_a_second_run_of_one_seed_asks_as_much_at_the_same_times_but_in_other_words(tmp_path: Path) -> None:
    """Else the second run would find its prompts in the server's prefix cache, and look faster than the first."""
    scenario, options = write_scenario(tmp_path), ("--requests", "12", "--seed", "5")
    with fault_server(*FAST) as server:
        first = loadtest(scenario, server.url, tmp_path / "first.jsonl", *options)
        second = loadtest(scenario, server.url, tmp_path / "second.jsonl", *options)
        prompts = [tuple(row["prompt"]) for row in server.log()]
    assert (first.code, second.code) == (0, 0), second.output
    asked = [[(row.request, row.scheduled_s, row.asked_prompt_tokens) for row in run.rows] for run in (first, second)]
    assert asked[0] == asked[1]
    assert len(set(prompts)) == len(prompts)
    assert first.header.prompt_seed != second.header.prompt_seed
