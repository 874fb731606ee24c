"""What must be known before a load test's figures are believed, beside its own validity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from planner.catalogue.models import model as find_model
from planner.deployment import Deployment
from planner.errors import InputError
from planner.live import release
from planner.readers.recordings import Recording

SLACK_SHARE, SLACK_REQUESTS = 0.01, 2  # of the two counts: a scrape does not fall on a run's first and last instant
SAME_CACHE = 0.01  # relative: a number of blocks is rounded


def traffic_warning(recording: Recording, facts: Mapping[str, Any]) -> str:
    """Whether the server's own counters finished clearly more requests than were sent, or fewer than it answered.

    What the server can have finished of this run lies between the requests that were answered and those that were
    sent, warm-up included. Empty where it does, or where the server told no counter.
    """
    finished = facts.get("requests_finished")
    if finished is None or facts.get("restarted"):
        return ""
    sent, answered = int(np.isfinite(recording.sent_s).sum()), int(recording.answered.sum())
    slack = max(SLACK_REQUESTS, SLACK_SHARE * sent)
    if finished > sent + slack:
        return (
            f"the server served others too: its counters finished {finished} requests meanwhile, this run sent {sent}; "
            "the measured figures are of a busier server than the simulated ones"
        )
    if finished < answered - slack:
        return (
            f"the server's counters finished {finished} requests meanwhile, but {answered} of this run were answered: "
            "its /metrics is not of all that answers at this address (one replica of several?)"
        )
    return ""


def server_warnings(deployment: Deployment, facts: Mapping[str, Any]) -> list[str]:
    """In what the server, by its own word, is not what the calibration in use was recorded on."""
    if deployment.calibrated is None:
        return []
    calibration = deployment.calibrated.calibration
    tokens = calibration.kv_cache_tokens if deployment.calibrated.same_memory else None
    told = release(facts.get("version"))
    rows: list[tuple[str, object, object]] = [
        ("vLLM", ".".join(told.split(".")[:2]) if told else None, calibration.deployment.vllm_version),
        ("model", _model_name(facts.get("model_root")), calibration.deployment.model),
    ]
    says = facts.get("kv_cache_tokens")
    if tokens and says is not None and abs(says - tokens) > SAME_CACHE * tokens:
        rows.append(("KV tokens", says, tokens))
    return [
        f"calibration {deployment.candidate.calibration_file} is of another server: it is of {what} {calibrated}, this "
        f"one says {here}"
        for what, here, calibrated in rows
        if here is not None and here != calibrated
    ]


def _model_name(repository: str | None) -> str | None:
    """The catalogue's name of what a server serves; None for a name that it does not hold (a checkpoint's own, say)."""
    try:
        return find_model(repository).name if repository else None
    except InputError:
        return None
