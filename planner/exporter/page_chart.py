"""The past as a line: SVG paths in a box that the page stretches to its width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from planner.exporter.page_figures import UNKNOWN, ago, at
from planner.exporter.snapshot import Snapshot
from planner.summary.words import number, usd

WIDTH, HEIGHT = 600.0, 100.0
MOST_POINTS = 150
GAP = 3.0  # times the usual step between two points: beyond, nothing was known in between
ROOM = 1.08  # of the highest value
WHOLE = 0.95  # of the window that is asked for, less half an interval: readings do not fall on its very ends

Point = tuple[float, float | None]  # unix seconds, value


@dataclass(frozen=True)
class Line:
    """One path, in the box's units; `role` is its class."""

    path: str
    role: str


@dataclass(frozen=True)
class Chart:
    """Lines over one axis of time; `top` is the value at the upper edge, the lower one is 0."""

    lines: tuple[Line, ...]
    top: float
    first_unix_s: float
    last_unix_s: float


@dataclass(frozen=True)
class Past:
    """One chart of the past, in words too."""

    title: str
    chart: Chart | None
    top: str
    since: str
    label: str
    dashed: str = ""  # what the dashed line is
    left_out: str = ""  # the highest value that is not drawn, where it lies beyond the chart


def history(snapshot: Snapshot) -> tuple[Past, ...]:
    """Cost of a query and load over the hours that the snapshot remembers."""

    def points(figure: str) -> list[Point]:
        return [(moment.unix_s, at(moment._asdict(), figure)) for moment in snapshot.history]

    windows_s = [moment.window_s for moment in snapshot.history]
    least_s = WHOLE * snapshot.window_s - snapshot.interval_s / 2

    def whole(points: Sequence[Point]) -> list[Point]:
        return settled(points, windows_s, least_s)

    cost, qps = points("usd_per_query"), points("qps")
    plan = ("plan", points("planned_usd_per_query"))
    return (
        _past("cost of a query", cost, whole(cost), usd, plan),
        _past("queries per second", qps, whole(qps), number),
    )


def _past(
    title: str, points: Sequence[Point], shown: Sequence[Point], words: Any, plan: tuple[str, Any] | None = None
) -> Past:
    drawn = chart([plan, ("actual", shown)] if plan else [("actual", shown)])
    if drawn is None:
        return Past(title, None, "", "", "")
    known = [value for _, value in shown if value is not None]
    since = ago(drawn.last_unix_s - drawn.first_unix_s)
    told = f"between {words(min(known))} and {words(max(known))}, last {words(known[-1])}" if known else UNKNOWN
    highest = max((value for _, value in points if value is not None), default=0.0)
    beyond = words(highest) if highest > drawn.top else ""
    return Past(
        title, drawn, words(drawn.top), since, f"{title} over {since}: {told}", "planned" if plan else "", beyond
    )


def settled(points: Sequence[Point], windows_s: Sequence[float | None], least_s: float) -> list[Point]:
    """Points without those whose windows, each in seconds, are shorter than `least_s`: they were still filling.

    Such a window holds few queries. One of them, at many times the usual cost of a query, would set the scale for
    hours. All points while fewer than two are of whole windows.
    """
    found = [
        (at_s, None if told_s is not None and told_s < least_s else value)
        for (at_s, value), told_s in zip(points, windows_s, strict=True)
    ]
    return found if sum(value is not None for _, value in found) > 1 else list(points)


def chart(series: Sequence[tuple[str, Sequence[Point]]]) -> Chart | None:
    """Series by their role on one axis from 0 on; None where fewer than two moments have a value."""
    thinned = [(role, _thinned(points)) for role, points in series]
    known = [(at_s, value) for _, points in thinned for at_s, value in points if value is not None]
    if len({at_s for at_s, _ in known}) < 2:
        return None
    first, last = min(at_s for at_s, _ in known), max(at_s for at_s, _ in known)
    top = ROOM * max(value for _, value in known) or 1.0
    lines = [Line(_path(points, first, last, top), role) for role, points in thinned]
    return Chart(tuple(line for line in lines if line.path), top, first, last)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS`: means of neighbours; a group of which nothing is known stays a gap."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(at_s for at_s, _ in group), _mean([value for _, value in group])) for group in groups]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _path(points: Sequence[Point], first: float, last: float, top: float) -> str:
    """Pieces of line between gaps. A lone point is a line of no length, which a round end makes a dot."""
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(points)]
    longest = GAP * median(steps) if steps else 0.0
    path, before = "", None
    for at_s, value in points:
        if value is None:
            before = None
            continue
        x, y = WIDTH * (at_s - first) / (last - first), HEIGHT * (1 - max(value, 0.0) / top)
        joined = before is not None and at_s - before <= longest
        path += f"{'L' if joined else 'M'}{x:.1f} {y:.1f}" + ("" if joined else "h0")
        before = at_s
    return path
