"""A fleet in the course of its hours: looked at, scaled, and what is noted of it. Not compiled: it happens seldom.

At each of its moments `fleet_events.run_dependent` brings all replicas to that time (MARK) and returns (DECIDE); then
`attend` does what is due, and asks for the next moment.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.simulation.autoscaler import Rule, Scaling, recommended, scheduled, stabilised
from planner.simulation.fleet_heap import push
from planner.simulation.fleet_operations import Fleet, be_off, boot, drain, parked, put_off_drained, put_on
from planner.simulation.fleet_world import DECIDE, MARK, OFF, SERVING, STARTING
from planner.units import S_PER_HOUR

HOUR, STARTED, LOOK = 0, 1, 2  # what a moment is for; of one instant in this order

F64 = NDArray[np.float64]


@dataclass
class Watch:
    """What an autoscaler remembers, and what is noted of the fleet; arrays [H] hold sums up to the end of each hour."""

    scaling: Scaling
    moments: list[tuple[float, int, int]]  # a heap of (s, what for, hour or replica)
    recent: deque[tuple[float, int]]  # (s, replicas recommended), within the rule's delay
    last_busy_s: F64  # [R] as the ledgers stood at the latest look
    up_s: F64  # [R] when a replica began to serve, or will
    busy_s: F64  # [H] over all replicas
    served_s: F64  # [H] replica-seconds
    paid_s: F64  # [H] likewise, those of replicas that start or drain too
    serving: NDArray[np.int64]  # [H, 2] fewest and most replicas that served
    wanted: int  # replicas, as of the latest look
    changes: list[tuple[float, int]] = field(default_factory=list)  # (s, replicas wanted) of looks that changed it
    held_back: int = 0  # looks at which some were wanted and all places were taken by replicas that still drained
    given_up: int = 0  # starts that were stopped before they served
    unfinished: int = 0  # starts under way at the end of the last hour
    served_until: tuple[float, float] = (0.0, 0.0)  # replica-seconds served, and up to when


def begin_watch(f: Fleet, scaling: Scaling) -> Watch:
    """The watch over an idle fleet at time 0."""
    replicas, hours, rule = len(f.router.member), scaling.hours, scaling.rule
    serving = int((f.router.member == SERVING).sum())
    watch = Watch(
        scaling=scaling,
        moments=[((hour + 1) * S_PER_HOUR, HOUR, hour) for hour in range(hours)],
        recent=deque([(0.0, serving)]),  # as if it had wanted just these
        last_busy_s=np.zeros(replicas),
        up_s=np.zeros(replicas),
        busy_s=np.zeros(hours),
        served_s=np.zeros(hours),
        paid_s=np.zeros(hours),
        serving=np.full((hours, 2), serving, np.int64),
        wanted=serving,
    )
    if rule is not None:
        heapq.heappush(watch.moments, (rule.interval_s, LOOK, 0))
    _ask(f, watch)
    return watch


def attend(f: Fleet, watch: Watch, t: float) -> None:
    """Do what is due at time t, at which all replicas stand, and ask for the next moment."""
    _do_what_is_due(f, watch, t)
    _ask(f, watch)


def finish(f: Fleet, watch: Watch, t: float) -> None:
    """All queries were over at time t: what is left of the hours passes without load."""
    put_off_drained(f, t)
    while any(what == HOUR for _, what, _ in watch.moments):
        _do_what_is_due(f, watch, watch.moments[0][0])


def _do_what_is_due(f: Fleet, watch: Watch, t: float) -> None:
    while watch.moments and watch.moments[0][0] <= t:
        _, what, subject = heapq.heappop(watch.moments)
        if what == HOUR:
            _end_hour(f, watch, subject, t)
        elif what == STARTED:
            _started(f, watch, subject, t)
        elif watch.scaling.rule is not None:
            _look(f, watch, watch.scaling.rule, t)


def _ask(f: Fleet, watch: Watch) -> None:
    """Have the compiled loop stop at the next moment."""
    if watch.moments:
        at_s = watch.moments[0][0]
        push(f.desk.events, f.desk.counters, at_s, MARK, len(f.marks) - 1)
        push(f.desk.events, f.desk.counters, at_s, DECIDE, len(f.control.changes))


def _busy_s(f: Fleet, t: float) -> F64:
    """Seconds [R] that each replica has been busy up to time t: of a step in hand its part."""
    scalars = f.p.scalars
    busy_s: F64 = scalars["busy_s"] - np.maximum(scalars["now"] - t, 0.0)
    return busy_s


def _end_hour(f: Fleet, watch: Watch, hour: int, t: float) -> None:
    _serve(f, watch, t)
    watch.busy_s[hour] = _busy_s(f, t).sum()
    watch.served_s[hour] = watch.served_until[0]
    on = f.router.member != OFF
    watch.paid_s[hour] = (f.on_s + np.where(on, t - f.on_since_s, 0.0)).sum()
    if hour + 1 < len(watch.serving):
        watch.serving[hour + 1] = (f.router.member == SERVING).sum()
    else:
        watch.unfinished = int((f.router.member == STARTING).sum())


def _serve(f: Fleet, watch: Watch, t: float) -> None:
    """Add up what has served until time t; to be called before that number changes, and at the end of an hour."""
    served_s, since_s = watch.served_until
    watch.served_until = served_s + float((f.router.member == SERVING).sum()) * (t - since_s), t


def _note_range(f: Fleet, watch: Watch, t: float) -> None:
    """Note how many serve from time t on."""
    hour, now = int(t / S_PER_HOUR), int((f.router.member == SERVING).sum())
    if hour < len(watch.serving):
        low, high = watch.serving[hour]
        watch.serving[hour] = min(low, now), max(high, now)


def _started(f: Fleet, watch: Watch, r: int, t: float) -> None:
    """Replica r serves, unless it was stopped while it started."""
    if f.router.member[r] == STARTING and watch.up_s[r] == t:
        _serve(f, watch, t)
        put_on(f, r, t)
        _note_range(f, watch, t)


# --- the autoscaler ---


def load_of(f: Fleet, watch: Watch, rule: Rule, t: float) -> float:
    """What the target is held against: over all replicas that serve, and whoever waits at the router."""
    scalars, serve = f.p.scalars, f.router.member == SERVING
    busy_s = _busy_s(f, t)
    if rule.kind == "utilisation":
        total = float((busy_s - watch.last_busy_s)[serve].sum()) / rule.interval_s
    else:
        held = scalars["outstanding"]
        if rule.kind == "requests":  # what ends with the step in hand has not ended yet
            held = held + np.where(scalars["now"] > t, scalars["finished_now"], 0)
        else:
            held = held - scalars["n_running"] + scalars["n_ended"]  # who has ended may keep its seat for a step
        total = float(held[serve].sum()) + parked(f)
    watch.last_busy_s[:] = busy_s
    return total


def _look(f: Fleet, watch: Watch, rule: Rule, t: float) -> None:
    """Start or stop what is wanted more or less: to start takes time, to stop is to drain.

    What is wanted and finds no free place is tried again at each look, and is one wish all that time.
    """
    member = f.router.member
    there = int(((member == SERVING) | (member == STARTING)).sum())
    if rule.kind == "schedule":
        wish = scheduled(rule.schedule, t)
    else:
        wish = recommended(load_of(f, watch, rule, t), rule.target, there, rule.tolerance)
    wish = min(max(wish, rule.least), rule.most)
    while watch.recent and watch.recent[0][0] <= t - rule.delay_s:
        watch.recent.popleft()
    wanted = stabilised(wish, there, (count for _, count in watch.recent))
    watch.recent.append((t, wish))
    if wanted != watch.wanted:
        watch.changes.append((t, wanted))
        watch.wanted = wanted
    if wanted != there:
        _serve(f, watch, t)
        started = [_start_one(f, watch, rule, t) for _ in range(there, wanted)]
        watch.held_back += not all(started)
        for _ in range(wanted, there):
            _stop_one(f, watch, t)
        _note_range(f, watch, t)
    heapq.heappush(watch.moments, (t + rule.interval_s, LOOK, 0))


def _start_one(f: Fleet, watch: Watch, rule: Rule, t: float) -> bool:
    """Whether one could be started: while all places are taken by replicas that drain, none can."""
    free = np.flatnonzero(f.router.member == OFF)
    if len(free) == 0:
        return False
    r = int(free[0])
    boot(f, r, t)
    watch.up_s[r] = t + rule.startup_s
    heapq.heappush(watch.moments, (t + rule.startup_s, STARTED, r))
    return True


def _stop_one(f: Fleet, watch: Watch, t: float) -> None:
    """Kubernetes stops the newest: of those that start the last, else of those that serve the last to have come."""
    member = f.router.member
    starting = np.flatnonzero(member == STARTING)
    among = starting if len(starting) else np.flatnonzero(member == SERVING)
    r = int(among[::-1][np.argmax(watch.up_s[among][::-1])])
    if len(starting):  # nothing is in it
        be_off(f, r, t)
        watch.given_up += 1
    else:
        drain(f, r, t)
