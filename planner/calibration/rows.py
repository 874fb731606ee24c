"""Equations in the parts of the step cost: seconds that were measured = Σ factor · (what the planner gives the part).

Three kinds of row. *Decode*: up to `SPAN` successive gaps of one request, each gap one step. *Mixed*: the same with
prompts computed in them. *Lone*: the time to the first token of a request that met an idle engine and had it for
itself: front end and the steps of its own prompt.
Rows of requests that ran side by side tell of the same steps, so a decode row weighs 1 ÷ (requests decoding).
No row is made of a time in which the engine may have worked for a request that failed (`unseen`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.calibration.replayed import RecordedRun
from planner.calibration.steps import Steps, read_steps
from planner.coefficients import StepCost
from planner.deployment.parts import PARTS, parts_of
from planner.readers.calibration_file import Part

F64 = NDArray[np.float64]
Table = tuple[NDArray[Any], ...]  # the columns of Rows
I64 = NDArray[np.int64]
SPAN = 8  # gaps of a decode row
DECODE, MIXED, LONE = 0, 1, 2
LEAST_GROUP = 30  # rows of a noise level
LEAST_BLOCKS, MOST_BLOCKS, BLOCK_SPANS = 8, 40, 2.0  # of time in a run; a block lasts so many times the median E2E


@dataclass(frozen=True)
class Rows:
    """R equations. `share` [R, parts] are seconds by the planner's own cost; `kind` is one of three, `block` numbers
    stretches of time of a run, over all runs. `decodes`, `prompt` and `at_s` describe a row for plots and refusals.
    """

    parts: tuple[Part, ...]
    measured_s: F64
    share: F64
    weight: F64
    kind: I64
    run: I64
    block: I64
    decodes: F64
    prompt: F64
    at_s: F64

    @property
    def level(self) -> I64:
        """Rows that have one noise level: of one kind in one run, where those are enough; else in all runs."""
        level = self.kind + 10 * (self.run + 1)
        names, place, counts = np.unique(level, return_inverse=True, return_counts=True)
        few = (counts[place] < LEAST_GROUP) | (self.kind == LONE)
        return np.where(few, self.kind, names[place])

    @property
    def even_weight(self) -> F64:
        """`weight` with every run counting alike."""
        totals = np.bincount(self.run, self.weight)
        return np.asarray(self.weight * (totals[totals > 0].mean() / totals)[self.run])


def make_rows(runs: Sequence[RecordedRun]) -> tuple[Rows, list[Steps]]:
    """The equations of all runs, and the steps that were read off each."""
    parts = tuple(part for part in PARTS if any(part in _parts(run) for run in runs))
    steps = [read_steps(run) for run in runs]
    tables = [
        table
        for number, (run, read) in enumerate(zip(runs, steps, strict=True))
        for table in (_decode_rows(run, read, parts, number), _lone_rows(run, parts, number))
    ]
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    return Rows(
        parts=parts,
        measured_s=columns[0],
        share=columns[1],
        weight=columns[2],
        kind=columns[4].astype(np.int64),
        run=columns[5].astype(np.int64),
        block=columns[8].astype(np.int64),
        decodes=columns[3],
        prompt=columns[6],
        at_s=columns[7],
    ), steps


def _parts(run: RecordedRun) -> Mapping[Part, StepCost]:
    return parts_of(run.deployment.breakdown, run.deployment.candidate)


def _decode_rows(run: RecordedRun, steps: Steps, parts: tuple[Part, ...], number: int) -> Table:
    """Sums over spans of gaps; over a whole request where its gaps were not recorded."""
    gaps = len(steps.owner)
    if gaps == 0:
        return _no_rows(len(parts))
    begins = np.r_[True, steps.owner[1:] != steps.owner[:-1]]
    first = np.maximum.accumulate(np.where(begins, np.arange(gaps), 0))
    within = np.arange(gaps) - first
    starts = np.flatnonzero(begins | (steps.exact & (within % SPAN == 0)))
    by_part = _step_seconds(run, steps, parts)
    length = np.diff(np.r_[starts, gaps])
    decodes = np.add.reduceat(steps.decodes.astype(np.float64), starts) / length
    measured = np.add.reduceat(steps.seconds, starts)
    owner = steps.owner[starts]
    at = steps.end_s[starts]
    begin = at - steps.seconds[starts]
    keep = run.whole[owner] & (measured > 0) & ~run.unseen.touches(begin, begin + measured)
    table = (
        measured,
        np.add.reduceat(by_part, starts, axis=0),
        1.0 / decodes,
        decodes,
        np.where(np.add.reduceat(steps.prefill, starts) > 0, float(MIXED), float(DECODE)),
        np.full(len(starts), float(number)),
        run.load.prompt_tokens[owner].astype(np.float64),
        at,
        time_blocks(run, at, number),
    )
    return tuple(column[keep] for column in table)


def _step_seconds(run: RecordedRun, steps: Steps, parts: tuple[Part, ...]) -> F64:
    """Seconds of each step by part [steps, parts], as the planner's own cost has them."""
    costs = _parts(run)
    config = run.deployment.config
    tokens = np.clip(steps.tokens, 1, config.max_num_batched_tokens)
    requests = np.clip(steps.requests, 1, config.max_num_seqs)
    columns = []
    for part in parts:
        cost = costs.get(part)
        if cost is None:
            columns.append(np.zeros(len(tokens)))
            continue
        seconds = cost.tokens_s[tokens] + cost.requests_s[requests]
        seconds = seconds + cost.decode_attention_s + cost.decode_token_s * steps.context
        seconds = seconds + cost.window_token_s * steps.windowed
        seconds = seconds + cost.prefill_token2_s * steps.squares + cost.prefill_window_s * steps.attended
        columns.append(seconds + cost.prefill_step_s * steps.prefill)
    return np.column_stack(columns)


def _lone_rows(run: RecordedRun, parts: tuple[Part, ...], number: int) -> Table:
    """First tokens of requests that found nobody and were left alone until then."""
    sent, first, last = run.sent_s, run.first_s, run.last_s
    before = np.r_[-np.inf, np.maximum.accumulate(last)[:-1]]
    after = np.r_[sent[1:], np.inf]
    lonely = (before < sent) & (after > first) & run.whole & (first > sent)
    alone = np.flatnonzero(lonely & ~run.unseen.touches(sent, first))
    if len(alone) == 0:
        return _no_rows(len(parts))
    prompt = run.load.prompt_tokens[alone].astype(np.int64)
    by_part = np.array([_prompt_seconds(run, int(place), parts) for place in alone])
    return (
        first[alone] - sent[alone],
        by_part,
        np.ones(len(alone)),
        np.zeros(len(alone)),
        np.full(len(alone), float(LONE)),
        np.full(len(alone), float(number)),
        prompt.astype(np.float64),
        first[alone],
        time_blocks(run, first[alone], number),
    )


def _prompt_seconds(run: RecordedRun, place: int, parts: tuple[Part, ...]) -> list[float]:
    """Seconds by part until a lone request's first token: the front end and the chunks of its prompt."""
    costs = _parts(run)
    prompt, done = int(run.load.prompt_tokens[place]), int(run.cached_tokens[place])
    budget = run.deployment.config.max_num_batched_tokens
    chunks = []
    while done < prompt:
        chunk = min(prompt - done, budget)
        chunks.append((done, chunk))
        done += chunk
    return [
        0.0
        if (cost := costs.get(part)) is None
        else cost.frontend_s + cost.frontend_token_s * prompt + sum(cost.step_s((), [chunk]) for chunk in chunks)
        for part in parts
    ]


def time_blocks(run: RecordedRun, at_s: F64, number: int) -> I64:
    """The stretch of time of run `number` that each moment lies in, numbered over all runs."""
    begin, end = float(run.sent_s.min()), float(run.last_s.max())
    span = float(np.median(run.last_s - run.sent_s))
    count = int(np.clip((end - begin) / max(BLOCK_SPANS * span, 1e-9), LEAST_BLOCKS, MOST_BLOCKS))
    within = np.clip((at_s - begin) / max(end - begin, 1e-9) * count, 0, count - 1).astype(np.int64)
    return number * MOST_BLOCKS + within


def _no_rows(parts: int) -> Table:
    nothing = np.zeros(0)
    return nothing, np.zeros((0, parts)), *[nothing] * 7
