"""When each query goes: on its time whatever is outstanding, or when a client of a closed loop is free.

A query's stages follow one another, the calls of a stage go at once, and a failed call ends its query: what would have
followed is never sent. A session's next turn is due when the one before has ended, however it ended, and the pause has
passed. `max_in_flight` and `timeout_s` mean what they mean to the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import gevent
from gevent.event import Event
from gevent.pool import Group

from loadtests.client import Call, Client
from loadtests.events import Said
from loadtests.failures import INTERRUPTED, STALLED, TIMED_OUT, Abandoned
from loadtests.gate import Gate
from loadtests.prompts import Bodies, Conversation
from loadtests.rows import rows_of
from loadtests.schedule import Part
from loadtests.timer import Timer
from planner.records import RequestRow
from planner.workload.token_ids import SEGMENT, Run

READY_S = 0.05  # before a turn is due its body is made: made before the pause it would take memory for as long
WATCH_EVERY_S = 0.05
PATIENCE_S = 2.0  # for calls to end that were told to


@dataclass(frozen=True)
class Limits:
    """What the client bears. `max_in_flight` (0 = no limit) is this worker's share."""

    max_in_flight: int
    timeout_s: float
    stall_s: float


class Dispatch:
    """Sends one worker's part; `note` is told of every model call that has ended."""

    def __init__(
        self,
        part: Part,
        client: Client,
        bodies: Bodies,
        limits: Limits,
        note: Callable[[RequestRow, str, Call], None],
        worker: int = 0,
        sleep: Callable[[float], None] = gevent.sleep,
    ) -> None:
        self.part, self.limits = part, limits
        self.rows = 0  # that `note` was told of
        self.skipped = 0  # requests behind a failed stage
        self.made_up = 0  # answers that came whole, but could not be re-sent as the server gave them
        self.broken_off = 0  # answers that did not come whole, and were made up where they had to be re-sent
        self.stopped = False
        self.over = Event()
        self._client, self._bodies, self._note, self._worker = client, bodies, note, worker
        self._sleep = sleep
        self._gate = Gate(limits.max_in_flight) if limits.max_in_flight else None
        self._group = Group()
        self._active: set[Call] = set()
        self._timer = Timer(client.now, sleep)
        self._clients = count(part.first_client)
        self._busy_clients = part.clients
        self._heap = iter(range(len(part.query)))
        self._place = {query: place for place, query in enumerate(part.query.tolist())} if part.per_client else {}
        self._follower = {before: place for place, before in enumerate(part.follows.tolist()) if before >= 0}
        self._watcher = gevent.spawn(self._watch)

    @property
    def unsent(self) -> int:
        """Requests of the part that have no row."""
        return len(self.part.prompt_tokens) - self.rows

    def stop(self) -> None:
        """End what is under way; each call that was sent still gets its row."""
        self.stopped = True
        self._watcher.kill(block=False)
        for call in tuple(self._active):  # a closed loop's run in its clients' own greenlets
            _abandon(call, INTERRUPTED)
        with gevent.Timeout(PATIENCE_S, False):
            while self._active:
                gevent.sleep(0.01)
        self._group.kill(Abandoned(INTERRUPTED), timeout=PATIENCE_S)
        self.over.set()

    # --- open loop ---

    def run_open(self) -> None:
        """Send every query when it is due, and wait for the last answer."""
        if len(self.part.follows):
            self._run_sessions()
            return
        for place, due_s in enumerate(self.part.arrival_s.tolist()):
            # Made ready before it is due. Behind a limit that would fill the memory with what waits.
            calls = self._calls(place, 0) if self._gate is None else []
            self._sleep_until(due_s, in_order=True)
            if self.stopped:
                return
            self._group.spawn(self._query, place, due_s, calls)
            gevent.sleep(0)  # it goes before the next one is made ready
        self._group.join()
        self._finish()

    # --- sessions ---

    def _run_sessions(self) -> None:
        """Begin every session when its first turn is due, and wait for the last answer of the last one."""
        for place in (self.part.follows < 0).nonzero()[0].tolist():
            due_s = float(self.part.arrival_s[place])
            talk = Conversation(self._bodies)
            calls = [self._turn(place, talk)] if self._gate is None else []
            self._sleep_until(due_s, in_order=True)
            if self.stopped:
                return
            self._group.spawn(self._session, place, due_s, talk, calls)
            gevent.sleep(0)
        self._group.join()
        self._finish()

    def _session(self, place: int, due_s: float, talk: Conversation, calls: list[Call]) -> None:
        """The turns of a session, from the one at `place` on."""
        while True:
            ended_s = self._query(place, due_s, calls, talk)
            following = self._follower.get(place)
            if following is None or self.stopped or not calls:
                return
            self._take_in(place, calls.pop(), talk)  # nothing of a call is kept through the pause
            place, due_s = following, ended_s + float(self.part.think_s[following])
            if self._gate is None:
                self._sleep(max(0.0, due_s - READY_S - self._client.now()))
                calls.append(self._turn(place, talk))
            self._sleep_until(due_s)
            if self.stopped:
                return

    def _take_in(self, place: int, call: Call, talk: Conversation) -> None:
        """What was answered to a turn becomes a part of what was said."""
        segment, tokens = self.part.chain(place)[-1]
        known = talk.note(None if call.error else call.said, Run(SEGMENT, segment, tokens))
        self.made_up += not known and not call.error
        self.broken_off += bool(call.error)

    def _turn(self, place: int, talk: Conversation) -> Call:
        """The call of a turn. Its chain names the turn before's, then its own tokens and, last, its answer."""
        part = self.part
        before = int(part.follows[place])
        own = part.chain(place)[0 if before < 0 else len(part.chain(before)) : -1]
        prompt, output, goes_on = (
            int(part.prompt_tokens[place]),
            int(part.output_tokens[place]),
            place in self._follower,
        )
        body = talk.ask([Run(SEGMENT, *link) for link in own], output, goes_on)
        request = int(part.query[place])
        said = Said() if goes_on else None
        return Call(range(request, request + 1), prompt, output, body, said, part.session_name(place))

    # --- closed loop ---

    def run_client(self) -> None:
        """One client of a closed loop: its queries one after the other, from time 0 on."""
        due_s = 0.0
        try:
            for place in self._client_places(next(self._clients)):
                self._sleep_until(due_s, in_order=True)
                if self.stopped:
                    return
                ended_s = self._query(place, due_s, [])
                due_s = ended_s + float(self.part.think_s[place])
        finally:  # also where Locust takes the user away: what it has not sent is then missing
            self._busy_clients -= 1
            if self._busy_clients == 0 and not self.stopped:
                self._finish()

    def _client_places(self, client: int) -> Iterator[int]:
        if not self.part.per_client:
            return self._heap
        queries = count(client, self.part.all_clients)
        return iter(list(_while_known(self._place, queries)))

    # --- one query ---

    def _query(self, place: int, due_s: float, calls: list[Call], talk: Conversation | None = None) -> float:
        """All stages of a query; when it was over.

        `calls` are the first stage's; where they are not there yet they are made, and put there, once the query may go.
        """
        held_s = 0.0
        if self._gate is not None:
            try:
                waits = self._gate.enter()
            except Abandoned:
                return self._client.now()
            held_s = max(0.0, self._client.now() - due_s) if waits else 0.0
        try:
            if self.stopped:  # while it waited
                return self._client.now()
            if not calls:
                calls += self._calls(place, 0) if talk is None else [self._turn(place, talk)]
            return self._stages(place, due_s, held_s, calls)
        finally:
            if self._gate is not None:
                self._gate.leave()

    def _stages(self, place: int, due_s: float, held_s: float, calls: list[Call]) -> float:
        deadline_s = self._client.now() + self.limits.timeout_s
        query_s, ended_s = due_s, due_s
        for stage in range(len(self.part.stages)):
            calls = self._calls(place, stage) if stage else calls
            for call in calls:
                call.deadline_s = deadline_s
            if len(calls) == 1:
                self._send(calls[0], stage, query_s, due_s, held_s)
            else:
                sent = [self._group.spawn(self._send, call, stage, query_s, due_s, held_s) for call in calls]
                try:
                    gevent.joinall(sent)
                except Abandoned:  # the run was stopped, and so were they
                    return self._client.now()
            ended_s = max(call.ended_s or 0.0 for call in calls)
            if self.stopped:
                break
            if any(call.error for call in calls):
                self.skipped += sum(later.requests for later in self.part.stages[stage + 1 :])
                break
            due_s, held_s = ended_s, 0.0
        return ended_s

    def _calls(self, place: int, stage: int) -> list[Call]:
        """The calls of a stage. Samples of equal length go as one call with n, others as calls of their own."""
        part = self.part
        kind = part.stages[stage]
        row = place * part.width + sum(before.requests for before in part.stages[:stage])
        request = int(part.query[place]) * part.width + row - place * part.width
        calls: list[Call] = []
        for first in range(0, kind.requests, kind.samples):
            outputs = part.output_tokens[row + first : row + first + kind.samples].tolist()
            together = len(set(outputs)) == 1
            for sample in range(0, kind.samples, kind.samples if together else 1):
                at = first + sample
                samples = kind.samples if together else 1
                prompt = int(part.prompt_tokens[row + at])
                # All samples are of the first one's prompt, also where its end is nobody else's.
                body = self._bodies.body(request + first, part.chain(row + at), prompt, outputs[sample], samples)
                requests = range(request + at, request + at + samples)
                calls.append(Call(requests, prompt, outputs[sample], body, session=part.session_name(row + at)))
        return calls

    def _send(self, call: Call, stage: int, query_s: float, due_s: float, held_s: float) -> None:
        if self.stopped:  # before it was its turn
            return
        self._active.add(call)
        try:
            self._client.send(call)
        finally:
            self._active.discard(call)
            for row in rows_of(call, query_s, due_s, held_s, self._worker):
                self.rows += 1
                self._note(row, self.part.stages[stage].name, call)

    # --- time ---

    def _sleep_until(self, due_s: float, *, in_order: bool = False) -> None:
        """Wait for what is due; `in_order`: it is one of a row of queries that are due one after the other."""
        spaced = self._timer.spaced(due_s) if in_order else True
        self._timer.wait(due_s, lambda: self.stopped, spaced)

    def _watch(self) -> None:
        """End calls whose query has timed out or whose stream has stalled."""
        while True:
            gevent.sleep(WATCH_EVERY_S)
            now_s = self._client.now()
            for call in tuple(self._active):
                if now_s > call.deadline_s:
                    _abandon(call, TIMED_OUT)
                elif call.heard_s is not None and now_s - call.heard_s > self.limits.stall_s:
                    _abandon(call, STALLED)

    def _finish(self) -> None:
        self._watcher.kill(block=False)
        self.over.set()


def _abandon(call: Call, reason: str) -> None:
    """End a call. By the event loop's next round it may be over and its greenlet at something else: see then."""
    gevent.get_hub().loop.run_callback(_throw, call, reason)


def _throw(call: Call, reason: str) -> None:
    if call.greenlet is not None and call.ended_s is None:
        call.greenlet.throw(Abandoned(reason))


def _while_known(places: dict[int, int], queries: Iterator[int]) -> Iterator[int]:
    for query in queries:
        if query not in places:
            return
        yield places[query]
