"""A load test beside its simulation: distribution functions, and the run over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from planner.report.charts import COLOURS

F64 = NDArray[np.float64]
MEASURED, SIMULATED, LIMIT = COLOURS[0], COLOURS[1], COLOURS[6]
POINTS = 2000  # of a drawn curve: more are not to be seen
BINS = 60
LEFT_OUT = 0.005  # share of the smallest values that the axis may begin behind


def distribution_chart(
    title: str,
    measured: Mapping[str, F64],
    simulated: Mapping[str, F64] | None,
    limits: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Distribution functions by metric name, in milliseconds: the share of values not above x, measured and simulated.

    Values that are not finite stand for failures: they count, and the curve ends below 1. `limits` are drawn as
    upright lines.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(2, 2, squeeze=False).ravel())
    for axis, (name, values) in zip(axes, measured.items(), strict=False):
        _curve(axis, values, MEASURED, "-", "measured")
        if simulated is not None and name in simulated:
            _curve(axis, simulated[name], SIMULATED, "--", "simulated")
        for limit_ms in (limits or {}).get(name, ()):
            axis.axvline(limit_ms, color=LIMIT, linewidth=0.8, linestyle=":", label="limit")
        axis.set_title(name)
        axis.set_xlabel("milliseconds")
        axis.set_ylabel("share of values up to x")
        axis.set_ylim(0, 1.02)
        _scale(axis, [values, (simulated or {}).get(name, values)])
        axis.grid(alpha=0.3)
    for axis in axes[len(measured) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(title)
    return figure


def timeline_chart(title: str, due_s: F64, ttft_ms: F64, lag_ms: F64, first_counted_s: float) -> Figure:
    """TTFT and send lag of each query by when it was due; queries without an answer stand on the upper edge."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(3, 1, sharex=True, squeeze=False)[:, 0])
    answered = np.isfinite(ttft_ms)
    axes[0].plot(due_s[answered], ttft_ms[answered], ".", markersize=2.5, color=MEASURED)
    lost = due_s[~answered]
    if len(lost):
        top = float(ttft_ms[answered].max()) if answered.any() else 1.0
        axes[0].plot(lost, np.full(len(lost), top), "x", color=SIMULATED, label="failed")
        axes[0].legend(loc="upper left", fontsize="small")
    axes[0].set_ylabel("TTFT [ms]")
    axes[1].plot(due_s, lag_ms, ".", markersize=2.5, color=MEASURED)
    axes[1].set_ylabel("send lag [ms]")
    counts, edges = np.histogram(due_s, BINS)
    width_s = edges[1] - edges[0]
    axes[2].stairs(counts / width_s if width_s > 0 else counts, edges, color=MEASURED)
    axes[2].set_ylabel("queries due [1/s]")
    axes[2].set_xlabel("seconds since the schedule began")
    for axis in axes:
        axis.grid(alpha=0.3)
        if first_counted_s > 0:
            axis.axvspan(0, first_counted_s, color="#999999", alpha=0.2, linewidth=0)
    figure.suptitle(f"{title} (grey: warm-up)" if first_counted_s > 0 else title)
    return figure


def _scale(axis: Axes, drawn: Sequence[F64]) -> None:
    """A logarithmic axis with plain numbers that begins where the curves do: a few tiny values do not stretch it."""
    begins = [float(np.quantile(one[one > 0], LEFT_OUT)) for one in drawn if np.isfinite(one[one > 0]).any()]
    if not begins:
        return
    axis.set_xscale("log")
    axis.set_xlim(left=0.9 * min(begins))
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", labelsize="small", rotation=30)


def _curve(axis: Axes, values: F64, colour: str, style: str, label: str) -> None:
    """The empirical distribution function, drawn as steps."""
    finite = np.sort(values[np.isfinite(values)])
    if len(finite) == 0:
        return
    places = np.unique(np.linspace(0, len(finite) - 1, POINTS).astype(np.int64))
    axis.step(finite[places], (places + 1) / len(values), where="post", color=colour, linestyle=style, label=label)
