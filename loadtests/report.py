"""The text at the end of a run: whether it may be used, and what the users would have seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.verdict import Findings, percentile
from planner.readers.recordings import Recording
from planner.records import RunHeader
from planner.units import MS_PER_S

PERCENTS = (50, 90, 95, 99)
MOST_REASONS = 12


def report(recording: Recording | None, header: RunHeader, invalid: Sequence[str], known: Findings) -> str:
    """The summary of a run whose records are `recording` (None = there is no row)."""
    lines = ["", f"load test: {header.name}, {_demand(header)}, against {header.model} at {header.host}"]
    lines.append("VALID" if not invalid else "INVALID: " + "; ".join(invalid))
    if recording is None:
        return "\n".join([*lines, "no request was sent"])
    counted = recording.request >= header.warmup * header.width
    answered = counted & recording.answered
    reasons = Counter(error for error, counts in zip(recording.errors, counted, strict=True) if counts and error)
    warm = f" ({np.count_nonzero(~counted)} of the warm-up apart)" if not counted.all() else ""
    lines.append(f"requests  {np.count_nonzero(counted)}{warm}, {sum(reasons.values())} missed")
    lines += [f"  missed  {count}: {reason}" for reason, count in reasons.most_common(MOST_REASONS)]
    lines.append(f"{'ms':<10}{'mean':>10}" + "".join(f"{f'p{percent}':>10}" for percent in PERCENTS))
    for name, values in _latencies(recording, answered):
        lines.append(_row(name, values))
    lines.append(_row("send lag", np.asarray(known.lags_s) * MS_PER_S))
    late_ms, share = (max(each.values(), default=0.0) for each in (known.loop_lag_ms, known.busy))
    lines.append(f"client    event loop {late_ms:.0f} ms late (p99), at most {share:.0%} of a core")
    lines.append("TTFT and E2E run from the scheduled arrival of the query.")
    lines.append(f"records   {recording.path}")
    return "\n".join(lines)


def _demand(header: RunHeader) -> str:
    kind = {"open": "open loop", "closed": "closed loop", "offline": "all at once", "trace": "a trace"}[header.demand]
    limit = header.scenario.get("traffic", {}).get("max_in_flight")
    return f"{kind}, at most {limit} in flight" if limit else kind


def _latencies(recording: Recording, kept: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.float64]]]:
    """Of single requests, each from its query's scheduled arrival."""
    first, last = recording.first_token_s[kept], recording.last_token_s[kept]
    due, tokens = recording.query_s[kept], recording.output_tokens[kept]
    several = tokens > 1
    starts = recording.gap_start
    gaps = [recording.gaps_s[starts[i] : starts[i + 1]] for i in np.flatnonzero(kept)]
    return [
        ("TTFT", (first - due) * MS_PER_S),
        ("TPOT", (last - first)[several] * MS_PER_S / (tokens[several] - 1)),
        ("ITL", np.concatenate(gaps) * MS_PER_S if gaps else np.zeros(0)),
        ("E2E", (last - due) * MS_PER_S),
    ]


def _row(name: str, values: NDArray[np.float64]) -> str:
    if len(values) == 0:
        return f"{name:<10}" + f"{'-':>10}" * (1 + len(PERCENTS))
    figures = [float(np.mean(values)), *(percentile(values.tolist(), percent) for percent in PERCENTS)]
    return f"{name:<10}" + "".join(f"{figure:>10.2f}" for figure in figures)


def unreadable(path: Path, reason: str) -> str:
    """In place of a summary, where the records cannot be read back."""
    return f"records   {path}: {reason}"
