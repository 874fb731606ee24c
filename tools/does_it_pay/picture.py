"""The picture: what a query costs and earns on each model, on a logarithmic axis, with 80 % intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from planner.report.charts import COLOURS
from planner.summary.words import usd
from tools.does_it_pay.words import revenue_span

Row = Mapping[str, Any]
Bar = tuple[str, float, float, float]  # name, as planned, 10 %, 90 %
PLACES = (0.22, 0.0, -0.22)  # of the three bars of a model, above and below its line


def bars(option: Row) -> list[Bar]:
    """GPUs, all costs and revenue of a query: the planned value and the 80 % interval, USD."""
    search = option["usd_per_query"] - option["gpu_usd_per_query"]
    cost = option["uncertainty"]["usd_per_query"]
    return [
        ("GPUs", option["gpu_usd_per_query"], cost["p10"] - search, cost["p90"] - search),
        ("GPUs and search", option["usd_per_query"], cost["p10"], cost["p90"]),
        ("revenue", option["revenue_usd_per_query"], *revenue_span(option)),
    ]


def picture(found: Row) -> Figure:
    """One row a model."""
    options = found["options"]
    figure = Figure(figsize=(7.5, 1.0 + 0.85 * len(options)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for line, option in enumerate(options):
        for place, colour, marker, (name, planned, low, high) in zip(
            PLACES, (COLOURS[0], COLOURS[1], COLOURS[2]), "osD", bars(option), strict=True
        ):
            y = -line + place
            axes.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
            axes.plot([planned], [y], marker, color=colour, label=None if line else name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: usd(value, 1))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([-line for line in range(len(options))], [option["model"] for option in options])
    axes.set_xlabel("USD a query, 80 % interval; the mark is the plan's own value")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure
