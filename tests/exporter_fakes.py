"""A plan's facts, a drift document and a reader whose answers a test chooses, for tests of the exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.exporter.snapshot import PlanFacts
from planner.observed import Observed
from planner.scenario.monitor import Monitor

FACTS = PlanFacts(
    scenario_name="support bot",
    model_name="org/m",
    namespace="prod",
    hardware="l4-24gb",
    routing="least_loaded",
    kernel_path="calibrated",
    replicas=5,
    slo_s={"p99_ttft_ms": 1.0, "mean_tpot_ms": 0.05},
    calibrated_unix_s=1_699_000_000.0,
)
MONITOR = Monitor(endpoints=("http://h:1", "http://h:2"), interval_s=10.0, window_s=60.0)
OBSERVED = Observed(1_700_000_000.0, 60.0, replicas=2.0, asked=2, answered=2, requests_per_s=4.0)

DRIFT: dict[str, Any] = {
    "schema_version": 1,
    "limit": 0.1,
    "cost": {
        "usd_per_hour": 4.0,
        "usd_per_query": 0.002,
        "usage_usd_per_query": 0.001,
        "usd_per_million_tokens": 8.0,
        "usage_usd_per_million_tokens": None,
    },
    "planned": {"usd_per_hour": 4.0, "usd_per_query": 0.0016, "day_usd_per_query": 0.002},
    "revenue": {"usd_per_query": 0.004, "query_rpm_usd": 4.0},
    "margin": {"usd_per_query": 0.002, "usage_usd_per_query": 0.003},
    "parts": [
        {"cause": "traffic", "usd_per_query": 0.0003},
        {"cause": "token_lengths", "usd_per_query": 0.0001},
        {"cause": "step_speed", "usd_per_query": None},
    ],
    "total": {"usd_per_query": 0.0004, "fraction": 0.25},
    "capacity": {"qps": 5.0, "headroom_fraction": 0.25, "replicas": {"planned": 5, "running": 2, "wanted": 4}},
    "savings": [{"cache": "prefix", "fraction": 0.2, "usd_per_hour": 1.0}],
    "quantities": [
        {"name": "qps", "planned": 3.0, "actual": 4.0, "ratio": 4 / 3},
        {"name": "ttft_ms.p99", "planned": 250.0, "actual": None, "ratio": None},
    ],
    "assumed": [{"figure": "price", "from": "plan"}, {"figure": "price", "from": "rate card"}],
}


@dataclass
class Compared:
    """Stands for a Drift."""

    document: Mapping[str, Any] = field(default_factory=lambda: DRIFT)


@dataclass
class Reader:
    """A FleetReader that gives what `answer` gives."""

    answer: Callable[[], Observed]
    model_name: str | None = None
    namespace: str | None = None
    sources: tuple[str, ...] = ("h:1", "h:2")
    closed: bool = False

    def read(self) -> Observed:
        return self.answer()

    def close(self) -> None:
        self.closed = True
