"""What replicas that stop, slow down or restart do to a fleet's service levels, in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import paragraph, table
from planner.summary.words import ABSENT, milliseconds, number, percent, plural

Document = dict[str, Any]
_NAMES = {"stop": "stop", "slow": "slow replicas", "rolling_restart": "rolling restart"}


def failure_lines(failures: Document) -> list[str]:
    """Each event with the service levels before, during and after it; nothing without failures."""
    if not failures:
        return []
    rows = [["", "", "queries", "failed", "p99 TTFT", "p99 TPOT", "p99 E2E", "good"]]
    for event in failures.get("events") or []:
        end = "the end" if event.get("until_s") is None else f"{number(event['until_s'])} s"
        name = f"{_NAMES.get(event['what'], event['what'])}, {number(event['at_s'])} s to {end}"
        for place, when in enumerate(("before", "during", "after")):
            row = event.get(when)
            if row is not None:
                rows.append([name if place == 0 else "", when, *_cells(row)])
    again = failures.get("retried") or 0
    said = f"{plural(again, 'request')} began again on another replica"
    said += f", {plural(failures.get('lost') or 0, 'query')} lost with a replica; work thrown away: "
    said += f"{number(failures.get('lost_tokens') or 0)} tokens."
    return [*table(rows, "<<>>>>>>"), *paragraph(said, "  ")]


def spare_line(proof: Document) -> str:
    """ "with 1 of 7 replicas stopped in the middle of the run …"; "" where nothing was proved."""
    if not proof:
        return ""
    before, after = proof.get("before") or {}, proof.get("after") or {}
    holds = "every limit still holds" if proof.get("slo_met_after") else "the limits do NOT hold"
    return (
        f"Proof of the spare: {number(proof['stopped'])} of {plural(proof['replicas'], 'replica')} stopped in the "
        f"middle of a run at the peak; afterwards {holds} (p99 TTFT {_p99(before, 'ttft_ms')} before, "
        f"{_p99(after, 'ttft_ms')} after, {plural(proof['retried'], 'request')} sent again)."
    )


def _cells(row: Document) -> list[str]:
    good = ABSENT if row.get("good_share") is None else percent(row["good_share"])
    latencies = [_p99(row, key) for key in ("ttft_ms", "tpot_ms", "e2e_ms")]
    return [number(row["queries"]), number(row["failed"]), *latencies, good]


def _p99(row: Document, key: str) -> str:
    return milliseconds((row.get(key) or {}).get("p99"))
