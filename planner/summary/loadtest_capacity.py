"""The answer of `loadtest --find-capacity` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, section, table
from planner.summary.loadtest import definitions
from planner.summary.service import warning_lines
from planner.summary.words import clean, is_limit, limit_name, milliseconds, number, with_limit_names

Document = dict[str, Any]

STOPPED = "stopped by the user"
_LIMITS_SHOWN = 4  # side by side, each twice: measured and simulated


def loadtest_capacity_text(document: Document) -> str:
    """The highest rate that held, what broke above it, every step, and the simulator's answer beside it."""
    document = clean(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(_answer(document))
    lines += warning_lines(document)
    if document.get("ended") and document["ended"] != document.get("limited_by"):
        lines += paragraph(f"The search ended early: {document['ended']}.")
    lines += paragraph(_same_steps(document)) if _same_steps(document) else []
    lines += paragraph(_long_run(document))
    lines += section("Rates tried, each a run of its own (measured, simulated)", _probe_lines(document))
    records = [probe["records"] for probe in document.get("probes") or [] if probe.get("records")]
    lines += section("Records", [f"  {path}" for path in records])
    return "\n".join([*lines, "", *definitions()])


def _answer(document: Document) -> str:
    most, broke = document.get("max_rate_qps"), document.get("first_broken_qps")
    why = with_limit_names(document.get("limited_by") or "")
    if not any(probe.get("valid") for probe in document.get("probes") or []):
        return f"NOTHING WAS MEASURED{_before_any_step(document)}."
    if not most:
        return f"NO RATE HELD, measured{f'; {why}' if why else ''}."
    beyond = (
        f"; {number(broke, 4)} queries/s did not ({why})" if broke else f"; no higher one was seen to break ({why})"
    )
    return f"The server held every limit at {number(most, 4)} queries/s, measured{beyond}."


def _before_any_step(document: Document) -> str:
    ended = document.get("ended") or ""
    if ended == STOPPED:
        return f" YET: {STOPPED} before a step was complete"
    return f": {ended}" if ended else ""


def _same_steps(document: Document) -> str:
    """The simulator by the search's own rule, which the measured rate can be held against; "" without any."""
    simulated = document.get("simulated") or {}
    most, broke = simulated.get("steps_max_rate_qps"), simulated.get("steps_first_broken_qps")
    if most is None:
        return ""
    if not most:
        return "Simulated, the same steps: none holds."
    measured = document.get("max_rate_qps") if document.get("first_broken_qps") and broke else None
    off = ""
    if measured:
        off = f" ({number(100 * (most / measured - 1), 2)} % off)" if most != measured else ", as measured"
    beyond = f"; {number(broke, 4)} does not" if broke else "; each of them holds"
    return f"Simulated, the same steps: {number(most, 4)} queries/s{off}{beyond}."


def _long_run(document: Document) -> str:
    """What `capacity` answers, a question of its own: never set against the measured rate."""
    simulated = document.get("simulated") or {}
    most = simulated.get("max_rate_qps")
    if most is None:
        return f"Not simulated: {simulated.get('not_simulated', 'no reason known')}."
    band = next(iter((simulated.get("band80") or {}).values()), None)
    sure = f" (80 % band {number(band[0])} to {number(band[1])})" if band else ""
    limited = with_limit_names(simulated.get("limited_by") or "")
    return (
        f"To plan with, by the simulator: {number(most, 4)} queries/s{sure} hold with 95 % confidence in a long run; "
        f"beyond: {limited}. A step above is judged by its own figure alone, which a short run may hold by luck."
    )


def _probe_lines(document: Document) -> list[str]:
    probes = document.get("probes") or []
    if not probes:
        return []
    keys = [key for key in dict.fromkeys(key for probe in probes for key in probe) if is_limit(key)][:_LIMITS_SHOWN]
    rows = [["[queries/s]", *(limit_name(key) for key in keys), "measured", "simulated", "failed"]]
    for probe in probes:
        simulated = probe.get("simulated") or {}
        figures = [f"{milliseconds(probe.get(key))}, {milliseconds(simulated.get(key))}" for key in keys]
        said = "" if not simulated else "holds" if simulated.get("met") else "FAILS"
        verdict = "INVALID" if probe.get("valid") is False else "holds" if probe.get("met") else "FAILS"
        if probe.get("saturated"):
            verdict += ", saturated"
        failed = number(probe["failed"]) if probe.get("failed") else ""
        rows.append([number(probe["rate_qps"], 4), *figures, verdict, said, failed])
    return table(rows, f">{'>' * len(keys)}<<>")
