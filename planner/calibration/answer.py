"""calibrate(): records in, a calibration file's content out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.calibration.compared import figures
from planner.calibration.fit import Fit, Problem, common_scale, solve
from planner.calibration.frontend import refine
from planner.calibration.identify import MOST_LOG, check_rows, check_runs, shares, told
from planner.calibration.replayed import RecordedRun, recorded_runs, server_version, with_kv
from planner.calibration.rows import Rows, make_rows
from planner.calibration.steps import Steps
from planner.calibration.validity import ending, refuse_invalid
from planner.deployment.calibrated import identity, memory_settings
from planner.deployment.parts import FRONTEND, parts_of, scaled, size
from planner.errors import InputError
from planner.readers.calibration_file import (
    Calibration,
    Coefficient,
    Compared,
    Identity,
    Memory,
    Range,
    Record,
    Residual,
)
from planner.readers.recordings import Recording
from planner.scenario import Scenario
from planner.summary.calibration import calibration_text
from planner.units import MS_PER_S

KV_ALIKE = 0.01  # relative: reported caches of one deployment
SERVER_FACTS = (
    *("max_model_len", "engines", "kv_cache_tokens", "num_gpu_blocks", "block_size", "enable_prefix_caching"),
    *("gpu_memory_utilization", "kv_cache_dtype"),
)
SHOWN = ("ttft_ms.p50", "tpot_ms.p50", "e2e_ms.p50", "request_throughput")


@dataclass(frozen=True)
class Calibrated:
    """The answer of `calibrate`. `calibration` is the file's content; `rows` and `fit` are what its plots show."""

    calibration: Calibration
    rows: Rows = field(repr=False)
    fit: Fit = field(repr=False)
    runs: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The file's content, JSON-able."""
        return self.calibration.model_dump(mode="json")

    def __str__(self) -> str:
        return calibration_text(self.as_dict())

    def residuals(self) -> dict[str, Any]:
        """Every row of the fit as columns, for pictures: measured and fitted ms, weight, and what describes the row."""
        rows = self.rows
        return {
            "runs": self.runs,
            "measured_ms": rows.measured_s * MS_PER_S,
            "fitted_ms": (rows.share @ self.fit.factor) * MS_PER_S,
            "kept_weight": self.fit.kept_weight,
            "run": rows.run,
            "decodes": rows.decodes,
            "prompt": rows.prompt,
            "at_s": rows.at_s,
        }


def calibrate(
    recordings: Sequence[Recording],
    scenario: Scenario | None = None,
    *,
    date: str,
    changes: Mapping[str, Any] | None = None,
    allow_invalid: bool = False,
) -> Calibrated:
    """Fit the step cost of one deployment to recorded runs of it.

    `scenario` says the deployment where the files do not (and wins where they do); a calibration that it names is left
    aside. Raises InputErrors for records that cannot be used together, or cannot tell a part of the cost that matters.
    """
    refuse_invalid(recordings, allow_invalid)
    own = None if scenario is None else scenario.with_values({"calibration": None})
    runs = recorded_runs(recordings, own, {"calibration": None} | dict(changes or {}))
    described = _one_deployment(runs)
    caches = _reported_caches(runs)
    runs = [with_kv(run, caches.get(_memory(run))) for run in runs]
    memory = next(iter(caches), _memory(runs[0]))
    check_runs(runs)
    rows, steps = make_rows(runs)
    check_rows(rows)
    problem = Problem(rows.measured_s, rows.share, rows.even_weight, rows.level, rows.block)
    engine = np.array([part not in FRONTEND for part in rows.parts])
    fit = solve(problem, np.where(engine, common_scale(problem), 0.0))
    fit = refine(runs, rows.parts, fit)
    known = told(rows, runs, steps, fit)
    residuals = [_residual(run, rows, fit) for run in runs]
    pace = [np.log1p(one.figures["tpot_ms.p50"].error) for one in residuals if "tpot_ms.p50" in one.figures]
    calibration = Calibration(
        schema_version=1,
        date=date,
        deployment=described,
        memory=memory,
        kv_cache_tokens=caches.get(memory),
        server=_server(recordings),
        coefficients=_coefficients(rows, runs, fit, known),
        covariance=_covariance(fit, known),
        misfit_log_sd=float(np.sqrt(np.mean(np.square(pace)))) if pace else 0.0,
        covered=_covered(runs, steps),
        records=tuple(_record(run) for run in runs),
        residuals=tuple(residuals),
    )
    return Calibrated(calibration, rows, fit, tuple(run.recording.name for run in runs))


def _one_deployment(runs: Sequence[RecordedRun]) -> Identity:
    """What all runs were made on; InputError where they differ."""
    first = identity(runs[0].deployment.candidate)
    for run in runs[1:]:
        other = identity(run.deployment.candidate)
        for name in Identity.model_fields:
            if getattr(first, name) != getattr(other, name):
                rule = (
                    f"{run.recording.name} is of {getattr(other, name)}, {runs[0].recording.name} of "
                    f"{getattr(first, name)}: calibrate one deployment at a time"
                )
                raise InputError(name, None, rule)
    return first


def _memory(run: RecordedRun) -> Memory:
    return memory_settings(run.deployment.candidate.options)


def _reported_caches(runs: Sequence[RecordedRun]) -> dict[Memory, int]:
    """KV tokens by memory settings, as reported; InputError where servers of equal settings disagree."""
    first: dict[Memory, tuple[int, str]] = {}
    for run in runs:
        if run.kv_cache_tokens is None:
            continue
        tokens, name = first.setdefault(_memory(run), (run.kv_cache_tokens, run.recording.name))
        if abs(run.kv_cache_tokens - tokens) > KV_ALIKE * tokens:
            rule = f"{run.recording.name} and {name} (={tokens}) were recorded on different servers"
            raise InputError("kv_cache_tokens", run.kv_cache_tokens, rule)
    return {memory: tokens for memory, (tokens, _) in first.items()}


def _server(recordings: Sequence[Recording]) -> dict[str, Any]:
    """What the first server to say anything said of its version and settings; no address and no path."""
    for recording in recordings:
        if recording.header is not None and recording.header.server:
            server = recording.header.server
            said = {name: server[name] for name in SERVER_FACTS if isinstance(server.get(name), str | int | float)}
            version = server_version(recording)
            return said | ({"version": version} if version else {})
    return {}


def _coefficients(
    rows: Rows, runs: Sequence[RecordedRun], fit: Fit, known: NDArray[np.bool_]
) -> tuple[Coefficient, ...]:
    deployment = runs[0].deployment
    costs = parts_of(deployment.breakdown, deployment.candidate)
    largest = shares(rows, runs, fit.factor)
    found = []
    for place, part in enumerate(rows.parts):
        reference, at = size(costs[part], part)
        factor = float(fit.factor[place])
        reach = float(np.exp(min(fit.reach[place] * fit.log_sd[place], MOST_LOG)))
        found.append(
            Coefficient(
                part=part,
                status="calibrated" if known[place] else "kept",
                factor=factor,
                low=factor / reach,
                high=factor * reach,
                reference=reference,
                reference_at=at,
                seconds=factor * reference,
                largest_share=float(min(largest[place], 1.0)),
            )
        )
    return tuple(found)


def _covariance(fit: Fit, known: NDArray[np.bool_]) -> tuple[tuple[float, ...], ...]:
    places = np.flatnonzero(known)
    return tuple(tuple(row) for row in fit.covariance[np.ix_(places, places)].tolist())


def _residual(run: RecordedRun, rows: Rows, fit: Fit) -> Residual:
    parts = parts_of(run.deployment.breakdown, run.deployment.candidate)
    cost = scaled(parts, dict(zip(rows.parts, fit.factor.tolist(), strict=True)))
    found = figures(run, cost)
    return Residual(
        run=run.recording.name,
        figures={
            name: Compared(measured=found[name][0], simulated=found[name][1], error=found[name][1] / found[name][0] - 1)
            for name in SHOWN
            if name in found and found[name][0] > 0
        },
    )


def _covered(runs: Sequence[RecordedRun], steps: Sequence[Steps]) -> dict[str, Range]:
    """What the runs covered, by figure."""
    columns = {
        "requests_in_a_step": np.concatenate([read.decodes for read in steps]),
        "tokens_in_a_step": np.concatenate([read.tokens for read in steps]),
        "cached_tokens_of_a_step": np.concatenate([read.context for read in steps]),
        "prompt_tokens": np.concatenate([run.load.prompt_tokens for run in runs]),
    }
    return {
        name: Range(low=float(np.percentile(column, 1)), high=float(np.percentile(column, 99)))
        for name, column in columns.items()
    }


def _record(run: RecordedRun) -> Record:
    return Record(
        file=run.recording.name,
        sha256=_digest(run.recording.path),
        format=run.recording.source,
        requests=len(run.recording.errors),
        answered=int(np.count_nonzero(run.whole)),
        duration_s=float(run.last_s.max() - run.sent_s.min()),
        ended=ending(run.recording),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
