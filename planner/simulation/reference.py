"""The scheduler of one vLLM replica in plain Python: this file and `reference_*` are the specification.

It follows vLLM 0.32.0's V1 scheduler (`v1/core/sched/scheduler.py`) under `fcfs`, without speculative decoding, for
models with one full-attention KV group. `tests/scheduler_cases.json` holds what vLLM's own scheduler did, step by
step, with the requests that `tests/test_reference.py` replays here.

Where to find a rule:

    who runs next, and how many tokens      Scheduler.schedule, pass 1 and pass 2
    prompts cut short                       Scheduler._chunk_limit, and "chunk" in both passes
    who is preempted, and what it loses     Scheduler._preempt_last
    tokens, the end of a request            Scheduler.update
    a running request needs a block         reference_cache.Cache.grow
    may a waiting request come in           reference_cache.Cache.admit
    what can be hit                         reference_cache.Cache.find, reference_cache.Cache.publish
    results that are not in yet             reference_live.Live.owed, reference_live.Live.stale
    the free queue, eviction, duplicates    reference_blocks.BlockPool
    what goes in and what comes out         reference_records

There are no prefill and decode phases: in every step each request tries to make `computed` catch up with `tokens`.

Asynchronous scheduling (`v1/core/sched/async_scheduler.py`) is a matter of how it is driven: whoever calls `schedule`
before he has handed in the results of the step before gets vLLM's `AsyncScheduler`, one step behind (`stepper` does
so for `SchedulerConfig.async_scheduling`). Tokens that are still to come count as there, unless one may be an answer's
last. What follows from that: a finished request keeps its seat and blocks until its last token has come in, a stop
token costs a step for nothing, generated blocks can be hit one step later, a preempted request still gets the token
that was under way, and a call may schedule nothing at all.
"""

from __future__ import annotations

from collections import deque

from planner.errors import InputError
from planner.simulation.reference_cache import Cache
from planner.simulation.reference_live import Live
from planner.simulation.reference_records import Admission, Counters, Outcome, Request, RequestId, Scheduled, Step
from planner.specs import SchedulerConfig

__all__ = ["Admission", "Counters", "Outcome", "Request", "RequestId", "Scheduled", "Scheduler", "Step"]


class Scheduler:
    """One replica's scheduler. `schedule` and `update` alternate; `add` and `abort` come in between.

    Asynchronous: `schedule` runs one step ahead, so that up to two steps await their `update`, the older one first.
    `add` raises InputError for a request that vLLM would refuse.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.counters = Counters()
        self._cache = Cache(config)
        self._live: dict[RequestId, Live] = {}
        self._running: list[Live] = []  # in order of admission
        self._waiting: deque[Live] = deque()
        self._left_waiting = False  # the last step that was free to admit left requests in the queue

    # --- between steps ---

    def add(self, request: Request) -> None:
        """Put a new request at the end of the queue."""
        if request.id in self._live:
            raise InputError("id", request.id, "is already in the scheduler")
        if request.output_tokens < 1:
            raise InputError("output_tokens", request.output_tokens, "must be at least 1", "1")
        longest = self.config.max_model_len - 1
        if not 1 <= request.prompt_tokens <= longest:
            raise InputError(
                "prompt_tokens",
                request.prompt_tokens,
                f"must be 1 to max_model_len - 1 (= {longest}): an answer needs at least one token",
                str(min(max(request.prompt_tokens, 1), longest)),
            )
        live = Live(request)
        self._live[request.id] = live
        self._waiting.append(live)

    def abort(self, request_id: RequestId) -> None:
        """Drop a request; seat and blocks are free at once, and what it cached can still be hit.

        An id that is no longer here is ignored, as in vLLM: a client may abort what has just finished.
        """
        live = self._live.pop(request_id, None)
        if live is None:
            return
        self._leave(live)

    # --- one step ---

    def schedule(self, defer_prefills: bool = False) -> Step:
        """Decide the next step.

        `defer_prefills` asks for a step without prefill work (vLLM's data-parallel prefill throttling); it is granted
        while something decodes, unless the last step that was free to admit left requests waiting.
        """
        config = self.config
        budget = config.max_num_batched_tokens
        limit = self._chunk_limit()
        decoding = any(not live.prefilling for live in self._running)
        defer = defer_prefills and decoding and not self._left_waiting
        step = Step([], [], [])

        # --- pass 1: running requests, in list order ---
        # Decodes are not favoured over unfinished prompts; whoever was admitted first is served first.
        index = 0
        while index < len(self._running) and budget > 0:
            live = self._running[index]
            index += 1
            if (defer and live.prefilling) or live.all_asked_for:
                continue
            # --- chunk: what is missing, at most the limit and the budget; no token is computed at max_model_len ---
            chunk = min(live.tokens + live.owed - live.computed, limit, budget)
            chunk = min(chunk, config.max_model_len - live.computed - 1)
            if chunk == 0:
                continue
            # --- preemption: the last running request goes, until this one fits or has itself been the last ---
            fits = self._cache.grow(live, chunk)
            while not fits:
                victim = self._preempt_last()
                step.preempted.append(victim.request.id)
                if victim is live:
                    break
                fits = self._cache.grow(live, chunk)
            if not fits:
                break
            step.scheduled.append(self._share(live, live.computed, chunk, decode=not live.prefilling))
            budget -= chunk

        # --- pass 2: waiting requests, first come first served ---
        # Nobody overtakes: whatever stops the head of the queue stops the pass. A step that preempted admits nobody.
        if not step.preempted:
            while self._waiting and budget > 0 and len(self._running) < config.seats:
                live = self._waiting[0]
                hits = self._cache.find(live)
                cached = len(hits) * config.block_size  # costs no budget
                missing = live.tokens - cached
                if defer and missing > 1:
                    break
                # --- chunk: as in pass 1; without chunked prefill the rest of the budget must take it whole ---
                chunk = min(missing, limit)
                if chunk > budget and not config.enable_chunked_prefill:
                    break
                chunk = min(chunk, budget)
                if not self._cache.admit(live, hits, chunk, beside=bool(self._running)):
                    break
                self._running.append(self._waiting.popleft())
                step.admitted.append(self._count_lookup(live, cached))
                step.scheduled.append(self._share(live, cached, chunk, decode=False))
                budget -= chunk
            if not defer:
                self._left_waiting = bool(self._waiting)

        # --- the step counts as computed from here on ---
        for share in step.scheduled:
            live = self._live[share.id]
            live.computed += share.tokens
            live.in_flight += 1
            live.owed += share.samples
            live.prefilling = not share.samples
        return step

    def foresee(self, step: Step) -> Outcome:
        """What `update` would give for the oldest step that awaits it, unless somebody aborts meanwhile."""
        emitted = [share.id for share in step.scheduled if share.samples and share.id in self._live]
        return Outcome(emitted, [one for one in emitted if self._ends(self._live[one], 1)])

    def update(self, step: Step) -> Outcome:
        """Take in what the step gave: one token for each request that is not part-way through its prompt.

        A finished request leaves at once, so the next call of `schedule` can use its seat and blocks. Its last token
        is never computed and needs no slot.
        """
        outcome = Outcome([], [])
        for share in step.scheduled:
            live = self._live.get(share.id)
            if live is None:  # aborted meanwhile, or ended by a token that this share knew nothing of
                continue
            live.in_flight -= 1
            stale = live.stale > 0
            live.stale -= stale
            if not share.samples:
                continue
            live.outputs += 1
            outcome.emitted.append(share.id)
            if not stale:
                live.owed -= 1
                self._cache.publish(live, live.computed - live.owed)
            if self._ends(live, 0):
                outcome.finished.append(share.id)
                del self._live[share.id]
                self._leave(live)
        return outcome

    def _share(self, live: Live, before: int, chunk: int, decode: bool) -> Scheduled:
        return Scheduled(live.request.id, before, chunk, decode, before + chunk == live.tokens + live.owed)

    def _ends(self, live: Live, more: int) -> bool:
        """Its answer is complete once `more` tokens have come in."""
        return live.outputs + more >= live.request.output_tokens or live.tokens + more >= self.config.max_model_len

    def _leave(self, live: Live) -> None:
        """Out of the running list, or of the queue if it was preempted with its last token under way."""
        if live in self._running:
            self._running.remove(live)
        else:
            self._waiting.remove(live)
        self._cache.release(live)

    # --- how much of a prompt one step may take ---

    def _chunk_limit(self) -> int:
        """Most tokens of one request in this step: long_prefill_token_threshold, where it applies.

        It protects others from a long prompt, so a request alone in the engine is not held back; requests that merely
        wait count as others. The adaptive form never cuts below a fair share of the budget.
        """
        config, requests = self.config, len(self._running) + len(self._waiting)
        if config.long_prefill_token_threshold == 0 or requests <= 1:
            return config.max_model_len  # no limit: nothing is longer
        if config.long_prefill_token_threshold_adaptive:
            return max(config.long_prefill_token_threshold, config.max_num_batched_tokens // requests)
        return config.long_prefill_token_threshold

    # --- who is thrown out ---

    def _preempt_last(self) -> Live:
        """Send the last running request back to the *front* of the queue.

        It loses its blocks and computes all its tokens again, but keeps its outputs; whatever it cached can be hit
        until it is overwritten. Later victims go in front of earlier ones, so their order survives. A token under way
        is still delivered; one step behind, that happens before the next call could readmit it.
        """
        live = self._running.pop()
        self._cache.release(live)
        live.computed, live.preempted = 0, True
        live.owed, live.stale = 0, live.in_flight
        self._waiting.appendleft(live)
        self.counters.preemptions += 1
        return live

    # --- counting ---

    def _count_lookup(self, live: Live, cached: int) -> Admission:
        """Count the look-up of an admission; those of attempts that failed leave no trace."""
        queries = live.tokens if self._cache.may_be_read_by(live) else 0
        if live.preempted:
            self.counters.readmission_queries += queries
            self.counters.readmission_hits += cached
        else:
            self.counters.queries += queries
            self.counters.hits += cached
        return Admission(live.request.id, queries, cached, live.preempted)

    # --- looking in ---

    @property
    def running(self) -> list[RequestId]:
        """Ids that hold a seat, in order of admission."""
        return [live.request.id for live in self._running]

    @property
    def waiting(self) -> list[RequestId]:
        """Ids in the queue, the head first."""
        return [live.request.id for live in self._waiting]

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody owns."""
        return self._cache.pool.free

    @property
    def free_queue(self) -> list[int]:
        """Free block ids, the next to be taken first."""
        return self._cache.pool.free_queue

    @property
    def evicted_blocks(self) -> int:
        """Cached blocks that were taken for other content, so far."""
        return self._cache.pool.evicted

    @property
    def cached_blocks(self) -> list[int]:
        """Ids of blocks that a look-up can find, ascending."""
        return self._cache.pool.cached

    @property
    def block_tables(self) -> dict[RequestId, list[int]]:
        """Block ids of each running request, from its first token on."""
        return {live.request.id: list(live.blocks) for live in self._running}
