"""One alert rule, as Prometheus writes it."""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]
RUNBOOK = "docs/dashboards.md"


def alert(name: str, expr: str, pending: str, severity: str, summary: str, description: str, **labels: str) -> Rule:
    """A rule that fires after `pending`; its runbook is the part of docs/dashboards.md that bears its name."""
    return {
        "alert": name,
        "expr": expr,
        "for": pending,
        "labels": {"severity": severity, **labels},
        "annotations": {
            "summary": summary,
            "description": description,
            # Not `runbook_url`, which tools make a link of: the page is in the project, at no address of its own.
            "runbook": f'see {RUNBOOK}, "{name}"',
        },
    }
