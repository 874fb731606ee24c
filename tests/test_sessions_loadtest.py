"""Sessions over the wire: when each turn goes, what is sent again, and what its server finds in its cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtests.events import Choice, Delta, Said
from loadtests.prompts import WORDS, Api, Bodies, Conversation
from loadtests.schedule import make_schedule
from planner import vllm_metrics
from planner.calibration import calibrate, compare_recordings
from planner.calibration.replayed import recorded_runs, replay_run
from planner.deployment import deploy, only_candidate
from planner.deployment.recorded import recorded_load, recorded_scenario, sent_load, simulated_outcome, verified_load
from planner.errors import DataFileError, UnsupportedError
from planner.live import connect, scrape
from planner.readers.recordings import read_own
from planner.records import RequestRow, RunEnd
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.studies.loadtest import evaluate
from planner.workload.token_ids import SEGMENT, IdRange, Run, token_ids
from tests.emulator_process import emulator
from tests.fault_server import fault_server
from tests.loadtest_process import SCENARIO, Ended, loadtest, write_scenario
from tests.simulated_records import scenario_with, write_records

STAGE = {
    "name": "chat",
    "prompt_tokens": {"uniform": [30, 60]},
    "output_tokens": {"uniform": [10, 40]},
    "shared_prefix": {"tokens": 20},
    "turns": 4,
    "think_s": 0.1,
}
CHAT = {"query": {"stages": [STAGE]}}
FAST = ("--first-s", "0.005", "--gap-s", "0.001")
BLOCK = 16


def sent(run: Ended) -> Load:
    """The load that a run was of."""
    return recorded_load(run.header, recorded_scenario(run.header))


def assert_each_follows_its_own(run: Ended, load: Load) -> None:
    """Every turn was due when the pause after the one before had passed, and its session went from one process."""
    assert load.follows is not None
    assert len(run.rows) == load.queries
    followed = 0
    for row, before in zip(run.rows, load.follows.tolist(), strict=True):
        assert row.asked_prompt_tokens == load.prompt_tokens[row.request]
        if before < 0:
            assert row.scheduled_s == pytest.approx(load.arrival_s[row.request], abs=1e-5)
            continue
        followed += 1
        assert row.scheduled_s == row.query_s == pytest.approx(run.rows[before].ended_s + 0.1, abs=1e-5)
        assert row.sent_s is not None
        assert row.sent_s >= row.scheduled_s
        assert row.worker == run.rows[before].worker
    assert followed > load.queries / 2


def full_blocks(load: Load, query: int) -> int:
    """Tokens that turn `query` finds of its session: what the one before computed, in whole blocks, but its last."""
    assert load.follows is not None
    before = int(load.follows[query])
    said = 20 if before < 0 else int(load.prompt_tokens[before] + load.output_tokens[before]) - 1
    return min(said, int(load.prompt_tokens[query]) - 1) // BLOCK * BLOCK


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, dict[str, float], list[dict[str, Any]], Path]:
    """A run of two processes against the emulator: the client's records, the server's metrics and its own record."""
    folder = tmp_path_factory.mktemp("sessions")
    scenario = write_scenario(folder, **CHAT)
    truth, records = folder / "truth.jsonl", folder / "r.jsonl"
    with emulator(scenario, "--record", str(truth)) as server:
        options = ("--requests", "80", "--warmup-s", "0", "--processes", "2")
        run = loadtest(scenario, server.url, records, *options)
        totals = scrape(connect(server.url)).totals
    return run, totals, [json.loads(line) for line in truth.read_text().splitlines()], records


Emulated = tuple[Ended, dict[str, float], list[dict[str, Any]], Path]


def test_a_turn_goes_when_its_pause_has_passed(emulated: Emulated) -> None:
    run, *_ = emulated
    assert run.code == 0, run.output
    assert {row.error for row in run.rows} == {""}
    assert_each_follows_its_own(run, sent(run))
    assert {row.worker for row in run.rows} == {0, 1}
    assert run.end.notes == []
    assert "the last turn of a session comes 0.3 s after the first" in run.output, (
        "there was no warm-up, and that is said"
    )


def test_the_server_gets_prompts_of_the_schedules_lengths(emulated: Emulated) -> None:
    run, _, truth, _ = emulated
    load = sent(run)
    assert sorted(row["prompt_tokens"] for row in truth) == sorted(load.prompt_tokens.tolist())
    assert [row.prompt_tokens for row in run.rows] == load.prompt_tokens.tolist(), "and counts them so"
    assert [row.output_tokens for row in run.rows] == load.output_tokens.tolist()


def test_what_is_sent_again_is_found_generated_tokens_included(emulated: Emulated) -> None:
    """The cache holds 65,536 tokens, more than all that is said: every full block that was computed is hit."""
    run, totals, truth, _ = emulated
    load = sent(run)
    assert totals[vllm_metrics.PREFIX_QUERIES_TOTAL] == load.prompt_tokens.sum()
    assert load.follows is not None
    later = np.flatnonzero(load.follows >= 0)
    expected = sum(full_blocks(load, query) for query in later.tolist())
    common = BLOCK * (load.queries - len(later))  # one block of the prefix of 20, for all but those that come first
    assert expected < totals[vllm_metrics.PREFIX_HITS_TOTAL] <= expected + common
    assert totals[vllm_metrics.PREFIX_HITS_TOTAL] == sum(row["cached_tokens"] for row in truth)
    by_prompt = sorted((row["prompt_tokens"], row["cached_tokens"]) for row in truth if row["prompt_tokens"] > 60)
    assert by_prompt == sorted((int(load.prompt_tokens[query]), full_blocks(load, query)) for query in later.tolist())


def test_the_simulator_says_the_same_of_the_hits(emulated: Emulated) -> None:
    run, totals, *_ = emulated
    load, scenario = sent(run), recorded_scenario(run.header)
    outcome = simulated_outcome(deploy(only_candidate(scenario, "loadtest")), scenario, load, 1, 0)
    seen = totals[vllm_metrics.PREFIX_HITS_TOTAL] / totals[vllm_metrics.PREFIX_QUERIES_TOTAL]
    one_block = BLOCK / load.prompt_tokens.sum()  # of the common prefix, where two sessions begin at once
    assert outcome.figures["prefix_cache_hit_rate"] == pytest.approx(seen, abs=4 * one_block)
    assert seen > 0.5


def test_records_of_sessions_are_judged_and_compared(emulated: Emulated) -> None:
    *_, records = emulated
    recording = read_own(records)
    answer = evaluate(recording).as_dict()
    assert answer["queries"] == 80
    assert answer["simulated"]["queries"] == 80
    compared = compare_recordings([recording], None, allow_invalid=True).as_dict()
    assert compared["runs"][0]["requests"] == 80
    (replayed,) = recorded_runs([recording], None)
    hits = replay_run(replayed, replayed.deployment.cost).ledger["hit_tokens"].sum()
    assert hits == replayed.cached_tokens.sum() > 0, "replayed, a turn hits what the server says it hit"


# --- servers that do not say what they answered, or do not answer ---


def prompts_by_request(run: Ended, log: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The server's rows by the request that each was, both in the order of sending."""
    rows = sorted(run.rows, key=lambda row: row.sent_s or 0.0)
    by_time = sorted(log, key=lambda row: row["received_at"])
    assert [row.asked_prompt_tokens for row in rows] == [len(row["prompt"]) for row in by_time]
    return {row.request: told for row, told in zip(rows, by_time, strict=True)}


def test_a_server_that_gives_no_ids_gets_made_up_answers_back_and_that_is_said(tmp_path: Path) -> None:
    traffic = {"peak_qps": 25, "arrivals": "constant"}
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, **CHAT, traffic=traffic)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "40", "--warmup-s", "0")
        log = server.log()
    assert run.code == 0, run.output
    load = sent(run)
    assert_each_follows_its_own(run, load)
    assert load.follows is not None
    later = np.flatnonzero(load.follows >= 0).tolist()
    (note,) = run.end.notes
    assert note.startswith(f"the server did not say which tokens {len(later)} of its answers were: made-up ones")
    assert run.end.made_up == len(later)
    assert run.output.count(note) == 1
    told = prompts_by_request(run, log)
    for query in later:
        before = int(load.follows[query])
        mine, said = told[query]["prompt"], told[before]["prompt"]
        assert mine[: len(said)] == said
        assert told[before]["wants_ids"]
        answer = mine[len(said) : len(said) + int(load.output_tokens[before])]
        assert len(set(answer)) > len(answer) / 2, "words, not one of them again and again"
    last = set(range(load.queries)) - {int(before) for before in load.follows}
    assert not any(told[query]["wants_ids"] for query in last), "nobody needs the last answer"


def test_a_turn_that_fails_is_followed_and_its_prompt_has_the_length_of_the_schedule(tmp_path: Path) -> None:
    with fault_server(*FAST, "--fault", "500", "--every", "3") as server:
        scenario = write_scenario(tmp_path, **CHAT, traffic={"peak_qps": 25, "arrivals": "constant"})
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "40", "--warmup-s", "0")
        lengths = sorted(len(row["prompt"]) for row in server.log())
    assert run.code == 0, run.output
    load = sent(run)
    assert_each_follows_its_own(run, load)
    failed = {row.request for row in run.rows if row.error}
    assert 13 == len(failed) == sum(row.error == "HTTP 500" for row in run.rows)
    assert load.follows is not None
    followed = failed & set(load.follows.tolist())
    assert followed
    (note,) = run.end.notes
    assert f", and {len(followed)} answers of sessions failed: made-up ones were re-sent in their place" in note
    assert run.end.made_up == np.count_nonzero(load.follows >= 0) - len(followed), "those that came, but without ids"
    assert lengths == sorted(load.prompt_tokens.tolist())


def test_a_chat_sends_what_was_said_as_messages(tmp_path: Path) -> None:
    with fault_server(*FAST) as server:
        scenario = write_scenario(tmp_path, **CHAT)
        options = ("--requests", "24", "--warmup-s", "0", "--api", "chat")
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", *options)
        log = server.log()
    assert run.code == 0, run.output
    load = sent(run)
    assert run.end.notes == [], "the text is known"
    conversations = [row["messages"] for row in log if len(row["messages"]) > 1]
    assert load.follows is not None
    assert len(conversations) == np.count_nonzero(load.follows >= 0) > 8
    answers = {"a " * tokens for tokens in load.output_tokens.tolist()}
    for messages in conversations:
        assert [message["role"] for message in messages] == ["user", *["assistant", "user"] * (len(messages) // 2)]
        assert {message["content"] for message in messages[1::2]} <= answers, "what this server says"
    assert not any(row["wants_ids"] for row in log)


# --- the bodies ---


def said(ids: list[int], texts: list[str]) -> Said:
    """What a server said, in two events."""
    heard = Said()
    heard.hear(Choice(text=texts[0], token_ids=ids[:1]))
    heard.hear(Choice(delta=Delta(content=texts[1]), token_ids=ids[1:]))
    return heard


OWN, ANSWER, NEXT = Run(SEGMENT, 1, 3), Run(SEGMENT, 2, 2), Run(SEGMENT, 3, 4)
RANGE = IdRange(100, 1000)
KNOWN = [
    (said([7, 8], ["a", "b"]), [7, 8], True, "as the server said"),
    (said([7, 8, 9], ["a", "b"]), None, False, "longer than planned: lengths are the schedule's"),
    (said([], ["a", "b"]), None, False, "text, but no ids"),
    (None, None, False, "no answer"),
]


@pytest.mark.parametrize(("answer", "ids", "known", "because"), KNOWN, ids=[row[3] for row in KNOWN])
def test_a_completion_sends_ids_again(answer: Said | None, ids: list[int] | None, known: bool, because: str) -> None:
    talk = Conversation(Bodies("completions", "tiny", 5, RANGE))
    first = json.loads(talk.ask([Run(SEGMENT, 0, 2), OWN], 2, goes_on=True))
    assert known == talk.note(answer, ANSWER), because
    second = json.loads(talk.ask([NEXT], 9, goes_on=False))
    made_up = token_ids(5, ANSWER, RANGE).tolist()
    begin = [*token_ids(5, Run(SEGMENT, 0, 2), RANGE), *token_ids(5, OWN, RANGE)]
    assert first["prompt"] == begin
    assert second["prompt"] == [*begin, *(ids or made_up), *token_ids(5, NEXT, RANGE)]
    assert (first["max_tokens"], first["return_token_ids"]) == (2, True)
    assert (second["max_tokens"], "return_token_ids" in second) == (9, False)


@pytest.mark.parametrize(("text", "known"), [(['say "hi"', "\n"], True), (["", ""], False)])
def test_a_chat_sends_texts_again(text: list[str], known: bool) -> None:
    talk = Conversation(Bodies("chat", "tiny", 5, RANGE))
    talk.ask([OWN], 2, goes_on=True)
    assert known == talk.note(said([], text), ANSWER)
    body = json.loads(talk.ask([NEXT], 9, goes_on=True))
    user, assistant, again = body["messages"]
    assert ["user", "assistant", "user"] == [message["role"] for message in body["messages"]]
    assert (3, 4) == (len(user["content"].split()), len(again["content"].split()))
    if known:
        assert assistant["content"] == 'say "hi"\n'
    else:
        assert 2 == len(assistant["content"].split())
        assert set(assistant["content"].split()) <= set(WORDS)
    assert "return_token_ids" not in body


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_first_turn_is_what_a_query_of_one_turn_would_be(api: Api) -> None:
    bodies = Bodies(api, "tiny", 5, RANGE)
    turn = Conversation(bodies).ask([Run(SEGMENT, 0, 2), OWN], 2, goes_on=False)
    assert turn == bodies.body(0, [(0, 2), (1, 3)], 5, 2, 1)


# --- the schedule, and records ---


def test_the_warm_up_of_a_load_test_counts_turns_and_by_default_covers_a_session() -> None:
    scenario = Scenario.from_dict(SCENARIO | CHAT).with_values({"query.stages[0].think_s": 10})
    # a session of 4 turns every 0.1 s: in 15 s the first turns of 150 are due, the second of 50
    assert make_schedule(scenario, 0, 500, None, 15.0).load.warmup == 200
    pauses = 10 * 10 * (4 + 3 + 2 + 1)
    assert pauses < make_schedule(scenario, 0, 500, None, None).load.warmup < 1.1 * pauses, "and the answers"
    unknown = scenario.with_values({"hardware": None})
    assert make_schedule(unknown, 0, 500, None, None).load.warmup == pauses, "how long an answer takes is not known"
    at_once = scenario.with_values({"query.stages[0].think_s": 0})
    assert 10 < make_schedule(at_once, 0, 50, None, None).load.warmup < 1000, "answers take time where nobody thinks"
    assert make_schedule(scenario, 0, 90_000, None, None).load.warmup == 9_000
    assert make_schedule(scenario, 0, 500, None, 0.0).load.warmup == 0


def chat_records(path: Path, **more: Any) -> Path:
    """Records of sessions whose times are the simulator's own."""
    chat = scenario_with(
        query__stages=[{"name": "chat", "prompt_tokens": 300, "output_tokens": {"uniform": [10, 40]}, "turns": 4}]
    )
    return write_records(path, chat.with_values({"query.stages[0].think_s": 0.5}), **more)


def test_records_are_held_against_the_sessions_they_are_of(tmp_path: Path) -> None:
    recording = read_own(chat_records(tmp_path / "r.jsonl"))
    assert recording.header is not None
    scenario = recorded_scenario(recording.header)
    load = verified_load(recording, scenario)
    assert load.follows is not None
    assert load.follows.max() > 0
    found = evaluate(recording, scenario).as_dict()
    assert found["ttft_ms"]["p50"] == pytest.approx(found["simulated"]["ttft_ms"]["p50"], rel=1e-3)
    assert found["saturated"] is False

    def late(row: RequestRow) -> RequestRow:
        """The first turn of a session, a millisecond off."""
        return msgspec.structs.replace(row, query_s=row.query_s + 0.001) if row.request == 0 else row

    with pytest.raises(DataFileError, match="times of arrival"):
        verified_load(read_own(chat_records(tmp_path / "late.jsonl", change=late)), scenario)


def test_a_run_that_was_stopped_keeps_who_follows_whom(tmp_path: Path) -> None:
    recording = read_own(
        chat_records(tmp_path / "r.jsonl", change=lambda row: row if row.request < 300 else None, killed=True)
    )
    assert recording.header is not None
    scenario = recorded_scenario(recording.header)
    load = sent_load(recording, verified_load(recording, scenario))
    assert load.queries == len(load.follows if load.follows is not None else ()) == 300
    outcome = simulated_outcome(deploy(only_candidate(scenario, "loadtest")), scenario, load, 1, 0)
    assert outcome.figures["requests"] == 300 - load.warmup
    assert evaluate(recording, scenario).as_dict()["queries"] == 300 - load.warmup


def test_a_calibration_of_sessions_finds_the_cost_that_they_were_made_with(tmp_path: Path) -> None:
    recordings = [read_own(chat_records(tmp_path / f"{seed}.jsonl", seed=seed, slower=1.0)) for seed in (1, 2)]
    fitted = calibrate(recordings, None, date="2026-01-01")
    engine = next(row for row in fitted.calibration.coefficients if row.part == "step")
    assert ("calibrated", pytest.approx(1.0, abs=0.03)) == (engine.status, engine.factor)


# --- calibration of sessions: what its server must have said ---


def test_sessions_whose_answers_were_made_up_are_refused_where_the_server_told_no_hits(tmp_path: Path) -> None:
    """Where made-up tokens stand for an answer the schedule's hits are not the server's."""
    end = RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=400, made_up=3)
    recording = read_own(chat_records(tmp_path / "r.jsonl", end=end))
    with pytest.raises(UnsupportedError, match=r"records \(=r.jsonl\): .*3 answers were re-sent as made-up tokens"):
        recorded_runs([recording], None)
    told = replace(recording, cached_tokens=np.zeros(len(recording.request), np.int64))
    (run,) = recorded_runs([told], None)
    assert run.cached_tokens.sum() == 0, "as the server said"
    (off,) = recorded_runs([recording], None, {"engine.enable_prefix_caching": False})
    assert off.cached_tokens.sum() == 0, "a server without a cache has nothing to tell"


def test_a_chat_of_several_turns_is_refused_where_the_server_told_no_hits(tmp_path: Path) -> None:
    recording = read_own(chat_records(tmp_path / "r.jsonl"))
    assert recording.header is not None
    chat = replace(recording, header=msgspec.structs.replace(recording.header, api="chat"))
    with pytest.raises(UnsupportedError, match=r"the server counts the template too.*--enable-prompt-tokens-details"):
        recorded_runs([chat], None)
    (run,) = recorded_runs([recording], None)
    assert run.cached_tokens.sum() > 0, "a completion's prompt is the schedule's"


def test_of_a_killed_run_of_sessions_only_what_was_in_flight_is_unseen(tmp_path: Path) -> None:
    """Turns behind one that had not ended were never sent, though by the schedule they were due long before."""
    whole = read_own(chat_records(tmp_path / "whole.jsonl"))
    assert whole.ended_s is not None
    until_s = float(np.quantile(whole.ended_s, 0.9))
    killed = read_own(
        chat_records(tmp_path / "r.jsonl", killed=True, change=lambda row: row if row.ended_s <= until_s else None)
    )
    in_flight = (whole.query_s <= until_s) & (whole.ended_s > until_s)
    (run,) = recorded_runs([killed], None)
    assert 0 < in_flight.sum() < 20
    assert run.unseen.begin_s == pytest.approx(np.sort(whole.query_s[in_flight]), abs=1e-5)
