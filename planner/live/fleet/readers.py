"""The reader that a scenario's `monitor` asks for, and one window of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from planner.errors import InputError
from planner.live.fleet.clock import REAL, Clock
from planner.live.fleet.endpoints import Endpoints
from planner.live.fleet.prometheus import Prometheus
from planner.live.fleet.reading import MODEL_KEY
from planner.live.fleet.sums import PERCENTILES
from planner.observed import Observed
from planner.scenario.monitor import Monitor
from planner.specs import Limit

READINGS = 20  # of a window that is read once: busy_share is a share of readings
LEAST_STEP_S = 1.0


class FleetReader(Protocol):
    """What reads a fleet again and again, from one thread."""

    model_name: str | None  # as the fleet's own metrics have it, once known
    namespace: str | None  # the same; None of a fleet in several, or in none

    @property
    def sources(self) -> tuple[str, ...]:
        """Who is asked, as host:port."""

    def read(self) -> Observed:
        """The window that ends now. Never raises for what a source does."""

    def close(self) -> None:
        """Ask no more."""


def fleet_reader(
    monitor: Monitor, *, clock: Clock = REAL, percentiles: Sequence[float] = PERCENTILES, engines_each: int = 1
) -> FleetReader:
    """The reader of a monitor's source. Raises InputError where it names none, or one that is no address.

    `percentiles`: those of the latencies that are told, in per cent. `engines_each`: engines of one replica.
    """
    if monitor.prometheus_url is not None:
        return Prometheus(monitor, clock, percentiles, engines_each)
    if monitor.endpoints:
        return Endpoints(monitor, clock, percentiles, engines_each)
    rule = "names no source of live figures: write prometheus_url, or endpoints, or give --prometheus or --endpoint"
    raise InputError("monitor", None, rule, "monitor: {endpoints: [http://127.0.0.1:8000]}")


def percentiles_of(slo: Iterable[Limit]) -> tuple[float, ...]:
    """The usual percentiles and those that service levels name."""
    return tuple(sorted({*PERCENTILES, *(limit.percentile for limit in slo if limit.percentile is not None)}))


def read_fleet(
    monitor: Monitor,
    *,
    window_s: float | None = None,
    clock: Clock = REAL,
    percentiles: Sequence[float] = PERCENTILES,
    engines_each: int = 1,
    progress: Callable[[float, float], None] | None = None,
) -> Observed:
    """One window of a fleet. Prometheus has it already; endpoints are watched for `window_s` seconds (default: the
    monitor's own), and `progress` is told the seconds watched and to watch.

    Raises InputError for a monitor that names no source, and for series of two models while it names none.
    """
    length_s = monitor.window_s if window_s is None else window_s
    step_s = max(LEAST_STEP_S, min(monitor.interval_s, length_s / READINGS))
    watched = monitor.model_copy(update={"window_s": length_s, "interval_s": step_s})
    if monitor.prometheus_url is not None:
        watched = watched.model_copy(update={"interval_s": monitor.interval_s})
    reader = fleet_reader(watched, clock=clock, percentiles=percentiles, engines_each=engines_each)
    try:
        observed = reader.read()
        begun_s = clock.steady_s()
        while monitor.prometheus_url is None and (spent_s := clock.steady_s() - begun_s) < length_s:
            if progress is not None:
                progress(spent_s, length_s)
            clock.sleep(min(step_s, length_s - spent_s))
            observed = reader.read()
    finally:
        reader.close()
    for trouble in observed.troubles:
        if trouble.source == MODEL_KEY:
            raise InputError(MODEL_KEY, monitor.model_name, trouble.text)
    return observed
