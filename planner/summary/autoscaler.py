"""What an autoscaler makes of a plan's fleet: a sentence for the answer, and a section."""

from __future__ import annotations

from typing import Any

from planner.summary.currency import both, currency_of
from planner.summary.day_facts import few_words
from planner.summary.layout import bars, facts, paragraph, section, table
from planner.summary.words import number, percent, plural
from planner.units import HOURS_PER_DAY

Document = dict[str, Any]
MOST_TOLD = 5


def scaled_sentence(document: Document) -> str:
    """ "Its autoscaler pays for 5.7 of them on average; the limits hold in 163 of 168 hours." Empty without one."""
    scaled = document.get("autoscaler") or {}
    if scaled.get("mean_paid_replicas") is None:
        return ""
    planned = (scaled.get("static") or {}).get("replicas")
    told = f"With its autoscaler {number(scaled['mean_paid_replicas'])} replicas are paid for on average"
    if planned is not None:
        told += f" in place of {number(planned)}"
    missed, judged = _missed(scaled), _judged(scaled)
    if not judged:
        return f"{told}."
    few = few_words(sum(bool(hour.get("few_queries")) for hour in judged), len(judged))
    if missed:
        return f"{told}, and the limits BREAK in {len(missed)} of {plural(len(judged), 'hour')}{few}."
    return f"{told}, and the limits hold in every hour{few}."


def scaled_lines(document: Document) -> list[str]:
    """The autoscaler's section: its hours as bars, what it pays for beside the fleet on all day, hours that miss."""
    scaled = document.get("autoscaler") or {}
    hours = scaled.get("hours") or []
    if not hours:
        return []
    rows = []
    for name, key in (("load", "rate_qps"), ("replicas", "paid_replicas")):
        values = [hour.get(key) for hour in hours[:HOURS_PER_DAY]]
        if None in values:
            continue
        unit = " queries/s" if key == "rate_qps" else " paid for"
        rows.append([name, bars(values), f"{number(min(values))} to {number(max(values))}{unit}"])
    lines = table(rows, "<<<") + facts(
        [
            ("paid", _paid(document, scaled)),
            ("on all day", _static(document, scaled)),
            ("service", _service(scaled)),
        ]
    )
    for hour in _missed(scaled)[:MOST_TOLD]:
        lines += paragraph(f"{_when(hour, len(hours))}: {', '.join(hour.get('missed') or [])}", "  ", "    ")
    if len(_missed(scaled)) > MOST_TOLD:
        lines.append(f"  and {len(_missed(scaled)) - MOST_TOLD} more: --json has all")
    for note in scaled.get("notes") or []:
        lines += paragraph(f"Note: {note}", "  ", "    ")
    days = scaled.get("days") or 1
    of_days = "" if days == 1 else f": {number(days)} days, the first as bars"
    return section(f"The autoscaler{of_days}", lines)


def _paid(document: Document, scaled: Document) -> str:
    most = "" if scaled.get("peak_replicas") is None else f", {number(scaled['peak_replicas'])} serving at most"
    return f"{number(scaled.get('mean_paid_replicas'))} replicas on average{most}{_hours_usd(document, scaled)}"


def _static(document: Document, scaled: Document) -> str:
    static = scaled.get("static") or {}
    if static.get("replicas") is None:
        return ""
    said = f"{plural(static['replicas'], 'replica')}{_hours_usd(document, static)}"
    before, now = static.get("usd_per_day"), scaled.get("usd_per_day")
    if not before or now is None:
        return said
    saved = 1 - now / before
    if saved < 0:
        return f"{said}: the autoscaler COSTS {percent(-saved)} more"
    return f"{said}: the autoscaler saves {percent(saved)}"


def _hours_usd(document: Document, fleet: Document) -> str:
    said = f", {number(fleet.get('gpu_hours_per_day'))} GPU-hours"
    if fleet.get("usd_per_day") is not None:
        said += f" and {both(fleet['usd_per_day'], currency_of(document))}"
    return f"{said} a day"


def _service(scaled: Document) -> str:
    judged, good = _judged(scaled), scaled.get("goodput_share")
    if not judged:
        return ""
    said = f"the limits hold in {number(len(judged) - len(_missed(scaled)))} of {plural(len(judged), 'hour')}"
    return said if good is None else f"{said}; {percent(1 - good)} of the queries miss a limit themselves"


def _judged(scaled: Document) -> list[Document]:
    return [hour for hour in scaled.get("hours") or [] if hour.get("slo_met") is not None]


def _missed(scaled: Document) -> list[Document]:
    return [hour for hour in scaled.get("hours") or [] if hour.get("slo_met") is False]


def _when(hour: Document, hours: int) -> str:
    clock = f"{hour['hour'] % HOURS_PER_DAY:02d}:00"
    return clock if hours <= HOURS_PER_DAY else f"day {hour['hour'] // HOURS_PER_DAY + 1}, {clock}"
