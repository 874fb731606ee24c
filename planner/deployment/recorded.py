"""A load test's records against the arrays that were sent: measured statistics by the simulator's own code.

`verified_load` builds the arrays again and holds the records against them · `measured_outcome` judges what came of
them · `simulated_outcome` runs the same arrays through the simulator and judges them in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment.runs import Deployment, Length, fleet_run, make_load
from planner.errors import DataFileError
from planner.readers.recordings import Recording
from planner.records import RunHeader
from planner.scenario import Scenario
from planner.simulation.backlog import backlog_grows
from planner.simulation.gap_windows import gap_windows
from planner.simulation.kernel_state import GAP_BINS, GAP_FLOOR_S, GAP_WIDTH, Gaps
from planner.simulation.load import Load, as_far_as
from planner.simulation.outcome import Outcome, resources_of, served, summarise_service
from planner.simulation.service import Service

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
INTERRUPTED = "interrupted"  # an answer that the client itself cut off when it was stopped
DUE_ALIKE_S = 1e-4  # records round a time to a microsecond; another seed's are milliseconds away


def recorded_scenario(header: RunHeader, base: Path | None = None) -> Scenario:
    """The scenario that was sent; relative paths in it start from `base`."""
    return Scenario.from_dict(header.scenario, base)


def recorded_load(header: RunHeader, scenario: Scenario) -> Load:
    """The arrays that were sent, from the header's own seed and length."""
    length = Length(header.queries - header.warmup, header.warmup, 0)
    return make_load(scenario, header.max_model_len, header.seed, length, header.duration_s)


def verified_load(recording: Recording, scenario: Scenario) -> Load:
    """The arrays that were sent, built again; DataFileError where the records are not of them, or say no seed."""
    if recording.header is None:
        raise DataFileError("records", recording.path, "are not of planner loadtest: no header says what was sent")
    load = recorded_load(recording.header, scenario)
    check_sent(recording, load)
    return load


def check_sent(recording: Recording, load: Load) -> None:
    """Raise DataFileError where what was asked for, or when a query was due, is not what the load has.

    Another version of the generator, or a trace that was changed since, would otherwise be judged as what was sent.
    """
    request = recording.request
    if len(request) and int(request.max()) >= load.requests:
        rule = f"have request {int(request.max())}, but the scenario makes {load.requests}"
        raise DataFileError("records", recording.path, f"are not of this load: they {rule}")
    columns: list[tuple[str, NDArray[Any] | None, NDArray[Any], float]] = [
        ("prompt tokens", recording.asked_prompt_tokens, load.prompt_tokens[request], 0.0),
        ("output tokens", recording.asked_output_tokens, load.output_tokens[request], 0.0),
    ]
    if recording.header is not None and recording.header.demand in ("open", "trace"):  # else the answers decide
        query = request // load.width
        due_s = load.arrival_s[query]
        if load.follows is not None:  # and of sessions they decide when the later turns are due
            due_s = np.where(load.follows[query] < 0, due_s, recording.query_s)
        columns.append(("times of arrival", recording.query_s, due_s, DUE_ALIKE_S))
    for words, sent, built, tolerance in columns:
        if sent is not None and not bool((np.abs(sent - built) <= tolerance).all()):
            rule = f"{recording.name}: the {words} of its scenario and seed are not those that were sent"
            raise DataFileError("records", recording.path, rule)


def sent_load(recording: Recording, load: Load) -> Load:
    """The arrays as far as they were sent: all of them, or of a run that was stopped those up to its last query.

    Of sessions every turn that was sent, whatever became of it: the order of a load's turns is not that of their times.
    """
    if load.follows is not None:
        return _only(load, _sent_turns(recording, load))
    kept = kept_queries(recording, load)
    return as_far_as(load, int(kept[-1]) + 1 if len(kept) else load.queries)


def _sent_turns(recording: Recording, load: Load) -> NDArray[np.bool_]:
    """Which turns [Q] were sent: those with a row, and those before them, without which they would not have been."""
    assert load.follows is not None
    sent = np.zeros(load.queries, np.bool_)
    sent[recording.request // load.width] = True
    later = load.follows >= 0
    while True:
        before = load.follows[sent & later]
        if sent[before].all():
            return sent
        sent[before] = True


def _only(load: Load, kept: NDArray[np.bool_]) -> Load:
    """The load of the `kept` queries [Q] alone; each is kept with the one that it follows."""
    if kept.all():
        return load
    requests = np.repeat(kept, load.width)
    prefixes = load.prefixes
    if prefixes is not None:
        lengths = np.diff(prefixes.chain_start)
        prefixes = replace(
            prefixes,
            chain_start=np.concatenate(([0], np.cumsum(lengths[requests]))),
            chain_segment=prefixes.chain_segment[np.repeat(requests, lengths)],
        )
    return replace(
        load,
        arrival_s=load.arrival_s[kept],
        prompt_tokens=load.prompt_tokens[requests],
        output_tokens=load.output_tokens[requests],
        think_s=None if load.think_s is None else load.think_s[kept],
        prefixes=prefixes,
        follows=_kept_turns(load, kept),
        warmup=int(kept[: load.warmup].sum()),
    )


def measured_outcome(recording: Recording, load: Load, scenario: Scenario) -> Outcome:
    """Statistics of the counted queries of a run, under the names of `simulate`, judged by the run's own figures.

    A query fails with any of its requests. One that had not ended when the run was stopped is left out: nobody knows
    what would have become of it. Raises DataFileError where the records are not of this load, or nothing is left.
    """
    service = measured_service(recording, load)
    return summarise_service(
        service, scenario.slo, steady=False, saturated=scenario.demand == "open" and backlog_grows(service)
    )


def simulated_outcome(deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int) -> Outcome:
    """The same arrays on `replicas` simulated endpoints, judged as a measured run is: by its own figures."""
    run = fleet_run(deployment, scenario, load, replicas, seed)
    service = served(run)
    saturated = scenario.demand == "open" and backlog_grows(service)
    until_the_last = scenario.demand == "open" and load.follows is None  # of sessions the whole run, as was measured
    more = resources_of(run, run.steady if until_the_last else run.ledger) | {"wall_s": run.wall_s}
    return summarise_service(service, scenario.slo, steady=False, saturated=saturated, more=more)


def kept_queries(recording: Recording, load: Load) -> I64:
    """Places in the load of the queries that the statistics have, the warm-up's included, ascending."""
    return np.flatnonzero(_queries(recording, load).kept)


@dataclass(frozen=True)
class _Queries:
    """What the rows say of each query [Q]."""

    kept: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    arrival_s: F64
    sent_s: F64
    ended_s: F64


def measured_service(recording: Recording, load: Load) -> Service:
    """The run as its clients saw it, in the shape that the statistics take."""
    check_sent(recording, load)
    queries = _queries(recording, load)
    counted = int(queries.kept[load.warmup :].sum())
    if counted == 0:
        raise DataFileError("records", recording.path, "hold no query beyond the warm-up")
    answered = recording.answered
    place = recording.request[answered]
    first_s, last_s = np.full((2, load.requests), np.nan)
    first_s[place] = recording.first_token_s[answered]
    last_s[place] = recording.last_token_s[answered]
    prompt, output = load.prompt_tokens.copy(), load.output_tokens.copy()
    prompt[place] = recording.prompt_tokens[answered]
    output[place] = recording.output_tokens[answered].clip(min=1)
    requests = np.repeat(queries.kept, load.width)
    arrival_s = queries.arrival_s[queries.kept]
    kept = replace(
        load,
        arrival_s=arrival_s if load.follows is None else load.arrival_s[queries.kept],  # of sessions their order
        prompt_tokens=prompt[requests],
        output_tokens=output[requests],
        prefixes=None,
        think_s=None,
        follows=_kept_turns(load, queries.kept),
        timeout_s=np.inf,  # the client has seen to it: such a request is an error
        warmup=int(queries.kept[: load.warmup].sum()),
    )
    return Service(
        load=kept,
        arrival_s=arrival_s,
        sent_s=queries.sent_s[queries.kept],
        failed=queries.failed[queries.kept],
        ended_s=queries.ended_s[queries.kept],
        first_token_s=first_s[requests],
        last_token_s=last_s[requests],
        gaps=_gaps(recording, load, queries.kept, gap_windows(replace(kept, arrival_s=arrival_s))),
    )


def _kept_turns(load: Load, kept: NDArray[np.bool_]) -> I64 | None:
    """Of the kept queries those that each follows, by their places among the kept.

    Where that one was not kept (a killed run may have lost its row) it is the nearest before it that was, and -1 where
    none was: as far as is known the session begins there.
    """
    if load.follows is None:
        return None
    before = load.follows
    while (lost := (before >= 0) & ~kept[before]).any():
        before = np.where(lost, load.follows[before], before)
    place, before = np.cumsum(kept) - 1, before[kept]
    return np.where(before >= 0, place[before], -1)


def _queries(recording: Recording, load: Load) -> _Queries:
    query = recording.request // load.width
    stopped = np.array([error == INTERRUPTED for error in recording.errors], np.bool_)
    rows = np.bincount(query, minlength=load.queries)
    failed = np.bincount(query[~recording.answered & ~stopped], minlength=load.queries) > 0
    whole = rows == load.width
    complete = recording.end is not None and recording.end.reason == "complete"
    failed |= (rows > 0) & ~whole & complete  # a stage that was never sent
    arrival_s, sent_s = load.arrival_s.astype(np.float64).copy(), np.full(load.queries, np.inf)
    ended_s = np.full(load.queries, -np.inf)
    arrival_s[query] = recording.query_s
    np.fmin.at(sent_s, query, recording.sent_s)
    np.fmax.at(ended_s, query, _ends(recording))
    cut = np.bincount(query[stopped], minlength=load.queries) > 0
    return _Queries(
        kept=(failed | whole) & ~(cut & ~failed) & (rows > 0),
        failed=failed,
        arrival_s=arrival_s,
        sent_s=np.where(np.isfinite(sent_s), sent_s, arrival_s),
        ended_s=np.where(np.isfinite(ended_s), ended_s, arrival_s),
    )


def _ends(recording: Recording) -> F64:
    """When each request was over [N]: its last token, or the latest that is known of it."""
    known = np.fmax(recording.last_token_s, np.fmax(recording.first_token_s, recording.sent_s))
    return known if recording.ended_s is None else np.fmax(known, recording.ended_s)


def _gaps(recording: Recording, load: Load, kept: NDArray[np.bool_], gaps: Gaps) -> Gaps:
    """The gaps of counted, answered requests of the last stage, each in the window and bin where it ends."""
    query, place = np.divmod(recording.request, load.width)
    mine = recording.answered & kept[query] & (query >= load.warmup)
    mine &= place >= load.width - load.stages[-1].requests
    lengths = np.diff(recording.gap_start)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    use = mine[owner] & np.isfinite(recording.gaps_s)
    sums = np.concatenate(([0.0], np.cumsum(recording.gaps_s)))
    at_s = recording.first_token_s[owner] + sums[1:] - sums[recording.gap_start[:-1]][owner]
    gap_s, at_s = recording.gaps_s[use], at_s[use]
    window = np.clip((at_s - gaps.start_s) / gaps.window_s, 0, len(gaps.total_s) - 1).astype(np.int64)
    bins = (np.log(gap_s.clip(min=GAP_FLOOR_S) / GAP_FLOOR_S) / GAP_WIDTH).clip(0, GAP_BINS - 1).astype(np.int64)
    np.add.at(gaps.count, (window, bins), 1.0)
    np.add.at(gaps.total_s, window, gap_s)
    return gaps
