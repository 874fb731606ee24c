"""What a run of sessions says: its rates, whether it is overloaded, its windows, its tokens, what was sent of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planner
from planner.deployment import Length, deploy, make_load, only_candidate
from planner.deployment.recorded import measured_outcome, measured_service, sent_load, simulated_outcome
from planner.planning import _token_histograms
from planner.readers.recordings import Recording
from planner.records import RunEnd
from planner.scenario import Scenario
from planner.simulation.backlog import backlog_grows
from planner.simulation.fleet import FleetRun, run_fleet, without_cooldown
from planner.simulation.load import Load
from planner.simulation.outcome import served, summarise
from planner.sizing.search import demand_of
from planner.specs import Limit
from tests.session_loads import CHAT, THREE, TWO, run, sessions

NAN = float("nan")


def one_server(turns: int, load_factor: float, count: int = 600, seed: int = 3) -> Load:
    """Sessions of one-second turns (`run` with one seat, one token each) that begin at `load_factor` ÷ turns a second.

    Without pauses, so that a session that is never held up lasts as many seconds as it has turns.
    """
    gaps_s = np.random.default_rng(seed).exponential(turns / load_factor, count)
    return sessions(np.cumsum(gaps_s).tolist(), [[(1, 1)] * turns] * count)


# --- overload ---


@pytest.mark.parametrize(
    ("turns", "load_factor", "grows"),
    [(10, 0.8, False), (10, 0.9, False), (10, 1.1, True), (50, 0.9, False), (50, 1.3, True), (50, 1.5, True)],
)
def test_a_server_that_more_turns_come_to_than_it_serves_is_overloaded(turns: int, load_factor: float, grows: bool):
    """Each session has one turn outstanding, so what piles up is a part of the sessions, and is held against them.

    At 1.1 times what is served some eleventh of the sessions that begin is left over, 114 of the later 1,250, or more
    where they are half done; four times √1,250 is 141. A run of 600 sessions is long enough for 1.3 times: 69 of 300
    against 69.
    """
    count = 2500 if load_factor == 1.1 else 600
    load = one_server(turns, load_factor, count)
    wide = np.full(load.requests, 1, np.int32)
    done = run(replace(load, prompt_tokens=wide, prefixes=None), seats=1)
    assert backlog_grows(served(done)) is grows


# --- throughput ---


def chat(**keys: Any) -> Scenario:
    return Scenario.from_dict(CHAT).with_values({key.replace("__", "."): value for key, value in keys.items()})


@pytest.mark.parametrize("asked", [{"requests": 1000}, {"requests": 4000}, {"duration_s": 60.0}], ids=str)
def test_the_rate_of_a_fleet_with_room_is_the_rate_that_was_offered(asked: dict[str, Any]):
    """Whatever a session lasts, here 18 turns of some 6 s: within the noise of a window of a few hundred turns."""
    scenario = chat(query__stages=[CHAT["query"]["stages"][0] | {"turns": 18, "think_s": 2}])
    said = planner.simulate(scenario, **asked).as_dict()
    assert not said["saturated"]
    offered_qps = said["queries"] / said["duration_s"]  # that were drawn
    # turns end as they came, but for what is under way at both ends of the window: Poisson, √(rate · answer) each
    under_way = offered_qps * said["e2e_ms"]["mean"] / 1000.0
    apart = 4 * (2 * under_way) ** 0.5 / said["queries"] + 4 * (18 / said["queries"]) ** 0.5 * 0.25
    assert said["query_throughput"] == pytest.approx(offered_qps, rel=apart)
    assert said["request_throughput"] == said["query_throughput"]
    if "duration_s" in asked:
        assert said["duration_s"] == pytest.approx(60, abs=3)


def test_rates_are_of_what_ends_while_sessions_come():
    """By hand: sessions at 0, 1 and 20 s, counted from the third turn on. They would be due at 3, 4, 6, 7, 20, 23, 26.

    Of what ends after 3 s and not after 26 s: at 7, 8, 12, 13, 22 and 27 s, but for the last and the first two of the
    warm-up at 2 and 3 s: five turns of two tokens in 23 s.
    """
    load = replace(sessions([0, 1, 20], [THREE, THREE, THREE], 3), warmup=2)
    limits = (Limit("ttft", "p50", 50.0, 1500.0),)
    figures = summarise(run(load), limits, steady=False).figures
    assert 23 == figures["duration_s"]
    assert 5 / 23 == figures["query_throughput"] == figures["goodput_rps"]
    assert 10 / 23 == figures["output_throughput"]
    assert (10 + 10 + 16 + 16 + 4 + 10) / 23 == figures["total_token_throughput"]
    assert (7, 7) == (figures["queries"], figures["requests"]), "counted are those behind the warm-up, as ever"


def test_a_turn_of_the_warm_up_that_ends_later_is_counted_into_the_rate():
    """The first turn, 12 s long, ends at 13 s; the second would be due at 3 s, the last at 30 s."""
    load = replace(sessions([1, 3, 30], [[(4, 12)], [(4, 2)], [(4, 2)]]), warmup=1)
    assert 2 / 27 == summarise(run(load), (), steady=False).figures["query_throughput"]


# --- the ends of a run, and its windows ---


def test_a_run_by_time_is_kept_going_while_the_last_counted_answers_come():
    scenario = chat()
    length = Length(0, 400, 216)
    load = make_load(scenario, 8192, 1, length, 60.0)
    counted = load.arrival_s[400 : load.queries - load.cooldown]
    assert load.arrival_s[399] + 59 < counted[-1] <= load.arrival_s[399] + 60.0 < load.arrival_s[-load.cooldown]
    assert load.cooldown == pytest.approx(216, abs=6 * 4 * 6)  # 36 s at 6 a second, in sessions of six
    assert 0 == make_load(scenario, 8192, 1, Length(0, 400, 0), 60.0).cooldown, "a load test says its own"
    single = chat(query__stages=[{"name": "a", "prompt_tokens": 9, "output_tokens": 9}])
    assert 0 == make_load(single, 8192, 1, length, 60.0).cooldown


def test_windows_of_inter_token_gaps_lie_over_the_times_at_which_turns_were_due():
    """Twenty turns without pauses take twenty answers: nominal times end long before the turns do."""
    scenario = chat(query__stages=[CHAT["query"]["stages"][0] | {"turns": 20, "think_s": 0}])
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, 0, Length(1000, 600, 600))
    done = run_fleet(load, deployment.config, deployment.cost, 1, "random", np.random.default_rng(0))
    count = done.gaps.count.sum(axis=1)
    assert 20 == len(count)
    due_s = done.arrival_s[600:1600]
    assert done.gaps.start_s == due_s.min()
    assert 20 * done.gaps.window_s == pytest.approx(due_s.max() - due_s.min())
    output = load.output_tokens[600:1600]
    assert count.sum() == (output - 1).sum()
    # a gap counts where it ends: not far from when its turn was due, since an answer takes two windows or less
    turns = np.histogram(due_s, 20, weights=output - 1)[0]
    nearby = np.convolve(turns, np.ones(5), "same")
    assert (count <= nearby).all()
    assert count[-1] < 0.25 * count.sum()


def test_the_gaps_of_a_run_are_not_lost_where_windows_are_joined():
    """Three sessions: too few turns for windows, one holds all; forty: all windows together hold all."""
    few, many = run(sessions([0, 1, 20], [THREE] * 3, 3)), run(sessions(list(range(40)), [TWO] * 40, 3))
    assert (1, 9) == (len(few.gaps.total_s), few.gaps.count.sum())
    assert (20, 80) == (len(many.gaps.total_s), many.gaps.count.sum())
    assert 80 == many.gaps.total_s.sum(), "a second each"


# --- what a turn is taken to be ---


def test_a_turn_has_the_tokens_of_the_counted_turns():
    """The warm-up's early turns are shorter; a load without sessions is alike all along and counts whole."""
    load = replace(sessions([0, 1, 20], [THREE] * 3, 3), warmup=2, cooldown=3)
    done = without_cooldown(run(load))
    outcome = summarise(done, (), steady=False)
    demand = demand_of(chat(), load, outcome)
    assert load.prompt_tokens[2:6].mean() == (10 + 10 + 16 + 16) / 4 == demand.prompt_tokens
    table = _token_histograms(load)["prompt_tokens"]
    assert (4, [10, 16]) == (sum(table["counts"]), [table["edges"][0], table["edges"][-1]])
    plain = replace(load, follows=None, think_s=None)
    assert load.prompt_tokens.mean() == demand_of(chat(), plain, outcome).prompt_tokens


def test_a_single_engine_is_not_said_to_route_sessions_away():
    def rows(**keys: Any) -> set[str]:
        scenario = chat(**keys)
        return {row["what"] for row in planner.simulate(scenario, requests=100).as_dict()["provenance"]}

    assert "session routing" not in rows()
    assert "session routing" in rows(fleet__replicas=2)
    assert "session routing" in rows(engine__data_parallel_size=2), "ranks are routed to as replicas are"


# --- records of a run that was stopped ---


def recorded(done: FleetRun, kept: list[int], errors: dict[int, str]) -> Recording:
    """The run's own times as records of the queries `kept`, with `errors` by query."""
    place = np.array(kept)
    output = done.load.output_tokens[place].astype(np.int64)
    told = tuple(errors.get(query, "") for query in kept)
    lost = np.array([bool(error) for error in told])
    return Recording(
        Path("r.jsonl"), "planner", place, done.arrival_s[place], done.arrival_s[place], done.sent_s[place],
        np.where(lost, NAN, done.first_token_s[place]), np.where(lost, NAN, done.last_token_s[place]),
        done.load.prompt_tokens[place].astype(np.int64), output,
        np.zeros(len(kept) + 1, np.int64), np.zeros(0), told,
        end=RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="interrupted", rows=len(kept)),
        ended_s=np.where(lost, NAN, done.last_token_s[place]),
    )  # fmt: skip


def test_a_stopped_run_is_simulated_without_the_turns_that_were_never_sent():
    """Stopped at 11.5 s: of A, B and C (at 0, 1, 11 s) B's last turn and C's first are under way or just begun.

    Nominal due times are 0 1 3 4 6 7 11 14 17: A's third turn stands fifth and C's first seventh, before it C's later
    ones were never sent.
    """
    load = sessions([0, 1, 11], [THREE] * 3, 3, warmup=1)
    done = run(load)
    recording = recorded(done, [0, 1, 2, 3, 4, 6], {4: "interrupted", 6: "interrupted"})
    sent = sent_load(recording, load)
    assert [0, 1, 3, 4, 6, 11] == sent.arrival_s.tolist()
    assert [-1, -1, 0, 1, 2, -1] == sent.follows.tolist()
    assert (1, [4, 4, 10, 10, 16, 4]) == (sent.warmup, sent.prompt_tokens.tolist())
    again = run(sent)
    np.testing.assert_array_equal(done.last_token_s[[0, 1, 2, 3, 4, 6]], again.last_token_s)
    assert again.ledger["hit_tokens"].sum() == 4 + 4 + 8, "the chains are the kept turns'"
    whole = recorded(done, list(range(9)), {})
    assert sent_load(whole, load) is load


def test_a_turn_whose_forerunners_row_was_lost_belongs_to_what_is_known_of_its_session():
    load = sessions([0, 1, 11], [THREE] * 3, 3)
    done = run(load)
    recording = recorded(done, [0, 1, 4, 5, 6], {})  # without the second turns, and without B's first below
    assert [-1, -1, 0, 1, -1] == measured_service(recording, load).load.follows.tolist()
    unknown = recorded(done, [0, 4, 5, 6], {})
    assert [-1, 0, -1, -1] == measured_service(unknown, load).load.follows.tolist()
    # that they were sent is certain, for B's third turn was
    assert [-1, -1, 0, 1, 2, 3, -1] == sent_load(unknown, load).follows.tolist()


def test_measured_rates_of_sessions_are_the_simulators():
    scenario = chat(traffic__peak_qps=4)
    deployment = deploy(only_candidate(scenario, "loadtest"))
    load = make_load(scenario, deployment.config.max_model_len, 2, Length(1200, 400, 0))
    simulated = simulated_outcome(deployment, scenario, load, 1, 0)
    done = run_fleet(load, deployment.config, deployment.cost, 1, "random", np.random.default_rng([0, 1]))
    measured = measured_outcome(recorded(done, list(range(load.queries)), {}), load, scenario)
    for name in ("duration_s", "query_throughput", "output_throughput", "goodput_rps", "saturated"):
        assert simulated.figures[name] == pytest.approx(measured.figures[name]), name
