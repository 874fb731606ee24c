"""Predicted against measured: a document of `planner validate` in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from planner.report.charts import COLOURS, MARKERS, equal_axes

ROLES = {"judge": "rows that only judge", "fit": "rows that overheads were fitted to"}
MARGIN = 1.3  # around the extremes of the axes
OFF = 1.2  # the dotted lines: predicted 20 % too high and too low


def accuracy_chart(document: Mapping[str, Any], title: str, metrics: Sequence[str]) -> Figure:
    """Predicted against measured on logarithmic axes, one panel a role, one colour a source, bars for the 80 % bands.

    `metrics` are names of figures without their statistic. Dotted lines are 20 % off.
    """
    shown = [
        one
        for one in document["figures"]
        if one["metric"].split(".")[0] in metrics and one["predicted"] and not isinstance(one["measured"], list)
    ]
    roles = [role for role in ROLES if any(one["role"] == role for one in shown)]
    figure = Figure(figsize=(0.6 + 4.6 * max(len(roles), 1), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels: list[Axes] = list(figure.subplots(1, max(len(roles), 1), squeeze=False)[0])
    for axis, role in zip(panels, roles, strict=False):
        _panel(axis, [one for one in shown if one["role"] == role])
        axis.set_title(ROLES[role], fontsize="medium")
    return figure


def _panel(axis: Axes, figures: Sequence[Mapping[str, Any]]) -> None:
    values = [value for one in figures for value in (one["measured"], one["predicted"])]
    low, high = min(values) / MARGIN, max(values) * MARGIN
    axis.plot([low, high], [low, high], color="#777777", linewidth=1)
    for factor in (OFF, 1 / OFF):
        axis.plot([low, high], [low * factor, high * factor], ":", color="#777777", linewidth=0.8)
    for index, source in enumerate(sorted({one["source"] for one in figures})):
        points = [one for one in figures if one["source"] == source]
        colour = COLOURS[index % len(COLOURS)]
        for one in points:
            if one["band80"] is not None:
                axis.plot([one["measured"]] * 2, one["band80"], color=colour, linewidth=0.7, alpha=0.4)
        x, y = [one["measured"] for one in points], [one["predicted"] for one in points]
        marker = MARKERS[index % len(MARKERS)]
        axis.plot(x, y, marker, color=colour, markersize=3.5, alpha=0.7, markeredgewidth=0, label=source)
    equal_axes(axis, low, high, "measured", "predicted")
    axis.legend(loc="upper left", fontsize="x-small")
