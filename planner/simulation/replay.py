"""A whole load through the reference scheduler: one replica, open loop, one step after the other.

Slow and plain. The kernel's answers are tested against these, so the meaning of every time and sum stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.errors import MisfitError, UnsupportedError
from planner.simulation.load import F64, Load, shared_blocks
from planner.simulation.reference import Request
from planner.simulation.stepper import Ledger, Stepper
from planner.specs import SchedulerConfig

__all__ = ["ABORTED", "FINISHED", "PENDING", "Ledger", "Replay", "replay"]

PENDING, FINISHED, ABORTED = 0, 1, 2  # a request's status


@dataclass(frozen=True)
class Replay:
    """What became of every request, in the load's order, and the sums.

    `first_token_s`, `finish_s` and `status` have shape [requests]; times are NaN for what did not happen (an aborted
    request may have had its first token). `gaps_s` holds the seconds between successive tokens of a request, all
    requests together, in the order in which they ended.
    """

    first_token_s: F64
    finish_s: F64
    status: NDArray[np.int8]
    gaps_s: F64
    ledger: Ledger


def replay(load: Load, config: SchedulerConfig, cost: StepCost) -> Replay:
    """Run `load` to its end on one replica that is idle at time 0, with an empty cache.

    Request i reaches the engine at `arrival_s[query] + frontend_s + frontend_token_s · prompt`; ties are taken in the
    load's order. Between two steps, in this order: arrivals are taken in, requests that are overdue are aborted (in
    the load's order), the next step is scheduled. Its tokens all come at its end.

    Synchronous: an arrival is taken in at the next step's start. With `async_scheduling` a step is decided when the
    one before it begins. So a busy engine takes in only what arrived by the *start* of the step that has just ended,
    and seats and blocks of requests that ended with that step are still taken. Where nothing can run for that reason
    the engine decides anew, at once and knowing all; an idle engine starts at once either way.

    A request that is unfinished `timeout_s` after it was sent is aborted at the first step boundary from then on.

    Raises UnsupportedError for loads that need more than one replica's scheduler (stages, closed loop, client limits),
    MisfitError for requests that the engine could never serve, InputError for a prompt that leaves no room for a token
    within max_model_len.
    """
    _refuse(load, config)
    requests = _requests(load, config)
    sent_s = np.repeat(load.arrival_s, load.width)
    ready_s = (sent_s + cost.frontend_s + cost.frontend_token_s * load.prompt_tokens).tolist()
    deadline_s = (sent_s + load.timeout_s).tolist()
    stepper = Stepper(config, cost)
    for i, request in enumerate(requests):
        stepper.offer(request, ready_s[i])
        stepper.abort(i, deadline_s[i])
    first_s, last_s, finish_s = (np.full(load.requests, np.nan) for _ in range(3))
    status = np.zeros(load.requests, np.int8)
    gaps_s: list[float] = []
    while stepper.due_s is not None:
        boundary = stepper.advance()
        status[[int(aborted) for aborted in boundary.aborted]] = ABORTED
        for emitted in boundary.outcome.emitted:
            i = int(emitted)
            if np.isnan(first_s[i]):
                first_s[i] = boundary.end_s
            else:
                gaps_s.append(boundary.end_s - float(last_s[i]))
            last_s[i] = boundary.end_s
        for finished in boundary.outcome.finished:
            finish_s[int(finished)] = boundary.end_s
            status[int(finished)] = FINISHED
    return Replay(first_s, finish_s, status, np.array(gaps_s, np.float64), stepper.ledger)


def _requests(load: Load, config: SchedulerConfig) -> list[Request]:
    """The load's requests as the scheduler takes them, each named by its place in the load."""
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    return [
        Request(
            id=i,
            prompt_tokens=int(load.prompt_tokens[i]),
            output_tokens=int(load.output_tokens[i]),
            blocks=shared.ids[shared.start[i] : shared.start[i] + shared.count[i]].tolist(),
        )
        for i in range(load.requests)
    ]


def _refuse(load: Load, config: SchedulerConfig) -> None:
    """Raise for what one replica's scheduler does not know, and for what would never end."""
    if len(load.stages) > 1:
        raise UnsupportedError("stages", len(load.stages), "one replica alone replays a single stage", "1")
    if load.clients:
        raise UnsupportedError("clients", load.clients, "one replica alone replays open arrivals only", "0")
    if load.max_in_flight:
        raise UnsupportedError("max_in_flight", load.max_in_flight, "needs the client's side of the simulation", "0")
    if load.requests == 0:
        return
    # The last token of an answer needs no slot.
    tokens = np.minimum(load.prompt_tokens.astype(np.int64) + load.output_tokens, config.max_model_len) - 1
    room = config.usable_blocks * config.block_size
    if tokens.max() > room:
        raise MisfitError(
            f"request {int(tokens.argmax())}", int(tokens.max()) + 1, f"tokens do not fit a KV cache of {room} tokens"
        )
