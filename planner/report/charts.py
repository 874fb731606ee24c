"""Charts: a document in, a matplotlib Figure out. No display and no global state: pyplot is never imported."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from planner.report.tables import short_keys

# Okabe and Ito's colours, told apart by people with any colour vision; with the markers also in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "*", "h")
PANELS = {"gpus": "GPUs", "usd_per_query": "cost of a query (USD)"}

Point = Mapping[str, Any]


def sweep_chart(document: Mapping[str, Any]) -> Figure:
    """GPUs and cost per query against the varied key, one line for each value of a second key.

    `document` is a sweep's. A numeric key has a true axis, any other one place for each value and no line between
    them. Where no fleet fits there is a cross on the axis. The cost panel is left out where no point has a cost.
    """
    keys = [varied["key"] for varied in document["vary"]]
    if len(keys) == 2 and _numeric(document, keys[1]) and not _numeric(document, keys[0]):
        keys.reverse()  # numbers along the axis, names as lines
    across, *lines = keys
    names = dict(zip(keys, short_keys(keys), strict=True))
    points = document["points"]
    panels = {key: title for key, title in PANELS.items() if key == "gpus" or any(_has(point, key) for point in points)}
    figure = Figure(figsize=(7.5, 1.2 + 2.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
    numeric = _numeric(document, across)
    places = {str(value): place for place, value in enumerate(_values(document, across))}
    for axis, (figure_key, title) in zip(axes, panels.items(), strict=True):
        for index, (label, series) in enumerate(_series(document, lines, names)):
            x = [point["values"][across] if numeric else places[str(point["values"][across])] for point in series]
            ordered = sorted(zip(x, series, strict=True), key=lambda pair: pair[0])
            _draw(axis, ordered, figure_key, label, index, joined=numeric)
        axis.set_ylabel(title)
        axis.set_ylim(0, 1.1 * max((point[figure_key] for point in points if _has(point, figure_key)), default=1))
        axis.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=figure_key == "gpus"))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
        axis.grid(alpha=0.3)
    axes[0].set_title(document["scenario"]["name"])
    axes[-1].set_xlabel(names[across])
    if not numeric:
        axes[-1].set_xticks(list(places.values()), list(places))
    if any(not point["feasible"] for point in points):
        axes[0].plot([], [], "x", color="#777777", label="no fleet fits")
    handles, labels = axes[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def equal_axes(axis: Axes, low: float, high: float, across: str, up: str) -> None:
    """Logarithmic axes of one range, `low` to `high`, named `across` and `up`: what is equal is on the diagonal."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.3)


def image(figure: Figure, form: str) -> bytes:
    """The figure as the content of a "png" or "svg" file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # A date and random ids would make every run differ.
    with mpl.rc_context({"svg.hashsalt": "planner"}):
        figure.savefig(buffer, format=form, dpi=150, metadata={"Date": None} if form == "svg" else {"Software": None})
    return buffer.getvalue()


def _draw(
    axis: Axes, ordered: Sequence[tuple[float, Point]], key: str, label: str, index: int, *, joined: bool
) -> None:
    """One line of one panel, interrupted where there is no figure."""
    colour = COLOURS[index % len(COLOURS)]
    y = [point[key] if _has(point, key) else float("nan") for _, point in ordered]
    axis.plot(
        [x for x, _ in ordered],
        y,
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle="-" if joined else "none",
        label=label,
    )
    nowhere = [x for x, point in ordered if not point["feasible"]]
    if nowhere:  # on the axis itself, hence not clipped
        axis.plot(nowhere, [0.0] * len(nowhere), "x", color=colour, clip_on=False)


def _series(
    document: Mapping[str, Any], lines: Sequence[str], names: Mapping[str, str]
) -> list[tuple[str, list[Point]]]:
    """The points of each line with its label; without a second key one line without a label."""
    if not lines:
        return [("", document["points"])]
    return [
        (f"{names[lines[0]]} = {value}", [point for point in document["points"] if point["values"][lines[0]] == value])
        for value in _values(document, lines[0])
    ]


def _values(document: Mapping[str, Any], key: str) -> list[Any]:
    return next(varied["values"] for varied in document["vary"] if varied["key"] == key)


def _numeric(document: Mapping[str, Any], key: str) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in _values(document, key))


def _has(point: Point, key: str) -> bool:
    return point[key] is not None
