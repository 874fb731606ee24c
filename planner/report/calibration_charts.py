"""How a calibration fits the steps that it was made from: a table of residuals in, matplotlib Figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from planner.report.charts import COLOURS, MARKERS, equal_axes

F64 = NDArray[np.float64]
BINS = 15  # of the running median
MOST_POINTS = 4000  # drawn of a run
SPREAD = 98.0  # per cent of the residuals that the axes show

Table = Mapping[str, Any]  # columns of one length, and `runs`: the names that `run` counts through


def calibration_charts(table: Table) -> dict[str, Figure]:
    """`fitted`: measured against fitted seconds; `residuals`: what is left, against batch size, prompt and time."""
    return {"fitted": fitted_chart(table), "residuals": residual_chart(table)}


def fitted_chart(table: Table) -> Figure:
    """Measured against fitted time of each row on logarithmic axes, one colour a run; crosses have no weight."""
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    low = min(table["measured_ms"].min(), table["fitted_ms"].min()) / 1.2
    high = max(table["measured_ms"].max(), table["fitted_ms"].max()) * 1.2
    axis.plot([low, high], [low, high], color="#777777", linewidth=1)
    for index, name in enumerate(table["runs"]):
        for used, marker in ((True, MARKERS[index % len(MARKERS)]), (False, "x")):
            rows = _some(np.flatnonzero((table["run"] == index) & ((table["kept_weight"] > 0) == used)))
            label = name if used else None
            _points(axis, table["fitted_ms"][rows], table["measured_ms"][rows], index, marker, label)
    equal_axes(axis, low, high, "fitted (ms)", "measured (ms)")
    axis.set_title("Time of up to 8 decode steps, and of lone first tokens")
    axis.legend(fontsize="small")
    return figure


def residual_chart(table: Table) -> Figure:
    """(measured − fitted) ÷ fitted against what a step's time hangs on, with its running median."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(1, 3, sharey=True))
    residual = 100.0 * (table["measured_ms"] / table["fitted_ms"] - 1.0)
    reach = max(float(np.percentile(np.abs(residual), SPREAD)), 0.1)
    across: Sequence[tuple[str, str]] = (
        ("decodes", "requests decoding"),
        ("prompt", "prompt tokens"),
        ("at_s", "time in the run (s)"),
    )
    for axis, (column, title) in zip(axes, across, strict=True):
        for index, name in enumerate(table["runs"]):
            mine = np.flatnonzero((table["run"] == index) & ((column != "decodes") | (table["decodes"] > 0)))
            rows = _some(mine)
            marker = MARKERS[index % len(MARKERS)]
            _points(axis, table[column][rows], residual[rows], index, marker, name if axis is axes[0] else None)
            places, medians = _running_median(table[column][mine], residual[mine])
            axis.plot(places, medians, color=COLOURS[index % len(COLOURS)], linewidth=1.6)
        axis.axhline(0.0, color="#777777", linewidth=1)
        axis.set_xlabel(title)
        axis.set_ylim(-1.1 * reach, 1.1 * reach)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("measured ÷ fitted − 1 (%)")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _points(axis: Axes, x: F64, y: F64, index: int, marker: str, label: str | None) -> None:
    colour = COLOURS[index % len(COLOURS)]
    edge = 0.6 if marker == "x" else 0.0
    axis.plot(x, y, marker, color=colour, markersize=3, alpha=0.35, markeredgewidth=edge, label=label)


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MOST_POINTS` of the rows, evenly."""
    return rows[:: -(-len(rows) // MOST_POINTS) or 1]


def _running_median(x: F64, y: F64) -> tuple[list[float], list[float]]:
    """Medians of equally full bins along x; one where x never changes."""
    edges = np.unique(np.quantile(x, np.linspace(0.0, 1.0, BINS + 1))) if len(x) else np.zeros(0)
    place = np.clip(np.searchsorted(edges, x, "right") - 1, 0, max(len(edges) - 2, 0))
    bins = [place == number for number in np.unique(place)]
    return [float(np.median(x[rows])) for rows in bins], [float(np.median(y[rows])) for rows in bins]
