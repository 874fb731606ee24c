"""Waiting until a server has nothing left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from planner.errors import EndpointError
from planner.live.endpoint import Endpoint
from planner.live.metrics import scrape
from planner.vllm_metrics import RUNNING, WAITING

PAUSE_S = 0.5
UNKNOWN_S = 5.0  # for a server that does not tell


def wait_idle(endpoint: Endpoint, timeout_s: float, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Return once nothing runs or waits, after `timeout_s`, or once `stopped`; whether the server came to rest.

    A server without metrics is given a few seconds.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not stopped():
        totals = _totals(endpoint)
        if RUNNING not in totals:
            _rest(min(until, time.monotonic() + UNKNOWN_S), stopped)
            return False
        if totals[RUNNING] + totals.get(WAITING, 0.0) == 0:
            return True
        time.sleep(PAUSE_S)
    return False


def _rest(until: float, stopped: Callable[[], bool]) -> None:
    while (left_s := until - time.monotonic()) > 0 and not stopped():
        time.sleep(min(PAUSE_S, left_s))


def _totals(endpoint: Endpoint) -> Mapping[str, float]:
    try:
        return scrape(endpoint).totals
    except EndpointError:
        return {}
