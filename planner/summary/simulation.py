"""The answer of `simulate` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.confidence import band_lines
from planner.summary.failures import failure_lines, failure_sentence
from planner.summary.layout import facts, paragraph, section
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.service import (
    broken_limits,
    demand_words,
    engine_lines,
    failed_sentence,
    fleet_words,
    judging_words,
    latency_lines,
    limit_lines,
    limits_of,
    saturation_lines,
    warning_lines,
)
from planner.summary.words import clean, number, plural

Document = dict[str, Any]


def simulation_text(document: Document) -> str:
    """One fleet under one load: verdict, limits, latencies, engines, notes, origins. At most 100 columns wide."""
    document = clean(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(_answer(document, scenario))
    lines += paragraph(failed_sentence(document))
    lines += paragraph(failure_sentence(document.get("failures") or {}))
    lines += warning_lines(document)
    lines += saturation_lines(document)
    limits = limits_of(scenario, document)
    lines += section(f"Limits{judging_words(limits)}", limit_lines(limits))
    lines += section("Latency of queries that reach the model", latency_lines(document))
    lines += section("80 % bands", band_lines(document))
    lines += section("Failures", failure_lines(document.get("failures") or {}))
    lines += section("The fleet at work", engine_lines(document, document.get("fleet") or {}))
    lines += section("Memory of the fullest GPU", facts([("", memory_words(document.get("memory") or {}))]))
    lines += section("The run", run_lines(document))
    lines += origin_lines(document.get("provenance") or [])
    return "\n".join([*lines, *definition_lines()])


def memory_words(memory: Document) -> str:
    """ "weights 32.9 + … + KV cache 35.1 = 71.2 GiB usable", from terms named `…_gib`; those of zero are left out."""
    sizes = {name.removesuffix("_gib"): size for name, size in memory.items() if name.endswith("_gib") and size}
    usable = sizes.pop("usable", None)
    if not sizes:
        return ""
    sizes["KV cache"] = sizes.pop("kv_cache", None)
    parts = [f"{name.replace('_', ' ')} {number(size)}" for name, size in sizes.items() if size is not None]
    return " + ".join(parts) + (" GiB" if usable is None else f" = {number(usable)} GiB usable")


def run_lines(document: Document) -> list[str]:
    """Length, seed and speed of the simulation, and its notes."""
    parts = []
    if document.get("requests") is not None:
        counted = document.get("queries")
        queries = "" if counted in (None, document["requests"]) else f" of {plural(counted, 'query')}"
        parts.append(f"{plural(document['requests'], 'request')}{queries} counted")
    if document.get("duration_s") is not None:
        parts.append(f"{number(document['duration_s'])} s of service")
    if document.get("seed") is not None:
        parts.append(f"seed {document['seed']}")
    if document.get("wall_s") is not None:
        parts.append(f"simulated in {number(document['wall_s'], 2)} s")
    lines = paragraph(", ".join(parts), "  ") if parts else []
    for note in document.get("notes") or []:
        lines += paragraph(f"Note: {note}", "  ", "    ")
    return lines


def _answer(document: Document, scenario: Document) -> str:
    fleet = fleet_words(document.get("fleet") or {}, document.get("model") or {})
    demand = demand_words(scenario)
    load = f" under {demand}" if demand else ""
    broken, hint = broken_limits(document), _one_by_default(document, scenario)
    if document.get("slo_met"):
        over = " over the whole run" if document.get("failures") else ""
        return f"{fleet}{load}: every limit HOLDS{over}."
    if broken:
        return f"{fleet}{load}: {' and '.join(broken)} {'FAILS' if len(broken) == 1 else 'FAIL'}.{hint}"
    if document.get("saturated"):
        return f"{fleet}{load}: more arrives than it can serve.{hint}"
    return f"{fleet}{load}: no limits given (slo), so nothing is judged."


def _one_by_default(document: Document, scenario: Document) -> str:
    """Why there is one replica, where nobody asked for that."""
    fleet = scenario.get("fleet") or {}
    if (document.get("fleet") or {}).get("replicas") != 1 or not fleet or "replicas" in fleet:
        return ""
    return " (One replica, since fleet.replicas is not given: planner plan finds how many it takes.)"
