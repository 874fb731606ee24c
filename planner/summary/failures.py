"""What replicas that stop, slow down or restart do to a fleet's service levels, in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, table
from planner.summary.words import ABSENT, capitalised, limit_name, milliseconds, number, percent, plural

Document = dict[str, Any]
_LATENCIES = (("p99 TTFT", "ttft_ms"), ("p99 TPOT", "tpot_ms"), ("p99 E2E", "e2e_ms"))
_WHEN = {"in_hand": "(in hand)"}
_MOST_LIMITS = 4  # columns that the table has room for


def event_words(event: Document) -> str:
    """ "stop of 1 replica", "2 replicas 3 × slower", "rolling restart": what happened, to whom."""
    met = plural(event.get("replicas"), "replica") if event.get("replicas") else "replicas"
    match event.get("what"):
        case "stop":
            return f"stop of {met}"
        case "slow":
            return f"{met} {number(event['factor'])} × slower" if event.get("factor") else f"slow {met}"
    return str(event.get("what") or "event").replace("_", " ")


def failure_sentence(failures: Document) -> str:
    """Which events a fleet did not come through, with the worst that they did to which limit; "" of none."""
    return " ".join(text for event in failures.get("events") or [] if (text := _broke(event)))


def failure_lines(failures: Document) -> list[str]:
    """Each event with the service levels before, during and after it, and its worst moment; nothing without failures.

    Columns are the limits' own statistics, or percentiles where nothing is judged.
    """
    if not failures:
        return []
    events = failures.get("events") or []
    spans = [event[when] for event in events for when in ("before", "during", "after") if event.get(when)]
    keys = [limit["key"] for limit in (spans[0].get("limits") or [])[:_MOST_LIMITS]] if spans else []
    heads = [limit_name(key) for key in keys] if keys else [name for name, _ in _LATENCIES]
    rows = [["", "", "queries", "failed", *heads, "good", ""]]
    for event in events:
        end = "the end" if event.get("until_s") is None else f"{number(event['until_s'])} s"
        name = f"{event_words(event)}, {number(event['at_s'])} s to {end}"
        for place, when in enumerate(("before", "during", "in_hand", "after")):
            row = event.get(when)
            if row is not None:
                rows.append([name if place == 0 else "", _WHEN.get(when, when), *_cells(row, keys)])
    again = failures.get("retried") or 0
    said = f"{plural(again, 'request')} began again on another replica"
    said += f", {plural(failures.get('lost') or 0, 'query')} lost with a replica (both: in hand); work thrown away: "
    said += f"{number(failures.get('lost_tokens') or 0)} tokens."
    lines = table(rows, "<<>>" + ">" * len(heads) + "><")
    for event in events:
        lines += paragraph(_worst(event), "  ", "    ")
    return [*lines, *paragraph(said, "  ")]


def spare_lines(proof: Document) -> list[str]:
    """The proof of the spare replicas: what stopped, each limit before and after; nothing where nothing was proved."""
    if not proof:
        return []
    before, after = proof.get("before") or {}, proof.get("after") or {}
    said = (
        f"Proof of the spare: {number(proof['stopped'])} of {plural(proof['replicas'], 'replica')} stopped for good in "
        f"a run at the peak. Over the {plural(after.get('queries') or 0, 'query')} that came afterwards, or were in "
        f"hand, {_spare_verdict(proof)}."
    )
    rows = [["", "limit", "before", "after", "upper end", ""]]
    earlier = {limit["key"]: limit for limit in before.get("limits") or []}
    for limit in after.get("limits") or []:
        value = earlier.get(limit["key"], {}).get("value_ms")
        upper = "" if limit.get("upper_ms") is None else milliseconds(limit["upper_ms"])
        shown = [milliseconds(value), milliseconds(limit.get("value_ms")), upper]
        verdict = {"fails": "FAILS"}.get(limit["verdict"], limit["verdict"])
        rows.append([limit_name(limit["key"]), f"≤ {milliseconds(limit['limit_ms'])}", *shown, verdict])
    lines = [*paragraph(said), *table(rows, "<>>>><")]
    if hit := proof.get("in_hand"):
        wait = milliseconds((hit.get("ttft_ms") or {}).get("p50"))
        began = f"{plural(hit['queries'] - hit['failed'], 'query')} began again elsewhere (median TTFT {wait})"
        lost = f"{plural(hit['failed'], 'query')} lost" if hit["failed"] else ""
        said = " and ".join(part for part in (began if hit["queries"] > hit["failed"] else "", lost) if part)
        lines += paragraph(f"Of what the stopped ones had in hand {said}.", "  ", "    ")
    if broken := _broken(proof):
        lines += paragraph(f"Soon after the stop: {broken}; {_recovery(proof)}.", "  ", "    ")
    return lines


def _spare_verdict(proof: Document) -> str:
    match proof.get("verdict"):
        case "holds":
            return "every limit still holds"
        case "undecided":
            return (
                "it is undecided: a limit lies within the error of its figure, and a longer run would tell (--requests)"
            )
    growing = ", and the backlog grows" if proof.get("saturated_after") else ""
    return f"the limits do NOT hold{growing}"


def _broke(event: Document) -> str:
    """ "Does NOT hold after stop of 1 replica at 60 s: p99 TTFT 2,310 ms over 1,000 ms …, recovered after 45 s."."""
    broken = _broken(event)
    if not broken:
        return ""
    before = "" if event.get("held_before") is not False else " (nor just before it)"
    since = f"from {event_words(event)} at {number(event['at_s'])} s on"
    return f"Does NOT hold {since}{before}: {broken}, {_recovery(event)}."


def _broken(event: Document) -> str:
    """The limits that an event's worst stretch breaks, if not by chance alone; "" of none.

    "p99 TTFT 2,310 ms over 1,000 ms in the worst 1,000 queries".
    """
    worst = event.get("worst") or {}
    unmet = [limit for limit in worst.get("limits") or [] if limit.get("met") is False]
    spans = [event[when].get("limits") or [] for when in ("during", "after") if event.get(when)]
    over_all = any(limit.get("met") is False for limits in spans for limit in limits)
    if not unmet or not (worst.get("beyond_chance") or over_all):
        return ""
    said = [f"{limit_name(limit['key'])} {_value(limit)} over {milliseconds(limit['limit_ms'])}" for limit in unmet]
    return f"{' and '.join(said)} in the worst {plural(worst['queries'], 'query')}"


def _value(limit: Document) -> str:
    return "without end (too many failed)" if limit.get("value_ms") is None else milliseconds(limit["value_ms"])


def _recovery(event: Document) -> str:
    after_s = event.get("recovered_s")
    return "not recovered from" if after_s is None else f"recovered after {number(round(after_s, 1))} s"


def _worst(event: Document) -> str:
    """When the worst was, and what is judged of it; "" where nothing broke, or nothing is judged."""
    broken = _broken(event)
    if not broken:
        return ""
    worst = event["worst"]
    begin_s, end_s = event["at_s"] + worst["from_s"], event["at_s"] + worst["to_s"]
    when = f"who came from {number(round(begin_s, 1))} s to {number(round(end_s, 1))} s"
    return f"{capitalised(event_words(event))} at {number(event['at_s'])} s: {broken} ({when}), {_recovery(event)}."


def _cells(row: Document, keys: list[str]) -> list[str]:
    good = ABSENT if row.get("good_share") is None else percent(row["good_share"])
    limits = {limit["key"]: limit for limit in row.get("limits") or []}
    if keys:
        latencies = [milliseconds(limits.get(key, {}).get("value_ms")) for key in keys]
    else:
        latencies = [milliseconds((row.get(key) or {}).get("p99")) for _, key in _LATENCIES]
    fails = "FAILS" if any(limit.get("met") is False for limit in limits.values()) else ""
    return [number(row["queries"]), number(row["failed"]), *latencies, good, fails]
