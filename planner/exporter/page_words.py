"""The answer of the live page in sentences: what a query costs beside the plan, why, or why nobody knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from planner.exporter.page_figures import UNKNOWN, Tone, ago, at, listed
from planner.exporter.snapshot import Snapshot
from planner.observed import FLEET
from planner.summary.drift import MODEL_KEY
from planner.summary.words import capitalised, clean, limit_name, milliseconds, number, percent, plural, usd
from planner.units import MS_PER_S

LATE = 3.0  # times the interval: older figures are marked, before they are too old to show
TOLD = 0.02  # of the planned cost: smaller parts are not spoken of
CAUSES = {
    "traffic": "traffic",
    "token_lengths": "token lengths",
    "prefix_hit_rate": "prefix cache hits",
    "response_hit_rate": "response cache hits",
    "step_speed": "step speed",
    "utilisation": "utilisation",
    "price": "price",
}


class Level(NamedTuple):
    """A service level: its key, its limit, what the fleet tells, whether it is met (None = not told)."""

    key: str
    limit_ms: float
    actual_ms: float | None
    met: bool | None


def levels(snapshot: Snapshot) -> tuple[Level, ...]:
    """The plan's service levels as the comparison judged them; where there is none, as they were read."""
    judged = {str(row.get("key")): row for row in listed(snapshot.drift, "slo")}
    told = snapshot.observed.latencies_ms if snapshot.observed is not None else {}
    found = []
    for key, limit_s in snapshot.plan.slo_s.items():
        statistic, _, metric = key.partition("_")
        actual_ms, limit_ms = at(told, f"{metric}.{statistic}"), MS_PER_S * limit_s
        met = None if actual_ms is None else actual_ms <= limit_ms
        if key in judged and (judged[key].get("met") is None or isinstance(judged[key]["met"], bool)):
            met = judged[key].get("met")
        found.append(Level(key, limit_ms, actual_ms, met))
    return tuple(found)


def states(snapshot: Snapshot, document: Mapping[str, Any]) -> tuple[tuple[str, Tone], ...]:
    """What is the matter in a word or two each, the worst first; "as planned" alone where nothing is."""
    if not snapshot.ready:
        return (("waiting for a first reading", "soft"),)
    if snapshot.observed is None:
        return (("blind", "bad"),)
    found: list[tuple[str, Tone]] = []
    if _other_models(document):
        found.append(("another model?", "bad"))
    if any(level.met is False for level in levels(snapshot)):
        found.append(("service level missed", "bad"))
    headroom = at(document, "capacity", "headroom_fraction")
    if headroom is not None and headroom <= 0:  # 0 is told while a queue stands
        found.append(("overloaded", "bad"))
    if (at(document, "margin", "usd_per_query") or 0.0) < 0:
        found.append(("losing money", "bad"))
    if not document:
        found.append(("not compared", "soft"))
    elif at(document, "total", "fraction") is None:
        found.append(("cost not known", "soft"))
    elif _beyond(document):
        found.append(("off the plan", "bad"))
    if not snapshot.observed.complete or snapshot.answered < snapshot.asked:
        found.append((f"{snapshot.answered} of {plural(snapshot.asked, 'source')} answering", "bad"))
    if snapshot.age_s > LATE * snapshot.interval_s:
        found.append((f"figures {ago(snapshot.age_s)} old", "bad"))
    return tuple(found) or (("as planned", "good"),)


def sentence(snapshot: Snapshot, document: Mapping[str, Any]) -> str:
    """The answer."""
    if not snapshot.ready:
        return f"The fleet has not told anything yet.{_first_trouble(snapshot)}"
    if snapshot.observed is None:
        since = f"the last reading that told anything ended {ago(snapshot.age_s)} ago"
        return f"Nothing is known of the fleet: {since}.{_nobody_up(snapshot)}"
    model = "".join(f"Is it the plan's model? {capitalised(text)}. " for text in _other_models(document))
    return f"{model}{_missed(snapshot)}{_cost(document)}"


def _other_models(document: Mapping[str, Any]) -> list[str]:
    """What the comparison says of a model that is not the plan's."""
    return [str(one.get("text")) for one in listed(document, "troubles") if one.get("source") == MODEL_KEY]


def _first_trouble(snapshot: Snapshot) -> str:
    """Why nothing was told so far."""
    of_fleet = _nobody_up(snapshot)
    return of_fleet or "".join(f" {clean(one.source)}: {clean(one.text)}." for one in snapshot.troubles[:1])


def _nobody_up(snapshot: Snapshot) -> str:
    """That a fleet is down whose Prometheus is not."""
    return "".join(f" {one.text}." for one in snapshot.troubles[:1] if one.source == FLEET)


def _missed(snapshot: Snapshot) -> str:
    """The service levels that are missed, before anything else."""
    said = [
        f"{limit_name(level.key)} is {milliseconds(level.actual_ms)}, its limit {milliseconds(level.limit_ms)}"
        for level in levels(snapshot)
        if level.met is False
    ]
    return f"Service levels are missed: {'; '.join(said)}. " if said else ""


def _cost(document: Mapping[str, Any]) -> str:
    """What a query costs."""
    if not document:
        return "The fleet answers; its comparison with the plan is not there."
    cost, fraction = at(document, "cost", "usd_per_query"), at(document, "total", "fraction")
    if fraction is None:
        hourly = at(document, "cost", "usd_per_hour")
        bill = f" The fleet costs {usd(hourly)} an hour." if hourly is not None else ""
        return f"What a query costs is not known: no query came, or no replica answered.{bill}"
    subject = f"A query costs {usd(cost)}:" if cost is not None else "A query's share of the GPUs is"
    return f"{subject} {_departure(fraction)}{_why(document, fraction)}.{_margin(document)}"


def _beyond(document: Mapping[str, Any]) -> bool:
    """Whether cost, or a part of it, is beyond the limit; `within` of the document says more than that."""
    fraction, limit = at(document, "total", "fraction") or 0.0, at(document, "limit") or 0.0
    return abs(fraction) > limit or any(part.get("holds") is False for part in listed(document, "parts"))


def _departure(fraction: float) -> str:
    if abs(fraction) < 0.005:
        return "as planned"
    return f"{percent(abs(fraction))} {'more' if fraction > 0 else 'less'} than planned"


def _why(document: Mapping[str, Any], fraction: float) -> str:
    """The largest causes: of a departure those that make it, of none those that hide each other."""
    limit = at(document, "limit") or 0.0
    judged = [part for part in listed(document, "parts") if part.get("holds") is not None]
    parts = sorted(judged, key=lambda part: -abs(at(part, "share") or 0.0))
    told = [part for part in parts if abs(at(part, "share") or 0.0) >= TOLD]
    if abs(fraction) > limit:
        made = [part for part in told if (at(part, "share") or 0.0) * fraction > 0]
        return f", above all because {_because(made[0], document)}" if made else ""
    if _beyond(document):
        hidden = [_because(part, document) for part in told if part.get("holds") is False]
        return f", while {' and '.join(hidden[:2])}" if hidden else ""
    return f", within the {percent(limit)} that the plan's confidence allows" if abs(fraction) >= 0.005 else ""


def _because(part: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """One cause in words; by its name alone where its figures are not told."""
    if part.get("cause") == "token_lengths":
        return _lengths(document)
    planned, actual = at(part, "planned"), at(part, "actual")
    cause = str(part.get("cause"))
    if planned is None or actual is None or planned <= 0:
        return f"{CAUSES.get(cause, cause)} changed"
    more = actual > planned
    by = percent(abs(actual / planned - 1))
    match cause:
        case "traffic":
            return f"{by} {'more' if more else 'fewer'} queries share the fleet"
        case "prefix_hit_rate":
            return f"the prefix cache hits {percent(actual)} instead of {percent(planned)}"
        case "response_hit_rate":
            return f"the response cache answers {percent(actual)} instead of {percent(planned)}"
        case "step_speed":
            return f"tokens follow each other {by} {'more slowly' if more else 'faster'}"
        case "utilisation":
            return f"{plural(actual, 'replica')} run{'s' if actual == 1 else ''} where {number(planned)} would do"
        case "price":
            return f"a GPU-hour costs {usd(actual)} instead of {usd(planned)}"
    return f"{cause} changed"


def _lengths(document: Mapping[str, Any]) -> str:
    """What is longer, or shorter: the answers or the prompts, whichever departs further."""
    ratios = {str(row.get("name")): at(row, "ratio") or 0.0 for row in listed(document, "quantities")}
    said = [("answers", ratios.get("output_tokens", 0.0)), ("prompts", ratios.get("prompt_tokens", 0.0))]
    known = [(name, ratio) for name, ratio in said if ratio > 0]
    if not known:
        return "calls have other token counts"
    name, ratio = max(known, key=lambda one: abs(math.log(one[1])))
    return f"{name} are {percent(abs(ratio - 1))} {'longer' if ratio > 1 else 'shorter'}"


def _margin(document: Mapping[str, Any]) -> str:
    margin, revenue = at(document, "margin", "usd_per_query"), at(document, "revenue", "usd_per_query")
    if margin is None or revenue is None:
        return ""
    left = f"leaves {usd(margin)}" if margin >= 0 else f"loses {usd(-margin)}"
    return f" It earns {usd(revenue)}, which {left}." if margin >= 0 else f" It earns {usd(revenue)}, and so {left}."


def reading(snapshot: Snapshot) -> str:
    """How old the figures are and whom they are from."""
    if not snapshot.ready:
        return f"Trying every {ago(snapshot.interval_s)}; begun {ago(snapshot.age_s)} ago."
    sources = f"{snapshot.answered} of {plural(snapshot.asked, 'source')} answered" if snapshot.asked else ""
    took = "" if snapshot.poll_s is None else f"; reading took {_seconds(snapshot.poll_s)}"
    window = f"Figures of the last {ago(snapshot.window_s)}, {ago(snapshot.age_s)} old"
    if snapshot.observed is None:
        window = f"The last figures are {ago(snapshot.age_s)} old, too old to show"
    return ". ".join(part for part in (window, sources + took) if part) + "."


def _seconds(value_s: float) -> str:
    return UNKNOWN if value_s < 0 else f"{number(value_s, 2)} s"
