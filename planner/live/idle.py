"""Waiting until a server has nothing left to do."""

from __future__ import annotations

import time

from planner.errors import EndpointError
from planner.live.endpoint import Endpoint
from planner.live.metrics import scrape
from planner.vllm_metrics import RUNNING, WAITING

PAUSE_S = 0.5
UNKNOWN_S = 5.0  # for a server that does not tell


def wait_idle(endpoint: Endpoint, timeout_s: float) -> bool:
    """Return once nothing runs or waits, or after `timeout_s`; whether the server came to rest.

    A server without metrics is given a few seconds.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            totals = scrape(endpoint).totals
        except EndpointError:
            totals = {}
        if RUNNING not in totals:
            time.sleep(min(UNKNOWN_S, timeout_s))
            return False
        if totals[RUNNING] + totals.get(WAITING, 0.0) == 0:
            return True
        time.sleep(PAUSE_S)
    return False
