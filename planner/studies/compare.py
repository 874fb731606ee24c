"""Two load tests side by side: what changed, how surely, and what the planner says that should have changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.deployment import SCHEMA_VERSION
from planner.deployment.recorded import kept_queries, measured_outcome, recorded_scenario, sent_load, verified_load
from planner.errors import DataFileError
from planner.readers.recordings import Recording, read_own
from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.studies.loadtest import Prediction, flat, predict, validity
from planner.studies.loadtest_warnings import traffic_warning
from planner.studies.paired import (
    BLOCKS,
    LEAST_PER_BLOCK,
    Difference,
    Ratio,
    Statistic,
    at_percentile,
    mean,
    paired_difference,
    paired_ratio,
    unpaired_difference,
    unpaired_ratio,
    without_common_failures,
)
from planner.studies.settings import settings_that_differ
from planner.summary.compare import compare_text

F64 = NDArray[np.float64]
STATISTICS: dict[str, Statistic] = {"mean": mean, "p50": at_percentile(50.0), "p99": at_percentile(99.0)}
RATES = ("request_throughput", "output_throughput", "goodput_rps")
WINDOWS = BLOCKS * LEAST_PER_BLOCK
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """The answer of `loadtest --compare`."""

    document: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return compare_text(self.document)

    @property
    def usable(self) -> bool:
        """Whether both runs were valid."""
        return bool(self.document["a"]["valid"] and self.document["b"]["valid"])


@dataclass(frozen=True)
class _Side:
    """One of the two runs."""

    path: Path
    recording: Recording
    scenario: Scenario
    load: Load
    outcome: Outcome
    queries: NDArray[np.int64]  # place in the load of each counted query that the statistics have

    def by_query(self, values: F64) -> F64:
        """One value a counted query of the whole load, NaN where there is none."""
        spread = np.full(self.load.queries, np.nan)
        spread[self.queries] = values
        return spread[self.load.warmup :]

    @property
    def figures(self) -> dict[str, Any]:
        """Its statistics, and what its server said."""
        told = _server(self.recording).get("prefix_cache_hit_rate")
        return {**self.outcome.figures, "prefix_cache_hit_rate": told}


def compare(a: Path, b: Path, *, base: Path | None = None, unpaired: bool = False) -> Comparison:
    """Two runs, given as records or as JSON answers of `loadtest` that name them, b against a.

    The same queries in both make paired differences. Runs that did not send the same are refused with a DataFileError
    unless `unpaired` is asked for. Relative paths in the runs' scenarios start from `base`.
    """
    one, other = (_side(records_of(path), base) for path in (a, b))
    difference = _load_difference(one.load, other.load)
    if difference and not unpaired:
        rule = f"did not send the same as {one.path.name}: {difference}; --unpaired compares them all the same"
        raise DataFileError("--compare", other.path, rule)
    paired = not difference
    predictions = [predict(side.scenario, sent_load(side.recording, side.load), _seed(side)) for side in (one, other)]
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "a": _side_document(one),
        "b": _side_document(other),
        "paired": paired,
        "load_difference": difference,
        "settings": settings_that_differ(one.recording, other.recording),
        "ratios": _ratios(one, other, predictions, paired=paired),
        "not_simulated": [prediction.why_not for prediction in predictions if prediction.why_not],
    }
    return Comparison(document)


def records_of(path: Path) -> Path:
    """The records themselves, or those that a JSON answer of `loadtest` names. Raises DataFileError."""
    try:
        with path.open("rb") as file:
            first = file.readline(1_000_000)
    except OSError as error:
        raise DataFileError("--compare", path, f"cannot be read: {error.strerror or error}") from None
    if first.startswith(b'{"record"'):
        return path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        named = Path(document["records"])
    except (ValueError, KeyError, TypeError):
        rule = "is neither records nor a JSON answer of planner loadtest"
        raise DataFileError("--compare", path, rule) from None
    for found in (named, path.parent / named.name):
        if found.is_file():
            return found
    raise DataFileError("--compare", path, f"names records that are not there: {named.name}")


# --- the runs ---


def _side(path: Path, base: Path | None) -> _Side:
    recording = read_own(path)
    header = recording.header
    assert header is not None  # read_own refuses a file without one
    scenario = recorded_scenario(header, base or path.parent)
    load = verified_load(recording, scenario)
    outcome = measured_outcome(recording, load, scenario)
    kept = kept_queries(recording, load)
    return _Side(path, recording, scenario, load, outcome, kept[kept >= load.warmup])


def _server(recording: Recording) -> dict[str, Any]:
    """What the server's metrics said of a run."""
    return recording.end.server if recording.end else {}


def _seed(side: _Side) -> int:
    return side.recording.header.seed if side.recording.header else 0


def _load_difference(a: Load, b: Load) -> str:
    """In what the arrays differ, in words; empty where they are the same."""
    if a.queries != b.queries or a.width != b.width:
        return f"{a.queries} queries of {a.width} calls against {b.queries} of {b.width}"
    if a.warmup != b.warmup:
        return f"a warm-up of {a.warmup} queries against {b.warmup}"
    for name, words in (("arrival_s", "times of arrival"), ("prompt_tokens", "prompts"), ("output_tokens", "outputs")):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            return f"other {words}"
    return ""


def _side_document(side: _Side) -> dict[str, Any]:
    header = side.recording.header
    assert header is not None
    said = validity(side.recording)
    return {
        "records": str(side.path),
        "name": header.name,
        "host": header.host,
        "served_model": header.model,
        "started_at": header.started_at,
        "seed": header.seed,
        **side.figures,
        "warnings": [warning] if (warning := traffic_warning(side.recording, _server(side.recording))) else [],
        **{key: said[key] for key in ("valid", "invalid", "failures", "send_lag_ms")},
    }


# --- what changed ---


def _ratios(one: _Side, other: _Side, predictions: list[Prediction], *, paired: bool) -> list[dict[str, Any]]:
    rows = [_failed_row(one, other, predictions, paired=paired)]
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        values = tuple(_values(side, name) for side in (one, other))
        for statistic, function in STATISTICS.items():
            a, b = without_common_failures(*values) if paired and function is mean else values
            ratio = (paired_ratio if paired else unpaired_ratio)(a, b, function, SEED)
            if ratio is not None:
                rows.append(_row(f"{name}.{statistic}", ratio, predictions))
    for name in RATES:
        a_rate, b_rate = one.outcome.figures[name], other.outcome.figures[name]
        if a_rate:
            spread = _window_ratio(one, other) if name == "output_throughput" and paired else None
            low, high = (spread.low, spread.high) if spread else (None, None)
            rows.append(_row(name, Ratio(a_rate, b_rate, low, high), predictions))
    hits = [side.figures["prefix_cache_hit_rate"] for side in (one, other)]
    if None not in hits:
        rows.append(_difference_row("prefix_cache_hit_rate", Difference(hits[0], hits[1], None, None), predictions))
    return rows


def _failed_row(one: _Side, other: _Side, predictions: list[Prediction], *, paired: bool) -> dict[str, Any]:
    """The share of the queries that failed: what latencies of the others cannot say."""
    a, b = (side.by_query(np.isinf(side.outcome.latencies.e2e_ms).astype(np.float64)) for side in (one, other))
    difference = (paired_difference if paired else unpaired_difference)(a, b, SEED)
    if difference is None:  # no query is known in both
        difference = Difference(float(np.nanmean(a)), float(np.nanmean(b)), None, None)
    return _difference_row("failed_share", difference, predictions)


def _values(side: _Side, name: str) -> F64:
    """One value a counted query: its latency, or the mean TPOT of its requests; infinite for one that failed."""
    latencies = side.outcome.latencies
    if name != "tpot_ms":
        return side.by_query(getattr(latencies, name))
    count = len(latencies.ttft_ms)
    requests = np.bincount(latencies.tpot_batch, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return side.by_query(np.bincount(latencies.tpot_batch, latencies.tpot_ms, count) / requests)


def _window_ratio(one: _Side, other: _Side) -> Ratio | None:
    """Output tokens by equal windows of each run's own duration, paired: how steady the throughput's ratio was."""
    tokens = []
    for side in (one, other):
        recording = side.recording
        counted = recording.answered & (recording.request // side.load.width >= side.load.warmup)
        ends = recording.last_token_s[counted]
        if len(ends) < WINDOWS:
            return None
        begin = float(recording.query_s[counted].min())
        made, _ = np.histogram(ends, WINDOWS, (begin, float(ends.max())), weights=recording.output_tokens[counted])
        tokens.append(made * WINDOWS / (float(ends.max()) - begin))
    return paired_ratio(tokens[0], tokens[1], mean, SEED)


def _row(name: str, ratio: Ratio, predictions: list[Prediction]) -> dict[str, Any]:
    predicted = _predicted(name, predictions)
    return {
        "name": name,
        "a": ratio.a if np.isfinite(ratio.a) else None,  # None: too many queries failed
        "b": ratio.b if np.isfinite(ratio.b) else None,
        "ratio": ratio.ratio,
        "interval95": None if ratio.low is None else [ratio.low, ratio.high],
        "differs": ratio.differs,
        "predicted": predicted,
    }


def _difference_row(name: str, found: Difference, predictions: list[Prediction]) -> dict[str, Any]:
    said = [_share(prediction.outcome.figures, name) for prediction in predictions if prediction.outcome]
    predicted = said[1] - said[0] if len(said) == 2 and said[0] is not None and said[1] is not None else None
    return {
        "name": name,
        "a": found.a,
        "b": found.b,
        "difference": found.b - found.a,
        "interval95": None if found.low is None else [found.low, found.high],
        "differs": found.differs,
        "predicted_difference": predicted,
    }


def _share(figures: Mapping[str, Any], name: str) -> float | None:
    """A simulated run's share of that name."""
    value = figures["failed"] / figures["queries"] if name == "failed_share" else figures[name]
    return None if value is None else float(value)


def _predicted(name: str, predictions: list[Prediction]) -> float | None:
    """The simulator's own ratio of the figure; None where either run cannot be simulated, or fails queries there."""
    outcomes = [prediction.outcome for prediction in predictions if prediction.outcome]
    if any(outcome.figures["failed"] for outcome in outcomes) and name.partition(".")[0] not in RATES:
        return None
    figures = [flat(outcome.figures) for outcome in outcomes]
    if len(figures) < 2 or not figures[0].get(name) or name not in figures[1]:
        return None
    return figures[1][name] / figures[0][name]
