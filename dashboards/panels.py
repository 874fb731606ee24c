"""Kinds of panel, and queries for them: every panel has a unit, a description, and its reference from the plan.

What the plan says is drawn as a series of its own, dashed: it moves with the plan, where a threshold written into the
dashboard would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_kinds

from planner.metrics.names import Metric

SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")
FLEET = 'model_name="$model", namespace="$namespace"'
TAG = "llm-capacity"
GREY, RED, GREEN, AMBER, BLUE = "#8e8e8e", "#d55e00", "#009e73", "#e69f00", "#0072b2"
COLOURS = {"plan": GREY, "limit": RED, "good": GREEN, "cost": AMBER, "total": "text"}
DASHED = ("plan", "limit")

Panel = Any  # a builder of one of the SDK's panels, which share no base class with these methods
Steps = Sequence[tuple[float | None, str]]  # colour from this value on; None = from the lowest


class Query(NamedTuple):
    """PromQL, the name of its series, and what it is: "plan" and "limit" are references, drawn dashed;
    "good", "cost" and "total" have colours of their own."""

    expr: str
    legend: str
    role: str = ""


def llm(metric: Metric, *matchers: str, by: str = "") -> str:
    """A figure of `planner export` for the chosen fleet, kept apart by the labels `by`.

    The largest over exporters: where one has just taken over from another, both are there for some minutes.
    """
    inside = ", ".join((FLEET, *matchers))
    return f"max by ({by}) ({metric.name}{{{inside}}})" if by else f"max({metric.name}{{{inside}}})"


def vllm(name: str, *matchers: str) -> str:
    """vLLM's own series of the chosen fleet."""
    return f"{name}{{{', '.join((FLEET, *matchers))}}}"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """A counter's increase a second, summed over replicas; a restart counts from zero on."""
    inside = f"(rate({vllm(name, *matchers)}[$__rate_interval]))"
    return f"sum by ({by}) {inside}" if by else f"sum{inside}"


def quantile(histogram: str, share: float) -> str:
    """A percentile over all replicas, in the histogram's unit, on a straight line within a bucket."""
    return f"histogram_quantile({share:g}, {rate(histogram + '_bucket', by='le')})"


# --- panels ---


def lines(
    title: str, about: str, unit: str, queries: Sequence[Query], *, width: int = 12, stacked: bool = False
) -> Panel:
    """Series over time; references dashed, and never stacked."""
    panel = (
        timeseries.Panel()
        .line_width(1.5)
        .fill_opacity(40 if stacked else 5)
        .show_points(kinds.VisibilityMode.NEVER)
        .span_nulls(False)  # what is not known is a gap
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    for index, query in enumerate(queries):
        if query.role:
            panel = panel.override_by_query(_ref(index), _line(query.role))
    return _whole(panel, title, about, unit, queries, width, 9)


def figure(
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    *,
    width: int = 4,
    steps: Steps = (),
    decimals: int = -1,
) -> Panel:
    """One figure, or a few with their names, as they are now."""
    panel = (
        stat.Panel()
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.VALUE if steps else kinds.BigValueColorMode.NONE)
        .text_mode(kinds.BigValueTextMode.VALUE if len(queries) == 1 else kinds.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if decimals >= 0:
        panel = panel.decimals(decimals)
    return _whole(_stepped(panel, steps), title, about, unit, queries, width, 5, instant=True)


def bars(title: str, about: str, unit: str, queries: Sequence[Query], *, width: int = 12, steps: Steps = ()) -> Panel:
    """Bars one below the other as they are now, in the order of the queries."""
    panel = (
        bargauge.Panel()
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .value_mode(kinds.BarGaugeValueMode.TEXT)
        .show_unfilled(False)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    for index, query in enumerate(queries):
        if query.role:
            panel = panel.override_by_query(_ref(index), [_colour(COLOURS[query.role])])
    return _whole(_stepped(panel, steps), title, about, unit, queries, width, 9, instant=True)


def states(title: str, about: str, queries: Sequence[Query], *, width: int = 12) -> Panel:
    """1 and 0 over time as bands: up and down."""
    words = {
        "1": model.ValueMappingResult(text="up", color=GREEN),
        "0": model.ValueMappingResult(text="down", color=RED),
    }
    panel = (
        statetimeline.Panel()
        .show_value(kinds.VisibilityMode.NEVER)
        .merge_values(True)
        .mappings([model.ValueMap(options=words)])
        .legend(_legend())
    )
    return _whole(panel, title, about, "bool", queries, width, 9)


def rows(title: str, about: str, unit: str, keys: Sequence[str], columns: Sequence[Query], *, width: int = 12) -> Panel:
    """A table: a row for each set of the labels `keys`, a column for each query."""
    names = {f"Value #{_ref(index)}": query.legend for index, query in enumerate(columns)}
    if len(columns) == 1:
        names["Value"] = columns[0].legend  # a lone query's column bears no letter
    order = {name: index for index, name in enumerate([*keys, *names])}
    shape: dict[str, object] = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    panel = (
        table.Panel()
        .show_header(True)
        .transformations(
            [
                model.DataTransformerConfig(id_val="merge", options={}),
                model.DataTransformerConfig(id_val="organize", options=shape),
            ]
        )
    )
    return _whole(
        panel, title, about, unit, columns, width, 9, instant=True, form=prometheus_kinds.PromQueryFormat.TABLE
    )


def _whole(
    panel: Panel,
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    height: int,
    *,
    instant: bool = False,
    form: prometheus_kinds.PromQueryFormat = prometheus_kinds.PromQueryFormat.TIME_SERIES,
) -> Panel:
    """The panel with what all have, and its queries as A, B, C …"""
    panel = panel.title(title).description(about).unit(unit).no_value("not known").datasource(SOURCE)
    panel = panel.span(width).height(height)
    for index, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_ref(index))
        target = target.datasource(SOURCE).format(form)
        panel = panel.with_target(target.instant() if instant else target.range())
    return panel


def _stepped(panel: Panel, steps: Steps) -> Panel:
    """Colours from fixed values on, which need no plan: headroom 0, a ratio of 1."""
    known = steps or ((None, BLUE),)
    scale = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    scale = scale.steps([model.Threshold(value=value, color=colour) for value, colour in known])
    return panel.thresholds(scale).color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))


def _line(role: str) -> list[model.DynamicConfigValue]:
    style: dict[str, object] = {"fill": "dash", "dash": [8, 6]} if role in DASHED else {"fill": "solid"}
    return [
        _colour(COLOURS[role]),
        model.DynamicConfigValue(id_val="custom.lineStyle", value=style),
        model.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        model.DynamicConfigValue(id_val="custom.stacking", value={"mode": "none", "group": "A"}),
    ]


def _colour(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).show_legend(True)
    return legend.placement(kinds.LegendPlacement.BOTTOM).calcs([])


def _ref(index: int) -> str:
    return chr(ord("A") + index)
