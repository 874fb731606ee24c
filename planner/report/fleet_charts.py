"""A simulated fleet over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from planner.report.charts import COLOURS
from planner.simulation.timeline import Timeline
from planner.summary.failures import event_words

Document = dict[str, Any]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
PERCENT = 100.0
NAMES_SHARE = 1.8  # of a panel's height, with room for the events' names


def fleet_timeline_chart(
    title: str, intervals: Timeline, counted_s: tuple[float, float], events: Sequence[Document] = ()
) -> Figure:
    """Requests running and waiting, queries that fail, KV cache in use, tokens of a step, prefix hits and preemptions.

    Sums over the replicas, shares of those that are on; KV use also of the fullest. Outside `counted_s` no query that
    counts into statistics comes: grey. `events` are rows of `failures.events`: a line where each begins, and a dotted
    one where it ends. A run in which no query fails has no panel for that, nor one that neither hits its prefix cache
    nor preempts.
    """
    panels = [_requests, _memory, _steps]
    if any(count.any() for count in _failures(intervals).values()):
        panels.insert(1, _queries)
    if intervals.hit_tokens.any() or intervals.preemptions.any():
        panels.append(_caches)
    figure = Figure(figsize=(9, 2.25 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
    run_s = float(intervals.begin_s[0]), float(intervals.end_s[-1])
    grey = [(begin, end) for begin, end in ((run_s[0], counted_s[0]), (counted_s[1], run_s[1])) if end > begin]
    middle_s = (intervals.begin_s + intervals.end_s) / 2
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis, middle_s, intervals)
    note = " (grey: no counted query comes)" if grey else ""
    axes[-1].set_xlabel(f"seconds since the first counted query was due{note}")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False)
        axis.set_xlim(*run_s)
        for begin_s, end_s in grey:
            axis.axvspan(begin_s, end_s, color="#999999", alpha=0.2, linewidth=0)
        _events(axis, events, named=axis is axes[0])
    figure.suptitle(title)
    return figure


def _events(axis: Axes, events: Sequence[Document], *, named: bool) -> None:
    """A line where each event begins, dotted where it ends; in one panel its words, above all that is drawn there."""
    if named and events:
        axis.set_ylim(top=NAMES_SHARE * axis.get_ylim()[1])
    for event in events:
        axis.axvline(event["at_s"], color=COLOURS[3], linewidth=0.9)
        if event.get("until_s") is not None:
            axis.axvline(event["until_s"], color=COLOURS[3], linewidth=0.9, linestyle=":")
        if named:
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
            style: dict[str, Any] = {"rotation": 90, "va": "top", "fontsize": "x-small", "bbox": box}
            axis.text(event["at_s"], 0.97, f" {event_words(event)}", transform=axis.get_xaxis_transform(), **style)


def _requests(axis: Axes, at_s: F64, intervals: Timeline) -> None:
    axis.plot(at_s, _over(np.nansum, intervals.running), color=COLOURS[0], label="running, all replicas")
    axis.plot(at_s, _over(np.nansum, intervals.waiting), color=COLOURS[1], label="waiting, all replicas")
    if intervals.elsewhere.waiting.any():
        label = "at no replica (waiting at the router, or for a retry)"
        axis.plot(at_s, intervals.elsewhere.waiting, color=COLOURS[2], linestyle="--", label=label)
    axis.set_ylabel("requests")


def _queries(axis: Axes, at_s: F64, intervals: Timeline) -> None:
    length_s = intervals.end_s - intervals.begin_s
    axis.plot(at_s, intervals.elsewhere.due / length_s, color=COLOURS[6], linewidth=0.8, label="due")
    for (label, count), colour in zip(_failures(intervals).items(), (COLOURS[1], COLOURS[4], COLOURS[3]), strict=True):
        if count.any():
            axis.plot(at_s, count / length_s, color=colour, label=label)
    axis.set_ylabel("queries/s")


def _failures(intervals: Timeline) -> dict[str, I64]:
    """How many queries failed in each interval, by why."""
    counts = intervals.elsewhere
    return {"rejected": counts.rejected, "timed out": counts.timed_out, "lost with a replica": counts.lost}


def _memory(axis: Axes, at_s: F64, intervals: Timeline) -> None:
    axis.plot(at_s, _share(intervals.kv_usage, intervals), color=COLOURS[0], label="KV cache in use, mean")
    if intervals.on_s.shape[1] > 1:
        fullest = PERCENT * _over(np.nanmax, intervals.kv_usage)
        axis.plot(at_s, fullest, color=COLOURS[1], linewidth=0.8, label="of the fullest replica")
    axis.plot(at_s, _share(intervals.busy_share, intervals), color=COLOURS[6], linewidth=0.8, label="time busy")
    axis.set_ylabel("percent, replicas\non or starting")


def _share(shares: F64, intervals: Timeline) -> F64:
    """Percent over all replicas together, each as long as it was on; NaN where none was."""
    on_s = np.where(np.isfinite(shares), intervals.on_s, 0.0)
    total_s = on_s.sum(axis=1)
    spent_s = np.nansum(shares * on_s, axis=1)
    percent: F64 = np.divide(PERCENT * spent_s, total_s, out=np.full(len(total_s), np.nan), where=total_s > 0)
    return percent


def _steps(axis: Axes, at_s: F64, intervals: Timeline) -> None:
    steps = intervals.steps.sum(axis=1)
    for name, colour, label in (
        ("prefill_tokens", COLOURS[1], "prompt tokens"),
        ("decode_tokens", COLOURS[0], "generated tokens"),
    ):
        tokens = getattr(intervals, name).sum(axis=1)
        axis.plot(
            at_s, np.divide(tokens, steps, out=np.full(len(steps), np.nan), where=steps > 0), color=colour, label=label
        )
    axis.set_ylabel("tokens of a step")


def _caches(axis: Axes, at_s: F64, intervals: Timeline) -> None:
    queried, hit = intervals.queried_tokens.sum(axis=1), intervals.hit_tokens.sum(axis=1)
    share = np.divide(PERCENT * hit, queried, out=np.full(len(queried), np.nan), where=queried > 0)
    units = []
    if hit.any():
        axis.plot(at_s, share, color=COLOURS[2], label="prefix hits, percent of looked-up tokens")
        units.append("percent")
    if intervals.preemptions.any():
        axis.plot(at_s, intervals.preemptions.sum(axis=1), color=COLOURS[3], label="preemptions")
        units.append("count")
    axis.set_ylabel(", ".join(units))


def _over(fold: object, values: F64) -> F64:
    """`fold` over the replicas of each interval; NaN where none of them has a value."""
    known = np.isfinite(values).any(axis=1)
    folded = np.full(len(values), np.nan)
    folded[known] = fold(values[known], axis=1)  # type: ignore[operator]
    return folded
