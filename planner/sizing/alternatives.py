"""What a search tried, as rows: the candidates of a plan's `alternatives`, and every point that was simulated."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from planner.sizing.search import Search, Sized


def alternatives(found: Search) -> list[dict[str, Any]]:
    """Every candidate: those that hold, by price, then the rejected ones with the reason."""
    rows = [_alternative(sized, sized is found.chosen) for sized in found.sized]
    rows.sort(key=lambda row: (not row["chosen"], not row["feasible"], row["rank"]))
    for row in rows:
        del row["rank"]
    return rows + [_row(rejected.choice, rejected.reason) for rejected in found.rejected]


def _row(choice: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {
        "model": choice.get("model"),
        "hardware": choice.get("hardware"),
        "routing": choice.get("fleet.routing"),
        "engine": {key.removeprefix("engine."): value for key, value in choice.items() if key.startswith("engine.")},
        "feasible": False,
        "replicas": None,
        "gpus": None,
        "usd_per_hour": None,
        "usd_per_query": None,
        "utilisation": None,
        "reason": reason,
        "verified": True,
        "chosen": False,
    }


def _alternative(sized: Sized, chosen: bool) -> dict[str, Any]:
    candidate = sized.option.deployment.candidate
    row = _row(sized.option.choice, sized.size.reason) | {
        "model": candidate.model.name,
        "hardware": candidate.gpu.name,
        "routing": candidate.routing,
        "engine": {
            "quantization": candidate.options.quantization,
            "tensor_parallel_size": candidate.options.tensor_parallel_size,
        }
        | _row(sized.option.choice, None)["engine"],
        "verified": sized.size.verified,
        "chosen": chosen,
        "rank": (math.inf, 0),
    }
    if sized.size.serving is None:
        return row
    probe = sized.size.probe(sized.size.serving)
    cost = sized.cost
    return row | {
        "feasible": True,
        "replicas": sized.replicas,
        "gpus": sized.gpus,
        "usd_per_hour": None if cost is None else cost.usd_per_hour,
        "usd_per_query": None if cost is None else cost.usd_per_query,
        "utilisation": probe.outcome.figures["utilisation"],
        "rank": sized.rank(),
    }


def probe_table(found: Search) -> pd.DataFrame:
    """Every simulated point of every candidate, with the candidate's choices."""
    rows = []
    for sized in found.sized:
        candidate = sized.option.deployment.candidate
        named = {"model": candidate.model.name, "hardware": candidate.gpu.name} | sized.option.choice
        rows += [named | probe.row("serving") for probe in sized.size.probes]
    return pd.DataFrame(rows)
