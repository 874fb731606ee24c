"""A load test's answer: what was measured, under the names of `simulate`, beside the same arrays simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from planner.deployment import (
    SCHEMA_VERSION,
    Bands,
    Deployment,
    bands,
    deploy,
    fleet_document,
    only_candidate,
    run_document,
    warnings_document,
)
from planner.deployment.recorded import (
    INTERRUPTED,
    measured_outcome,
    recorded_load,
    recorded_scenario,
    sent_load,
    simulated_outcome,
)
from planner.errors import DataFileError, InputError
from planner.provenance import Provenance
from planner.readers.recordings import Recording
from planner.records import RunHeader
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.simulation.quantiles import quantile
from planner.specs import Limit
from planner.studies.load_sessions import session_warnings
from planner.studies.loadtest_warnings import server_warnings, traffic_warning
from planner.summary.loadtest import loadtest_text
from planner.units import MS_PER_S

LATENCIES = ("ttft_ms", "ttft_from_send_ms", "tpot_ms", "itl_ms", "e2e_ms")
RATES = ("request_throughput", "query_throughput", "output_throughput", "total_token_throughput", "goodput_rps")
SAME_SHARE = 0.001  # of the queries: so few move a p99 by no more than a tenth of what stands above it
NO_END = "the records have no end: the load tester was killed"


@dataclass(frozen=True)
class LoadTest:
    """The answer of `loadtest`; `simulated` is None where nothing could be simulated."""

    document: dict[str, Any] = field(repr=False)
    recording: Recording = field(repr=False)
    load: Load = field(repr=False)
    measured: Outcome = field(repr=False)
    simulated: Outcome | None = field(repr=False)
    limits: tuple[Limit, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return loadtest_text(self.document)

    @property
    def endpoint_failed(self) -> bool:
        """Whether the server answered nothing at all of what was sent, or was no longer there at the run's end."""
        nothing = not self.document["requests"] and bool(self.document["failures"])
        return nothing or "gone" in self.document["server"]

    @property
    def usable(self) -> bool:
        """Whether the run was valid, anything was answered, and the server was still there at its end."""
        return bool(self.document["valid"]) and self.document["requests"] > 0 and not self.endpoint_failed


@dataclass(frozen=True)
class Prediction:
    """The same arrays simulated, or the reason why they could not be."""

    outcome: Outcome | None
    document: dict[str, Any] | None
    why_not: str = ""
    deployment: Deployment | None = None


def evaluate(
    recording: Recording, scenario: Scenario | None = None, server: Mapping[str, Any] | None = None
) -> LoadTest:
    """Statistics of a run's records, beside the simulator's for the same arrays.

    `scenario` is the one that was sent, with its folder; without it the header's. `server` is what the server said of
    itself and of the run, beyond what the records have. Raises InputErrors for records that cannot be used.
    """
    header = recording.header
    if header is None:
        raise DataFileError("records", recording.path, "are not of planner loadtest: no header says what was sent")
    sent = scenario or recorded_scenario(header, recording.path.parent)
    load = recorded_load(header, sent)
    measured = measured_outcome(recording, load, sent)
    sent_as_far = sent_load(recording, load)
    prediction = predict(sent, sent_as_far, header.seed)
    facts = {**header.server, **(recording.end.server if recording.end else {}), **(server or {})}
    figures = measured.figures
    unlike = other_queries(sent_as_far, figures, prediction.document)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": sent.as_dict(),
        "seed": header.seed,
        "warnings": _warnings(recording, header, sent, prediction, facts),
        **whose(recording, header),
        **figures,
        **{key: facts.get(key) for key in ("kv_cache_tokens", "kv_cache_usage", "prefix_cache_hit_rate")},
        "num_preemptions": facts.get("num_preemptions"),
        "utilisation": None,  # no server tells how long its engines were busy
        "clipped_share": load.clipped_share,
        **validity(recording),
        "server": facts,
        "simulated": prediction.document,
        "not_simulated": prediction.why_not,
        "errors": {} if unlike else relative_errors(figures, prediction.document),
        "not_compared": unlike,
        "notes": [*load.notes, *(recording.end.notes if recording.end else ())],
        "provenance": _provenance(recording, facts),
    }
    return LoadTest(document, recording, load, measured, prediction.outcome, sent.slo)


def _warnings(
    recording: Recording, header: RunHeader, sent: Scenario, prediction: Prediction, facts: Mapping[str, Any]
) -> list[str]:
    """What must be known before the figures are believed: other traffic, a calibration of something else."""
    found = [traffic_warning(recording, facts)]
    if prediction.deployment is not None:
        found += [*warnings_document([prediction.deployment]), *server_warnings(prediction.deployment, facts)]
        found += session_warnings(header, sent, prediction.deployment)
    return [warning for warning in found if warning]


def whose(recording: Recording, header: RunHeader) -> dict[str, Any]:
    """Whose records these are: the server, what was asked of it, and when."""
    return {
        "host": header.host,
        "served_model": header.model,
        "api": header.api,
        "demand": header.demand,
        "started_at": header.started_at,
        "records": str(recording.path),
    }


def validity(recording: Recording) -> dict[str, Any]:
    """Whether the figures may be used: send lag, the load tester's own verdict, how the run ended, failures."""
    end = recording.end
    held_s = 0.0 if recording.held_s is None else recording.held_s  # meant to wait, behind max_in_flight
    lag_s = recording.sent_s - recording.scheduled_s - held_s
    lag_ms = lag_s[np.isfinite(lag_s)] * MS_PER_S
    lag = None
    if len(lag_ms):
        lag = {"p50": quantile(lag_ms, 50.0), "p99": quantile(lag_ms, 99.0), "max": float(lag_ms.max())}
    invalid = [NO_END] if end is None else list(end.invalid)
    failures = Counter(error for error in recording.errors if error and error != INTERRUPTED)
    return {
        "send_lag_ms": lag,
        "client_cpu": dict(end.client_cpu) if end else {},
        "ended": "killed" if end is None else end.reason,
        "unsent": end.unsent if end else None,
        "cut_off": recording.errors.count(INTERRUPTED),
        "valid": not invalid,
        "invalid": invalid,
        "failures": dict(failures.most_common()),
    }


def predict(scenario: Scenario, load: Load, seed: int) -> Prediction:
    """The arrays through the simulator, with 80 % bands."""
    try:
        deployment = deploy(only_candidate(scenario, "loadtest"))
        replicas = scenario.fleet.replicas or 1
        outcome = simulated_outcome(deployment, scenario, load, replicas, seed)
        around = bands(deployment, scenario, outcome, load, replicas, seed)
    except InputError as error:
        return Prediction(None, None, str(error))
    return Prediction(outcome, _prediction_document(deployment, load, outcome, around, replicas), "", deployment)


def other_queries(load: Load, measured: Mapping[str, Any], simulated: Mapping[str, Any] | None) -> str:
    """Why the two sides' figures are of other queries, so that errors between them would mislead; empty: they are not.

    `load` is what was sent. The simulation answers all of it; a client that stops cuts answers off, and those are the
    long ones; a query that failed has no latency. Below `SAME_SHARE` of the queries that is let pass.
    """
    if simulated is None:
        return ""
    counted = load.queries - load.warmup
    causes = (
        (counted - measured["queries"], "were cut off or lost before they had ended"),
        (abs(measured["failed"] - simulated["failed"]), "failed on one of the two sides alone"),
    )
    told = [f"{count} of {counted} queries {what}" for count, what in causes if count > SAME_SHARE * counted]
    if not told:
        return ""
    return f"{' and '.join(told)}: measured and simulated figures are not of the same queries"


def relative_errors(measured: Mapping[str, Any], simulated: Mapping[str, Any] | None) -> dict[str, float]:
    """simulated ÷ measured − 1 of every figure that both have, by its dotted name."""
    if simulated is None:
        return {}
    one, other = flat(measured), flat(simulated)
    return {name: other[name] / one[name] - 1.0 for name in one if name in other and one[name] > 0}


def flat(figures: Mapping[str, Any]) -> dict[str, float]:
    """Latencies and throughputs by dotted name."""
    found = {name: float(figures[name]) for name in RATES if figures.get(name) is not None}
    for name in LATENCIES:
        row = figures.get(name) or {}
        found |= {f"{name}.{statistic}": float(value) for statistic, value in row.items() if value is not None}
    return found


def _provenance(recording: Recording, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the figures come from: the client's own clock, and the server's word for what only it can know."""
    client = Provenance("latencies, throughput, goodput", "measured", f"one row a request in {recording.path.name}")
    if "steps" not in facts and "kv_cache_tokens" not in facts:
        return [client.as_dict()]
    told = "KV cache, prefix cache hits, preemptions, batch"
    return [client.as_dict(), Provenance(told, "measured", "the server's own /metrics, warm-up included").as_dict()]


def records_name(scenario: Scenario, stamp: str) -> Path:
    """Where records go by default: named by the scenario and the time, so that no run overwrites another's."""
    words = "".join(letter if letter.isalnum() else " " for letter in scenario.name.lower()).split()
    return Path(f"loadtest-{'-'.join(words)[:40]}-{stamp}.jsonl")


def _prediction_document(
    deployment: Deployment, load: Load, outcome: Outcome, around: Bands, replicas: int
) -> dict[str, Any]:
    return {
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas),
        **run_document(deployment, load, outcome, around),
        "provenance": [row.as_dict() for row in deployment.provenance_of(replicas)],
    }
