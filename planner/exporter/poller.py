"""Reading and comparing, each on a thread of its own, beside the server that shows what they found.

Readings never wait for a comparison, which simulates and may take seconds, nor does a scrape wait for either: it shows
the last pair of a reading and its comparison. Of readings that came meanwhile only the newest is compared.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from planner.exporter.snapshot import HISTORY_S, MOST_SOURCES_SHOWN, Moment, PlanFacts, Snapshot, moment
from planner.live.fleet import REAL, Clock, FleetReader
from planner.observed import Observed, Trouble
from planner.scenario.monitor import Monitor

HISTORY_STEP_S = 60.0
STALE_INTERVALS = 3
MOST_LINES = 5  # said of one reading
COMPARISON = "comparison with the plan"
ANSWERED = ("restarted", "clock")  # reasons beside which figures are whole


class Compared(Protocol):
    """What a comparison gives: a `planner.drift.Drift`."""

    @property
    def document(self) -> Mapping[str, Any]:
        """Its JSON document."""


class Poller:
    """`start` it, ask `snapshot()` as often as wanted, `stop` it. `log` is given one line for each thing that changed.

    Nothing that a source or a comparison does ends it: what goes wrong is a trouble of the snapshot.
    """

    def __init__(
        self,
        reader: FleetReader,
        analyse: Callable[[Observed], Compared],
        plan: PlanFacts,
        monitor: Monitor,
        *,
        log: Callable[[str], None],
        clock: Clock = REAL,
    ) -> None:
        self._reader, self._analyse, self._clock, self._log = reader, analyse, clock, log
        self._interval_s = monitor.interval_s
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._fresh: queue.Queue[tuple[Observed, float] | None] = queue.Queue()
        self._taken_s = clock.steady_s()  # when the figures were, or the exporter began
        self._past: deque[Moment] = deque()
        self._counts: Counter[str] = Counter()
        self._known: frozenset[tuple[str, str]] = frozenset()
        self._comparison: tuple[Trouble, ...] = ()
        stale_after_s = max(STALE_INTERVALS * monitor.interval_s, monitor.window_s)
        self._snapshot = Snapshot(plan, monitor.interval_s, monitor.window_s, stale_after_s, asked=len(reader.sources))
        self._threads = [
            threading.Thread(target=self._read_on, name="reading", daemon=True),
            threading.Thread(target=self._compare_on, name="comparing", daemon=True),
        ]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Read no more; what is under way is not waited for."""
        self._stop.set()
        self._fresh.put(None)
        self._reader.close()

    def snapshot(self) -> Snapshot:
        """What is known now; figures that have become too old are gone from it."""
        with self._lock:
            snapshot, taken_s = self._snapshot, self._taken_s
        return snapshot.aged(max(self._clock.steady_s() - taken_s, 0.0))

    # --- reading ---

    def _read_on(self) -> None:
        begun_s, turn = self._clock.steady_s(), 0
        while not self._stop.is_set():
            self.read_once()
            spent_s = self._clock.steady_s() - begun_s
            turn = max(turn + 1, math.ceil(spent_s / self._interval_s))  # turns that a slow reading took are left out
            self._stop.wait(max(turn * self._interval_s - spent_s, 0.0))

    def read_once(self) -> None:
        """One reading: say how the sources are; if it told anything, hand it on to be compared."""
        begun_s = self._clock.steady_s()
        try:
            observed = self._reader.read()
        except Exception as error:
            text = f"the reading failed ({type(error).__name__}: {error})"
            observed = Observed(self._clock.unix_s(), 0.0, troubles=(Trouble("reader", "garbage", text),))
        ended_s = self._clock.steady_s()
        with self._lock:
            self._count(observed.troubles)
            troubles = (*observed.troubles, *self._comparison)
            self._snapshot = replace(
                self._snapshot,
                plan=self._named(self._snapshot.plan),
                poll_s=ended_s - begun_s,
                troubles=troubles,
                trouble_counts=dict(self._counts),
                **_sources(self._reader.sources, observed.troubles),
            )
        self._say(troubles)
        if not observed.blind:
            self._fresh.put((observed, ended_s))

    def _named(self, plan: PlanFacts) -> PlanFacts:
        """With the labels that the fleet's own series have, so that queries can join both."""
        model_name, namespace = self._reader.model_name or plan.model_name, self._reader.namespace or plan.namespace
        return replace(plan, model_name=model_name, namespace=namespace)

    def _count(self, troubles: Sequence[Trouble]) -> None:
        self._counts.update(trouble.reason for trouble in troubles)

    def _say(self, troubles: Sequence[Trouble]) -> None:
        """A line for each trouble that is new, and one when all is well again."""
        now = frozenset((trouble.source, trouble.reason) for trouble in troubles)
        new = [trouble for trouble in troubles if (trouble.source, trouble.reason) not in self._known]
        for trouble in new[:MOST_LINES]:
            text = " ".join(f"{trouble.source}: {trouble.reason}: {trouble.text}".split())
            self._log("".join(letter if letter.isprintable() else "?" for letter in text))  # a server chose part of it
        if len(new) > MOST_LINES:
            self._log(f"and {len(new) - MOST_LINES} more such troubles")
        if self._known and not now:
            self._log("every source answers well again")
        self._known = now

    # --- comparing ---

    def _compare_on(self) -> None:
        while (given := self._fresh.get()) is not None:
            while not self._fresh.empty():  # only the newest counts
                newer = self._fresh.get()
                if newer is None:
                    return
                given = newer
            self.compare(*given)

    def compare(self, observed: Observed, ended_s: float) -> None:
        """Hold a reading against the plan and show both; a comparison that fails leaves the reading to be shown."""
        document: Mapping[str, Any] | None = None
        try:
            document = self._analyse(observed).document
            point = moment(observed, document)
            found = _more_troubles(document, observed)
        except Exception as error:
            found = (Trouble(COMPARISON, "garbage", f"it failed ({type(error).__name__}: {error})"),)
            document, point = None, moment(observed, None)
        with self._lock:
            self._count(found)
            others = (trouble for trouble in self._snapshot.troubles if trouble not in self._comparison)
            troubles = (*others, *found)
            self._comparison = found
            self._remember(point)
            self._taken_s = ended_s
            self._snapshot = replace(
                self._snapshot,
                observed=observed,
                drift=document,
                taken_unix_s=observed.ended_unix_s,
                troubles=troubles,
                trouble_counts=dict(self._counts),
                history=tuple(self._past),
            )

    def _remember(self, point: Moment) -> None:
        """One point a minute; the newest stands for its minute until that is over. After a step back of the day's
        clock, what seems to be of the future is forgotten.
        """
        past = self._past
        while past and past[-1].unix_s >= point.unix_s:
            past.pop()
        if len(past) > 1 and past[-1].unix_s - past[-2].unix_s < HISTORY_STEP_S:
            past.pop()
        past.append(point)
        while past[0].unix_s < point.unix_s - HISTORY_S:
            past.popleft()


def _more_troubles(document: Mapping[str, Any], observed: Observed) -> tuple[Trouble, ...]:
    """Those that only the comparison saw, such as a model that is not the plan's."""
    told = (Trouble(**row) for row in document.get("troubles") or ())
    return tuple(trouble for trouble in told if trouble not in observed.troubles)


def _sources(sources: Sequence[str], troubles: Sequence[Trouble]) -> dict[str, Any]:
    """`sources`, `asked` and `answered` of a snapshot. A source that restarted, or whose clock is off, has answered."""
    failed = {trouble.source for trouble in troubles if trouble.reason not in ANSWERED}
    blind = "reader" in failed
    well = {source: source not in failed and not blind for source in sources}
    shown = well if len(well) <= MOST_SOURCES_SHOWN else {}
    return {"sources": shown, "asked": len(well), "answered": sum(well.values())}
