"""What replicas that stop, slow down or restart do to a fleet's service levels, in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, table
from planner.summary.words import ABSENT, capitalised, limit_name, milliseconds, number, percent, plural

Document = dict[str, Any]
_LATENCIES = (("p99 TTFT", "ttft_ms"), ("p99 TPOT", "tpot_ms"), ("p99 E2E", "e2e_ms"))
_WHEN = {"in_hand": "(in hand)", "under_way": "(under way)"}
_ROWS = ("before", "in_hand", "under_way", "during", "after")
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
    """Which events a fleet did not come through, with the worst that they did to which limit.

    A limit that the whole run breaks, and that no event is told to, is named as that; "" where nothing is broken.
    """
    events = failures.get("events") or []
    told = {event["key"]: text for event in events if (text := _broke(event, events))}
    named = {limit["key"] for event in events if event["key"] in told for limit in _unmet(event)}
    rest = [limit for limit in failures.get("unmet") or [] if limit["key"] not in named]
    whole = [f"Does NOT hold over the whole run: {_over(rest)}, told apart by no event."] if rest else []
    return " ".join([*told.values(), *whole])


def failure_lines(failures: Document) -> list[str]:
    """Each event with the service levels before, during and after it, and its worst moment; nothing without failures.

    Columns are the limits' own statistics (of an ITL limit the TPOT's), or percentiles where nothing is judged. Of
    those before an event "in part" says that the slow are missing.
    """
    if not failures:
        return []
    events = failures.get("events") or []
    spans = [event[when] for event in events for when in _ROWS if event.get(when)]
    judged = (spans[0].get("limits") or [])[:_MOST_LIMITS] if spans else []
    keys = [limit["key"] for limit in judged]
    heads = [_statistic(limit) for limit in judged] if keys else [name for name, _ in _LATENCIES]
    rows = [["", "", "queries", "failed", *heads, "good", ""]]
    for event in events:
        end = "the end" if event.get("until_s") is None else f"{number(event['until_s'])} s"
        name = f"{event_words(event)}, {number(event['at_s'])} s to {end}"
        told = [when for when in _ROWS if event.get(when)]
        for when in told:
            who = "before, in part" if when == "before" and event[when].get("censored") else _WHEN.get(when, when)
            rows.append([name if when == told[0] else "", who, *_cells(event[when], keys)])
    again = failures.get("retried") or 0
    said = f"{plural(again, 'request')} began again on another replica"
    said += f", {plural(failures.get('lost') or 0, 'query')} lost with a replica (both: in hand); work thrown away: "
    said += f"{number(failures.get('lost_tokens') or 0)} tokens."
    lines = table(rows, "<<>>" + ">" * len(heads) + "><")
    for event in events:
        for text in (_worst(event, events), _overlap(event, events)):
            lines += paragraph(text, "  ", "    ")
    return [*lines, *paragraph(said, "  ")]


def spare_lines(proof: Document) -> list[str]:
    """The proof of the spare replicas: what stopped, each limit before and after; nothing where nothing was proved."""
    if not proof:
        return []
    before, after = proof.get("before") or {}, proof.get("after") or {}
    said = (
        f"Proof of the spare: {number(proof['stopped'])} of {plural(proof['replicas'], 'replica')} stopped for good in "
        f"a run at the peak. Over the {plural(after.get('queries') or 0, 'query')} that came afterwards "
        f"{_spare_verdict(proof)}{_on_seeds(proof)}."
    )
    rows = [["", "limit", "before", "after", "upper end", ""]]
    earlier = {limit["key"]: limit for limit in before.get("limits") or []}
    for limit in after.get("limits") or []:
        value = earlier.get(limit["key"], {}).get("value_ms")
        upper = "" if limit.get("upper_ms") is None else milliseconds(limit["upper_ms"])
        shown = [milliseconds(value), milliseconds(limit.get("value_ms")), upper]
        verdict = {"fails": "FAILS"}.get(limit["verdict"], limit["verdict"])
        rows.append([limit_name(limit["key"]), f"≤ {milliseconds(limit['limit_ms'])}", *shown, verdict])
    lines = [*paragraph(said), *table(rows, "<>>>><"), *paragraph(_cut_off(proof), "  ", "    ")]
    return [*lines, *paragraph(_worst_after_stop(proof), "  ", "    ")]


def _worst_after_stop(proof: Document) -> str:
    """The stretch after the stop that breaks the limits furthest, and when; "" where chance alone may have done it."""
    worst = proof.get("worst") or {}
    broken = _broken(proof) if worst.get("beyond_chance") or proof.get("verdict") == "fails" else ""
    if not broken:
        return ""
    when = f"Who came from {_seconds(worst['from_s'])} to {_seconds(worst['to_s'])} after the stop"
    return f"{when}: {broken}; {_recovery(proof)}."


def _cut_off(proof: Document) -> str:
    """What became of those that the stopped replicas had in hand; "" of none."""
    hit, before = proof.get("in_hand"), proof.get("before") or {}
    if not hit:
        return ""
    said, answered = [], hit["queries"] - hit["failed"]
    if answered:
        usual = (before.get("ttft_ms") or {}).get("p50")
        than = "" if usual is None else f", {milliseconds(usual)} before the stop"
        first = milliseconds((hit.get("ttft_ms") or {}).get("p50"))
        began = "began again elsewhere" if hit.get("retried") else "were answered all the same"
        said.append(f"{plural(answered, 'query')} {began} (median TTFT {first}{than})")
    if hit["failed"]:
        said.append(f"{plural(hit['failed'], 'query')} {'was' if hit['failed'] == 1 else 'were'} lost")
    return f"Not judged are those that the stopped ones had in hand: {' and '.join(said)}."


def _on_seeds(proof: Document) -> str:
    """On which seeds it was run, where these are several."""
    seeds = proof.get("seeds") or []
    if len(seeds) < 2:
        return ""
    tried = f"seeds {', '.join(map(str, seeds))}"
    if proof.get("verdict") == "holds":
        return f", on {tried} (near the collapse of the prefix cache answers may flip with the seed)"
    return f", on seed {proof['seed']} (run on {tried}: near the collapse of the prefix cache answers may flip)"


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


def _broke(event: Document, events: list[Document]) -> str:
    """ "Does NOT hold after stop of 1 replica at 60 s: p99 TTFT 2,310 ms over 1,000 ms …, recovered after 45 s."."""
    broken = _broken(event)
    if not broken:
        return ""
    others = [event_words(other) for other in events if other.get("key") in (event.get("within") or [])]
    said = [f"with {' and '.join(others)} under way"] if others else []
    said += ["nor just before it"] if event.get("held_before") is False else []
    said += [shared] if (shared := _shared(event, events)) else []
    beside = f" ({'; '.join(said)})" if said else ""
    since = f"from {event_words(event)} at {number(event['at_s'])} s on{beside}"
    return f"Does NOT hold {since}: {broken}, {_recovery(event)}."


def _broken(event: Document) -> str:
    """The limits that an event's worst stretch breaks, if not by chance alone; "" of none.

    "p99 TTFT 2,310 ms over 1,000 ms in the worst 1,000 queries", and so where too few came before it to tell chance.
    """
    worst = event.get("worst") or {}
    unmet = _unmet(event)
    spans = [event[when].get("limits") or [] for when in ("during", "after") if event.get(when)]
    over_all = any(limit.get("met") is False for limits in spans for limit in limits)
    if not unmet or not (worst.get("beyond_chance") is not False or over_all):
        return ""
    doubt = " (too few came before it to say whether by chance)" if worst.get("beyond_chance") is None else ""
    return f"{_over(unmet)} in the worst {plural(worst['queries'], 'query')}{doubt}"


def _unmet(event: Document) -> list[Document]:
    """The limits that an event's worst stretch breaks, by chance or not."""
    return [limit for limit in (event.get("worst") or {}).get("limits") or [] if limit.get("met") is False]


def _over(unmet: list[Document]) -> str:
    return " and ".join(f"{_statistic(row)} {_value(row)} over {milliseconds(row['limit_ms'])}" for row in unmet)


def _shared(event: Document, events: list[Document]) -> str:
    """ "in part under stop of 1 replica at 75 s", where an event's worst stretch met the next one too; "" if not."""
    if not (event.get("worst") or {}).get("shared") or event.get("told_to_s") is None:
        return ""
    following = [event_words(other) for other in events if other["at_s"] == event.get("told_to_s")]
    return f"in part under {' and '.join(following) or 'the next event'} at {number(event['told_to_s'])} s"


def _seconds(seconds: float) -> str:
    return f"{number(round(seconds, 1))} s"


def _statistic(limit: Document) -> str:
    """What a limit is held against: "p99 TTFT"; of some queries alone "p99 TPOT, for ITL"."""
    name = limit_name(limit["key"])
    return name.replace("ITL", "TPOT, for ITL") if limit.get("judged_by") == "TPOT" else name


def _value(limit: Document) -> str:
    return "without end (too many failed)" if limit.get("value_ms") is None else milliseconds(limit["value_ms"])


def _recovery(event: Document) -> str:
    after_s = event.get("recovered_s")
    if after_s is not None:
        return f"recovered after {_seconds(after_s)}"
    upto_s = event.get("told_to_s")
    return "not recovered from" if upto_s is None else f"not recovered from by {number(upto_s)} s, the next event"


def _worst(event: Document, events: list[Document]) -> str:
    """When the worst was, and what is judged of it; "" where nothing broke, or nothing is judged."""
    broken = _broken(event)
    if not broken:
        return ""
    worst = event["worst"]
    when = f"who came from {_seconds(worst['from_s'])} to {_seconds(worst['to_s'])}"
    when += f", {shared}" if (shared := _shared(event, events)) else ""
    return f"{capitalised(event_words(event))} at {number(event['at_s'])} s: {broken} ({when}), {_recovery(event)}."


def _overlap(event: Document, events: list[Document]) -> str:
    """What cannot be told of an event since another one begins before it ends; "" where none does."""
    other = next((row for row in events if row.get("key") == event.get("overlapped_by")), None)
    if other is None:
        return ""
    said = f"{capitalised(event_words(event))} at {number(event['at_s'])} s: overlapped by {event_words(other)} at "
    if event.get("during") is None:
        return f"{said}{number(other['at_s'])} s, not told apart."
    return f"{said}{number(other['at_s'])} s, told up to then."


def _cells(row: Document, keys: list[str]) -> list[str]:
    good = ABSENT if row.get("good_share") is None else percent(row["good_share"])
    limits = {limit["key"]: limit for limit in row.get("limits") or []}
    if keys:
        latencies = [milliseconds(limits.get(key, {}).get("value_ms")) for key in keys]
    else:
        latencies = [milliseconds((row.get(key) or {}).get("p99")) for _, key in _LATENCIES]
    fails = "FAILS" if any(limit.get("met") is False for limit in limits.values()) else ""
    return [number(row["queries"]), number(row["failed"]), *latencies, good, fails]
