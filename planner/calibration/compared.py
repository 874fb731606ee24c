"""Recorded runs beside the simulator's replay of the same sends: every figure measured and simulated.

TTFT and E2E run from when a request was due, on both sides, so the client's own delay is in both. Percentiles are those
of `planner.simulation.quantiles`. A request that broke off is simulated, but stands in neither column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.calibration.replayed import RecordedRun, recorded_runs, replay_run
from planner.calibration.tested import refuse_other_query, warnings_of
from planner.calibration.validity import ending, refuse_invalid
from planner.coefficients import StepCost
from planner.deployment import SCHEMA_VERSION, warnings_document
from planner.readers.recordings import Recording
from planner.scenario import Scenario
from planner.simulation.quantiles import gap_quantile_s, quantile
from planner.summary.calibration import comparison_text
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
Pair = tuple[float, float]  # measured, simulated


@dataclass(frozen=True)
class ReplayComparison:
    """The answer of `validate --records`; `document` has the JSON names."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return comparison_text(self.document)


def compare_recordings(
    recordings: Sequence[Recording],
    scenario: Scenario | None,
    changes: Mapping[str, Any] | None = None,
    *,
    allow_invalid: bool = False,
) -> ReplayComparison:
    """Every recording against the simulator, under its own scenario or the given one with its calibration.

    Raises InputError for a run that its load test marked invalid, unless those are allowed, and for one whose
    queries have other stages or turns than those of the given scenario.
    """
    refuse_invalid(recordings, allow_invalid)
    if scenario is not None:
        for recording in recordings:
            refuse_other_query(recording, scenario)
    compared = [_compared(run) for run in recorded_runs(recordings, scenario, changes)]
    names = list(dict.fromkeys(name for run in compared for name in run["figures"]))
    errors = {
        name: [abs(run["figures"][name]["error"]) for run in compared if name in run["figures"]] for name in names
    }
    return ReplayComparison(
        {
            "schema_version": SCHEMA_VERSION,
            "runs": compared,
            "median_absolute_error": {name: float(np.median(values)) for name, values in errors.items()},
        }
    )


def _compared(run: RecordedRun) -> dict[str, Any]:
    deployment = run.deployment
    lag = (run.sent_s - run.due_s)[run.counted]
    counted = run.whole & run.counted
    return {
        "run": run.recording.name,
        "source": run.recording.source,
        "model": deployment.candidate.model.name,
        "hardware": deployment.candidate.gpu.name,
        "calibrated": deployment.calibrated is not None,
        "warnings": warnings_of(run, int(np.count_nonzero(counted))) + warnings_document([deployment]),
        "requests": int(np.count_nonzero(counted)),
        "failed": sum(1 for error in run.recording.errors if error),
        "ended": ending(run.recording),
        "invalid": [] if run.recording.end is None else list(run.recording.end.invalid),
        "figures": {
            name: {"measured": measured, "simulated": simulated, "error": simulated / measured - 1.0}
            for name, (measured, simulated) in figures(run, deployment.cost).items()
            if measured > 0
        },
        "kv_cache_tokens": {"reported": run.kv_cache_tokens, "simulated": deployment.kv.logged_tokens},
        "send_lag_ms": {"p50": quantile(lag, 50.0) * MS_PER_S, "p99": quantile(lag, 99.0) * MS_PER_S},
        "provenance": [row.as_dict() for row in deployment.provenance],
    }


def figures(run: RecordedRun, cost: StepCost) -> dict[str, Pair]:
    """Latency percentiles in ms and throughput, measured and simulated, of the answered requests after the warm-up."""
    fleet = replay_run(run, cost)
    counted = run.whole & run.counted
    if not counted.any():
        return {}
    several = counted & (run.load.output_tokens > 1)
    later = np.maximum(run.load.output_tokens - 1, 1)
    columns: dict[str, tuple[F64, F64]] = {
        "ttft_ms": ((run.first_s - run.due_s)[counted], (fleet.first_token_s - run.due_s)[counted]),
        "tpot_ms": (
            ((run.last_s - run.first_s) / later)[several],
            ((fleet.last_token_s - fleet.first_token_s) / later)[several],
        ),
        "e2e_ms": ((run.last_s - run.due_s)[counted], (fleet.last_token_s - run.due_s)[counted]),
    }
    found: dict[str, Pair] = {}
    for name, (measured, simulated) in columns.items():
        if len(measured):
            for percentile in PERCENTILES:
                pair = quantile(measured, percentile) * MS_PER_S, quantile(simulated, percentile) * MS_PER_S
                found[f"{name}.p{percentile:g}"] = pair
    found |= _gap_figures(run, fleet.gaps.count.sum(axis=0), counted)
    begin = float(run.due_s[counted].min())
    spans = float(run.last_s[counted].max()) - begin, float(fleet.last_token_s[counted].max()) - begin
    requests, tokens = float(np.count_nonzero(counted)), float(run.load.output_tokens[counted].sum())
    found["request_throughput"] = requests / spans[0], requests / spans[1]
    found["output_throughput"] = tokens / spans[0], tokens / spans[1]
    return found


def _gap_figures(run: RecordedRun, simulated: F64, counted: NDArray[np.bool_]) -> dict[str, Pair]:
    """ITL, where the recording has single gaps."""
    starts, ends = run.recording.gap_start[run.row[counted]], run.recording.gap_start[run.row[counted] + 1]
    gaps = np.concatenate([run.recording.gaps_s[a:b] for a, b in zip(starts, ends, strict=True)])
    found = {}
    for percentile in PERCENTILES if len(gaps) else ():
        other = gap_quantile_s(simulated, percentile / 100.0)
        if other is not None:
            found[f"itl_ms.p{percentile:g}"] = quantile(gaps, percentile) * MS_PER_S, other * MS_PER_S
    return found
