"""Tiles, tables and charts of the live page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.exporter.page_figures import (
    UNKNOWN,
    Bar,
    Shown,
    Tone,
    at,
    dollars,
    from_middle,
    in_unit,
    latency,
    listed,
    of_ratio,
    plain,
    share,
    signed_dollars,
    signed_share,
    up_to,
)
from planner.exporter.page_words import CAUSES, levels
from planner.exporter.snapshot import Snapshot
from planner.summary.words import clean, limit_name, milliseconds, number, percent

MOST_ROWS = 20  # of sources and troubles
STATISTICS = ("mean", "p50", "p99")  # of a latency; the JSON has the others
UNITS = {"tokens": "tokens", "queries/s": "queries/s"}
NAMES = {
    "qps": "queries",
    "prompt_tokens": "prompt tokens of a call",
    "output_tokens": "output tokens of a call",
    "prefix_cache_hit_rate": "prefix cache hits",
    "response_cache_hit_rate": "response cache hits",
    "kv_cache_usage.mean": "KV cache in use, mean",
    "kv_cache_usage.max": "KV cache in use, fullest",
    "busy_share": "engines busy",
    "gpu_hour_usd": "GPU-hour, all in",
}
CACHES = {"prefix": "prefix cache", "response": "response cache"}


@dataclass(frozen=True)
class Tile:
    """A name, its figure, a bar where one says more, and what judges it."""

    name: str
    figure: Shown
    unit: str = ""
    note: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, its cells, its bar, a remark."""

    name: str
    cells: tuple[Shown, ...]
    bar: Bar | None = None
    note: str = ""


def tiles(snapshot: Snapshot, document: Mapping[str, Any]) -> tuple[Tile, ...]:
    """The answer in figures."""
    fraction, limit = at(document, "total", "fraction"), at(document, "limit")
    beyond: Tone = "bad" if fraction is not None and limit is not None and fraction > limit else ""
    planned = at(document, "planned", "usd_per_query")
    cost, revenue = at(document, "cost", "usd_per_query"), at(document, "revenue", "usd_per_query")
    margin, rpm = at(document, "margin", "usd_per_query"), at(document, "revenue", "query_rpm_usd")
    tokens, usage = at(document, "cost", "usd_per_million_tokens"), at(document, "cost", "usage_usd_per_query")
    so_far = "" if fraction is None else f" ({signed_share(fraction)})"
    of_it = f", {percent(cost / revenue)} of it is cost" if revenue and cost is not None else ""
    return (
        Tile("cost of a query", dollars(cost, beyond), note=f"planned at this hour: {dollars(planned).text}{so_far}"),
        Tile(
            "margin of a query",
            dollars(margin, "" if margin is None else "bad" if margin < 0 else "good"),
            note=f"revenue: {dollars(revenue).text}{of_it}",
        ),
        Tile("RPM", dollars(rpm), note="earned by 1,000 queries"),
        _load(snapshot, document),
        _replicas(snapshot, document),
        Tile(
            "bill",
            dollars(at(document, "cost", "usd_per_hour")),
            "an hour",
            f"per million tokens: {dollars(tokens).text}; a query without idle time: {dollars(usage).text}",
        ),
    )


def _load(snapshot: Snapshot, document: Mapping[str, Any]) -> Tile:
    """Load against capacity, the bar full where nothing is left."""
    told = next((row for row in listed(document, "quantities") if row.get("name") == "qps"), {})
    qps = at(told, "actual")
    if qps is None and snapshot.observed is not None:
        qps = snapshot.observed.queries_per_s
    most, headroom = at(document, "capacity", "qps"), at(document, "capacity", "headroom_fraction")
    tone: Tone = "" if headroom is None else "bad" if headroom <= 0 else "good"
    bar = None
    if qps is not None and most is not None:
        bar = up_to(qps, most, f"{number(qps)} of {number(most)} queries/s, which is the mark", tone)
    room = UNKNOWN if headroom is None else signed_share(headroom)
    note = f"within the service levels at most {number(most)}; headroom: {room}"
    if most is None:
        note = f"the most within the service levels, and headroom: {UNKNOWN}"
    return Tile("load", plain(qps, "bad" if tone == "bad" else ""), "queries/s", note, bar)


def _replicas(snapshot: Snapshot, document: Mapping[str, Any]) -> Tile:
    counts = {state: at(document, "capacity", "replicas", state) for state in ("running", "wanted", "planned")}
    if counts["planned"] is None:
        counts["planned"] = float(snapshot.plan.replicas)
    if counts["running"] is None and snapshot.observed is not None:
        counts["running"] = snapshot.observed.replicas
    running, wanted = counts["running"], counts["wanted"]
    short = running is not None and wanted is not None and running < wanted
    spare = f", {snapshot.plan.spare_replicas} of them spare" if snapshot.plan.spare_replicas else ""
    note = f"wanted now: {plain(wanted).text}; planned: {plain(counts['planned']).text}{spare}"
    return Tile("replicas that run", plain(running, "bad" if short else ""), note=note)


# --- plan against actual ---


def causes(document: Mapping[str, Any]) -> tuple[Row, ...]:
    """What each cause adds to the cost of a query. Its bar ends at the limit, or at the largest part beyond that."""
    parts = listed(document, "parts")
    shares = [abs(at(part, "share") or 0.0) for part in parts]
    largest = max([*shares, at(document, "limit") or 0.0])
    rows = []
    for part in parts:
        cause, usd_each, of_cost = str(part.get("cause")), at(part, "usd_per_query"), at(part, "share")
        name = CAUSES.get(cause, cause)
        words = f"{name}: {signed_share(of_cost)} of the planned cost"
        tone: Tone = "bad" if part.get("holds") is False else ""
        bar = None if of_cost is None else from_middle(of_cost, largest, words, tone)
        verdict = {True: Shown("holds", None, "good"), False: Shown("no longer", None, "bad")}
        holds = part.get("holds")
        cells = (
            signed_dollars(usd_each),
            Shown(signed_share(of_cost), of_cost, "" if of_cost is not None else "soft"),
            verdict[holds] if isinstance(holds, bool) else Shown(UNKNOWN, None, "soft"),
        )
        rows.append(Row(name, cells, bar, str(part.get("note") or "")))
    return tuple(rows)


def mends(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Key of the scenario and what to write or run, of each line that no longer holds."""
    broken = [part for part in listed(document, "parts") if part.get("holds") is False]
    return tuple((str(part.get("key")), str(part["mend"])) for part in broken if part.get("mend"))


def limits(snapshot: Snapshot) -> tuple[Row, ...]:
    """Each service level against what vLLM's own histograms say."""
    rows = []
    for key, limit_ms, value, met in levels(snapshot):
        verdict = UNKNOWN if met is None else "met" if met else "missed"
        tone: Tone = "soft" if met is None else "good" if met else "bad"
        bar = None
        if value is not None:
            words = f"{limit_name(key)}: {milliseconds(value)} of {milliseconds(limit_ms)}, which is the mark"
            bar = up_to(value, limit_ms, words, "" if met is None else tone)
        cells = (latency(value), latency(limit_ms), Shown(verdict, None, tone))
        rows.append(Row(limit_name(key), cells, bar))
    return tuple(rows)


def quantities(document: Mapping[str, Any]) -> tuple[Row, ...]:
    """Planned, actual, their ratio. Of latencies only some statistics: the JSON has all."""
    rows = []
    for row in listed(document, "quantities"):
        name, unit, ratio = str(row.get("name")), str(row.get("unit", "")), at(row, "ratio")
        stem, _, statistic = name.partition(".")
        if stem.endswith("_ms"):
            if statistic not in STATISTICS:
                continue
            shown = limit_name(f"{statistic}_{stem}")
        else:
            shown = NAMES.get(name, name)
        shown += f", {UNITS[unit]}" if unit in UNITS and not shown.endswith("a call") else ""
        cells = (in_unit(at(row, "planned"), unit), in_unit(at(row, "actual"), unit), _times(ratio))
        rows.append(Row(shown, cells, of_ratio(ratio, f"{shown}: {_times(ratio).text} of the plan")))
    return tuple(rows)


def _times(ratio: float | None) -> Shown:
    return (
        Shown(UNKNOWN, None, "soft")
        if ratio is None
        else Shown(f"× {ratio:.2f}" if ratio < 100 else f"× {number(ratio)}", ratio)
    )


def savings(document: Mapping[str, Any]) -> tuple[Row, ...]:
    """What each cache saves."""
    rows = []
    for row in listed(document, "savings"):
        saved, name = at(row, "fraction"), str(row.get("cache"))
        name = CACHES.get(name, name)
        bar = None if saved is None else Bar(0.0, 100 * max(0.0, min(saved, 1.0)), f"{name}: {percent(saved)}", "good")
        rows.append(Row(name, (dollars(at(row, "usd_per_hour")), share(saved)), bar))
    return tuple(rows)


# --- who tells ---


def troubles(snapshot: Snapshot) -> tuple[Row, ...]:
    """What went wrong in the last attempt, in words."""
    shown = [Row(clean(one.source), (Shown(clean(one.reason)),), None, clean(one.text)) for one in snapshot.troubles]
    more = len(shown) - MOST_ROWS
    return (*shown[:MOST_ROWS], *([Row(f"and {more} more", (Shown(""),))] if more > 0 else []))


def down(snapshot: Snapshot) -> tuple[str, ...]:
    """Sources whose last reading was not whole."""
    names = [clean(source) for source, up in snapshot.sources.items() if not up]
    more = len(names) - MOST_ROWS
    return (*names[:MOST_ROWS], *([f"and {more} more"] if more > 0 else []))


def assumed(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Figures that are taken from the plan, and where from."""
    return tuple((str(row.get("figure")), str(row.get("from", ""))) for row in listed(document, "assumed"))
