"""A load test that was stopped before anything of it could be judged, in words."""

from __future__ import annotations

from typing import Any

from planner.summary.layout import facts, paragraph, section
from planner.summary.loadtest import failure_lines, server_lines
from planner.summary.service import warning_lines
from planner.summary.words import clean, milliseconds, number, plural

Document = dict[str, Any]


def stopped_text(document: Document) -> str:
    """That nothing is judged, and what was sent until then."""
    document = clean(document)
    scenario = document.get("scenario") or {}
    lines = [*paragraph(scenario["name"]), ""] if scenario.get("name") else []
    lines += paragraph(
        f"{document.get('host', 'the server')}: INTERRUPTED before anything could be judged: "
        f"{document.get('not_judged', 'no reason known')}."
    )
    lines += warning_lines(document)
    lines += section("The run until then, warm-up included", _run_lines(document))
    lines += section("Failures", failure_lines(document))
    lines += section("The server's own figures, warm-up included", server_lines(document))
    return "\n".join([*lines, "", f"records: {document.get('records', 'none')}"])  # not wrapped: a path is copied


def _run_lines(document: Document) -> list[str]:
    lag = document.get("send_lag_ms") or {}
    return facts(
        [
            ("sent", plural(document.get("sent"), "request")),
            ("ended", f"{number(document.get('ended_requests'))}, {number(document.get('failed_requests'))} failed"),
            ("cut off", f"{number(document.get('cut_off'))} when the run was stopped"),
            ("not sent", plural(document["unsent"], "request") if document.get("unsent") else ""),
            ("warm-up", plural(document.get("warmup_queries"), "query")),
            ("send lag", f"p50 {milliseconds(lag.get('p50'))}, p99 {milliseconds(lag.get('p99'))}" if lag else ""),
        ]
    )
