"""Sessions as arrays: who follows whom and when, what is sent again, what fits the context, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.workload import build_load
from planner.workload.sessions import seconds_until_due, session_span_s, session_warmup, turns_due

CONTEXT = 8192


def scenario(**stage: Any) -> Scenario:
    """Sessions of three turns at 12 turns a second, 5 s apart; `stage` changes keys of the stage."""
    chat = {"name": "chat", "prompt_tokens": 100, "output_tokens": 20, "turns": 3, "think_s": 5} | stage
    return Scenario.from_dict({"version": 1, "model": "m", "traffic": {"peak_qps": 12}, "query": {"stages": [chat]}})


def load(
    made: Scenario, queries: int | None = 900, *, seed: int = 1, max_model_len: int = CONTEXT, **more: Any
) -> Load:
    rng = np.random.default_rng(seed)
    length = {"duration_s": None, "warmup": 0} | more
    return build_load(made, queries=queries, rng=rng, max_model_len=max_model_len, **length)


def follows_of(made: Load) -> np.ndarray[Any, np.dtype[np.int64]]:
    assert made.follows is not None
    return made.follows


def turn_of(made: Load) -> list[int]:
    """The number of each query's turn within its session."""
    turns: list[int] = []
    for before in follows_of(made).tolist():
        turns.append(0 if before < 0 else turns[before] + 1)
    return turns


def chain_of(made: Load, query: int) -> list[tuple[int, int]]:
    """The (segment, tokens) of a query's chain."""
    assert made.prefixes is not None
    links = slice(made.prefixes.chain_start[query], made.prefixes.chain_start[query + 1])
    segments = made.prefixes.chain_segment[links].tolist()
    return [(segment, int(made.prefixes.segment_tokens[segment])) for segment in segments]


# --- who follows whom, and when ---


def test_constant_sessions_by_hand():
    """12 turns a second in sessions of 3: one begins every 0.25 s; with 0.5 s between turns the order can be listed."""
    made = scenario(think_s=0.5)
    run = load(made.with_values({"traffic.arrivals": "constant"}), 9)
    assert [0.25, 0.5, 0.75, 0.75, 1.0, 1.0, 1.25, 1.25, 1.25] == run.arrival_s.tolist()
    # at one instant the earlier session's turn stands first
    assert [-1, -1, 0, -1, 1, -1, 2, 3, -1] == follows_of(run).tolist()
    assert [0, 0, 0.5, 0, 0.5, 0, 0.5, 0.5, 0] == run.think_s.tolist()
    assert [100, 100, 220, 100, 220, 100, 340, 220, 100] == run.prompt_tokens.tolist()
    assert 0 == run.clipped_share


@settings(max_examples=60, deadline=None)
@given(
    turns=st.integers(2, 6),
    think_s=st.sampled_from([0.0, 0.01, 3.0, 40.0]),
    law=st.sampled_from(["poisson", "constant", {"gamma": {"burstiness": 0.3}}]),
    prefix=st.sampled_from([None, {"tokens": 30, "groups": 4}]),
    queries=st.integers(1, 300),
    seed=st.integers(0, 50),
)
def test_every_turn_sends_all_that_was_said_before_it_and_then_its_own(
    turns: int, think_s: float, law: Any, prefix: Any, queries: int, seed: int
):
    made = scenario(
        turns=turns,
        think_s=think_s,
        prompt_tokens={"uniform": [31, 60]},
        output_tokens={"uniform": [1, 30]},
        shared_prefix=prefix,
    ).with_values({"traffic.arrivals": law})
    run = load(made, queries, seed=seed)
    follows, numbers = follows_of(run), turn_of(run)
    assert queries == run.queries
    assert (np.diff(run.arrival_s) >= 0).all()
    assert (follows < np.arange(queries)).all()
    assert len(set(follows[follows >= 0].tolist())) == np.count_nonzero(follows >= 0), "one follows one"
    assert max(numbers) < turns
    own: set[int] = set()
    for query in range(queries):
        chain, before = chain_of(run, query), int(follows[query])
        *asked, answer = chain
        assert sum(tokens for _, tokens in asked) == run.prompt_tokens[query]
        assert answer[1] == run.output_tokens[query]
        said = [] if before < 0 else chain_of(run, before)
        assert said == chain[: len(said)], "it begins with the turn before and its answer"
        new = asked[len(said) :]
        assert len(new) == 1 + (before < 0 and prefix is not None)
        if before < 0 and prefix is not None:
            assert new[0][1] == 30
        for segment in (new[-1][0], answer[0]):
            assert segment not in own, "nobody else says the same"
            own.add(segment)
        begun = 0.0 if before < 0 else run.arrival_s[before] + think_s
        assert before < 0 or run.arrival_s[query] == pytest.approx(begun, abs=1e-9)


def test_a_run_counts_turns_of_every_number_alike_once_the_pauses_have_passed():
    made = scenario(turns=4, think_s=20)
    warmup = round(turns_due(12, 4, 20, 60))
    numbers = np.array(turn_of(load(made, 6000, warmup=warmup)))
    assert 60 * 12 * 6 / 12 == warmup  # 3 a second over 60, 40 and 20 s
    assert {0} == set(numbers[:40].tolist()), "in the first 20 s, about 60"
    # each number's count in the counted run is nearly that of the sessions that begin: Poisson, mean 1,500
    np.testing.assert_allclose(np.bincount(numbers[warmup:]), 1500, atol=5 * np.sqrt(1500))


def test_turns_come_at_peak_qps():
    run = load(scenario(think_s=2), 60_000)
    assert run.queries / run.arrival_s[-1] == pytest.approx(12, rel=0.02)


def test_a_duration_counts_the_turns_that_are_due_in_it():
    made = scenario(think_s=2)
    run = load(made, None, duration_s=100.0, warmup=500)
    longer = load(made, run.queries - 500 + 1, warmup=500)
    np.testing.assert_array_equal(run.arrival_s, longer.arrival_s[:-1])
    assert run.arrival_s[-1] <= run.arrival_s[499] + 100.0 < longer.arrival_s[-1]


def test_the_first_turns_do_not_depend_on_how_many_follow_and_another_rate_moves_times_alone():
    made = scenario(prompt_tokens={"lognormal": {"mean": 90, "cv": 0.5}}, output_tokens={"uniform": [1, 50]}, think_s=0)
    short, long, fast = load(made, 90), load(made, 4000), load(made.with_values({"peak_qps": 48}), 90)
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "follows"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:90], name)
    np.testing.assert_allclose(short.arrival_s, 4 * fast.arrival_s, rtol=1e-12)
    np.testing.assert_array_equal(short.prompt_tokens, fast.prompt_tokens)
    assert not np.array_equal(short.prompt_tokens, load(made, 90, seed=2).prompt_tokens)


@given(
    turns=st.integers(2, 30),
    think_s=st.sampled_from([0.0, 0.1, 7.0, 1e4]),
    rate=st.floats(0.01, 1e4),
    count=st.floats(0, 1e7),
)
def test_the_time_until_so_many_turns_are_due_is_the_inverse_of_the_turns_due_by_then(
    turns: int, think_s: float, rate: float, count: float
):
    assert turns_due(rate, turns, think_s, seconds_until_due(rate, turns, think_s, count)) == pytest.approx(
        count, rel=1e-6, abs=1e-6
    )


# --- what fits the context ---


def test_fixed_turns_that_fit_just_so_are_not_touched():
    run = load(scenario(), 600, max_model_len=360)
    assert (360, 0) == (int((run.prompt_tokens + run.output_tokens).max()), run.clipped_share)


def test_fixed_turns_that_can_never_fit_are_refused_with_the_number_that_would():
    with pytest.raises(ScenarioError, match=r"^query\.stages\[0\]\.turns \(=3\): .*360 tokens.*359\); nearest: 2$"):
        load(scenario(), max_model_len=359)
    with pytest.raises(ScenarioError, match=r"^query\.stages\[0\]\.prompt_tokens \(=100\): with 20 output tokens"):
        load(scenario(), max_model_len=119)
    with pytest.raises(ScenarioError, match=r"^query\.stages\[0\]\.turns \(=3\).*nearest: 1"):
        load(scenario(output_tokens={"uniform": [1, 20]}), max_model_len=201)
    short = {"prompt_tokens": {"uniform": [1, 20]}, "output_tokens": 30, "shared_prefix": {"tokens": 50}}
    with pytest.raises(ScenarioError, match=r"at least 143 tokens"):  # 51 + 1 + 1 + 3 · 30
        load(scenario(**short), max_model_len=142)
    load(scenario(**short), max_model_len=143)


def test_a_drawn_turn_that_does_not_fit_is_cut_and_its_session_ends():
    """Own prompts of 100 and answers of 20 in a context of 260: two turns leave 20, an answer may have all but one."""
    one = {"prompt_tokens": {"uniform": [100, 100]}, "output_tokens": {"uniform": [20, 20]}, "turns": 5}
    run = load(scenario(**one), 4000, max_model_len=260)
    assert run.notes[0].startswith("query.stages[0].turns: ")
    assert "sessions end before their 5 turns" in run.notes[0]
    numbers = np.array(turn_of(run))
    assert 2 == numbers.max(), "a fourth turn has no token left"
    assert {260} == set((run.prompt_tokens + run.output_tokens)[numbers == 2].tolist())
    third = numbers == 2
    assert {19} == set(run.output_tokens[third].tolist())
    assert {241} == set(run.prompt_tokens[third].tolist())
    assert run.clipped_share == pytest.approx(third.mean())
    # three turns a session still come at the rate of turns
    assert run.queries / run.arrival_s[-1] == pytest.approx(12, rel=0.05)


def test_a_first_turn_that_is_drawn_within_its_shared_prefix_is_raised_and_a_later_one_is_not():
    run = load(scenario(prompt_tokens={"uniform": [10, 20]}, shared_prefix={"tokens": 50}), 3000)
    first = np.array(turn_of(run)) == 0
    assert {51} == set(run.prompt_tokens[first].tolist())
    sessions = int(first.sum())
    assert f"{sessions} of {sessions} first turns were drawn no longer than their shared prefix" in run.notes[0]
    second = np.array(turn_of(run)) == 1
    own = run.prompt_tokens[second] - 51 - 20
    assert (10, 20) == (own.min(), own.max())


def test_a_warm_up_that_ends_before_the_last_turns_come_is_told():
    made = scenario(think_s=30)
    assert "the last turn of a session comes 60 s after the first" in load(made, 500, warmup=100).notes[0]
    assert () == load(made, 500, warmup=round(turns_due(12, 3, 30, 90))).notes


def test_where_sessions_end_early_the_warm_up_need_not_wait_for_turns_that_never_come():
    """Three turns of 10 fit: the last comes 60 s after the first, and by 80 s 4 · (80 + 50 + 20) of them are due."""
    made = scenario(turns=10, think_s=30, prompt_tokens={"uniform": [100, 101]}, output_tokens={"uniform": [20, 21]})
    run = load(made, 500, max_model_len=361, warmup=600)
    assert 2 == max(turn_of(run))
    assert ["sessions end before their 10 turns" in note for note in run.notes] == [True]


def test_a_session_lasts_as_long_as_its_pauses_and_answers():
    """Three turns of 5 + 2 s; by 21 s 4 sessions a second have sent 4 · (21 + 16 + 11) turns."""
    assert (21, 192) == (session_span_s(scenario(), 2.0), session_warmup(scenario(), 2.0))
    single = scenario(turns=1, think_s=0)
    assert (0, 0) == (session_span_s(single, 2.0), session_warmup(single, 2.0))


REFUSED = [
    ({"traffic.peak_qps": None}, {}, "traffic.peak_qps", "no rate"),
    ({"think_s": 1e9}, {"warmup": 10**10}, "query.stages[0].turns (=3)", "a session outlasts any run"),
    ({}, {"queries": 60_000_000}, "query.stages[0].turns (=3)", "more turns than fit the memory"),
    (
        {"turns": 250, "prompt_tokens": 1, "output_tokens": 1},
        {"queries": 180_000},
        "query.stages[0].turns (=250)",
        "what they repeat does not fit the memory",
    ),
    ({"traffic.peak_qps": 1e-9}, {"queries": 50_000}, "traffic.peak_qps (=1e-09)", "beyond what a float tells apart"),
    ({}, {"queries": None, "duration_s": 1e-6}, "duration (=1e-06 s)", "nothing comes in it"),
]


@pytest.mark.parametrize(("keys", "length", "starts", "because"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_cannot_be_drawn_is_refused_in_one_line(
    keys: dict[str, Any], length: dict[str, Any], starts: str, because: str
):
    keys = {key if "." in key else f"query.stages[0].{key}": value for key, value in keys.items()}
    with pytest.raises(ScenarioError) as caught:
        load(scenario().with_values(keys), **({"queries": 500_000} | length))
    assert str(caught.value).startswith(starts), because
    assert "\n" not in str(caught.value)
