"""A server that batches statically: the way of serving that continuous batching replaced.

When the engine is free, it takes what waits (first come, first served, as many as there are seats and as the KV cache
holds), computes all prompts, then decodes until the batch's longest answer has ended; nobody joins on the way. Every
step costs what the same `StepCost` says, so that a comparison with the planner's scheduler differs in nothing but who
may join when.

Where real servers differed, this one is the better: an answer is streamed to its client and costs nothing once it has
ended (FasterTransformer went on computing it), and memory is reserved for the longest answer that the batch will
really give, which no server can know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.load import Load
from planner.specs import SchedulerConfig

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class StaticRun:
    """What became of every request, in the load's order, and the sums.

    Times in seconds, of shape [requests]. `seat_s` is ∫ unfinished requests of the running batch, `reserved_s` ∫ seats
    that the batch holds until its longest answer has ended.
    """

    first_token_s: F64
    last_token_s: F64
    batches: int
    busy_s: float
    seat_s: float
    reserved_s: float


def static_batches(load: Load, config: SchedulerConfig, cost: StepCost) -> StaticRun:
    """Run an open load of single requests (one call a query) to its end on one server that is idle at time 0.

    Raises MisfitError for a request that does not fit the KV cache alone.
    """
    if load.width != 1 or load.clients:
        raise MisfitError("load", load.width, "static batches are simulated for open arrivals of one call a query")
    prompt, output = load.prompt_tokens.astype(np.int64), load.output_tokens.astype(np.int64)
    room = config.usable_blocks * config.block_size
    if int((prompt + output).max()) > room:
        raise MisfitError("request", int((prompt + output).max()), f"tokens do not fit a KV cache of {room} tokens")
    ready_s = load.arrival_s + cost.frontend_s + cost.frontend_token_s * prompt
    order = np.argsort(ready_s, kind="stable")
    first_s, last_s = np.zeros(load.requests), np.zeros(load.requests)
    now = busy_s = seat_s = reserved_s = 0.0
    taken = batches = 0
    while taken < load.requests:
        now = max(now, float(ready_s[order[taken]]))
        waiting = int(np.searchsorted(ready_s[order], now, side="right"))
        batch = order[taken : taken + _fitting(prompt, output, order[taken:waiting], config.max_num_seqs, room)]
        first, last = _one_batch(prompt[batch], output[batch], config.max_num_batched_tokens, cost)
        first_s[batch], last_s[batch] = now + first, now + last
        length = float(last.max())
        busy_s, seat_s, reserved_s = busy_s + length, seat_s + float(last.sum()), reserved_s + length * len(batch)
        now += length
        taken += len(batch)
        batches += 1
    return StaticRun(first_s, last_s, batches, busy_s, seat_s, reserved_s)


def _fitting(prompt: I64, output: I64, waiting: I64, seats: int, room: int) -> int:
    """How many of those that wait go into the batch; at least the first."""
    candidates = waiting[:seats]
    longest = np.maximum.accumulate(output[candidates])
    reserved = np.cumsum(prompt[candidates]) + longest * np.arange(1, len(candidates) + 1)
    return max(1, int(np.count_nonzero(reserved <= room)))


def _one_batch(prompt: I64, output: I64, budget: int, cost: StepCost) -> tuple[F64, F64]:
    """First and last token of each request, in seconds from the batch's start."""
    first, now = _prefill(prompt, budget, cost)
    steps = int(output.max()) - 1  # the prompt's step gives the first token
    if steps == 0:
        return first, first
    # --- decode step j (1, 2, …) gives token j + 1 to whoever's answer is longer than j ---
    step = np.arange(1, steps + 1)
    longer = np.sort(output)
    running = len(output) - np.searchsorted(longer, step, side="right")
    order = np.argsort(output, kind="stable")
    prompts_left = np.concatenate((np.cumsum(prompt[order][::-1])[::-1], [0]))[len(output) - running]
    context = prompts_left + running * (step - 1)
    seconds = cost.tokens_s[running] + cost.requests_s[running] + cost.decode_attention_s
    seconds = seconds + cost.decode_token_s * context
    if cost.window:
        cached = np.minimum(prompt[:, None] + step - 1, cost.window) * (output[:, None] > step)
        seconds = seconds + cost.window_token_s * cached.sum(axis=0)
    ends = now + np.concatenate(([0.0], np.cumsum(seconds)))
    last = ends[output - 1]
    last[output == 1] = first[output == 1]
    return first, last


def _prefill(prompt: I64, budget: int, cost: StepCost) -> tuple[F64, float]:
    """When each prompt is done, and all of them: `budget` tokens a step, in order, long prompts in chunks."""
    first, now = np.zeros(len(prompt)), 0.0
    left, chunks, ended = budget, list[tuple[int, int]](), list[int]()
    for index, tokens in enumerate(prompt.tolist()):
        done = 0
        while done < tokens:
            chunk = min(left, tokens - done)
            chunks.append((done, chunk))
            done, left = done + chunk, left - chunk
            if done == tokens:
                ended.append(index)
            if left == 0 or (done == tokens and index == len(prompt) - 1):
                now += cost.step_s((), chunks)
                first[ended] = now
                left, chunks, ended = budget, [], []
    return first, now
