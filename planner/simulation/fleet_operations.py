"""What happens to replicas while a fleet runs: they stop, drain, start, change their pace.

Seldom, so not compiled: `fleet_events.run_dependent` returns for it and goes on afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.simulation.fleet_heap import push
from planner.simulation.fleet_replicas import bring_one
from planner.simulation.fleet_world import (
    DECIDE,
    DRAINING,
    LOSE,
    NOWHERE,
    OFF,
    PARKED,
    READY,
    SERVING,
    STARTING,
    Client,
    Desk,
    Paces,
    Queries,
)
from planner.simulation.kernel_state import (
    ABORTED,
    FINISHED,
    PENDING,
    Costs,
    Gaps,
    Replicas,
    Requests,
    Settings,
)
from planner.simulation.kernel_tables import LEDGER
from planner.simulation.operations import Change, Control
from planner.simulation.prefix_index import forget_replica
from planner.simulation.routing import Router
from planner.simulation.stays import Stays


class Fleet(NamedTuple):
    """Everything that a run with events works on."""

    p: Replicas
    q: Requests
    st: Settings
    c: Costs
    paces: Paces
    g: Gaps
    router: Router
    client: Client
    queries: Queries
    desk: Desk
    marks: NDArray[np.void]
    blank: Replicas  # one idle replica
    control: Control
    chain: NDArray[np.int64]  # [R] the change that is under way at each, or whose successor is to come; -1 = none
    on_since_s: NDArray[np.float64]  # [R]
    on_s: NDArray[np.float64]  # [R] up to when it was last put off
    lost_tokens: NDArray[np.int64]  # [R]
    changed_s: NDArray[np.float64]  # [changes] when each happened, or was passed over
    on: list[Stays]  # of replicas, up to when they were put off
    away: list[Stays]  # of requests, at the router or until they begin again; to be cut off where their query failed
    met: list[NDArray[np.int64]]  # rows of `FleetRun.met`, some for each stop


def begin(f: Fleet) -> None:
    """Put the changes whose time is known into the list of events."""
    for k, change in enumerate(f.control.changes):
        if np.isfinite(change.at_s):
            push(f.desk.events, f.desk.counters, change.at_s, DECIDE, k)


def operate(f: Fleet, k: int, t: float) -> None:
    """Change k happens at time t. What cannot be counts as done.

    But what does not serve is not restarted: with its drain all that was to follow at this replica is passed over.
    """
    if np.isfinite(f.changed_s[k]):  # passed over while it was due
        return
    change = f.control.changes[k]
    r, state = change.replica, f.router.member[change.replica]
    f.changed_s[k] = t
    if f.chain[r] >= 0 and f.control.changes[f.chain[r]].then == k:
        f.chain[r] = -1
    if change.what == "drain":
        if state == SERVING:
            drain(f, r, t, k)
        else:
            _pass_over(f, k, t)
        return
    if change.what == "stop" and state != OFF:
        stop(f, r, t, k)
    elif change.what == "boot" and state == OFF:
        boot(f, r, t)
    elif change.what == "start" and state != DRAINING:
        put_on(f, r, t)
    elif change.what == "pace":
        set_pace(f, r, t, change)
    _done(f, k, t)


def boot(f: Fleet, r: int, t: float) -> None:
    """Replica r is being started: on and paid for, but not serving."""
    f.on_since_s[r] = t
    f.router.member[r] = STARTING


def put_on(f: Fleet, r: int, t: float) -> None:
    """Replica r serves, and whoever waits at the router is routed."""
    if f.router.member[r] == OFF:
        f.on_since_s[r] = t
    f.router.member[r] = SERVING
    counters = f.desk.counters
    note_parked(f, t)
    for i in f.desk.parked[: counters[PARKED]]:
        f.q.rows["ready_s"][i] = t
        push(f.desk.events, counters, t, READY, i)
    counters[PARKED] = 0


def note_parked(f: Fleet, t: float) -> None:
    """Note that whoever waits at the router has waited there until time t."""
    at_desk = f.desk.parked[: f.desk.counters[PARKED]].copy()
    f.away.append(Stays(at_desk, f.q.rows["ready_s"][at_desk], np.full(len(at_desk), t)))


def parked(f: Fleet) -> int:
    """Requests that wait at the router. Who was given up there waits no more, though the desk still has it."""
    at_desk = f.desk.parked[: f.desk.counters[PARKED]]
    return int((f.q.rows["status"][at_desk] == PENDING).sum())


def drain(f: Fleet, r: int, t: float, change: int = -1) -> None:
    """Replica r gets nothing new, and is off when it has nothing left; then `change` is done."""
    f.router.member[r] = DRAINING
    f.chain[r] = change
    put_off_drained(f, t)


def put_off_drained(f: Fleet, t: float) -> None:
    """Every replica that drains and has nothing left at time t is off."""
    for r in np.flatnonzero(f.router.member == DRAINING):
        row = f.p.scalars[r]
        if row["outstanding"] == 0 and (row["now"] <= t or row["finished_now"] == 0):
            _put_off(f, int(r), t)
            change, f.chain[r] = int(f.chain[r]), -1
            if change >= 0:
                _done(f, change, t)


def stop(f: Fleet, r: int, t: float, k: int) -> None:
    """Replica r stops, which is change k: what it has in hand begins again elsewhere, or its query is lost.

    The step in hand is lost too: what would have ended with it has not. A restart that it was in the middle of is
    broken off, and goes on to the next replica.
    """
    bring(f, r, t)
    rows, desk, width = f.q.rows, f.desk, f.client.width
    mine = desk.replica == r
    undone = np.flatnonzero(mine & (rows["status"] == FINISHED) & (rows["last_token_s"] > t))
    f.lost_tokens[r] += _held_tokens(f, r) + (rows["prompt"][undone] + rows["output"][undone] - 1).sum()
    rows["status"][undone] = np.where(f.queries.remaining[undone // width] > 0, PENDING, ABORTED)
    lost = np.flatnonzero(mine & (rows["status"] == PENDING))
    f.met.append(np.column_stack((lost // width, np.full(len(lost), k))))
    _put_off(f, r, t)
    change, f.chain[r] = int(f.chain[r]), -1
    if change >= 0:
        _pass_over(f, change, t)
    untold = np.ones(len(lost), np.bool_) if f.control.retry else rows["first_token_s"][lost] > t
    rows["first_token_s"][lost[untold]] = np.nan
    rows["last_token_s"][lost] = np.nan
    rows["generated"][lost] = 0
    rows["survivor"][lost] = -1
    rows["link"][lost] = -1
    desk.replica[lost] = NOWHERE
    if not f.control.retry:
        for query in np.unique(lost // width).tolist():
            push(desk.events, desk.counters, t, LOSE, query)
        return
    again_s = t + f.control.retry_after_s + f.client.frontend_s + f.client.frontend_token_s * rows["prompt"][lost]
    np.add.at(f.queries.retried, lost // width, 1)
    rows["ready_s"][lost] = again_s
    f.away.append(Stays(lost, np.full(len(lost), t), again_s))
    for i, ready_s in zip(lost.tolist(), again_s.tolist(), strict=True):
        push(desk.events, desk.counters, ready_s, READY, i)


def set_pace(f: Fleet, r: int, t: float, change: Change) -> None:
    """From its next step on replica r has another pace."""
    bring(f, r, t)
    factors = f.control.factors
    f.desk.pace[r] = factors.index(change.factor) if change.factor in factors else -1
    if np.isfinite(f.desk.wake[r]):
        f.desk.wake[r] = min(f.desk.wake[r], np.nextafter(f.p.scalars["now"][r], np.inf))  # to be reckoned anew


def bring(f: Fleet, r: int, t: float) -> None:
    """Run replica r up to time t and turn its completions into events."""
    bring_one(f.p, f.q, f.st, f.c, f.paces, f.g, f.desk, r, t)


def _held_tokens(f: Fleet, r: int) -> int:
    """Tokens whose keys and values the running requests of replica r hold; who has ended may still have its seat."""
    seats, tokens, seat = f.p.seats[r], 0, f.p.scalars["first"][r]
    while seat >= 0:
        ended = f.q.rows["status"][seats["request"][seat]] == FINISHED
        tokens += 0 if ended else int(seats["offset"][seat])
        if seats["decoding"][seat] and not ended:
            tokens += int(f.p.scalars["decode_steps"][r])
        seat = seats["following"][seat]
    return tokens


def _put_off(f: Fleet, r: int, t: float) -> None:
    """Replica r is off and as it was made, but for its clock and its ledger. A step in hand is cut off at t."""
    scalars = f.p.scalars
    _cut_off(scalars[r : r + 1], t, f.st)
    _cut_off(f.marks[:, r], t, f.st)  # those since the step began have it whole
    kept = {name: scalars[name][r].copy() for name in LEDGER}
    scalars[r] = f.blank.scalars[0]
    for name, value in kept.items():
        scalars[name][r] = value
    scalars["now"][r] = scalars["horizon"][r] = t
    f.p.seats[r] = f.blank.seats[0]
    f.p.phase[r] = 0
    f.p.buckets[r] = f.blank.buckets[0]
    forget_replica(f.router.prefixes, r)
    f.desk.wake[r] = np.inf
    be_off(f, r, t)


def be_off(f: Fleet, r: int, t: float) -> None:
    """Replica r was on until time t, and is so no longer."""
    f.router.member[r] = OFF
    f.on_s[r] += t - f.on_since_s[r]
    f.on.append(Stays(np.array([r]), f.on_since_s[r : r + 1].copy(), np.array([t])))


def _cut_off(ledgers: NDArray[np.void], t: float, st: Settings) -> None:
    """Take off `ledgers`, which have the step in hand whole, what it would have been beyond time t.

    Its tokens stay, and so does, in the integral over KV blocks, what was freed by those that ended with it.
    """
    beyond_s = np.maximum(ledgers["now"] - t, 0.0)
    seated = 0 if st.lagged else ledgers["finished_now"]  # lagged: who ended with the step is still among the running
    running = ledgers["n_running"] + seated
    ledgers["busy_s"] -= beyond_s
    ledgers["running_s"] -= beyond_s * running
    ledgers["waiting_s"] -= beyond_s * ledgers["n_waiting"]
    ledgers["kv_block_s"] -= beyond_s * (st.usable_blocks - ledgers["plain_free"] - ledgers["cached_free"])
    ledgers["now"] = np.minimum(ledgers["now"], t)


def _done(f: Fleet, k: int, t: float) -> None:
    """Change k is done: the one that follows it is due."""
    change = f.control.changes[k]
    if change.then >= 0:
        if f.control.changes[change.then].replica == change.replica:
            f.chain[change.replica] = k
        push(f.desk.events, f.desk.counters, t + change.then_s, DECIDE, change.then)


def _pass_over(f: Fleet, k: int, t: float) -> None:
    """What was to follow change k at its replica does not happen: the next replica's turn has come."""
    changes = f.control.changes
    following = changes[k].then
    while following >= 0 and changes[following].replica == changes[k].replica and np.isnan(f.changed_s[following]):
        f.changed_s[following] = t
        following = changes[following].then
    if following >= 0:
        push(f.desk.events, f.desk.counters, t, DECIDE, following)
