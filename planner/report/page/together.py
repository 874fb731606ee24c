"""What must stand together in a plan's document: a figure without what it rests on, or denied by its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.units import HOURS_PER_DAY

Document = Mapping[str, Any]


def contradictions(document: Document) -> Iterator[tuple[str, str]]:
    """Places of a feasible plan that lack what their neighbours need, or deny it, and what is wrong there."""
    cost, revenue, margin = (document.get(key) for key in ("cost", "revenue", "margin"))
    for name, held, keys in (
        ("cost", cost, ("usd_per_hour", "usd_per_query")),
        ("revenue", revenue, ("usd_per_query",)),
        ("margin", margin, ("usd_per_query",)),
    ):
        yield from ((f"{name}.{key}", "is missing") for key in keys if held is not None and held.get(key) is None)
    both = cost is not None and revenue is not None
    if both != (margin is not None):
        yield "margin", "is missing: there is a cost and a revenue" if both else "stands without a cost and a revenue"
    if cost is None and document.get("cost_lines"):
        yield "cost_lines", "stand without a cost"
    values = document.get("break_even") or {}
    for key, needs in (("rpm_usd", "cost"), ("gpu_hour_usd", "revenue"), ("qps", "margin")):
        if values.get(key) is not None and document.get(needs) is None:
            yield f"break_even.{key}", f"stands without a {needs}"
    fleet = document["fleet"]
    if fleet["spare_replicas"] >= fleet["replicas"]:
        yield "fleet.spare_replicas", f"must be less than fleet.replicas (={fleet['replicas']})"
    chosen = sum(bool(row.get("chosen")) for row in document["alternatives"])
    if chosen != 1:
        yield "alternatives", f"{chosen} of them are chosen, must be one"
    hours = document.get("day") or []
    if hours and [hour.get("hour") for hour in hours] != list(range(HOURS_PER_DAY)):
        yield "day", f"must have the hours 0 to {HOURS_PER_DAY - 1}, has {len(hours)}"
    yield from (("day", f"hour {row['hour']} lacks its queries") for row in hours if row.get("queries") is None)
    for index, row in enumerate(document["at_peak"].get("slo") or []):
        yield from _verdict(row, f"at_peak.slo[{index}]", feasible=True)
    for index, row in enumerate((document.get("one_fewer") or {}).get("slo") or []):
        yield from _verdict(row, f"one_fewer.slo[{index}]", feasible=False)
    yield from _proof(document.get("spare_proof") or {})


def _verdict(row: Document, key: str, feasible: bool) -> Iterator[tuple[str, str]]:
    """A verdict that its own figures contradict. An upper end that is not finite is not there: then only the run's
    own figure above its limit tells.
    """
    met, limit_ms, upper_ms, value_ms = (row.get(name) for name in ("met", "limit_ms", "upper_ms", "value_ms"))
    judged_ms = value_ms if upper_ms is None else upper_ms
    if met is False and feasible:
        yield f"{key}.met", "is false in a plan that is feasible"
    elif met and judged_ms is not None and limit_ms is not None and judged_ms > limit_ms:
        yield f"{key}.met", f"is true, but {judged_ms:g} ms are above the limit of {limit_ms:g} ms"
    elif met is False and upper_ms is not None and limit_ms is not None and upper_ms <= limit_ms:
        yield f"{key}.met", f"is false, but {upper_ms:g} ms are within the limit of {limit_ms:g} ms"


def _proof(proof: Document) -> Iterator[tuple[str, str]]:
    """A proof of the spare whose verdict its own limits or flags contradict."""
    verdict, held = proof.get("verdict"), proof.get("slo_met_after")
    if held is not None and held != (verdict == "holds"):
        yield "spare_proof.slo_met_after", f"is {str(held).lower()}, but the verdict is {verdict}"
    if verdict != "holds":
        return
    if proof.get("saturated_after"):
        yield "spare_proof.verdict", "is holds, but the backlog grows"
    for index, row in enumerate((proof.get("after") or {}).get("limits") or []):
        if row.get("met") is False or row.get("verdict", verdict) != verdict:
            yield "spare_proof.verdict", f"is holds, but after.limits[{index}] does not"
