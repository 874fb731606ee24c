"""What was run, as plain dicts under the JSON names that all verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from planner.deployment.bands import Bands
from planner.deployment.calibrated import beyond
from planner.deployment.runs import Deployment
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome
from planner.simulation.quantiles import quantile
from planner.specs import EngineOptions
from planner.units import GIB

SCHEMA_VERSION = 1


def fleet_document(deployment: Deployment, replicas: int, spare: int = 0) -> dict[str, Any]:
    """`fleet` of a plan: everything that starts it."""
    candidate = deployment.candidate
    return {
        "hardware": candidate.gpu.name,
        "gpus": replicas * deployment.gpus_per_replica,
        "replicas": replicas,
        "spare_replicas": spare,
        "gpus_per_replica": deployment.gpus_per_replica,
        "routing": candidate.routing,
        "engine": engine_document(candidate.options),
    }


def engine_document(options: EngineOptions) -> dict[str, Any]:
    """vLLM's arguments under vLLM's names; what is not set is left out."""
    return {key: value for key, value in vars(options).items() if value is not None}


def run_document(deployment: Deployment, load: Load, outcome: Outcome, around: Bands) -> dict[str, Any]:
    """Statistics of one run with their bands and what they rest on: cache size, memory, clipping, notes."""
    terms = {name: size / GIB for name, size in deployment.kv.terms.items()}
    return {
        **outcome.figures,
        "band80": around.band80,
        "confidence": {
            "kernel_path": _kernel_path(deployment),
            "worlds": around.worlds,
            "holds_share": around.holds_share,
            "saturated_share": around.saturated_share,
        },
        "kv_cache_tokens": deployment.kv.logged_tokens,
        "memory": {f"{name}_gib": round(size, 3) for name, size in terms.items()},
        "clipped_share": load.clipped_share,
        "cached_share": load.cached_share,
        "notes": [*load.notes, *_beyond(deployment, load, outcome)],
    }


def warnings_document(deployments: Iterable[Deployment]) -> list[str]:
    """`warnings` of an answer: what must be known before its figures are believed. No warning stands twice."""
    return list(dict.fromkeys(warning for deployment in deployments for warning in deployment.warnings))


def _beyond(deployment: Deployment, load: Load, outcome: Outcome) -> list[str]:
    """Where the run leaves what its calibration recorded."""
    if deployment.calibrated is None:
        return []
    longest = int(quantile(load.prompt_tokens.astype(np.float64), 99.0))
    return beyond(deployment.calibrated, longest, outcome.figures["ledger"]["running_mean"])


def _kernel_path(deployment: Deployment) -> str:
    if deployment.calibrated is not None:
        return "calibrated"
    return "known" if deployment.known else "assumed"
