"""What is done to a fleet while it runs: the scenario's failures as the simulator's changes, and what came of them.

Replicas are exchangeable, so which of them an event meets does not matter: stops count down from the last replica,
slow ones up from the first, so that events meet different ones as long as there are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from planner.deployment.service_levels import around
from planner.errors import ScenarioError, UnsupportedError
from planner.scenario import Scenario
from planner.scenario.fleet import RestartFailure, SlowFailure, StopFailure
from planner.simulation.fleet_record import LOST, FleetRun
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.simulation.outcome import Outcome

SETTLES = 1.5  # a run goes on for half as long again as its events last


@dataclass(frozen=True)
class Event:
    """One of the scenario's failures: its changes (their places in the run's list), and whether it has an end."""

    key: str
    what: str
    first: int
    last: int
    ends: bool


class Spell(NamedTuple):
    """A replica is slow for a while: every step takes `factor` times as long."""

    replica: int
    at_s: float
    until_s: float
    factor: float


def refuse_failures(scenario: Scenario, verb: str) -> None:
    """Raise where a verb that looks for a steady state is given failures."""
    if scenario.fleet.failures:
        what = f"{len(scenario.fleet.failures)} of them"
        rule = f"{verb} sizes for a steady load; simulate says what they do, and plan proves spare_replicas"
        raise ScenarioError("fleet.failures", what, rule, "leave them out, or planner simulate")


def control_of(scenario: Scenario, data_parallel_size: int) -> Control:
    """What `fleet` says of admission and of replicas that stop; no failures yet."""
    fleet = scenario.fleet
    if data_parallel_size > 1 and (fleet.admission is not None or fleet.failures):
        key = "fleet.failures" if fleet.failures else "fleet.admission"
        rule = "beside engine.data_parallel_size above 1 it is not supported yet"
        raise UnsupportedError(key, None, rule, "data_parallel_size 1")
    room = 0 if fleet.admission is None else fleet.admission.max_requests_per_replica
    return Control(room=room, retry=fleet.retry, retry_after_s=fleet.retry_after_s)


def with_failures(control: Control, scenario: Scenario, load: Load, replicas: int) -> tuple[Control, list[Event]]:
    """The scenario's failures as changes of a run of `load`, and where in them each stands."""
    begin_s = float(load.arrival_s[load.warmup])
    changes: list[Change] = []
    events: list[Event] = []
    spells: list[Spell] = []
    stopped = slowed = 0
    for place, failure in enumerate(scenario.fleet.failures):
        key, first = f"fleet.failures[{place}]", len(changes)
        if isinstance(failure, StopFailure):
            stop = failure.stop
            _refuse_too_many(f"{key}.stop.replicas", stop.replicas, replicas)
            which = [replicas - 1 - (stopped + k) % replicas for k in range(stop.replicas)]
            stopped += stop.replicas
            changes += stops(which, begin_s + stop.at_s, stop.back_after_s)
            events.append(Event(key, "stop", first, len(changes) - 1, stop.back_after_s is not None))
        elif isinstance(failure, SlowFailure):
            slow = failure.slow
            _refuse_too_many(f"{key}.slow.replicas", slow.replicas, replicas)
            which = [(slowed + k) % replicas for k in range(slow.replicas)]
            slowed += slow.replicas
            at_s, until_s = begin_s + slow.at_s, begin_s + slow.at_s + slow.for_s
            spells += [Spell(r, at_s, until_s, slow.factor) for r in which]
            changes += [Change(at_s, r, "pace") for r in which]
            changes += [Change(until_s, r, "pace") for r in which]
            events.append(Event(key, "slow", first, len(changes) - 1, True))
        elif isinstance(failure, RestartFailure):
            restart = failure.rolling_restart
            at_s = begin_s + restart.at_s
            changes += _restarts(replicas, at_s, restart.wait_s, scenario.fleet.startup_s, first)
            events.append(Event(key, "rolling_restart", first, len(changes) - 1, True))
    paced = (replace(one, factor=_pace(spells, one)) if one.what == "pace" else one for one in changes)
    return replace(control, changes=tuple(paced)), events


def _pace(spells: Sequence[Spell], change: Change) -> float:
    """How many times as long a step takes from `change` on: the spells of a replica that overlap multiply."""
    on = (one.factor for one in spells if one.replica == change.replica and one.at_s <= change.at_s < one.until_s)
    return math.prod(sorted(on))


def stops(which: Sequence[int], at_s: float, back_after_s: float | None) -> list[Change]:
    """These replicas stop at once, and serve again after a while if they do."""
    changes = [Change(at_s, r, "stop") for r in which]
    if back_after_s is not None:
        changes += [Change(at_s + back_after_s, r, "start") for r in which]
    return changes


def _restarts(replicas: int, at_s: float, wait_s: float, startup_s: float, first: int) -> list[Change]:
    """Each drains, starts, serves; then the next."""
    changes = []
    for r in range(replicas):
        own = first + 3 * r
        then = own + 3 if r + 1 < replicas else -1
        changes += [
            Change(at_s if r == 0 else np.inf, r, "drain", then=own + 1),
            Change(np.inf, r, "boot", then=own + 2, then_s=startup_s),
            Change(np.inf, r, "start", then=then, then_s=wait_s),
        ]
    return changes


def _refuse_too_many(key: str, wanted: int, replicas: int) -> None:
    if wanted > replicas:
        raise ScenarioError(key, wanted, f"fleet.replicas is {replicas}", str(replicas))


def lasting_s(scenario: Scenario, replicas: int, e2e_s: float) -> float:
    """How long a run must go on, from its first counted query, to show what the failures do; 0 without any."""
    ends = [0.0]
    for failure in scenario.fleet.failures:
        if isinstance(failure, StopFailure):
            ends.append(failure.stop.at_s + (failure.stop.back_after_s or 10.0 * e2e_s))
        elif isinstance(failure, SlowFailure):
            ends.append(failure.slow.at_s + failure.slow.for_s)
        else:
            restart = failure.rolling_restart
            each_s = 2.0 * e2e_s + scenario.fleet.startup_s + restart.wait_s
            ends.append(restart.at_s + replicas * each_s)
    return SETTLES * max(ends)


def failures_document(scenario: Scenario, run: FleetRun, outcome: Outcome, events: list[Event]) -> dict[str, Any]:
    """`failures` of `simulate`: what was lost and sent again, and the service levels around each event.

    `before` an event is the time since the one before it had ended (of one without end: since it began), `after` it the
    time to the next one; null where nobody arrived. `at_s` and `until_s` count from the first counted query, as `at_s`
    of the scenario does; `until_s` is null where the event has no end, or the run ended first. For the rest see
    `service_levels.around`.
    """
    begin_s = first_counted_s(run.load)
    at = [float(run.changed_s[event.first]) for event in events]
    until = [_ended_s(run, event) for event in events]
    rows = []
    for k, event in enumerate(events):
        over = [end if np.isfinite(end) else start for end, start in zip(until, at, strict=True)]
        earlier = [end for end, start in zip(over, at, strict=True) if start < at[k] and end <= at[k]]
        later = [start for start in at if start > at[k] and start >= over[k]]
        first_s = float(run.arrival_s[run.load.warmup])
        spans = (max(earlier, default=first_s), at[k], until[k], min(later, default=np.inf))
        row = {"key": event.key, **_named(scenario, event, run.replicas), "at_s": round(at[k] - begin_s, 6)}
        row["until_s"] = round(until[k] - begin_s, 6) if np.isfinite(until[k]) else None
        rows.append(row | around(scenario, run, outcome, spans))
    counted = slice(run.load.warmup, None)
    return {
        "lost": int((run.why_failed[counted] == LOST).sum()),
        "retried": int(run.retried[counted].sum()),
        "lost_tokens": int(run.lost_tokens.sum()),
        "events": rows,
    }


def settled_s(run: FleetRun, events: list[Event]) -> float:
    """From when on, in seconds of the run, nothing is done to its fleet any more; of an event without end its begin."""
    ends = [(_ended_s(run, event), float(run.changed_s[event.first])) for event in events]
    return max(end if np.isfinite(end) else begin for end, begin in ends)


def first_counted_s(load: Load) -> float:
    """When the first counted query is due, in seconds of the run: the zero of every `at_s`."""
    return float(load.arrival_s[load.warmup])


def _ended_s(run: FleetRun, event: Event) -> float:
    end_s = float(run.changed_s[event.last]) if event.ends else np.inf
    return end_s if np.isfinite(end_s) else np.inf


def _named(scenario: Scenario, event: Event, replicas: int) -> dict[str, Any]:
    """What happens, to how many replicas, and how many times slower they are."""
    failure = next(row for k, row in enumerate(scenario.fleet.failures) if f"fleet.failures[{k}]" == event.key)
    if isinstance(failure, SlowFailure):
        return {"what": event.what, "replicas": failure.slow.replicas, "factor": failure.slow.factor}
    return {"what": event.what, "replicas": failure.stop.replicas if isinstance(failure, StopFailure) else replicas}
