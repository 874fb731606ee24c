"""What came of `fleet.failures`: the document of a run that they met, and what of it must be known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from planner.deployment.failure_changes import Event, first_counted_s
from planner.deployment.service_levels import Span, around, met_by
from planner.errors import ScenarioError
from planner.scenario import Scenario
from planner.scenario.document import Demand
from planner.scenario.fleet import SlowFailure, StopFailure
from planner.simulation.fleet_record import LOST, FleetRun
from planner.simulation.outcome import Outcome


def refuse_failures(scenario: Scenario, verb: str) -> None:
    """Raise where a verb that looks for a steady state is given failures."""
    if scenario.fleet.failures:
        what = f"{len(scenario.fleet.failures)} of them"
        rule = f"{verb} sizes for a steady load; simulate says what they do, and plan proves spare_replicas"
        raise ScenarioError("fleet.failures", what, rule, "leave them out, or planner simulate")


def failures_document(scenario: Scenario, run: FleetRun, outcome: Outcome, events: list[Event]) -> dict[str, Any]:
    """`failures` of `simulate`: what was lost and sent again, and the service levels around each event.

    Each is told from its begin to the next event's, whether it has ended or not: `told_to_s`, null where no other one
    follows. `before` it is the time since another one last began or ended. `overlapped_by` is the key of the next one
    where that begins before this one ends, `within` those of the others that are under way as this one begins. Of
    events that begin at one instant the last has the figures, the others none. `at_s`, `until_s` and `told_to_s` count
    from the first counted query, as `at_s` of the scenario does, and so does the `worst` stretch; `until_s` is null
    where the event has no end, or the run ended first. In order of time. For the rest see `service_levels.around`.
    `unmet` are the limits that the whole run breaks, as its `slo` has them: whether or not an event is told to.
    """
    begin_s = first_counted_s(run.load)
    at = [float(run.changed_s[event.first]) for event in events]
    until = [_ended_s(run, event) for event in events]
    rows = []
    for k, event in enumerate(events):
        others = [j for j in range(len(events)) if j != k]
        moments = [moment for j in others for moment in (at[j], until[j]) if moment < at[k]]
        later = [j for j in others if (at[j], j) > (at[k], k)]
        following = min(later, key=lambda j: (at[j], j), default=None)
        upto_s = np.inf if following is None else at[following]
        first_s = float(run.arrival_s[run.load.warmup])
        span = Span(max(moments, default=first_s), at[k], until[k], upto_s)
        lasting = [j for j in others if at[j] == at[k] or (events[j].ends and at[j] < at[k] < until[j])]
        overlapped = following is not None and (upto_s == at[k] or (event.ends and upto_s < until[k]))
        row = {"key": event.key, **_named(scenario, event, run.replicas)}
        row |= {name: _told(moment - begin_s) for name, moment in zip(("at_s", "until_s"), span[1:3], strict=True)}
        row |= {
            "told_to_s": _told(upto_s - begin_s),
            "overlapped_by": events[following].key if following is not None and overlapped else None,
            "within": [events[j].key for j in lasting],
        }
        rows.append(row | _from_first(around(scenario, run, outcome, span, met_by(run, event.first, event.last)), row))
    rows.sort(key=lambda row: math.inf if row["at_s"] is None else row["at_s"])
    counted = slice(run.load.warmup, None)
    return {
        "lost": int((run.why_failed[counted] == LOST).sum()),
        "retried": int(run.retried[counted].sum()),
        "lost_tokens": int(run.lost_tokens.sum()),
        "unmet": [check.as_dict() for check in outcome.checks if not check.met],
        "events": rows,
    }


def unended_warnings(run: FleetRun, events: list[Event], demand: Demand = "open") -> list[str]:
    """A line for each event that should have ended and had not when the run did: what it leaves behind was not seen.

    Only a run of open `demand` has a length that can be asked for.
    """
    longer = f"more of traffic.arrivals.{demand}.requests" if demand in ("closed", "offline") else "a longer trace"
    longer = "a longer run (--duration)" if demand == "open" else longer
    return [
        f"{event.key}: the {event.what.replace('_', ' ')} was not over when the run ended: what comes after it was not "
        f"simulated; {longer} shows it"
        for event in events
        if event.ends and not np.isfinite(_ended_s(run, event))
    ]


def _from_first(told: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The levels around an event, whose worst stretch counts from it, in seconds of `at_s`."""
    worst, at_s = told["worst"], row["at_s"]
    if worst is None or at_s is None:
        return told
    return told | {"worst": worst | {key: round(at_s + worst[key], 6) for key in ("from_s", "to_s")}}


def _told(seconds: float) -> float | None:
    return round(seconds, 6) if np.isfinite(seconds) else None


def settled_s(run: FleetRun, events: list[Event]) -> float:
    """From when on, in seconds of the run, nothing is done to its fleet any more; of an event without end its begin."""
    ends = [(_ended_s(run, event), float(run.changed_s[event.first])) for event in events]
    return max(end if np.isfinite(end) else begin for end, begin in ends)


def _ended_s(run: FleetRun, event: Event) -> float:
    end_s = float(run.changed_s[event.last]) if event.ends else np.inf
    return end_s if np.isfinite(end_s) else np.inf


def _named(scenario: Scenario, event: Event, replicas: int) -> dict[str, Any]:
    """What happens, to how many replicas, and how many times slower they are."""
    failure = next(row for k, row in enumerate(scenario.fleet.failures) if f"fleet.failures[{k}]" == event.key)
    if isinstance(failure, SlowFailure):
        return {"what": event.what, "replicas": failure.slow.replicas, "factor": failure.slow.factor}
    return {"what": event.what, "replicas": failure.stop.replicas if isinstance(failure, StopFailure) else replicas}
