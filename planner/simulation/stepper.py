"""One replica's engine, one step after the other: the reference scheduler between arrivals and a step cost.

It has no clock. `replay` runs it to the end of a known load; the emulator runs it as wall-clock time passes, and tells
it of arrivals as they come. Both get the same times from the same stamps, because a step is decided by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from planner.coefficients import StepCost
from planner.errors import MisfitError
from planner.simulation.reference import Request, RequestId, Scheduler, Step
from planner.simulation.reference_records import Outcome
from planner.specs import SchedulerConfig


@dataclass
class Ledger:
    """Sums over all steps of a run. A *step* is one that computed something.

    Under asynchronous scheduling a finished request holds its seat and blocks through the next step, unless nothing
    else could run in it, and is counted in the integrals as vLLM's gauges count it.
    """

    steps: int = 0
    busy_s: float = 0.0
    running_s: float = 0.0  # ∫ requests holding a seat
    waiting_s: float = 0.0  # ∫ requests in the engine without one, counted from when the engine could have seen them
    kv_block_s: float = 0.0  # ∫ blocks owned by requests
    kv_peak_blocks: int = 0
    prefill_tokens: int = 0  # computed, what preemption computes again included
    decode_tokens: int = 0
    context_tokens: int = 0  # cached tokens that decodes read, summed over steps
    preemptions: int = 0
    queried_tokens: int = 0  # look-ups at first admission: what vLLM exports
    hit_tokens: int = 0
    requeried_tokens: int = 0  # look-ups after a preemption
    rehit_tokens: int = 0
    evicted_blocks: int = 0  # cached blocks that were overwritten


class Boundary(NamedTuple):
    """What happened at one step boundary, `start_s`, and in the step that follows it up to `end_s`.

    Of `step` and `outcome` nothing is left where the boundary found no work: then `end_s` = `start_s`. `running`,
    `waiting` and `owned_blocks` are those of the time between.
    """

    start_s: float
    end_s: float
    arrived: list[RequestId]
    aborted: list[RequestId]
    step: Step
    outcome: Outcome
    running: int
    waiting: int
    owned_blocks: int


class Stepper:
    """Requests are offered with the time from which the engine can see them; `advance` goes from boundary to boundary.

    Whoever drives it in real time calls `advance` only when the clock has passed `due_s`, and stamps what it offers
    and aborts with the clock: then nothing that is offered later can change what has been decided.
    """

    def __init__(self, config: SchedulerConfig, cost: StepCost) -> None:
        self.config, self.cost = config, cost
        self.scheduler = Scheduler(config)
        self._ledger = Ledger()
        self._now = self._horizon = 0.0  # arrivals up to the horizon can be seen
        self._offers = 0
        self._unseen: list[tuple[float, int, Request]] = []  # a heap by time, then by order of offering
        self._overdue: list[tuple[float, int, RequestId]] = []  # likewise, of aborts
        self._open: set[RequestId] = set()  # offered, neither finished nor aborted
        self._inside: set[RequestId] = set()  # those of them that the scheduler has
        self._awaited: Step | None = None  # asynchronous: the step whose results the scheduler does not have yet

    def offer(self, request: Request, ready_s: float) -> None:
        """A request that the engine can see from `ready_s` on; at one instant, in the order of offering."""
        self._open.add(request.id)
        heappush(self._unseen, (ready_s, self._offers, request))
        self._offers += 1

    def abort(self, request_id: RequestId, at_s: float) -> None:
        """Drop the request at the first boundary from `at_s` on, if it is not finished then."""
        heappush(self._overdue, (at_s, self._offers, request_id))
        self._offers += 1

    @property
    def due_s(self) -> float | None:
        """When the next boundary is; None where nothing is left to do."""
        if self._inside:
            return self._now
        return max(self._now, self._unseen[0][0]) if self._unseen else None

    @property
    def outstanding(self) -> int:
        """Requests offered and not over at the last boundary, or by the end of the step that it began."""
        return len(self._open)

    @property
    def ledger(self) -> Ledger:
        """The sums so far."""
        counters, ledger = self.scheduler.counters, self._ledger
        ledger.preemptions = counters.preemptions
        ledger.queried_tokens, ledger.hit_tokens = counters.queries, counters.hits
        ledger.requeried_tokens, ledger.rehit_tokens = counters.readmission_queries, counters.readmission_hits
        ledger.evicted_blocks = self.scheduler.evicted_blocks
        return ledger

    def advance(self) -> Boundary:
        """One boundary: arrivals are taken in, then what is overdue is aborted, then the next step is scheduled.

        Its tokens all come at `end_s`. Synchronous: the scheduler knows of arrivals up to the boundary and of all
        results. With `async_scheduling` the step was decided when the one before it began: a busy engine takes in only
        what arrived by then, and schedules without the results of the step that has just ended (vLLM's batch queue of
        two). A call that so finds nobody to serve costs no time: the next one, at the same boundary, knows everything.
        """
        scheduler, ledger, config = self.scheduler, self._ledger, self.config
        arrived = self._take_in()
        aborted = self._drop_overdue()
        # --- idle: on to the next arrival ---
        if not self._inside:
            self._settle()
            if self._unseen:
                self._now = self._horizon = max(self._now, self._unseen[0][0])
                arrived += self._take_in()
                aborted += self._drop_overdue()
        now = self._now
        if not self._inside:
            return Boundary(now, now, arrived, aborted, Step([], [], []), Outcome([], []), 0, 0, 0)
        # --- one step ---
        step = scheduler.schedule()
        if self._awaited is not None and not step.scheduled:
            self._settle()
            self._horizon = now
            arrived += self._take_in()
            empty, step = step, scheduler.schedule()
            step.preempted[:0] = empty.preempted
        running, waiting = len(scheduler.running), len(scheduler.waiting)
        owned = config.usable_blocks - scheduler.free_blocks
        self._settle()
        if not step.scheduled:
            raise _stuck(scheduler, config)
        decodes, prefills = step.decodes, step.prefills
        seconds = self.cost.step_s(decodes, prefills)
        ledger.steps += 1
        ledger.busy_s += seconds
        ledger.running_s += running * seconds
        ledger.waiting_s += waiting * seconds
        ledger.kv_block_s += owned * seconds
        ledger.kv_peak_blocks = max(ledger.kv_peak_blocks, owned)
        ledger.prefill_tokens += sum(chunk for _, chunk in prefills)
        ledger.decode_tokens += len(decodes)
        ledger.context_tokens += sum(decodes)
        self._horizon = now if config.async_scheduling else now + seconds
        self._now = now + seconds
        # --- its tokens ---
        if config.async_scheduling:
            outcome, self._awaited = scheduler.foresee(step), step
        else:
            outcome = scheduler.update(step)
        self._open.difference_update(outcome.finished)
        self._inside.difference_update(outcome.finished)
        return Boundary(now, self._now, arrived, aborted, step, outcome, running, waiting, owned)

    def _settle(self) -> None:
        """Let the scheduler have the results of the step that has ended, if it has not."""
        if self._awaited is not None:
            self.scheduler.update(self._awaited)
            self._awaited = None

    def _take_in(self) -> list[RequestId]:
        arrived: list[RequestId] = []
        while self._unseen and self._unseen[0][0] <= self._horizon:
            ready_s, _, request = heappop(self._unseen)
            if request.id in self._open:
                self.scheduler.add(request)
                self._inside.add(request.id)
                self._ledger.waiting_s += self._now - ready_s
                arrived.append(request.id)
        return arrived

    def _drop_overdue(self) -> list[RequestId]:
        aborted: list[RequestId] = []
        while self._overdue and self._overdue[0][0] <= self._now:
            request_id = heappop(self._overdue)[2]
            if request_id in self._open:
                self.scheduler.abort(request_id)
                self._open.discard(request_id)
                self._inside.discard(request_id)
                aborted.append(request_id)
        return aborted


def _stuck(scheduler: Scheduler, config: SchedulerConfig) -> MisfitError:
    """No step can ever follow: the head of the queue fits no step, and nobody may overtake it."""
    if config.seats < 1:
        return MisfitError("max_num_seqs", config.seats, "nothing can be scheduled: must be at least 1", "1")
    return MisfitError(
        "max_num_batched_tokens",
        config.max_num_batched_tokens,
        f"nothing can be scheduled: request {scheduler.waiting[0]} is stuck at the head of the queue, "
        f"its prompt fits no step and enable_chunked_prefill is {str(config.enable_chunked_prefill).lower()}",
        f"max_model_len (= {config.max_model_len})",
    )
