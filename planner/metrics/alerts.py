"""The alert rules that a running fleet is watched by, as plain dicts: the `groups` of a rule file or a PrometheusRule.

`burn_rates` has those on service levels, which read vLLM's own histograms; the ones here read `planner export`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from planner.metrics import names
from planner.metrics.burn_rates import slo_rules
from planner.metrics.promql import FLEET, day_margin, figure, least, series
from planner.metrics.rules import Rule, alert

OLD_CALIBRATION_DAYS = 90
BLIND_S = 150.0  # with a minute's pending, rules run each minute: told within five minutes
NOTHING: Mapping[str, str] = MappingProxyType({})
_JOIN = f"on ({FLEET})"
_WHICH = "llm_exporter_source_up == 0; behind Prometheus, up == 0"


def missing_of_plan(selector: Mapping[str, str], spare_replicas: int) -> Rule:
    """LlmReplicasMissing of a fleet of one size: what was planned answers, by night and without a query too."""
    return _missing(
        f"{_replicas('running', selector)} < {_JOIN} {_less(_replicas('planned', selector), spare_replicas)}",
        "Fewer replicas answer than the plan must have",
        "{{ $value }} replicas answer: more are missing than the plan has spares. See which are down "
        f"({_WHICH}). Where the fleet follows its load, take the rules that `planner manifests PLAN --autoscale` "
        "writes.",
    )


def missing_of_load(selector: Mapping[str, str], spare_replicas: int) -> Rule:
    """LlmReplicasMissing of a fleet that follows its load: it need not run what nobody asks for."""
    running, planned, wanted = (_replicas(state, selector) for state in ("running", "planned", "wanted"))
    asked_for = f"({wanted} < {_JOIN} {planned} or {_JOIN} {planned})"
    # Calls that fail are load too: then a number is wanted although no query is answered.
    idle = f"({figure(names.QUERIES_PER_SECOND.name, selector)} == 0 unless {_JOIN} {wanted})"
    return _missing(
        f"{running} < {_JOIN} {_less(asked_for, spare_replicas)} unless {_JOIN} {idle}",
        "Fewer replicas answer than the load of now, or the planned peak, must have",
        "{{ $value }} replicas answer: more are missing than the plan has spares, of those that the load wants now "
        f"and at most of those planned. See which are down ({_WHICH}), and what the autoscaler asks for.",
    )


def alert_groups(
    slo: Sequence[tuple[str, float]],
    *,
    selector: Mapping[str, str] = NOTHING,
    spare_replicas: int = 0,
    blind_s: float = BLIND_S,
    missing: Callable[[Mapping[str, str], int], Rule] = missing_of_plan,
) -> list[dict[str, Any]]:
    """Rule groups for a fleet.

    `slo` are the plan's service levels, ("p99_ttft_ms", 1000.0); `selector` labels that its series carry
    (`model_name`, `namespace`); `spare_replicas` may be missing without an alert; figures older than `blind_s` are
    none: give at least three of the exporter's intervals; `missing` is `missing_of_load` where the fleet follows its
    load. Raises ScenarioError on a service level or label that cannot be.
    """
    groups = [
        ("llm-slo", slo_rules(slo, selector)),
        ("llm-economics", _economics(selector)),
        ("llm-fleet", [_headroom(selector), missing(selector, spare_replicas)]),
        ("llm-plan", _plan(selector)),
        ("llm-exporter", _exporter(selector, blind_s)),
    ]
    return [{"name": name, "rules": rules} for name, rules in groups if rules]


def _economics(selector: Mapping[str, str]) -> list[Rule]:
    margin = figure(names.MARGIN_PER_QUERY.name, selector, 'cost_basis="allocation"')
    planned, revenue, qps, bill = (
        figure(metric.name, selector)
        for metric in (
            names.PLANNED_COST_PER_QUERY,
            names.REVENUE_PER_QUERY,
            names.QUERIES_PER_SECOND,
            names.TOTAL_HOURLY_COST,
        )
    )
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
            f"{day_margin(margin, qps, bill, revenue, FLEET)} < 0",
            "1h",
            "critical",
            "The fleet loses money over the day",
            '{{ $value | printf "%.2f" }} USD over the last 24 hours, quiet hours and hours without a query included. '
            "`planner drift PLAN` says why; `planner plan` with the day as it is says which fleet would pay.",
        ),
    ]


def _headroom(selector: Mapping[str, str]) -> Rule:
    return alert(
        "LlmHeadroomGone",
        f"{least(names.HEADROOM.name, selector)} <= 0",  # exactly 0 while a queue stands
        "5m",
        "critical",
        "More queries arrive than the replicas carry within the service levels",
        'Headroom is {{ $value | humanizePercentage }}. Start replicas up to llm_replicas{state="wanted"}, or '
        "shed load; `planner drift PLAN` says whether the load grew or each query did.",
    )


def _missing(expr: str, summary: str, description: str) -> Rule:
    return alert("LlmReplicasMissing", expr, "10m", "warning", summary, description)


def _less(replicas: str, spare_replicas: int) -> str:
    return f"({replicas} - {spare_replicas})" if spare_replicas else replicas


def _replicas(state: str, selector: Mapping[str, str]) -> str:
    return figure(names.REPLICAS.name, selector, f'state="{state}"')


def _plan(selector: Mapping[str, str]) -> list[Rule]:
    limit, planned, drift = (
        figure(metric.name, selector)
        for metric in (names.DRIFT_LIMIT, names.PLANNED_COST_PER_QUERY, names.DRIFT_FRACTION)
    )
    # Cheaper with fewer replicas than planned is no assumption that broke: an autoscaler, or some are missing.
    smaller = f"{_replicas('running', selector)} < {_JOIN} {_replicas('planned', selector)}"
    parts, of_size, of_all = (
        figure(names.DRIFT_PER_QUERY.name, selector, *matchers, by=f"{FLEET}, cause")
        for matchers in ((), ('cause="utilisation"',), ('cause=~"traffic|utilisation"',))
    )
    answered, asked = _sources(selector)
    excused = f"({of_size} < 0 and {_JOIN} {smaller} or {of_all} and {_JOIN} {answered} < {_JOIN} {asked})"
    return [
        alert(
            "LlmCostDrift",
            f"abs({drift}) > {_JOIN} {limit} unless {_JOIN} ({drift} < 0 and {_JOIN} {smaller})",
            "30m",
            "warning",
            "The cost of a query has left the plan",
            "It departs by {{ $value | humanizePercentage }}, more than the plan's own confidence covers. "
            "`planner drift PLAN` names the line of the scenario that no longer holds and how to mend it; then plan "
            "again.",
        ),
        alert(
            "LlmCauseDrift",
            f"abs({parts}) > {_JOIN} group_left () ({limit} * {_JOIN} {planned}) unless on ({FLEET}, cause) {excused}",
            "30m",
            "warning",
            "One assumption of the plan no longer holds: {{ $labels.cause }}",
            'It alone moves the cost of a query by {{ $value | printf "%.6f" }} USD, more than the plan\'s confidence '
            "covers, even where another cause hides it in the sum. `planner drift PLAN` gives the value to plan with.",
        ),
        alert(
            "LlmCalibrationOld",
            f"{figure(names.CALIBRATION_AGE.name, selector)} > {OLD_CALIBRATION_DAYS} * 86400",
            "1h",
            "info",
            f"The calibration behind the plan is older than {OLD_CALIBRATION_DAYS} days",
            "It is {{ $value | humanizeDuration }} old; drivers, vLLM and traffic have moved since. "
            "`planner loadtest SCENARIO`, `planner calibrate RECORDS`, then plan again.",
        ),
    ]


def _sources(selector: Mapping[str, str]) -> tuple[str, str]:
    """How many sources (answer, were asked)."""
    name = names.SOURCES_ASKED.name
    return least(name, selector, 'state="answered"'), figure(name, selector, 'state="asked"')


def _exporter(selector: Mapping[str, str], blind_s: float) -> list[Rule]:
    age, dead = (figure(metric.name, selector) for metric in (names.SNAPSHOT_AGE, names.DEAD_TARGETS))
    down = least(names.SOURCE_UP.name, selector, by=f"{FLEET}, source")
    answered, asked = _sources(selector)
    remedy = "While it is blind no other alert on the plan can fire."
    return [
        alert(
            "LlmExporterAbsent",
            f"absent({series(names.SNAPSHOT_AGE.name, selector)})",
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
            "Nothing is known of the fleet any more: the figures of `planner export` are old",
            "The last reading that told anything is {{ $value | humanizeDuration }} old: no replica answers, or what "
            "the exporter reads from does not. llm_exporter_troubles_total says by reason what goes wrong, the "
            f"exporter's own page says it in words. {remedy}",
        ),
        alert(
            "LlmSourceDown",
            f"count by ({FLEET}) ({down} == 0) or {_JOIN} {asked} - {_JOIN} {answered} > 0 or {_JOIN} {dead} > 0",
            "5m",
            "warning",
            "Part of the fleet does not tell how it is",
            "{{ $value }} sources do not answer as they should: sums are of the others. Which ones: "
            f"{_WHICH}; and the exporter's own page.",
        ),
    ]
