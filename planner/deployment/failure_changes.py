"""`fleet.failures` as the simulator's changes: which replicas each event meets, and when.

Replicas are exchangeable, so which of them an event meets does not matter: stops count down from the last replica that
is there, slow ones up from the first, so that events meet different ones as long as there are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError, UnsupportedError
from planner.scenario import Scenario
from planner.scenario.fleet import Failure, RestartFailure, SlowFailure, StopFailure
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control

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
    met, slowed = stopped_by(scenario.fleet.failures, replicas), 0
    for place, failure in enumerate(scenario.fleet.failures):
        key, first = f"fleet.failures[{place}]", len(changes)
        if isinstance(failure, StopFailure):
            stop = failure.stop
            changes += stops(met[place], begin_s + stop.at_s, stop.back_after_s)
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


def stopped_by(failures: Sequence[Failure], replicas: int) -> dict[int, list[int]]:
    """Which replicas each stop meets, by its place in `failures`: of those that no other stop has taken away by then.

    Raises ScenarioError for one that asks for more than there are then, and for one that leaves none for ever.
    """
    listed = [(place, failure.stop) for place, failure in enumerate(failures) if isinstance(failure, StopFailure)]
    back_s = [0.0] * replicas  # when each is there again
    met: dict[int, list[int]] = {}
    taken = 0
    for place, stop in sorted(listed, key=lambda one: one[1].at_s):
        key = f"fleet.failures[{place}].stop.replicas"
        _refuse_too_many(key, stop.replicas, replicas)
        order = [replicas - 1 - (taken + k) % replicas for k in range(replicas)]
        there = [r for r in order if back_s[r] <= stop.at_s]
        if len(there) < stop.replicas:
            rule = f"only {len(there)} of {replicas} are not stopped at {stop.at_s:g} s"
            raise ScenarioError(key, stop.replicas, rule, str(len(there)) if there else "another at_s")
        met[place] = there[: stop.replicas]
        taken += stop.replicas
        for r in met[place]:
            back_s[r] = math.inf if stop.back_after_s is None else stop.at_s + stop.back_after_s
        if all(math.isinf(moment) for moment in back_s):
            rule = f"leaves none of {replicas} replicas for the rest of the run"
            raise ScenarioError(key, stop.replicas, rule, "fewer of them, or a back_after_s")
    return met


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


def first_counted_s(load: Load) -> float:
    """When the first counted query is due, in seconds of the run: the zero of every `at_s`."""
    return float(load.arrival_s[load.warmup])
