"""Sessions: the turns of one user, each sending all that was said before it and then its own tokens.

A turn is a query. `traffic.peak_qps` counts turns, so sessions begin at peak_qps ÷ (turns of a session, on average).
A turn's place in the order is when it would be due if answers took no time: its session's begin + turn · think_s. A run
is the beginning of an endless such order: at its end turns of every number are due, at its beginning first turns alone,
for as long as `turns_due` tells a warm-up.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.errors import ScenarioError
from planner.scenario import GammaArrivals, Scenario
from planner.scenario import Stage as ScenarioStage
from planner.simulation.load import F64, I64, Load, Prefixes, Stage
from planner.workload.arrivals import MOST_SECONDS, unit_gaps
from planner.workload.lengths import draw_tokens
from planner.workload.prefixes import draw_groups

KEY = "query.stages[0]"
MOST_DRAWN = 30_000_000  # turns of one run: beyond it the arrays take gigabytes
MOST_LINKS = 20_000_000  # of all chains: each takes some six numbers while they are cut into blocks
Generators = tuple[np.random.Generator, np.random.Generator, np.random.Generator]  # of prompts, outputs, groups


# --- how many turns come by when ---


def turns_due(rate_qps: float, turns: int, think_s: float, seconds: float) -> float:
    """Turns due within `seconds` of an empty start, rate/turns · Σ max(0, seconds − j · think_s), j < turns."""
    return rate_qps / turns * sum(max(0.0, seconds - j * think_s) for j in range(turns))


def seconds_until_due(rate_qps: float, turns: int, think_s: float, count: float) -> float:
    """Seconds from an empty start until `count` turns are due, on average: the inverse of `turns_due`."""
    sessions_qps = rate_qps / turns
    j = 0  # of the straight pieces of `turns_due`, which begin at j · think
    while j + 1 < turns and sessions_qps * think_s * (j + 1) * (j + 2) / 2 <= count:
        j += 1
    return j * think_s + (count - sessions_qps * think_s * j * (j + 1) / 2) / (sessions_qps * (j + 1))


def session_span_s(scenario: Scenario, e2e_s: float) -> float:
    """Seconds from a session's begin until its last turn's pause has passed, turns · (think_s + `e2e_s`).

    `e2e_s` is what a turn takes by itself (of an idle fleet: `deployment.idle_e2e_s`). Once a fleet has been sent
    sessions for so long, turns of every number are under way; 0 where queries follow nobody.
    """
    session = scenario.session
    return 0.0 if session is None else session.turns * (session.think_s + e2e_s)


def session_warmup(scenario: Scenario, e2e_s: float) -> int:
    """Turns due within the first `session_span_s` of a run: so many are not to be counted; 0 without sessions."""
    session = scenario.session
    if session is None:
        return 0
    span_s = session_span_s(scenario, e2e_s)
    return math.ceil(turns_due(scenario.traffic.peak_qps or 0.0, session.turns, session.think_s, span_s))


# --- what a turn says ---


class _Lengths(NamedTuple):
    """Sessions drawn; arrays have shape [sessions, turns] where nothing else is said."""

    prompts: I64  # the turn's own tokens, 0 behind the last turn
    outputs: I64
    clipped: NDArray[np.bool_]
    turns: I64  # [sessions] that fit the context
    raised: NDArray[np.bool_]  # [sessions] first turns that were drawn no longer than their shared prefix
    group: I64  # [sessions]


def _lengths(scenario: Scenario, stage: ScenarioStage, sessions: int, rngs: Generators, max_model_len: int) -> _Lengths:
    """Token counts of so many sessions; the first ones do not depend on how many follow.

    Where a turn does not fit behind its history its output and then its own prompt are cut as in `fit_to_context`; the
    session ends before a turn for which not even the fewest tokens are left.
    """
    prompt_rng, output_rng, group_rng = (copy.deepcopy(rng) for rng in rngs)
    assert stage.prompt_tokens is not None  # the scenario requires it without a trace
    shape = sessions, stage.turns
    drawn, along = draw_tokens(
        stage.prompt_tokens, sessions * stage.turns, prompt_rng, scenario.resolve, f"{KEY}.prompt_tokens"
    )
    if along is None:
        assert stage.output_tokens is not None
        along, _ = draw_tokens(
            stage.output_tokens, sessions * stage.turns, output_rng, scenario.resolve, f"{KEY}.output_tokens"
        )
    prompts, outputs = drawn.reshape(shape), along.reshape(shape)
    fewest_first, fewest_later, fewest_output = _fewest(stage)
    raised = prompts[:, 0] < fewest_first
    prompts[raised, 0] = fewest_first
    fitted_prompts, fitted_outputs = np.zeros((2, *shape), np.int64)
    history, goes_on = np.zeros(sessions, np.int64), np.ones(sessions, np.bool_)
    for turn in range(stage.turns):
        fewest, room = fewest_later if turn else fewest_first, max_model_len - history
        goes_on &= fewest + fewest_output <= room
        fitted_outputs[:, turn] = np.where(goes_on, np.minimum(outputs[:, turn], room - fewest), 0)
        fitted_prompts[:, turn] = np.where(goes_on, np.minimum(prompts[:, turn], room - fitted_outputs[:, turn]), 0)
        history += fitted_prompts[:, turn] + fitted_outputs[:, turn]
    prefix = stage.shared_prefix
    return _Lengths(
        fitted_prompts,
        fitted_outputs,
        (fitted_prompts < prompts) | (fitted_outputs < outputs),
        np.count_nonzero(fitted_outputs, axis=1),
        raised,
        draw_groups(prefix, sessions, group_rng) if prefix else np.zeros(sessions, np.int64),
    )


def _fewest(stage: ScenarioStage) -> tuple[int, int, int]:
    """The fewest tokens of a first turn's prompt, of a later one's and of an answer; a fixed value is never cut."""
    prompt = stage.prompt_tokens if isinstance(stage.prompt_tokens, int) else 1
    prefix = stage.shared_prefix.tokens if stage.shared_prefix else 0
    return max(prompt, prefix + 1), prompt, stage.output_tokens if isinstance(stage.output_tokens, int) else 1


def _refuse_misfit(stage: ScenarioStage, max_model_len: int) -> None:
    """ScenarioError where not even the fewest tokens of all turns fit the context."""
    first, later, output = _fewest(stage)
    least = first + (stage.turns - 1) * later + stage.turns * output
    if least <= max_model_len:
        return
    most = f"max_model_len (={max_model_len})"
    if first + output > max_model_len:
        raise ScenarioError(f"{KEY}.prompt_tokens", first, f"with {output} output tokens it is longer than {most}")
    fit = 1 + (max_model_len - first - output) // (later + output)
    rule = f"the last turn's prompt and answer have at least {least} tokens, more than {most}"
    raise ScenarioError(f"{KEY}.turns", stage.turns, rule, str(fit))


# --- the load ---


class _Drawn(NamedTuple):
    """Sessions, and the turns of the run by `due_s` [Q], ascending; `order` [Q] names each, session · turns + turn."""

    lengths: _Lengths
    order: I64
    due_s: F64


def session_load(
    scenario: Scenario,
    stage: ScenarioStage,
    *,
    queries: int | None,
    duration_s: float | None,
    warmup: int,
    rng: np.random.Generator,
    max_model_len: int,
) -> Load:
    """The turns of one run in the order in which they would be due: arguments as of `build_load`.

    A request's chain names all of its prompt and, as the last link, its answer: [prefix group] [turn 0's own] [turn 0's
    answer] [turn 1's own] … A session that has not ended with the run is cut there.
    """
    _refuse_misfit(stage, max_model_len)
    drawn = _draw(scenario, stage, queries, duration_s, warmup, rng, max_model_len)
    lengths, order = drawn.lengths, drawn.order
    session, turn = np.divmod(order, stage.turns)
    said = np.cumsum(lengths.prompts + lengths.outputs, axis=1)
    prompts = (said - lengths.outputs).ravel()[order]
    place = np.full(lengths.prompts.size, -1)
    place[order] = np.arange(len(order))
    return Load(
        drawn.due_s,
        prompts.astype(np.int32),
        lengths.outputs.ravel()[order].astype(np.int32),
        (Stage(stage.name),),
        _chains(stage, lengths, session, turn),
        think_s=np.where(turn > 0, stage.think_s, 0.0),
        max_in_flight=scenario.traffic.max_in_flight or 0,
        timeout_s=scenario.traffic.timeout_s or np.inf,
        warmup=warmup,
        clipped_share=float(lengths.clipped.ravel()[order].mean()),
        notes=(*_notes(stage, lengths, session[turn == 0], max_model_len), *_early_notes(stage, drawn, warmup)),
        follows=np.where(turn > 0, place[order - 1], -1),
        group_links=(None,),  # a session goes by itself, also where the run has its first turn alone
    )


def _draw(
    scenario: Scenario,
    stage: ScenarioStage,
    queries: int | None,
    duration_s: float | None,
    warmup: int,
    rng: np.random.Generator,
    max_model_len: int,
) -> _Drawn:
    """As many sessions as begin before the run's last turn is due."""
    law, rate_qps = scenario.traffic.arrivals, scenario.traffic.peak_qps
    assert isinstance(law, str | GammaArrivals)  # other arrivals may not stand beside turns
    if rate_qps is None:
        raise ScenarioError("traffic.peak_qps", None, "is required with open arrivals")
    gaps_rng, _, *rngs = rng.spawn(5)  # as for a load without turns
    first = seconds_until_due(rate_qps, stage.turns, stage.think_s, warmup if queries is None else warmup + queries)
    begun = rate_qps / stage.turns * (first + (duration_s or 0.0 if queries is None else 0.0))
    sessions = math.ceil(begun + 6.0 * math.sqrt(begun)) + 16
    while True:
        if sessions * stage.turns > MOST_DRAWN:
            rule = f"the sessions of the run have more than {MOST_DRAWN} turns; ask for a shorter run or shorter pauses"
            raise ScenarioError(f"{KEY}.turns", stage.turns, rule)
        lengths = _lengths(scenario, stage, sessions, (rngs[0], rngs[1], rngs[2]), max_model_len)
        # Turns come at `rate_qps` also where sessions end early.
        begins_s = np.cumsum(unit_gaps(law, sessions, copy.deepcopy(gaps_rng))) / (rate_qps / lengths.turns.mean())
        due_s = (begins_s[:, None] + stage.think_s * np.arange(stage.turns)).ravel()
        there = np.arange(stage.turns) < lengths.turns[:, None]
        order = np.flatnonzero(there.ravel() & (due_s <= begins_s[-1]))  # all that are due by then are drawn
        order = order[np.argsort(due_s[order], kind="stable")]
        due_s = due_s[order]
        if not begins_s[-1] <= MOST_SECONDS:
            raise ScenarioError("traffic.peak_qps", rate_qps, f"the run takes more than {MOST_SECONDS:.0e} s")
        kept = _kept(due_s, queries, duration_s, warmup)
        if kept is not None and kept <= warmup:
            raise ScenarioError("duration", f"{duration_s:g} s", f"no query arrives in it at {rate_qps:g} queries/s")
        if kept is not None:
            return _Drawn(lengths, order[:kept], due_s[:kept])
        sessions *= 2


def _kept(due_s: F64, queries: int | None, duration_s: float | None, warmup: int) -> int | None:
    """How many turns the run has, as many as `queries` or `duration_s` say; None where it is longer than `due_s`."""
    if queries is not None:
        return warmup + queries if warmup + queries <= len(due_s) else None
    if duration_s is None:
        raise ValueError("give queries or duration_s")
    if warmup >= len(due_s):
        return None
    kept = int(np.searchsorted(due_s, duration_s + (due_s[warmup - 1] if warmup else 0.0), side="right"))
    return kept if kept < len(due_s) else None


def _chains(stage: ScenarioStage, lengths: _Lengths, session: I64, turn: I64) -> Prefixes:
    """Each request's chain; segments are the prefix groups, then each session's prompts and answers by turn."""
    prefix = stage.shared_prefix
    groups, prefix_tokens = (prefix.groups, prefix.tokens) if prefix else (0, 0)
    own = np.stack((lengths.prompts, lengths.outputs), axis=2)
    own[:, 0, 0] -= prefix_tokens
    tokens = np.concatenate((np.full(groups, prefix_tokens), own.ravel())).astype(np.int32)
    shared_links = int(prefix is not None)
    links = shared_links + 2 * (turn + 1)
    if links.sum() > MOST_LINKS:
        rule = f"the sessions of the run repeat more than {MOST_LINKS} prompts and answers; ask for a shorter run"
        raise ScenarioError(f"{KEY}.turns", stage.turns, rule)
    start = np.concatenate(([0], np.cumsum(links)))
    first = groups + session * 2 * stage.turns - shared_links  # less the link that the group takes
    segment = np.repeat(first - start[:-1], links) + np.arange(start[-1])
    if prefix is not None:
        segment[start[:-1]] = lengths.group[session]
    return Prefixes(start, segment.astype(np.int32), tokens)


def _notes(stage: ScenarioStage, lengths: _Lengths, sessions: I64, max_model_len: int) -> tuple[str, ...]:
    """What was changed about the sessions that begin in the run."""
    notes = []
    short = int(np.count_nonzero(lengths.turns[sessions] < stage.turns))
    if short:
        notes.append(
            f"{KEY}.turns: {short} of {len(sessions)} sessions end before their {stage.turns} turns, because what was"
            f" said fills max_model_len (={max_model_len}); more sessions begin, so that turns come at traffic.peak_qps"
        )
    raised = int(np.count_nonzero(lengths.raised[sessions]))
    if raised:
        fewest = _fewest(stage)[0]
        notes.append(
            f"{KEY}.prompt_tokens: {raised} of {len(sessions)} first turns were drawn no longer than their shared"
            f" prefix and raised to {fewest} tokens"
        )
    return tuple(notes)


def _early_notes(stage: ScenarioStage, drawn: _Drawn, warmup: int) -> tuple[str, ...]:
    """Whether early turns are counted before late ones can be there, whatever the answers take."""
    pauses_s = (int(drawn.lengths.turns.max()) - 1) * stage.think_s
    if pauses_s == 0.0 or drawn.due_s[warmup] - drawn.due_s[0] >= pauses_s:
        return ()
    return (
        f"{KEY}.turns: the last turn of a session comes {pauses_s:g} s after the first at the earliest, and the"
        " warm-up ends before that: among the counted queries early turns are too many",
    )
