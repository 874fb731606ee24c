"""The dashboard *Plan against actual*: which assumption moved, what that costs, and how well it is known."""

from __future__ import annotations

from dashboards.panels import AMBER, FLEET, GREEN, RED, Panel, Query, bars, figure, lines, llm, rows, states
from planner.metrics import names

TITLE = "LLM plan against actual"
LIMIT, PLANNED = llm(names.DRIFT_LIMIT), llm(names.PLANNED_COST_PER_QUERY)
DRIFT = llm(names.DRIFT_FRACTION)
PARTS = llm(names.DRIFT_PER_QUERY, by="cause")
OLD_S = 90 * 86_400


def panels() -> list[tuple[str, list[Panel]]]:
    """Rows of panels: title, panels from left to right."""
    return [
        ("Now", _now()),
        ("Drift by cause", _causes()),
        ("Quantities", _quantities()),
        ("How well this is known", _exporter()),
    ]


def _now() -> list[Panel]:
    judged = ((None, GREEN), (0.7, AMBER), (1, RED))
    return [
        figure(
            "Cost against plan",
            "Cost of a query over the planned one of this hour, less 1, and how far the plan's own confidence reaches.",
            "percentunit",
            [Query(DRIFT, "drift"), Query(LIMIT, "limit")],
            width=5,
            decimals=1,
        ),
        figure(
            "Share of the limit used",
            "The drift's size over the limit: from 100 % on the plan no longer holds.",
            "percentunit",
            [Query(f"abs({DRIFT}) / {LIMIT}", "of the limit")],
            steps=judged,
            decimals=0,
        ),
        figure(
            "Largest single cause",
            "The largest part of one cause over the limit. It may be beyond it where the sum is not: causes hide each "
            "other.",
            "percentunit",
            [Query(f"max(abs({PARTS})) / ({LIMIT} * {PLANNED})", "of the limit")],
            steps=judged,
            decimals=0,
        ),
        figure(
            "Calibration",
            "Age of the calibration behind the plan; not known where there is none. Old from 90 days on.",
            "s",
            [Query(llm(names.CALIBRATION_AGE), "age")],
            steps=((None, GREEN), (OLD_S * 2 / 3, AMBER), (OLD_S, RED)),
        ),
        figure(
            "Age of these figures",
            "Since the exporter's last reading that told anything. All here is as old as this.",
            "s",
            [Query(llm(names.SNAPSHOT_AGE), "age")],
            width=3,
            steps=((None, GREEN), (60, AMBER), (180, RED)),
        ),
        figure(
            "Assumed figures",
            "How many figures are taken from the plan as nothing tells them.",
            "none",
            [Query(f"count({llm(names.ASSUMED, by='figure')} == 1)", "assumed")],
            width=4,
        ),
    ]


def _causes() -> list[Panel]:
    covered = f"{LIMIT} * {PLANNED}"
    return [
        lines(
            "Departure of the cost per query, by cause",
            "Each band is what one cause adds to the planned cost of a query, or takes off it; together they are the "
            "black line exactly. Dashed: what the plan's confidence covers.",
            "currencyUSD",
            [
                Query(PARTS, "{{cause}}"),
                Query(f"sum({PARTS})", "all", "total"),
                Query(covered, "limit", "limit"),
                Query(f"-{covered}", "limit, below", "limit"),
            ],
            width=16,
            stacked=True,
        ),
        bars(
            "By cause, now",
            "USD per query, dearest first where it is above 0.",
            "currencyUSD",
            [Query(f"sort_desc({PARTS})", "{{cause}}")],
            width=8,
            steps=((None, GREEN), (0, AMBER)),
        ),
        lines(
            "Drift of the cost per query",
            "Cost over the planned one, less 1, between the limits that the plan's own confidence covers.",
            "percentunit",
            [
                Query(DRIFT, "drift", "total"),
                Query(LIMIT, "limit", "limit"),
                Query(f"-{LIMIT}", "limit, below", "limit"),
            ],
            width=24,
        ),
    ]


def _quantities() -> list[Panel]:
    ratio = llm(names.PLAN_RATIO, by="quantity")
    return [
        rows(
            "Planned and actual",
            "Every quantity that is compared, over the last window; its unit ends its name. A row without an actual "
            "figure is one that nothing tells.",
            "none",
            ("quantity",),
            [
                Query(llm(names.PLAN_QUANTITY, by="quantity"), "planned"),
                Query(llm(names.ACTUAL_QUANTITY, by="quantity"), "actual"),
                Query(ratio, "actual / planned"),
            ],
        ),
        lines(
            "Actual over planned",
            "1 = as planned.",
            "none",
            [Query(ratio, "{{quantity}}"), Query("vector(1)", "as planned", "plan")],
        ),
    ]


def _exporter() -> list[Panel]:
    troubles = f"max by (reason) (increase({names.TROUBLES.name}{{{FLEET}}}[$__rate_interval]))"
    return [
        states(
            "Sources",
            "Whether each source's last reading was whole. Above 256 sources they are only counted.",
            [Query(llm(names.SOURCE_UP, by="source"), "{{source}}")],
        ),
        lines(
            "Sources asked and answered",
            "Where fewer answer than are asked, all sums are of the others. Dead: targets that Prometheus cannot read.",
            "none",
            [
                Query(llm(names.SOURCES_ASKED, 'state="answered"'), "answered", "total"),
                Query(llm(names.SOURCES_ASKED, 'state="asked"'), "asked", "plan"),
                Query(llm(names.DEAD_TARGETS), "dead targets"),
            ],
        ),
        lines("Troubles", "Readings that failed, by what was wrong.", "none", [Query(troubles, "{{reason}}")]),
        lines(
            "Age of the figures, and how long a reading takes",
            "The age rises and falls with the interval; a line that only rises means that nothing is read.",
            "s",
            [Query(llm(names.SNAPSHOT_AGE), "age"), Query(llm(names.POLL_SECONDS), "reading")],
        ),
        rows(
            "The plan",
            "The plan that is compared with (1 = it is loaded): its routing, and how well its kernels are known.",
            "none",
            names.PLAN_INFO.labels,
            [Query(llm(names.PLAN_INFO, by=", ".join(names.PLAN_INFO.labels)), "loaded")],
            width=16,
        ),
        rows(
            "Assumed",
            "Figures that are taken from the plan as nothing tells them (1 = assumed).",
            "none",
            names.ASSUMED.labels,
            [Query(llm(names.ASSUMED, by=", ".join(names.ASSUMED.labels)), "assumed")],
            width=8,
        ),
        lines(
            "Alerts that fire",
            "Alerts of alerts.yaml, by name; those on the exporter have no model.",
            "none",
            [Query('count by (alertname) (ALERTS{alertname=~"Llm.*", alertstate="firing"})', "{{alertname}}")],
            width=24,
        ),
    ]
