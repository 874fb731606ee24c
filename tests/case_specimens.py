"""A case of one's own, in memory, and changes of it."""

from __future__ import annotations

import copy
from typing import Any

from planner.economics.cases import Case, CaseAnswer, shipped, work_out
from planner.economics.models import MODELS

CASE: dict[str, Any] = {
    "version": 1,
    "name": "mine",
    "title": "A server of mine",
    "source": {"document": "my invoice", "grade": "own"},
    "days_per_month": 30,
    "steps": [
        {
            "id": "server",
            "model": "server_basis",
            "inputs": {
                "usd_per_server_hour": "7200 USD/server/month",
                "batch": "100 requests/server",
                "seconds": "10 s",
                "input_tokens": "300 tokens/request",
                "output_tokens": "100 tokens/request",
                "gpus": "8 gpus/server",
            },
        },
        {
            "id": "fleet",
            "model": "fleet_of_servers",
            "inputs": {
                "queries_per_s": "25 queries/s",
                "requests_per_s": "$server.requests_per_s",
                "usd_per_server_hour": "7200 USD/server/month",
                "utilisation": 0.5,
            },
        },
    ],
    "answer": "{fleet.servers} at {fleet.usd_per_query}, half idle: {fleet.servers}",
}


def case(**changes: Any) -> Case:
    return Case.from_dict(copy.deepcopy(CASE) | changes)


def answer(**changes: Any) -> CaseAnswer:
    return work_out(case(**changes), MODELS, shipped)


def with_inputs(index: int, **inputs: Any) -> list[dict[str, Any]]:
    steps = copy.deepcopy(CASE["steps"])
    steps[index]["inputs"] |= inputs
    steps[index]["inputs"] = {name: value for name, value in steps[index]["inputs"].items() if value is not None}
    return steps


def step(name: str, model: str, **inputs: Any) -> dict[str, Any]:
    return {"id": name, "model": model, "inputs": inputs}
