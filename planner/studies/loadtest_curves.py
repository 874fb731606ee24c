"""The values behind a load test's pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.deployment.recorded import measured_service
from planner.simulation.kernel_state import GAP_FLOOR_S, GAP_WIDTH
from planner.simulation.outcome import Outcome
from planner.specs import Limit
from planner.studies.loadtest import LoadTest
from planner.units import MS_PER_S

F64 = NDArray[np.float64]
NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}


def measured_curves(test: LoadTest) -> dict[str, F64]:
    """TTFT, TPOT, ITL and E2E of a run in ms, by name; inf for what failed."""
    return _curves(test.measured)


def simulated_curves(test: LoadTest) -> dict[str, F64] | None:
    """Those of its simulation; None where there is none."""
    return None if test.simulated is None else _curves(test.simulated)


def limit_lines(limits: tuple[Limit, ...]) -> dict[str, list[float]]:
    """The limits by the name of the curve that they belong to."""
    found: dict[str, list[float]] = {}
    for limit in limits:
        found.setdefault(NAMES[limit.metric], []).append(limit.limit_ms)
    return found


def timeline(test: LoadTest) -> tuple[F64, F64, F64, float]:
    """When each query was due, its TTFT in ms (NaN: failed), its send lag in ms, and when the counting began."""
    service = measured_service(test.recording, test.load)
    last = slice(service.load.width - service.load.stages[-1].requests, None)
    first_s = service.first_token_s.reshape(-1, service.load.width)[:, last].min(axis=1)
    ttft_ms = np.where(service.failed, np.nan, first_s - service.arrival_s) * MS_PER_S
    counted_s = float(service.arrival_s[service.load.warmup]) if service.load.warmup else 0.0
    return service.arrival_s, ttft_ms, (service.sent_s - service.arrival_s) * MS_PER_S, counted_s


def _curves(outcome: Outcome) -> dict[str, F64]:
    latencies = outcome.latencies
    curves = {"TTFT": latencies.ttft_ms, "TPOT": latencies.tpot_ms, "E2E": latencies.e2e_ms}
    return {name: curves[name] for name in ("TTFT", "TPOT")} | {"ITL": _gaps_ms(outcome)} | {"E2E": curves["E2E"]}


def _gaps_ms(outcome: Outcome) -> F64:
    """The gaps at the middle of their bins, thinned to a few thousand with their shares kept."""
    counts = outcome.gap_counts
    total = counts.sum()
    if total == 0:
        return np.zeros(0)
    shares = np.round(counts * min(1.0, 10_000.0 / total)).astype(np.int64)
    middle_ms = GAP_FLOOR_S * np.exp((np.arange(len(counts)) + 0.5) * GAP_WIDTH) * MS_PER_S
    return np.repeat(middle_ms, shares)
