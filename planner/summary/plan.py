"""The answer of `plan` in words."""

from __future__ import annotations

from typing import Any

from planner.summary.autoscaler import scaled_lines, scaled_sentence
from planner.summary.candidates import candidate_lines, candidate_name, nearest_miss, rejected_lines, varied_keys
from planner.summary.confidence import band_lines
from planner.summary.failures import spare_lines
from planner.summary.layout import paragraph, section
from planner.summary.money import day_lines, money_lines, money_sentence
from planner.summary.origins import definition_lines, origin_lines
from planner.summary.service import (
    broken_limits,
    demand_words,
    engine_lines,
    fleet_words,
    judging_words,
    latency_lines,
    limit_lines,
    limits_of,
    saturation_lines,
    warning_lines,
)
from planner.summary.simulation import run_lines
from planner.summary.uncertainty import uncertainty_lines
from planner.summary.waterfall import waterfall_lines
from planner.summary.words import clean, number, plural, with_limit_names

Document = dict[str, Any]
NO_PROOF = (
    "No proof of the spare: whether the limits hold when it is lost was not simulated, as it is for an open load "
    "(traffic.peak_qps) on replicas without data-parallel ranks."
)


def plan_text(document: Document) -> str:
    """The page that `planner plan` prints: answer, limits, the smaller fleet that fails, money, origins.

    `document` is the plan's JSON document; what it lacks is said in words or left out. At most 100 columns wide.
    """
    document = clean(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    body = _feasible(document, scenario) if document.get("feasible") else _infeasible(document, scenario)
    return "\n".join([*lines, *body, *origin_lines(document.get("provenance") or []), *definition_lines()])


# --- a fleet fits ---


def _feasible(document: Document, scenario: Document) -> list[str]:
    fleet, at_peak = document.get("fleet") or {}, document.get("at_peak") or {}
    limits = limits_of(scenario, at_peak)
    peak = "at the peak" if "peak_qps" in (scenario.get("traffic") or {}) else "under this load"
    said = [_answer(document, scenario), scaled_sentence(document), money_sentence(document)]
    lines = paragraph(" ".join(sentence for sentence in said if sentence))
    lines += warning_lines(document)
    lines += saturation_lines(at_peak)
    lines += section(f"Limits {peak}{_serving(fleet)}{judging_words(limits)}", limit_lines(limits))
    lines += _smaller(document, scenario, fleet)
    if proof := spare_lines(document.get("spare_proof") or {}):
        lines += ["", *proof]
    elif fleet.get("spare_replicas"):
        lines += ["", *paragraph(NO_PROOF)]
    lines += section(f"Latency {peak}{_serving(fleet)}", latency_lines(at_peak))
    lines += section(f"80 % bands {peak}", band_lines(at_peak))
    lines += section(f"The fleet {peak}", engine_lines(at_peak, fleet))
    lines += money_lines(document)
    lines += section("The day", day_lines(document))
    lines += scaled_lines(document)
    lines += uncertainty_lines(document)
    lines += candidate_lines(document.get("alternatives") or [])
    lines += waterfall_lines(document.get("waterfall") or [])
    run = {"seed": document.get("seed"), **at_peak}
    return [*lines, *section("The runs", [*run_lines(run), *_confidence(document)])]


def _answer(document: Document, scenario: Document) -> str:
    demand = demand_words(scenario) or "the load"
    fleet = document.get("fleet") or {}
    verb = "serves" if fleet.get("gpus") == 1 else "serve"
    return f"{fleet_words(fleet, document.get('model') or {})} {verb} {demand} {within_limits(document)}"


def within_limits(document: Document) -> str:
    """ "within the limits.": the end of the first sentence, promising no more than the proof of the spare."""
    spares = (document.get("fleet") or {}).get("spare_replicas") or 1
    loss = f"the loss of the {'spare' if spares == 1 else f'{number(spares)} spares'}"
    match (document.get("spare_proof") or {}).get("verdict"):
        case "fails":
            return f"within the limits; {loss} is NOT held: see the proof."
        case "undecided":
            return f"within the limits; whether {loss} is held is undecided: see the proof."
    return "within the limits."


def _serving(fleet: Document) -> str:
    replicas, spare = fleet.get("replicas"), fleet.get("spare_replicas")
    return f", {replicas - spare} of {plural(replicas, 'replica')} serving" if replicas and spare else ""


def _smaller(document: Document, scenario: Document, fleet: Document) -> list[str]:
    """The evidence that the fleet could not be smaller."""
    run, gap = document.get("one_fewer"), with_limit_names(document.get("one_fewer_gap", ""))
    serving = (fleet.get("replicas") or 0) - (fleet.get("spare_replicas") or 0)
    if not run:
        if serving == 1:
            said = "One replica serves: there is no smaller fleet."
        else:
            said = gap or "A smaller fleet was not tried."
        return section("One replica fewer", paragraph(said, "  "))
    broken = broken_limits(run)
    if run.get("slo_met"):
        title = "One replica fewer holds the limits too"
        if (scenario.get("fleet") or {}).get("min_replicas") == fleet.get("replicas"):
            title += ", but fleet.min_replicas asks for more"
        return section(title, limit_lines(run.get("slo") or []))
    why = " and ".join(broken) or ("more arrives than is served" if run.get("saturated") else gap)
    on = f" on seed {run['other_seed']}" if run.get("other_seed") is not None else ""
    size = f" ({serving - 1} serving)" if serving > 1 else ""
    title = f"One replica fewer{size} FAILS{on}{f': {why}' if why else ''}"
    return section(title, [*limit_lines(run.get("slo") or []), *saturation_lines(run, "  ")])


def _confidence(document: Document) -> list[str]:
    confidence = document.get("confidence") or {}
    lines = paragraph(f"Rule: {confidence['rule']}", "  ", "    ") if "rule" in confidence else []
    counted = [plural(confidence[key], noun) for key, noun in _COUNTED if confidence.get(key) is not None]
    if counted:
        lines += paragraph(", ".join(counted), "  ")
    tried: dict[int, bool] = {}
    for point in document.get("capacity_curve") or []:
        size = point.get("serving", point.get("replicas"))
        if size is not None and point.get("met") is not None:
            tried[size] = point["met"]
    if tried:
        sizes = ", ".join(f"{number(size)} {'holds' if met else 'fails'}" for size, met in sorted(tried.items()))
        lines += paragraph(f"Serving replicas tried: {sizes}", "  ", "    ")
    return lines


_COUNTED = (("batches", "batch"), ("samples", "sample"))


# --- nothing fits ---


def _infeasible(document: Document, scenario: Document) -> list[str]:
    alternatives = document.get("alternatives") or []
    demand = demand_words(scenario) or "the load"
    tried = f"none of {plural(len(alternatives), 'candidate')}" if len(alternatives) > 1 else "the candidate does not"
    verb = " can serve" if len(alternatives) > 1 else " serve"
    lines = paragraph(f"NO FLEET FITS: {tried}{verb} {demand} within the limits.")
    lines += warning_lines(document)
    near = nearest_miss(alternatives)
    if near is not None:
        name = candidate_name(near, varied_keys(alternatives))
        reason = with_limit_names(near.get("reason", "no reason given"))
        lines += paragraph(f"Nearest miss: {name or 'the candidate'}: {reason}.")
    lines += rejected_lines(alternatives)
    lines += section("Limits", limit_lines(limits_of(scenario, document.get("at_peak"))))
    return [*lines, *section("What could be changed", _listed(ways_out(scenario, alternatives)))]


def ways_out(scenario: Document, alternatives: list[Document]) -> list[str]:
    """Keys of the scenario that stand in the way, by what the reasons name."""
    reasons = " ".join(row.get("reason", "") for row in alternatives)
    fleet, ways = scenario.get("fleet") or {}, []
    if fleet.get("max_gpus") is not None and ("max_gpus" in reasons or not reasons.strip()):
        ways.append(f"fleet.max_gpus: allow more than {number(fleet['max_gpus'])} GPUs")
        if fleet.get("spare_replicas"):
            ways.append(f"fleet.spare_replicas: fewer than {number(fleet['spare_replicas'])}")
    for key, bound in (scenario.get("slo") or {}).items():
        if key in reasons:
            ways.append(f"slo.{key}: a looser limit than {str(bound).removeprefix('<=')} ms")
    if "does not fit" in reasons:
        ways.append("engine.tensor_parallel_size or engine.quantization: spread or shrink the weights")
    hardware = scenario.get("hardware")
    names = hardware if isinstance(hardware, list | tuple) else [hardware] if hardware else []
    beside = f" beside {', '.join(map(str, names))}" if names else ""
    ways.append(f"hardware: other GPUs{beside} (planner catalogue hardware lists them)")
    return ways


def _listed(ways: list[str]) -> list[str]:
    return [line for way in ways for line in paragraph(way, "  - ", "    ")]
