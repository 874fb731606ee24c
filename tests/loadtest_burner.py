"""Not a test: a locustfile like ours in a process whose event loop is kept from its work, 200 ms in each second."""

from __future__ import annotations

import time
from typing import Any

import gevent
from locust import events

from loadtests.locustfile import Schedule, ScheduledLoad

__all__ = ["Schedule", "ScheduledLoad"]
BURNT_S, EVERY_S = 0.2, 1.0


def burn() -> None:
    """Hold the event loop, as a starved process does."""
    while True:
        until = time.perf_counter() + BURNT_S
        while time.perf_counter() < until:
            pass
        gevent.sleep(EVERY_S - BURNT_S)


@events.init.add_listener
def begin(**_: Any) -> None:
    """From the process's start to its end."""
    gevent.spawn(burn)
