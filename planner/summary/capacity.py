"""The answer of `capacity` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.confidence import band_lines
from planner.summary.layout import paragraph, section, table
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.service import (
    engine_lines,
    fleet_words,
    judged_ms,
    judging_words,
    latency_lines,
    limit_lines,
    limits_of,
    saturation_lines,
    warning_lines,
)
from planner.summary.simulation import run_lines
from planner.summary.words import (
    capitalised,
    clean,
    is_limit,
    limit_name,
    milliseconds,
    number,
    percent,
    with_limit_names,
)

Document = dict[str, Any]

_PROBES_SHOWN = 8
_LIMITS_SHOWN = 5  # side by side in the table of probes
_LOADS = {
    "rate": ("max_rate_qps", "rate_qps", "queries/s"),
    "concurrency": ("max_concurrency", "concurrency", "clients"),
}


def capacity_text(document: Document) -> str:
    """The most load within the limits: what breaks above it, every probe, the run at the maximum, origins."""
    document = clean(document)
    scenario, at_max = document.get("scenario") or {}, document.get("at_max") or {}
    vary = document.get("vary") or ("concurrency" if "max_concurrency" in document else "rate")
    most_key, load_key, unit = _LOADS[vary]
    most = document.get(most_key)
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(_answer(document, most, load_key, unit))
    lines += warning_lines(document)
    limits = limits_of(scenario, at_max)
    where = f" at {number(most, 4)} {unit}" if at_max and most else ""
    lines += section(f"Limits{where}{judging_words(limits)}", limit_lines(limits))
    lines += section(
        "Loads tried (latencies: upper ends where there is an interval)", _probe_lines(document, most, load_key, unit)
    )
    lines += saturation_lines(at_max)
    lines += section(f"Latency{where}", latency_lines(at_max))
    lines += section(f"80 % bands{where}", band_lines(at_max))
    lines += section(f"The fleet{where}", engine_lines(at_max, document.get("fleet") or {}))
    run = {"seed": document.get("seed"), **at_max}
    lines += section("The run", run_lines(run)) if at_max else []
    lines += origin_lines(document.get("provenance") or [])
    return "\n".join([*lines, *definition_lines()])


def _answer(document: Document, most: float | None, load_key: str, unit: str) -> str:
    held = document.get("at_max") or {}
    fleet = document.get("fleet") or held.get("fleet") or {}
    model = document.get("model") or held.get("model") or {}
    who = fleet_words(fleet, model) if fleet else "the fleet"
    breaks = with_limit_names(document.get("limited_by", ""))
    if most:
        beyond = f"; what gives way beyond: {breaks}" if breaks else ""
        band = next(iter((document.get("band80") or {}).values()), None)
        sure = f" (80 % band {number(band[0], 3)} to {number(band[1], 3)})" if band else ""
        return f"{capitalised(who)} carries {number(most, 4)} {unit}{sure} within the limits{beyond}."
    loads = [probe[load_key] for probe in document.get("probes") or [] if probe.get(load_key) is not None]
    least = f", not even {number(min(loads), 4)} {unit}" if loads else ""
    return f"NO LOAD HOLDS: {who} carries nothing within the limits{least}{f' ({breaks})' if breaks else ''}."


def _probe_lines(document: Document, most: float | None, load_key: str, unit: str) -> list[str]:
    """The full-length runs nearest the answer, in the order of their load; the others counted."""
    probes = [probe for probe in document.get("probes") or [] if probe.get(load_key) is not None]
    settled = [probe for probe in probes if probe.get("full_length", True)] or probes
    nearest = sorted(settled, key=lambda probe: abs(probe[load_key] - (most or 0)))[:_PROBES_SHOWN]
    if not nearest:
        return []
    shown = sorted(nearest, key=lambda probe: probe[load_key])
    keys = [key for key in dict.fromkeys(key for probe in shown for key in probe) if is_limit(key)][:_LIMITS_SHOWN]
    rows = [[f"[{unit}]", *(limit_name(key) for key in keys), "busy", ""]]
    for probe in shown:
        verdict = "SATURATED" if probe.get("saturated") else "holds" if probe.get("met") else "FAILS"
        if probe[load_key] == most:
            verdict += ", the answer"
        figures = [milliseconds(judged_ms(probe, key)) for key in keys]
        rows.append([number(probe[load_key], 4), *figures, percent(probe.get("utilisation")), verdict])
    lines = table(rows, f">{'>' * len(keys)}><")
    left = len(probes) - len(shown)
    return [*lines, *paragraph(f"and {left} more, shorter or further off: --json has all", "  ")] if left else lines
