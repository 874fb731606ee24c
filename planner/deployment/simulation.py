"""simulate(): one fleet under one load."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planner.deployment.bands import bands
from planner.deployment.candidates import only_candidate
from planner.deployment.collapse import collapse_warnings, session_pause, with_pause
from planner.deployment.documents import SCHEMA_VERSION, fleet_document, run_document, warnings_document, with_hits
from planner.deployment.failure_changes import SETTLES, Event, control_of, first_counted_s, lasting_s, with_failures
from planner.deployment.failures import failures_document, settled_s, unended_warnings
from planner.deployment.no_effect import no_effect
from planner.deployment.router_origins import retry_origins, stopped_in
from planner.deployment.runs import (
    FULL_SPANS,
    IDLE_QUERIES,
    Deployment,
    Length,
    default_queries,
    deploy,
    fleet_run,
    idle_e2e_s,
    idle_outcome,
    make_load,
    model_rate_qps,
    outcome_of,
    run_length,
    run_through,
)
from planner.deployment.tables import request_table, timeline_table
from planner.errors import ScenarioError, UnsupportedError
from planner.provenance import weakest_first
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, without_cooldown
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome, summarise
from planner.simulation.timeline import Timeline, timeline
from planner.summary import simulation_text
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
Late = NDArray[np.bool_]
MOST_CALLS = 20_000_000  # model calls of a run through failures: some four gigabytes


@dataclass(frozen=True)
class Simulation:
    """`document` of `simulate` has the JSON names, `outcome` the arrays behind them, `run` every request."""

    document: dict[str, Any] = field(repr=False)
    outcome: Outcome = field(repr=False)
    run: FleetRun = field(repr=False)
    deployment: Deployment = field(repr=False)

    @property
    def counted_s(self) -> tuple[float, float]:
        """When the first counted query came, and the last; from when the first was due, as all seconds of an answer."""
        load = self.run.load
        arrival_s = self.run.arrival_s[load.warmup : load.queries - load.cooldown] - first_counted_s(load)
        return float(arrival_s.min()), float(arrival_s.max())  # clients and sessions do not come in the load's order

    def requests(self) -> pd.DataFrame:
        """One row a model call: see `tables.request_table`."""
        return request_table(self.run)

    def timeline(self, intervals: int) -> Timeline:
        """The run from its beginning to its end, in so many equal intervals; it is simulated once more for it.

        Seconds count from the first counted query, as `at_s` of the failures: those of the warm-up are below zero.
        Raises UnsupportedError for data-parallel ranks that compute in step: looked at, they would not.
        """
        ranks = self.deployment.candidate.ranks_in_step
        if ranks > 1:
            rule = "a run over time is not supported yet where data-parallel ranks share experts and compute in step"
            raise UnsupportedError("engine.data_parallel_size", ranks, rule, "1")
        end_s = float(np.nanmax(np.concatenate((self.run.last_token_s, self.run.ended_s))))
        marks_s = np.linspace(0.0, end_s, intervals + 1)
        replicas, seed = self.document["fleet"]["replicas"], self.document["seed"]
        again = run_through(self.deployment, self.run.load, replicas, seed, self.run.control, marks_s)
        over, zero_s = timeline(again, marks_s), first_counted_s(self.run.load)
        return over._replace(begin_s=over.begin_s - zero_s, end_s=over.end_s - zero_s)

    def timeline_table(self, intervals: int) -> pd.DataFrame:
        """The same as a table: see `tables.timeline_table`."""
        return timeline_table(self.timeline(intervals))

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return simulation_text(self.document)


def simulate(
    scenario: Scenario, *, seed: int = 0, requests: int | None = None, duration_s: float | None = None
) -> Simulation:
    """One fleet (`fleet.replicas`, default 1) under one load.

    `requests` or `duration_s` set the length of an open-loop run (queries counted after a warm-up); the default is
    `default_queries`, or more where that would not last `FULL_SPANS` times as long as a query. Raises InputErrors for
    lists and for whatever cannot be run.
    """
    deployment = deploy(only_candidate(scenario, "simulate"))
    replicas = scenario.fleet.replicas or 1
    length = Length(0, 0, 0)
    if scenario.demand == "open":
        _, idle = idle_outcome(deployment, scenario, IDLE_QUERIES, seed)
        spans = 0 if requests else FULL_SPANS
        length = run_length(scenario, requests or default_queries(scenario), idle_e2e_s(idle), spans)
        if not requests and duration_s is None:
            lasting = lasting_s(scenario, replicas, idle_e2e_s(idle))
            length = length._replace(counted=max(length.counted, round(lasting * model_rate_qps(scenario))))
            _refuse_too_long(scenario, length.counted, lasting)
    load = make_load(scenario, deployment.config.max_model_len, seed, length, duration_s)
    failures, unended = None, list[str]()
    if scenario.fleet.failures:
        given = "--requests" if requests is not None else "--duration" if duration_s is not None else ""
        fleet, outcome, failures, unended = _through_failures(deployment, scenario, load, replicas, seed, given)
        around = bands(deployment, scenario, outcome, load, replicas, seed, 0)
    else:
        fleet = fleet_run(deployment, scenario, load, replicas, seed)
        outcome = outcome_of(fleet, scenario)
        around = bands(deployment, scenario, outcome, load, replicas, seed)
    pause = session_pause(deployment, scenario, load, outcome, replicas, seed)
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "warnings": [
            *warnings_document([deployment]),
            *no_effect(scenario, [deployment], "simulate"),
            *collapse_warnings(pause, seed),
            *unended,
        ],
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas),
        **run_document(deployment, load, outcome, around),
        **with_hits(scenario, load, outcome),
        **with_pause(pause),
        **({} if failures is None else {"failures": failures}),
        "provenance": [
            row.as_dict()
            for row in weakest_first(
                [*deployment.provenance_of(replicas), *retry_origins(scenario, stopped=stopped_in(scenario))]
            )
        ],
    }
    return Simulation(document, outcome, fleet, deployment)


def _refuse_too_long(scenario: Scenario, queries: int, lasting: float) -> None:
    """Raise ScenarioError where failures come so late that the run to show them would not fit the memory."""
    calls = queries * sum(stage.calls * stage.samples for stage in scenario.query.stages)
    if scenario.fleet.failures and calls > MOST_CALLS:
        rule = f"make a run of {lasting:.3g} s and {calls:.3g} model calls, which is more than {MOST_CALLS:.3g}"
        nearest = f"let all of them be over within {lasting * MOST_CALLS / calls / SETTLES:.3g} s"
        raise ScenarioError("fleet.failures", None, rule, nearest)


def _through_failures(
    deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int, given: str
) -> tuple[FleetRun, Outcome, dict[str, Any], list[str]]:
    """The run through `fleet.failures`, its statistics judged by its own statistic, what they did, what was not seen.

    `given` is the option that set the run's length. Raises ScenarioError for a failure that would come after the last
    counted query of an open load, or of any other when its last query is over: nothing would come of it.
    """
    plain = control_of(scenario, deployment.candidate.options.data_parallel_size)
    control, events = with_failures(plain, scenario, load, replicas)
    firsts, begin_s = [event.first for event in events], first_counted_s(load)
    at_s = np.round([control.changes[first].at_s - begin_s for first in firsts], 9)
    if scenario.demand == "open":
        counted, last_s = load.queries - load.warmup - load.cooldown, _last_counted_s(load)
        rule = f"the last of the run's {counted:,} counted queries comes at {last_s:.4g} s"
        _refuse_late(events, at_s, at_s > last_s, rule, last_s, f"without {given}" if given else "")
    fleet = run_through(deployment, load, replicas, seed, control)
    if scenario.demand != "open":
        end_s = float(np.nanmax(fleet.ended_s)) - begin_s
        rule = f"all {load.queries:,} queries of the run are over at {end_s:.4g} s"
        longer = "" if scenario.demand == "trace" else f"more of traffic.arrivals.{scenario.demand}.requests"
        _refuse_late(events, at_s, np.isnan(fleet.changed_s[firsts]), rule, end_s, longer)
    through = without_cooldown(fleet)
    settled = settled_s(through, events) if scenario.demand == "open" else None
    outcome = summarise(through, scenario.slo, steady=False, settled_s=settled)
    told = failures_document(scenario, through, outcome, events)
    return fleet, outcome, told, unended_warnings(through, events, scenario.demand)


def _last_counted_s(load: Load) -> float:
    """When the last counted query is due, from when the first one is."""
    return float(load.arrival_s[load.queries - load.cooldown - 1]) - first_counted_s(load)


def _refuse_late(events: list[Event], at_s: F64, late: Late, rule: str, most_s: float, longer: str) -> None:
    """Raise ScenarioError for the first event that is `late`; one at `most_s` would not be, nor in a `longer` run."""
    for k in np.flatnonzero(late).tolist():
        nearest = f"at most {math.floor(most_s * MS_PER_S) / MS_PER_S} s" + (f", or {longer}" if longer else "")
        raise ScenarioError(f"{events[k].key}.{events[k].what}.at_s", float(at_s[k]), rule, nearest)
