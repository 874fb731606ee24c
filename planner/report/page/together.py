"""What must stand together in a plan's document: a figure without what it rests on, or denied by its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.units import HOURS_PER_DAY

Document = Mapping[str, Any]
_WORST_FIRST = ("fails", "undecided", "holds")
_SAID = {"fails": "does not", "undecided": "is undecided", "holds": "holds"}


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
    yield from _proof(document.get("spare_proof") or {}, document["at_peak"].get("slo") or [])


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


def _proof(proof: Document, slo: Sequence[Document]) -> Iterator[tuple[str, str]]:
    """A proof of the spare whose verdict its own limits or flags contradict, or that judges other limits."""
    verdict, held = proof.get("verdict"), proof.get("slo_met_after")
    if held is not None and (verdict == "undecided" or held != (verdict == "holds")):
        yield "spare_proof.slo_met_after", f"is {str(held).lower()}, but the verdict is {verdict}"
    elif proof and held is None and verdict != "undecided":
        yield "spare_proof.slo_met_after", f"is null, but the verdict is {verdict}"
    limits = (proof.get("after") or {}).get("limits")
    if limits is None:
        yield from _of_all(verdict, [None], proof.get("saturated_after"))
        return
    yield from _same_limits(limits, slo)
    denied = [
        "fails" if row.get("met") is False and row.get("verdict") == "holds" else row.get("verdict") for row in limits
    ]
    yield from _of_all(verdict, denied, proof.get("saturated_after"))
    for index, row in enumerate(limits):
        yield from _verdict(row, f"spare_proof.after.limits[{index}]", feasible=False)
        told, of_figures = row.get("verdict"), _verdicts(row)
        if told is not None and told not in of_figures:
            yield f"spare_proof.after.limits[{index}].verdict", f"is {told}, but its figures say {of_figures[0]}"


def _same_limits(limits: Sequence[Document], slo: Sequence[Document]) -> Iterator[tuple[str, str]]:
    """Limits of a proof that are not those of the peak, each once and in their order."""
    keys, asked = [row["key"] for row in limits], [row["key"] for row in slo]
    if slo and keys != asked:
        yield "spare_proof.after.limits", f"are {', '.join(keys) or 'none'}, but at_peak.slo has {', '.join(asked)}"
        return
    for index, (row, peak) in enumerate(zip(limits, slo, strict=False)):
        if peak.get("limit_ms") is not None and row["limit_ms"] != peak["limit_ms"]:
            rule = f"is {row['limit_ms']:g}, but at_peak.slo[{index}] has {peak['limit_ms']:g}"
            yield f"spare_proof.after.limits[{index}].limit_ms", rule


def _verdicts(row: Document) -> tuple[str, ...]:
    """What the figures of a limit after the stop allow as its verdict, by the rule of `sizing.spare.verdict_of`.

    A figure that is infinite is not there, so of an upper end that is not there `judged_by` tells whether it is.
    """
    met, value_ms, upper_ms, limit_ms = (row.get(name) for name in ("met", "value_ms", "upper_ms", "limit_ms"))
    if met is None:
        return _WORST_FIRST
    if met or value_ms is None:
        return ("holds",) if met else ("fails",)
    if upper_ms is None:
        known = {"interval": ("undecided",), "own statistic": ("fails",)}
        return known.get(row.get("judged_by") or "", ("fails", "undecided"))
    return ("fails",) if limit_ms is not None and 2.0 * value_ms - upper_ms > limit_ms else ("undecided",)


def _of_all(verdict: str | None, rows: Sequence[str | None], growing: bool | None) -> Iterator[tuple[str, str]]:
    """A verdict that is not the worst of its limits'; where one is not told it may be worse than the others."""
    if growing and verdict != "fails":
        yield "spare_proof.verdict", f"is {verdict}, but the backlog grows"
        return
    worst = next((name for name in _WORST_FIRST if name in rows), "holds")
    if growing or verdict == worst or verdict not in _WORST_FIRST:
        return
    better = _WORST_FIRST.index(verdict) > _WORST_FIRST.index(worst)
    if better:
        yield "spare_proof.verdict", f"is {verdict}, but after.limits[{rows.index(worst)}] {_SAID[worst]}"
    elif None not in rows and growing is not None:
        yield "spare_proof.verdict", f"is {verdict}, but the worst of after.limits {_SAID[worst]}"
