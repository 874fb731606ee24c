"""A snapshot as Prometheus metrics, under the names of `planner.metrics.names`. What is not known is absent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from planner.exporter.snapshot import Snapshot
from planner.metrics import names
from planner.observed import REASONS

Row = tuple[tuple[str, ...], float | None]  # values of a metric's own labels, and the figure


def exposition(snapshot: Snapshot, unix_s: float, accept: str) -> tuple[bytes, str]:
    """(a scrape's body, its content type) in the format that the Accept header asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(lambda: families(snapshot, unix_s)))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class SnapshotCollector(Collector):
    """What prometheus-client asks for metrics."""

    def __init__(self, told: Callable[[], Iterator[Metric]]) -> None:
        self._told = told

    def describe(self) -> Sequence[Metric]:
        """Nothing, so that registering asks for no figures."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of the snapshot."""
        return self._told()


def families(snapshot: Snapshot, unix_s: float) -> Iterator[Metric]:
    """Every metric of which anything is known, in the order of `names.METRICS`; `unix_s` is now."""
    fleet = (snapshot.plan.model_name, snapshot.plan.namespace)
    told = {**_of_drift(snapshot), **_of_plan(snapshot, unix_s), **_of_exporter(snapshot)}
    for metric in names.METRICS:
        # By their labels: one sample that stands twice would cost the whole scrape.
        rows = {labels: value for labels, value in told.get(metric, ()) if value is not None}
        if not rows:
            continue
        labels = (*names.FLEET_LABELS, *metric.labels)
        if metric.kind == "info":
            info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help, labels=labels)
            for values in rows:
                info.add_metric((*fleet, *values), {})
            yield info
            continue
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=labels)
        for values, value in rows.items():
            family.add_metric((*fleet, *values), value)
        yield family


def _of_drift(snapshot: Snapshot) -> dict[names.Metric, list[Row]]:
    """What the comparison says; of a fleet that could not be compared, what was read."""
    document, observed = snapshot.drift, snapshot.observed
    read = None if observed is None else observed.replicas
    queries = None if observed is None else observed.queries_per_s
    failed = None if observed is None else observed.failed_per_s
    if document is None:
        return {
            names.QUERIES_PER_SECOND: [((), queries)],
            names.FAILED_CALLS: [((), failed)],
            names.REPLICAS: [(("planned",), float(snapshot.plan.replicas)), (("running",), read)],
        }

    def at(*path: str) -> float | None:
        value: Any = document
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return _finite(value)

    def by_basis(section: str, figure: str) -> list[Row]:
        keys = {"allocation": figure, "usage": f"usage_{figure}"}
        return [((basis,), at(section, keys[basis])) for basis in names.COST_BASES]

    def listed(section: str, label: str, figure: str) -> list[Row]:
        rows = document.get(section) or ()
        return [((str(row[label]),), _finite(row.get(figure))) for row in rows]

    counted = {state: at("capacity", "replicas", state) for state in names.REPLICA_STATES}
    counted["planned"] = counted["planned"] if counted["planned"] is not None else float(snapshot.plan.replicas)
    counted["running"] = counted["running"] if counted["running"] is not None else read
    actual = dict(listed("quantities", "name", "actual"))
    return {
        names.TOTAL_HOURLY_COST: [((), at("cost", "usd_per_hour"))],
        names.COST_PER_MILLION_TOKENS: by_basis("cost", "usd_per_million_tokens"),
        names.COST_PER_QUERY: by_basis("cost", "usd_per_query"),
        names.PLANNED_COST_PER_QUERY: [((), at("planned", "usd_per_query"))],
        names.REVENUE_PER_QUERY: [((), at("revenue", "usd_per_query"))],
        names.MARGIN_PER_QUERY: by_basis("margin", "usd_per_query"),
        names.QUERY_RPM: [((), at("revenue", "query_rpm_usd"))],
        names.CACHE_SAVINGS_FRACTION: listed("savings", "cache", "fraction"),
        names.CACHE_SAVINGS_USD_PER_HOUR: listed("savings", "cache", "usd_per_hour"),
        names.QUERIES_PER_SECOND: [((), actual.get(("qps",), queries))],
        names.FAILED_CALLS: [((), failed)],
        names.CAPACITY_QPS: [((), at("capacity", "qps"))],
        names.HEADROOM: [((), at("capacity", "headroom_fraction"))],
        names.REPLICAS: [((state,), counted[state]) for state in names.REPLICA_STATES],
        names.PLAN_QUANTITY: listed("quantities", "name", "planned"),
        names.ACTUAL_QUANTITY: listed("quantities", "name", "actual"),
        names.PLAN_RATIO: listed("quantities", "name", "ratio"),
        names.DRIFT_PER_QUERY: listed("parts", "cause", "usd_per_query"),
        names.DRIFT_FRACTION: [((), at("total", "fraction"))],
        names.DRIFT_LIMIT: [((), at("limit"))],
        names.ASSUMED: [((figure,), 1.0) for figure in _distinct(document.get("assumed") or (), "figure")],
    }


def _of_plan(snapshot: Snapshot, unix_s: float) -> dict[names.Metric, list[Row]]:
    plan = snapshot.plan
    calibrated = "true" if plan.kernel_path == "calibrated" else "false"
    values = (plan.scenario_name, plan.hardware, plan.routing, calibrated, plan.kernel_path)
    age_s = None if plan.calibrated_unix_s is None else max(unix_s - plan.calibrated_unix_s, 0.0)
    return {
        names.SLO_LIMIT: [((key,), limit_s) for key, limit_s in plan.slo_s.items()],
        names.PLAN_INFO: [(values, 1.0)],
        names.CALIBRATION_AGE: [((), age_s)],
    }


def _of_exporter(snapshot: Snapshot) -> dict[names.Metric, list[Row]]:
    tried = snapshot.poll_s is not None
    counts, observed = snapshot.trouble_counts, snapshot.observed
    dead = None if observed is None else observed.dead_targets
    return {
        names.SNAPSHOT_AGE: [((), snapshot.age_s)],
        names.SOURCE_UP: [((source,), float(up)) for source, up in snapshot.sources.items()],
        names.SOURCES_ASKED: [
            (("asked",), float(snapshot.asked)),
            (("answered",), float(snapshot.answered) if tried else None),
        ],
        names.DEAD_TARGETS: [((), None if dead is None else float(dead))],
        names.TROUBLES: [((reason,), float(counts.get(reason, 0))) for reason in REASONS],
        names.POLL_SECONDS: [((), snapshot.poll_s)],
    }


def _distinct(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(row[key]) for row in rows))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
