"""What a study found, put into the plan that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from planner.planning import Plan
from planner.provenance import Provenance, with_origins


def added(answer: Plan, name: str, found: Any, assumed: Iterable[Provenance]) -> Plan:
    """The same plan with `found` under `name`, and what the study assumes among the plan's origins."""
    document = answer.as_dict()
    origins = with_origins(document["provenance"], assumed)
    return replace(answer, document={**document, name: found, "provenance": origins})
