"""The alert rules that a running fleet is watched by, as plain dicts: the `groups` of a rule file or a PrometheusRule.

`burn_rates` has those on service levels, which read vLLM's own histograms; the ones here read `planner export`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from planner.metrics import names
from planner.metrics.burn_rates import slo_rules
from planner.metrics.promql import FLEET, series
from planner.metrics.rules import Rule, alert

OLD_CALIBRATION_DAYS = 90
BLIND_S = 180.0
NOTHING: Mapping[str, str] = MappingProxyType({})
_JOIN = f"on ({FLEET})"


def alert_groups(
    slo: Sequence[tuple[str, float]],
    *,
    selector: Mapping[str, str] = NOTHING,
    spare_replicas: int = 0,
    blind_s: float = BLIND_S,
) -> list[dict[str, Any]]:
    """Rule groups for a fleet.

    `slo` are the plan's service levels, ("p99_ttft_ms", 1000.0); `selector` labels that its series carry
    (`model_name`, `namespace`); `spare_replicas` may be missing without an alert; figures older than `blind_s` are
    none: give at least three of the exporter's intervals. Raises ScenarioError on a service level or label that
    cannot be.
    """
    groups = [
        ("llm-slo", slo_rules(slo, selector)),
        ("llm-economics", _economics(selector)),
        ("llm-fleet", _fleet(selector, spare_replicas)),
        ("llm-plan", _plan(selector)),
        ("llm-exporter", _exporter(selector, blind_s)),
    ]
    return [{"name": name, "rules": rules} for name, rules in groups if rules]


def _economics(selector: Mapping[str, str]) -> list[Rule]:
    margin = series(names.MARGIN_PER_QUERY.name, selector, 'cost_basis="allocation"')
    planned, revenue, qps = (
        series(metric.name, selector)
        for metric in (names.PLANNED_COST_PER_QUERY, names.REVENUE_PER_QUERY, names.QUERIES_PER_SECOND)
    )
    earned = f"({margin} * {_JOIN} {qps})[1d:5m]"  # USD a second, 288 times a day; most of the day must be known
    return [
        alert(
            "LlmMarginNegative",
            f"{margin} < 0 unless {_JOIN} {planned} > {_JOIN} {revenue}",
            "15m",
            "critical",
            "A query costs more than it earns",
            'The margin of a query is {{ $value | printf "%.5f" }} USD, and the plan expects a profit at this hour. '
            "`planner drift PLAN` splits the cost by cause: fewer queries than planned, longer answers, a lower hit "
            "rate, slower steps, more replicas than wanted, or another price.",
        ),
        alert(
            "LlmDayNegative",
            f"sum_over_time({earned}) * 300 < 0 and count_over_time({earned}) >= 260",
            "1h",
            "critical",
            "The fleet loses money over the day",
            '{{ $value | printf "%.2f" }} USD over the last 24 hours, quiet hours included. `planner drift PLAN` says '
            "why; `planner plan` with the day as it is says which fleet would pay.",
        ),
    ]


def _fleet(selector: Mapping[str, str], spare_replicas: int) -> list[Rule]:
    replicas = names.REPLICAS.name
    running, planned = (series(replicas, selector, f'state="{state}"') for state in ("running", "planned"))
    least = f"({planned} - {spare_replicas})" if spare_replicas else planned
    return [
        alert(
            "LlmHeadroomGone",
            f"{series(names.HEADROOM.name, selector)} < 0",
            "5m",
            "critical",
            "More queries arrive than the replicas carry within the service levels",
            'Headroom is {{ $value | humanizePercentage }}. Start replicas up to llm_replicas{state="wanted"}, or '
            "shed load; `planner drift PLAN` says whether the load grew or each query did.",
        ),
        alert(
            "LlmReplicasMissing",
            f"{running} < ignoring (state) {least}",
            "10m",
            "warning",
            "Fewer replicas answer than must hold the planned peak",
            "{{ $value }} replicas answer: more are missing than the plan has spares. See which are down "
            "(llm_exporter_source_up == 0) before the next peak.",
        ),
    ]


def _plan(selector: Mapping[str, str]) -> list[Rule]:
    limit, planned = (series(metric.name, selector) for metric in (names.DRIFT_LIMIT, names.PLANNED_COST_PER_QUERY))
    beyond = f"({limit} * {_JOIN} {planned})"
    return [
        alert(
            "LlmCostDrift",
            f"abs({series(names.DRIFT_FRACTION.name, selector)}) > {_JOIN} {limit}",
            "30m",
            "warning",
            "The cost of a query has left the plan",
            "It departs by {{ $value | humanizePercentage }}, more than the plan's own confidence covers. "
            "`planner drift PLAN` names the line of the scenario that no longer holds and how to mend it; then plan "
            "again.",
        ),
        alert(
            "LlmCauseDrift",
            f"abs({series(names.DRIFT_PER_QUERY.name, selector)}) > {_JOIN} group_left () {beyond}",
            "30m",
            "warning",
            "One assumption of the plan no longer holds: {{ $labels.cause }}",
            'It alone moves the cost of a query by {{ $value | printf "%.6f" }} USD, more than the plan\'s confidence '
            "covers, even where another cause hides it in the sum. `planner drift PLAN` gives the value to plan with.",
        ),
        alert(
            "LlmCalibrationOld",
            f"{series(names.CALIBRATION_AGE.name, selector)} > {OLD_CALIBRATION_DAYS} * 86400",
            "1h",
            "info",
            f"The calibration behind the plan is older than {OLD_CALIBRATION_DAYS} days",
            "It is {{ $value | humanizeDuration }} old; drivers, vLLM and traffic have moved since. "
            "`planner loadtest SCENARIO`, `planner calibrate RECORDS`, then plan again.",
        ),
    ]


def _exporter(selector: Mapping[str, str], blind_s: float) -> list[Rule]:
    age, down = series(names.SNAPSHOT_AGE.name, selector), series(names.SOURCE_UP.name, selector)
    asked, answered = (
        series(names.SOURCES_ASKED.name, selector, f'state="{state}"') for state in ("asked", "answered")
    )
    remedy = "While it is blind no other alert on the plan can fire."
    return [
        alert(
            "LlmExporterAbsent",
            f"absent({age})",
            "5m",
            "critical",
            "Nothing is known of the fleet: `planner export` is not scraped",
            f"Is it running, and does this Prometheus scrape its /metrics? {remedy}",
        ),
        alert(
            "LlmExporterBlind",
            f"{age} > {blind_s:g}",
            "1m",
            "critical",
            "The figures of `planner export` are old",
            "The last reading that told anything is {{ $value | humanizeDuration }} old. llm_exporter_troubles_total "
            f"says by reason what goes wrong, the exporter's own page says it in words. {remedy}",
        ),
        alert(
            "LlmSourceDown",
            f"count by ({FLEET}) ({down} == 0) or {_JOIN} {asked} - ignoring (state) {answered} > 0",
            "5m",
            "warning",
            "Part of the fleet does not tell how it is",
            "{{ $value }} sources do not answer as they should: sums are of the others. Which ones: "
            "llm_exporter_source_up == 0, and the exporter's own page.",
        ),
    ]
