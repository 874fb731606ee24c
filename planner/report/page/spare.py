"""The proof of the spare replicas on the page: what stopped, each limit before and after, what they had in hand."""

from __future__ import annotations

from typing import Any

from planner.report.page.parts import Cell, Fact, Table, Tone, count, latency, text
from planner.summary.words import limit_name, milliseconds, number, plural

Document = dict[str, Any]
_TONES: dict[str, Tone] = {"holds": "good", "fails": "bad"}


def words(document: Document) -> tuple[str, ...]:
    """What was done, and the verdict; nothing without a proof."""
    proof = document.get("spare_proof")
    if not proof:
        return ()
    on = f", on seeds {', '.join(map(str, proof['seeds']))}" if len(proof.get("seeds") or []) > 1 else ""
    stopped = f"{number(proof['stopped'])} of {plural(proof['replicas'], 'replica')}"
    judged = (proof.get("after") or {}).get("queries")
    over = "" if judged is None else f" over the {plural(judged, 'query')} judged after it"
    return (f"In a run at the peak {stopped} stopped for good{on}. {_verdict(proof)}{over}.",)


def limits_table(document: Document) -> Table | None:
    """Each limit before and after the stop, the upper end and the verdict, and of those in hand; None without them.

    The verdict rests on the interval of what came after the stop.
    """
    proof = document.get("spare_proof") or {}
    spans = {when: _by_key(proof.get(when)) for when in ("before", "after", "in_hand")}
    rows = []
    for key, after in spans["after"].items():
        verdict = after.get("verdict") or "not judged"
        rows.append(
            (
                text(limit_name(key)),
                Cell(f"≤ {milliseconds(after['limit_ms'])}", after["limit_ms"]),
                _figure(spans["before"].get(key)),
                _figure(after),
                latency(after.get("upper_ms")),
                Cell({"fails": "FAILS"}.get(verdict, verdict), None, _TONES.get(verdict, "")),
                _figure(spans["in_hand"].get(key)),
            )
        )
    heads = ("limit", "at most", "before", "after", "upper end", "", "in hand")
    said = "before the stop, after it, and of the queries that were in hand at it"
    return Table(heads, tuple(rows), "<>>>><>", "list", said) if rows else None


def facts(document: Document) -> tuple[Fact, ...]:
    """What became of the queries that the stopped replicas had in hand, and how many requests began again."""
    proof, made = document.get("spare_proof") or {}, []
    if proof.get("retried") is not None:
        made.append(Fact("began again elsewhere", count(proof["retried"]), "requests"))
    hit = proof.get("in_hand") or {}
    if hit.get("queries") is not None:
        parts = [] if hit.get("failed") is None else [f"{number(hit['failed'])} of them lost"]
        ttft = hit.get("ttft_ms") or {}
        said = ", ".join(f"{name} {milliseconds(ttft[name])}" for name in ("p50", "p99") if ttft.get(name) is not None)
        parts += [f"TTFT of the others: {said}"] if said else []
        made.append(Fact("in hand at the stop", count(hit["queries"]), f"queries; {'; '.join(parts)}".rstrip("; ")))
    return tuple(made)


def _verdict(proof: Document) -> str:
    match proof["verdict"]:
        case "holds":
            return "Every limit still holds"
        case "undecided":
            return "Whether the limits hold is undecided"
    return f"The limits do NOT hold{', and the backlog grows,' if proof.get('saturated_after') else ''}"


def _by_key(span: Document | None) -> dict[str, Document]:
    return {row["key"]: row for row in (span or {}).get("limits") or []}


def _figure(row: Document | None) -> Cell:
    """A limit's figure; without end where it is missed and has none, since too many queries failed."""
    if row is None:
        return text(None)
    if row.get("value_ms") is None and row.get("met") is False:
        return text("without end")
    return latency(row.get("value_ms"))
