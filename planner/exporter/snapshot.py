"""What the exporter knows at one moment: the last figures that were whole, how old they are, how the sources are doing.

A `Snapshot` never changes: the poller replaces it, a scrape and the live page show the one that is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from planner.observed import Observed, Trouble
from planner.planned import Planned
from planner.scenario.monitor import Monitor
from planner.units import MS_PER_S

MOST_SOURCES_SHOWN = 256  # above it, sources are counted but not told one by one
HISTORY_S = 6 * 3600.0


class Moment(NamedTuple):
    """One point of the past, for a chart; what was not known is None. `window_s`: what its rates are over."""

    unix_s: float
    qps: float | None
    usd_per_query: float | None
    planned_usd_per_query: float | None
    window_s: float | None = None


@dataclass(frozen=True)
class PlanFacts:
    """What the plan says whatever the fleet does. `slo_s` has the limits in seconds by their keys ("p99_ttft_ms")."""

    scenario_name: str
    model_name: str  # as the fleet's own metrics call it, where the scenario says so
    namespace: str
    hardware: str
    routing: str
    kernel_path: str  # calibrated, known or assumed
    replicas: int
    slo_s: Mapping[str, float] = field(default_factory=dict)
    spare_replicas: int = 0  # of `replicas`
    calibrated_unix_s: float | None = None  # None = no calibration, or one without a date


@dataclass(frozen=True)
class Snapshot:
    """The exporter's state. `observed` and `drift` (the JSON document of a Drift) are of the last reading that told
    anything, and None once that is older than `stale_after_s`, or before the first; everything else is of the last
    attempt. `drift` may be None beside an `observed` that is not: the comparison failed (`troubles` says why) or has
    not ended yet.

    `age_s` is the age of the figures: since their reading ended or, before the first, since the exporter began.
    """

    plan: PlanFacts
    interval_s: float
    window_s: float
    stale_after_s: float
    observed: Observed | None = None
    drift: Mapping[str, Any] | None = None
    taken_unix_s: float | None = None  # when that reading ended, by the wall clock
    age_s: float = 0.0
    poll_s: float | None = None  # how long the last attempt took
    sources: Mapping[str, bool] = field(default_factory=dict)  # "host:port" -> whether its last reading was whole
    asked: int = 0
    answered: int = 0
    troubles: tuple[Trouble, ...] = ()
    trouble_counts: Mapping[str, int] = field(default_factory=dict)  # since the exporter began, by reason
    history: tuple[Moment, ...] = ()  # oldest first, over `HISTORY_S` at most

    @property
    def ready(self) -> bool:
        """Whether any reading so far told what the fleet does."""
        return self.taken_unix_s is not None

    @property
    def stale(self) -> bool:
        """Whether there were figures and they are too old to show."""
        return self.ready and self.age_s > self.stale_after_s

    def aged(self, age_s: float) -> Snapshot:
        """The same at a later moment: figures that are too old by then are gone, their age is not."""
        older = replace(self, age_s=age_s)
        return replace(older, observed=None, drift=None) if older.stale else older


def plan_facts(planned: Planned, monitor: Monitor) -> PlanFacts:
    """What the exporter says of a plan. Parts that the document lacks are empty, not guessed."""
    document = planned.document
    confidence = document.get("confidence")
    fleet = document["fleet"]
    return PlanFacts(
        scenario_name=planned.scenario.name or planned.model_name,
        model_name=monitor.model_name or planned.hf_repo or planned.model_name,
        namespace=monitor.namespace or "",
        hardware=planned.hardware,
        routing=str(fleet.get("routing", "")),
        kernel_path=str(confidence.get("kernel_path", "")) if isinstance(confidence, Mapping) else "",
        replicas=planned.replicas,
        spare_replicas=planned.replicas - planned.serving,
        slo_s={limit.key: limit.limit_ms / MS_PER_S for limit in planned.scenario.slo},
        calibrated_unix_s=_calibrated_unix_s(document.get("provenance")),
    )


def moment(observed: Observed, drift: Mapping[str, Any] | None) -> Moment:
    """The point of the history that a comparison makes."""

    def figure(section: str, key: str) -> float | None:
        part = (drift or {}).get(section)
        value = part.get(key) if isinstance(part, Mapping) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    told = [row.get("actual") for row in (drift or {}).get("quantities") or () if row.get("name") == "qps"]
    qps = told[0] if told else observed.queries_per_s
    cost, planned = figure("cost", "usd_per_query"), figure("planned", "usd_per_query")
    return Moment(observed.ended_unix_s, qps, cost, planned, observed.window_s)


def _calibrated_unix_s(rows: Any) -> float | None:
    """The newest date among what the plan took from a calibration; None without one."""
    dates = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and row.get("kind") == "calibrated" and row.get("date"):
            try:
                dates.append(datetime.fromisoformat(str(row["date"])).replace(tzinfo=UTC).timestamp())
            except (ValueError, OverflowError):
                continue
    return max(dates, default=None)
