"""What the engine did between two tokens of a request, read off everybody's token times.

A request that is decoding gets one token from every step. So the gap between two of its tokens *is* one step, and the
records say what that step did: the requests between their first and their last token decoded in it, with the context
that they had by then; the prompts whose first token came at its end were computed in it. No step need be seen: times
are only asked which of two token events came first, at the middle of the gap, so the client's jitter does no harm as
long as it is short against a step, and several tokens in one event do none to the sums over a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibration.replayed import RecordedRun

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
MOST_CHUNKS = 256  # of one prompt


@dataclass(frozen=True)
class Steps:
    """One place for each token after a request's first: the step that gave it.

    `owner` is the request's place in the run, `exact` whether the token's own time was recorded (else it is taken to
    lie evenly between first and last). `tokens` and `requests` are T and n of the step, `decodes` those of them that
    decode, `context` their cached tokens and `windowed` the same within the model's window; `squares` and `attended`
    are what prefill attention of the prompts that ended in it comes to, `prefill` whether the step had any.
    """

    owner: I64
    exact: NDArray[np.bool_]
    seconds: F64
    end_s: F64
    decodes: I64
    tokens: I64
    requests: I64
    context: F64
    windowed: F64
    squares: F64
    attended: F64
    prefill: NDArray[np.bool_]


def read_steps(run: RecordedRun) -> Steps:
    """The steps of all requests with more than one token."""
    prompt, output = run.load.prompt_tokens.astype(np.int64), run.load.output_tokens.astype(np.int64)
    first, last = run.first_s, run.last_s
    owner = np.repeat(np.arange(len(output)), output)  # of every token
    begin = np.cumsum(output) - output
    place = np.arange(len(owner)) - begin[owner]  # 0 for a first token
    event_s, known = _token_times(run, owner, place, begin)
    later = np.flatnonzero(place > 0)
    seconds = event_s[later] - event_s[later - 1]
    middle = 0.5 * (event_s[later] + event_s[later - 1])
    ends = np.r_[owner[later][1:] != owner[later][:-1], True] if len(later) else np.zeros(0, np.bool_)
    until = np.where(ends, event_s[later] + 0.5 * seconds, np.r_[middle[1:], 0.0] if len(later) else middle)

    decoding = output > 1
    decodes = np.searchsorted(np.sort(first[decoding]), middle) - np.searchsorted(np.sort(last[decoding]), middle)
    decodes = np.maximum(decodes, 1)
    window = run.deployment.cost.window
    context = _running_sum(_contexts(prompt, output, owner, place, None), event_s, middle)
    windowed = (
        _running_sum(_contexts(prompt, output, owner, place, window), event_s, middle)
        if window
        else np.zeros_like(context)
    )

    order = np.argsort(first, kind="stable")
    low, high = np.searchsorted(first[order], middle, "right"), np.searchsorted(first[order], until, "right")
    high = np.maximum(high, low)
    cached = run.cached_tokens
    attended = _attended(prompt, window) - _attended(cached, window)
    prefilled = _between((prompt - cached)[order], low, high)
    more = _spill(prefilled.astype(np.int64), run.deployment.config.max_num_batched_tokens - decodes, owner[later])
    counts = high - low
    return Steps(
        owner=owner[later],
        exact=known[later],
        seconds=seconds,
        end_s=event_s[later],
        decodes=decodes,
        tokens=decodes + more,
        requests=decodes + np.where(more > 0, np.maximum(counts, 1), 0),
        context=context,
        windowed=windowed,
        squares=_between((prompt**2 - cached**2)[order], low, high),
        attended=_between(attended[order], low, high),
        prefill=more > 0,
    )


def _token_times(run: RecordedRun, owner: I64, place: I64, begin: I64) -> tuple[F64, NDArray[np.bool_]]:
    """When every token came, and whether that was recorded: it was where there is a gap for every token."""
    output = run.load.output_tokens.astype(np.int64)
    first, last = run.first_s, run.last_s
    start = run.recording.gap_start[run.row]
    gaps = run.recording.gap_start[run.row + 1] - start
    known = gaps == output - 1
    even = (last - first) / np.maximum(output - 1, 1)
    step = np.where(place > 0, even[owner], 0.0)
    recorded = known[owner] & (place > 0)
    step[recorded] = run.recording.gaps_s[start[owner[recorded]] + place[recorded] - 1]
    total = np.cumsum(step)
    return first[owner] + total - total[begin][owner], known[owner]


def _contexts(prompt: I64, output: I64, owner: I64, place: I64, window: int | None) -> F64:
    """By how much each token event changes the cached tokens that a step's decodes read together.

    After its token `place` a request holds prompt + place tokens; it leaves with its last one.
    """
    now, before = prompt[owner] + place, prompt[owner] + place - 1
    if window is not None:
        now, before = np.minimum(now, window), np.minimum(before, window)
    change = np.where(place == 0, now, now - before)
    leaves = place == output[owner] - 1
    return np.where(leaves, np.where(place == 0, 0, -before), change).astype(np.float64)


def _running_sum(change: F64, at_s: F64, when_s: F64) -> F64:
    """Σ of the changes up to each time."""
    order = np.argsort(at_s, kind="stable")
    total = np.r_[0.0, np.cumsum(change[order])]
    return np.asarray(np.maximum(total[np.searchsorted(at_s[order], when_s, "right")], 0.0))


def _between(values: NDArray[np.generic], low: I64, high: I64) -> F64:
    total = np.r_[0.0, np.cumsum(values, dtype=np.float64)]
    return np.asarray(total[high] - total[low])


def _attended(length: I64, window: int) -> F64:
    """A(x) of `planner.coefficients`."""
    full = np.minimum(length, window).astype(np.float64)
    return np.asarray(0.5 * full**2 + window * np.maximum(length - window, 0))


def _spill(prefilled: I64, room: I64, owner: I64) -> I64:
    """Prompt tokens of each step where no step takes more than its room: the rest was computed in the steps before."""
    left = prefilled.copy()
    taken = np.zeros_like(left)
    for _ in range(MOST_CHUNKS):
        fits = np.minimum(left, np.maximum(room - taken, 0))
        taken += fits
        left -= fits
        if not left.any():
            break
        same = owner[1:] == owner[:-1]
        left = np.r_[np.where(same, left[1:], 0), 0]  # what was computed before the first token is nobody's gap
    return taken
