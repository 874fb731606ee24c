"""What whole days come to, in words: the bill, the fleets beside it, the response cache, who was turned away."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts
from planner.summary.words import milliseconds, number, percent, plural, usd, with_limit_names

Document = dict[str, Any]


def worth(document: Document) -> str:
    """What the autoscaler saves beside a static fleet, or costs, and how much of what a perfect one would save."""
    beside, static = document.get("beside_static"), (document.get("perfect") or {}).get("static")
    if not beside or not static or beside.get("more_share") is None:
        return ""
    totals, perfect = document["totals"], document["perfect"]
    ours, theirs, best = (_paid(fleet, beside["basis"]) for fleet in (totals, static, perfect))
    more, reached = beside["more_share"], beside.get("of_perfect_saving_share")
    fleet = f"a static fleet of {plural(static['replicas'], 'replica')}, enough for the highest rate"
    if round(abs(more), 3) == 0:
        told = f"The autoscaler costs as much as {fleet}: {ours}"
    else:
        told = f"The autoscaler costs {percent(abs(more))} {'MORE' if more > 0 else 'less'} than {fleet}: "
        told += f"{ours} instead of {theirs}"
    if reached is None:
        told += ". A perfect scaler would save nothing"
    elif reached > 0:
        told += f". That is {percent(reached)} of what a perfect scaler would save ({best})"
    else:
        told += f". A perfect scaler would pay {best}"
    missed = sum(row.get("slo_met") is False for row in document["days"])
    if missed and more <= 0:
        told += f"; but the limits fail in {plural(missed, 'hour')}, and the static fleet is sized to hold them"
    return f"{told}."


def few_words(few: int, judged: int) -> str:
    """After "the limits hold in …": how many of the judged hours had fewer answered queries than their limits need."""
    if not few:
        return ""
    return f"; {few} of {plural(judged, 'hour')} had fewer queries than a limit needs to be judged by"


def _paid(fleet: Document, basis: str) -> str:
    return usd(fleet["usd"]) if basis == "usd" else f"{number(fleet['gpu_hours'])} GPU-hours"


def altogether(document: Document) -> list[str]:
    """What all hours come to: service, size, bill, and the two fleets beside it."""
    totals, perfect = document.get("totals") or {}, document.get("perfect") or {}
    good, held = totals.get("goodput_share"), totals.get("slo_hours_share")
    missed = "" if good is None else f"; {percent(1 - good)} of the queries miss a limit themselves"
    bill = totals.get("usd")
    each = "" if totals.get("usd_per_query") is None else f", {usd(totals['usd_per_query'])} a query of the users"
    bought = (
        ""
        if not totals.get("bought_usd")
        else (f"; {usd(totals['bought_usd'])} of it by the query (retrieval, response cache), the same for every fleet")
    )
    paid = f"{number(totals.get('gpu_hours'))} GPU-hours: {number(totals.get('mean_paid_replicas'))} replicas paid for"
    served = f" on average, {number(totals.get('mean_replicas'))} of them serving"
    wanted = ""
    if perfect.get("peak_replicas") is not None:
        wanted = f"{number(perfect['mean_replicas'])} replicas on average, {perfect['peak_replicas']} at the peak"
        wanted += f", {number(perfect['gpu_hours'])} GPU-hours"
        wanted += "" if perfect.get("usd") is None else f", {usd(perfect['usd'])}"
    elif perfect.get("reason"):
        wanted = f"not told: {with_limit_names(perfect['reason'])}"
    static = perfect.get("static") or {}
    always = ""
    if static:
        always = f"{plural(static['replicas'], 'replica')} all the time, enough for the highest rate: "
        always += f"{number(static['gpu_hours'])} GPU-hours"
        always += "" if static.get("usd") is None else f", {usd(static['usd'])}"
    scalings = totals.get("scalings")
    return facts(
        [
            ("service", "" if held is None else f"the limits hold in {percent(held)} of the hours{missed}"),
            ("fleet", paid + served + (f"; {plural(scalings, 'change')} of size" if scalings else "")),
            ("bill", "no GPU price given" if bill is None else f"{usd(bill)}{each}{bought}"),
            ("cache", _cached(document)),
            ("rejected", rejected_words(totals)),
            ("perfect", wanted),
            ("static", always),
        ]
    )


def _cached(document: Document) -> str:
    """What the response cache answered, and what a query takes with its answers counted."""
    totals, rows = document.get("totals") or {}, document.get("days") or []
    if not totals.get("cached_share"):
        return ""
    hits = [row["cached_share"] for row in rows if row.get("cached_share") is not None]
    told = f"answers {percent(totals['cached_share'])} of the users' queries"
    if percent(min(hits)) != percent(max(hits)):
        told += f", {percent(min(hits))} to {percent(max(hits))} by the hour"
    mixed = [row["with_hits_ms"]["e2e"]["mean"] for row in rows if (row.get("with_hits_ms") or {}).get("e2e")]
    if mixed:
        low, high = milliseconds(min(mixed)), milliseconds(max(mixed))
        told += f"; with its answers counted the mean E2E is {low if low == high else f'{low} to {high}'}"
    return told


def rejected_words(totals: Document) -> str:
    """Queries that found no room, where there is a limit to it."""
    if totals.get("rejected") is None:
        return ""
    share = f" ({percent(totals['rejected'] / totals['queries'])})" if totals.get("queries") else ""
    return f"{plural(totals['rejected'], 'query')}{share} found no room (fleet.admission), and failed"
