"""What the records can tell: a part that matters and cannot be told is refused, with the run that would tell it.

A part is *calibrated* where the standard deviation of its factor's log is at most `TOLD`. One that is not told does no
harm where two standard deviations of it are a small share of the time in every run: it is *kept* as the planner has it,
moved only as far as the records demand. Any other is refused: its seconds could as well be another part's, and a plan
at another load would be an extrapolation. So is a part of which the records have nothing at all, as what more requests
in a step cost where there never was a second one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.calibration.fit import PRIOR_SD, Fit
from planner.calibration.replayed import RecordedRun
from planner.calibration.rows import Rows
from planner.calibration.steps import Steps
from planner.deployment.parts import FRONTEND, NAMES
from planner.errors import InputError
from planner.readers.calibration_file import Part

F64 = NDArray[np.float64]
TOLD = 0.25  # standard deviation of a log: the 95 % interval is about × and ÷ 1.6
MATTERS = 0.05  # share of the time of steps that may as well be another part's
FRONT_MATTERS = 0.2  # likewise of TTFT: whose share a prompt token's time is, tokenizer's or engine's, moves it little
LEAST_REQUESTS = 50
LEAST_SEEN = 5  # stretches of time that have any of an engine's part
LEAST_ROWS = 30
MOST_LOG = 10.0  # of a factor's doubt: beyond it the number says nothing more
MOST_FAILED = 0.1  # share of the requests that were sent


def check_runs(runs: Sequence[RecordedRun]) -> None:
    """Raise InputError for records that are too few, or whose failures say that something else was measured."""
    answered = sum(int(np.count_nonzero(run.whole)) for run in runs)
    if answered < LEAST_REQUESTS:
        rule = f"answered requests in all records together: must be at least {LEAST_REQUESTS}; add a longer run"
        raise InputError("records", answered, rule)
    for run in runs:
        errors = run.recording.errors
        failed = sum(1 for error in errors if error) / len(errors)
        if failed > MOST_FAILED:
            rule = (
                f"{run.recording.name}: more than {MOST_FAILED:.0%} of the requests failed; record a run that is served"
            )
            raise InputError("records", f"{failed:.0%} failed", rule)
        if not (run.load.output_tokens[run.whole] > 1).any():
            rule = (
                f"{run.recording.name}: no answer has a second token, so no step can be timed; ask for longer answers"
            )
            raise InputError("records", "output_tokens 1", rule)


def check_rows(rows: Rows) -> None:
    """Raise InputError where failed requests, beside which no step is known, leave too little."""
    count = int(np.count_nonzero(rows.decodes))
    if count < LEAST_ROWS:
        rule = (
            f"spans of tokens beside which no failed request may have been served: must be at least {LEAST_ROWS}; "
            "record a run that is served"
        )
        raise InputError("records", count, rule)


def doubts(share: F64, fit: Fit) -> F64:
    """The share of the time by which each part may be off, at two standard deviations [parts].

    As the data alone have it; where they tell nothing, as far as the prior lets a factor go. 0 stays 0.
    """
    return share * np.minimum(2.0 * fit.linear_sd / fit.factor, np.expm1(2.0 * PRIOR_SD))


def shares(rows: Rows, runs: Sequence[RecordedRun], factor: F64) -> F64:
    """The largest share that each part has in any run: of the time of steps, or of the median TTFT [parts]."""
    largest = np.zeros(len(rows.parts))
    seconds = rows.share * factor
    engine = np.array([part not in FRONTEND for part in rows.parts])
    for number, run in enumerate(runs):
        mine = rows.run == number
        weight = rows.weight[mine]
        if mine.any():
            spent = (seconds[mine] * weight[:, None])[:, engine].sum(axis=0)
            largest[engine] = np.maximum(largest[engine], spent / max(float(spent.sum()), 1e-300))
        waited = float(np.median((run.first_s - run.sent_s)[run.whole]))
        for place, part in enumerate(rows.parts):
            if part in FRONTEND:
                own = factor[place] * _front_seconds(run, part)
                largest[place] = max(largest[place], min(own / max(waited, 1e-9), 1.0))
    return largest


def _front_seconds(run: RecordedRun, part: Part) -> float:
    cost = run.deployment.breakdown.cost()
    prompt = float(np.median(run.load.prompt_tokens))
    return cost.frontend_s if part == "frontend" else cost.frontend_token_s * prompt


def told(rows: Rows, runs: Sequence[RecordedRun], steps: Sequence[Steps], fit: Fit) -> NDArray[np.bool_]:
    """Which parts are calibrated; the others are kept. Raises InputError for one that matters and cannot be told."""
    front = np.array([part in FRONTEND for part in rows.parts])
    seen = front | (_stretches(rows) >= LEAST_SEEN)
    known = (fit.log_sd <= TOLD) & seen
    doubtful = np.where(seen, doubts(shares(rows, runs, fit.factor), fit), np.inf)
    bearable = np.where(front, FRONT_MATTERS, MATTERS)
    guilty = np.flatnonzero(~known & (doubtful > bearable))
    if len(guilty):
        place = int(guilty[np.argmax((doubtful / bearable)[guilty])])
        part = rows.parts[place]
        doubt = float(np.exp(min(fit.reach[place] * fit.log_sd[place], MOST_LOG)))
        rule = (
            f"cannot be told from these records (factor {fit.factor[place]:.2g}, × or ÷ {doubt:.3g}): "
            f"{_lacking(part, runs, steps)}"
        )
        raise InputError(f"calibration of {NAMES[part]}", None, rule)
    return known


def _stretches(rows: Rows) -> NDArray[np.int64]:
    """In how many stretches of time some row has any of each part [parts]."""
    return np.array([len(np.unique(rows.block[column > 0.0])) for column in rows.share.T], np.int64)


def _lacking(part: Part, runs: Sequence[RecordedRun], steps: Sequence[Steps]) -> str:
    """What the records lack for a part, and the run to add."""
    prompts = np.concatenate([run.load.prompt_tokens for run in runs])
    shortest, longest = int(prompts.min()), int(prompts.max())
    decodes = np.concatenate([read.decodes for read in steps])
    running = float(np.percentile(decodes, 99))
    context = np.concatenate([read.context for read in steps])
    mixed = float(np.concatenate([read.prefill for read in steps]).mean())
    alike = shortest == longest
    lengths = f"all prompts have {shortest} tokens" if alike else f"prompts have {shortest} to {longest} tokens"
    wider = _wider(runs, shortest, longest)
    match part:
        case "sequences":
            return (
                f"never more than {running:.3g} requests ran at once; add a run at a higher rate, "
                f"e.g. one with {max(8, 2 * round(running))} or more running"
            )
        case "decode_attention":
            low, high = np.percentile(context, (1, 99))
            return f"a step read {low:.0f} to {high:.0f} cached tokens, more where more requests ran; {wider}"
        case "tokens" | "experts" | "prefill_attention":
            overlap = "at a rate at which answers overlap"
            return f"{lengths}, computed in {mixed:.1%} of the steps of others; {wider}, {overlap}"
        case "prefill_step":
            return f"prompts were computed in {mixed:.1%} of the steps of others; add a run at a higher rate"
        case "frontend_token":
            return f"{lengths}; {wider}"
        case "frontend":
            return f"{lengths}; {wider}, at a low rate"
        case "step":
            return f"seldom fewer than {np.percentile(decodes, 1):.3g} requests ran at once; add a run at a low rate"


def _wider(runs: Sequence[RecordedRun], shortest: int, longest: int) -> str:
    """The run to add where prompts are too much alike; a longer one where the context has no room for longer ones."""
    room = min(run.deployment.config.max_model_len - int(run.load.output_tokens.max()) for run in runs)
    if shortest < longest and min(4 * longest, room) < 1.5 * longest:
        return "add a longer run of such lengths"
    return f"add a run of mixed lengths, e.g. {max(shortest // 2, 1)} to {min(4 * longest, room)} tokens"
