"""One engine on the wall clock: the stepper of `simulation.stepper`, driven by the event loop's timers.

What is decided depends on stamps alone. A request is stamped when it is offered; a boundary is decided only once the
clock has passed it, so nothing that is stamped later could have been seen by it. A step's tokens are handed out when
the clock reaches its end. Where the event loop runs late, tokens come late; the engine's own times do not drift.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from planner.coefficients import StepCost
from planner.simulation.reference import Request
from planner.simulation.stepper import Boundary, Stepper
from planner.specs import SchedulerConfig

_TIMER_S = 1e-3  # resolution of the event loop's timers: an earlier call would find nothing due


class Listener(Protocol):
    """Who receives the tokens of a request."""

    def on_token(self, call: Call, at_s: float) -> None:
        """One more token, the engine's own time of it in `at_s`; `call.generated` counts it already."""

    def on_stop(self, call: Call) -> None:
        """The engine was stopped: no token will follow."""


@dataclass(eq=False)
class Call:
    """One sequence that the engine generates, and its times on the engine's clock."""

    id: int
    prompt_tokens: int
    output_tokens: int
    listener: Listener
    arrival_s: float = math.nan
    ready_s: float = math.nan
    queued_s: float = math.nan
    scheduled_s: float = math.nan
    first_s: float = math.nan
    last_s: float = math.nan
    generated: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    samples: int = 0  # answers that its prompt is to have, on the first of them; 0 on the others


class Gave(NamedTuple):
    """What a step gave: so many tokens, the first one to each of `prompts`, the last one to each of `finished`.

    `late_s` is how long after their time they were handed out.
    """

    tokens: int
    prompts: list[Call]
    gaps_s: list[float]
    finished: list[Call]
    late_s: float


class Observer(Protocol):
    """Who counts what the engine does: the metrics."""

    def on_boundary(self, boundary: Boundary) -> None:
        """A step has begun, or there was nothing to begin."""

    def on_idle(self) -> None:
        """The engine has nothing to do for now."""

    def on_step_end(self, gave: Gave) -> None:
        """A step's tokens have been handed out."""


class Engine:
    """One replica, or one data-parallel rank of it. All methods run on the event loop's thread."""

    def __init__(
        self,
        config: SchedulerConfig,
        cost: StepCost,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        observer: Observer,
    ) -> None:
        self.config, self._cost = config, cost
        self._clock, self._loop, self._observer = clock, loop, observer
        self._stepper = Stepper(config, cost)
        self._calls: dict[int, Call] = {}
        self._seatless: set[int] = set()
        self._under_way: Boundary | None = None  # a step whose tokens are not out yet
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._next_id = 0

    @property
    def outstanding(self) -> int:
        """Calls that are neither finished nor dropped."""
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Calls without a seat, those that the scheduler has not seen yet too."""
        return len(self._seatless)

    @property
    def free_share(self) -> float:
        """Share of the KV blocks that nobody owns, cached ones included.

        Asynchronous: what has ended keeps its blocks until the next step, which an idle engine does not begin.
        """
        if self._stepper.outstanding == 0:
            return 1.0
        return self._stepper.scheduler.free_blocks / self.config.usable_blocks

    def now_s(self) -> float:
        """The engine's clock: the stamp for `submit` and `drop`."""
        return self._clock()

    def submit(
        self,
        arrival_s: float,
        prompt_tokens: int,
        output_tokens: int,
        blocks: Sequence[bytes],
        listener: Listener,
        samples: int = 1,
    ) -> Call:
        """Offer a request that came at `arrival_s`; its tokens go to `listener`.

        Between taking the stamp and this call the event loop must not have run: a boundary may have been decided.
        """
        call = Call(self._next_id, prompt_tokens, output_tokens, listener, arrival_s, samples=samples)
        self._next_id += 1
        call.ready_s = call.arrival_s + self._cost.frontend_s + self._cost.frontend_token_s * prompt_tokens
        self._calls[call.id] = call
        self._seatless.add(call.id)
        self._stepper.offer(Request(call.id, prompt_tokens, output_tokens, blocks), call.ready_s)
        self._arm()
        return call

    def drop(self, call: Call, at_s: float) -> None:
        """The client went away at `at_s`, a stamp as in `submit`: the scheduler drops the request at its next
        boundary, unless it has finished.
        """
        self._seatless.discard(call.id)
        if self._calls.pop(call.id, None) is not None:
            self._stepper.abort(call.id, at_s)

    def stop(self) -> None:
        """No more steps; every listener is told."""
        if self._timer is not None:
            self._timer.cancel()
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.listener.on_stop(call)

    # --- the clock ---

    def _arm(self) -> None:
        """Have `_wake` called at what comes next: the end of the step under way, or the next boundary."""
        due_s = self._under_way.end_s if self._under_way else self._stepper.due_s
        if self._under_way is None and (due_s is None or due_s > self._clock()):
            self._observer.on_idle()
        if due_s is None or (self._timer is not None and self._timer_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due_s
        wait_s = due_s - self._clock()
        # Rounded up: the loop would round down, wake too early and have to wait once more.
        self._timer = self._loop.call_later(max(0.0, math.ceil(wait_s / _TIMER_S) * _TIMER_S), self._wake)

    def _wake(self) -> None:
        """Hand out what has ended, or decide what is due: one of the two, so that tokens go out before the next step
        is worked out, and a late loop still serves its sockets.
        """
        self._timer, self._timer_s = None, math.inf
        try:
            now_s, due_s = self._clock(), self._stepper.due_s
            if self._under_way is not None:
                if now_s > self._under_way.end_s:
                    ended, self._under_way = self._under_way, None
                    self._hand_out(ended, now_s - ended.end_s)
            elif due_s is not None and now_s > due_s:
                self._begin(self._stepper.advance())
        except Exception:
            self.stop()  # nobody is left waiting for an engine that is broken
            raise
        self._arm()

    def _begin(self, boundary: Boundary) -> None:
        for request_id in boundary.arrived:
            if call := self._calls.get(int(request_id)):
                call.queued_s = boundary.start_s
        for admission in boundary.step.admitted:
            self._seatless.discard(int(admission.id))
            if (call := self._calls.get(int(admission.id))) and not admission.readmission:
                call.scheduled_s, call.cached_tokens = boundary.start_s, admission.hits
        for request_id in boundary.step.preempted:
            if call := self._calls.get(int(request_id)):
                call.preemptions += 1
                self._seatless.add(call.id)
        if boundary.step.scheduled:
            self._under_way = boundary
        self._observer.on_boundary(boundary)

    def _hand_out(self, ended: Boundary, late_s: float) -> None:
        at_s, tokens = ended.end_s, 0
        prompts: list[Call] = []
        gaps_s: list[float] = []
        finished: list[Call] = []
        for request_id in ended.outcome.emitted:
            call = self._calls.get(int(request_id))
            if call is None:  # its client went away while the step ran
                continue
            tokens += 1
            call.generated += 1
            if call.generated == 1:
                call.first_s = at_s
                prompts.append(call)
            else:
                gaps_s.append(at_s - call.last_s)
            call.last_s = at_s
            if call.generated >= call.output_tokens:
                del self._calls[call.id]
                finished.append(call)
            call.listener.on_token(call, at_s)
        # Counted after the tokens are on their way.
        self._loop.call_soon(self._observer.on_step_end, Gave(tokens, prompts, gaps_s, finished, late_s))
