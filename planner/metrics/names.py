"""The `llm_*` metrics that `planner export` serves, by name: the exporter, the dashboards and the alerts take them from
here. Style and labels are those of OpenCost's AI inference costs; units stand in the names.

A metric that is not known is absent from a scrape, never zero.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FLEET_LABELS = ("model_name", "namespace")  # on every metric of a fleet
COST_BASES = ("allocation", "usage")  # the whole bill; the part of it in which engines had work
CACHES = ("prefix", "response")
REPLICA_STATES = ("planned", "running", "wanted")


class Metric(NamedTuple):
    """A metric: its name in a scrape, its kind, what it says, its labels beside `FLEET_LABELS`, Grafana's unit."""

    name: str
    kind: Literal["gauge", "counter", "info"]
    help: str
    labels: tuple[str, ...] = ()
    unit: str = "none"


# --- money ---

TOTAL_HOURLY_COST = Metric(
    "llm_total_hourly_cost", "gauge", "What the fleet that runs costs, in USD an hour.", unit="currencyUSD"
)
COST_PER_MILLION_TOKENS = Metric(
    "llm_cost_per_million_tokens",
    "gauge",
    "USD per million tokens of model calls, prompt and generated. allocation: the whole bill; usage: less idle time.",
    ("cost_basis",),
    "currencyUSD",
)
COST_PER_QUERY = Metric(
    "llm_cost_per_query",
    "gauge",
    "USD per user query, cached ones included. allocation: the whole bill; usage: less idle time.",
    ("cost_basis",),
    "currencyUSD",
)
PLANNED_COST_PER_QUERY = Metric(
    "llm_planned_cost_per_query", "gauge", "USD per user query that the plan expects at this hour.", unit="currencyUSD"
)
REVENUE_PER_QUERY = Metric("llm_revenue_per_query", "gauge", "USD earned per user query.", unit="currencyUSD")
MARGIN_PER_QUERY = Metric(
    "llm_margin_per_query", "gauge", "Revenue less cost of a user query, in USD.", ("cost_basis",), "currencyUSD"
)
QUERY_RPM = Metric("llm_query_rpm", "gauge", "USD earned per thousand user queries.", unit="currencyUSD")
CACHE_SAVINGS_FRACTION = Metric(
    "llm_cache_savings_fraction",
    "gauge",
    "Share of the fleet's cost that it would have cost more without this cache: (without - with) / without.",
    ("cache",),
    "percentunit",
)
CACHE_SAVINGS_USD_PER_HOUR = Metric(
    "llm_cache_savings_usd_per_hour", "gauge", "What this cache saves, in USD an hour.", ("cache",), "currencyUSD"
)

# --- load and capacity ---

QUERIES_PER_SECOND = Metric(
    "llm_queries_per_second", "gauge", "User queries per second, cached ones included.", unit="reqps"
)
FAILED_CALLS = Metric(
    "llm_failed_calls_per_second",
    "gauge",
    "Model calls per second that were aborted or ended in an error.",
    unit="reqps",
)
CAPACITY_QPS = Metric(
    "llm_capacity_queries_per_second",
    "gauge",
    "Most user queries per second that the replicas that run, less the spare ones, carry within the service levels as "
    "queries are now.",
    unit="reqps",
)
HEADROOM = Metric(
    "llm_headroom_fraction",
    "gauge",
    "Capacity over load, less 1: 0.2 = the load may grow by 20 %; below 0 = overloaded; at most 0 while a queue "
    "stands.",
    unit="percentunit",
)
REPLICAS = Metric(
    "llm_replicas",
    "gauge",
    "Replicas: planned, running (they answered), wanted now by the capacity model (at least that while a queue "
    "stands), spare ones included.",
    ("state",),
)

# --- plan against actual ---

PLAN_QUANTITY = Metric(
    "llm_plan_quantity",
    "gauge",
    "A quantity as planned; its unit, where it has one, stands in its name.",
    ("quantity",),
)
ACTUAL_QUANTITY = Metric(
    "llm_actual_quantity", "gauge", "The same quantity over the window that was read last.", ("quantity",)
)
PLAN_RATIO = Metric("llm_actual_to_plan_ratio", "gauge", "Actual over planned; 1 = as planned.", ("quantity",))
DRIFT_PER_QUERY = Metric(
    "llm_drift_usd_per_query",
    "gauge",
    "Part of the cost per query's departure from the plan that this cause makes, in USD; the parts add up to it.",
    ("cause",),
    "currencyUSD",
)
DRIFT_FRACTION = Metric(
    "llm_drift_fraction", "gauge", "Cost per query over the planned one, less 1.", unit="percentunit"
)
DRIFT_LIMIT = Metric(
    "llm_drift_limit_fraction", "gauge", "Departure that the plan's own confidence covers.", unit="percentunit"
)
SLO_LIMIT = Metric("llm_slo_limit_seconds", "gauge", "A service level of the plan.", ("slo",), "s")
PLAN_INFO = Metric(
    "llm_plan_info",
    "info",
    "The plan that is compared with; 1.",
    ("plan", "hardware", "routing", "calibrated", "kernel_path"),
)
CALIBRATION_AGE = Metric(
    "llm_calibration_age_seconds", "gauge", "Age of the calibration behind the plan; absent without one.", unit="s"
)

# --- the exporter itself ---

SNAPSHOT_AGE = Metric(
    "llm_exporter_snapshot_age_seconds",
    "gauge",
    "Age of the figures in this scrape; before the first, since the exporter began.",
    unit="s",
)
SOURCE_UP = Metric(
    "llm_exporter_source_up", "gauge", "1 = the last reading of this source was whole, 0 = it was not.", ("source",)
)
SOURCES_ASKED = Metric("llm_exporter_sources", "gauge", "Sources: asked, answered.", ("state",))
DEAD_TARGETS = Metric(
    "llm_exporter_dead_targets",
    "gauge",
    "Targets of the fleet's scrape jobs that Prometheus cannot read now; absent where the endpoints are read directly.",
)
TROUBLES = Metric(
    "llm_exporter_troubles_total", "counter", "Troubles of readings and comparisons, by what was wrong.", ("reason",)
)
POLL_SECONDS = Metric("llm_exporter_poll_seconds", "gauge", "How long the last reading took.", unit="s")
ASSUMED = Metric(
    "llm_exporter_assumed", "gauge", "1 for a figure that is taken from the plan as nobody tells it.", ("figure",)
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
CAUSES = (
    "traffic",
    "token_lengths",
    "prefix_hit_rate",
    "response_hit_rate",
    "step_speed",
    "utilisation",
    "price",
)
