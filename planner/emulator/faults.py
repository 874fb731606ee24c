"""Faults on demand, so that clients can be tested against a server that misbehaves in known ways.

A fault is written KIND[;after=TOKENS][;retry-after=SECONDS]: in the header `x-planner-fault` or the JSON field
`planner_fault` of one request, or, with a share of all requests, as KIND:SHARE[;…] on the command line.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from planner.errors import InputError, nearest_names

HEADER, FIELD = "x-planner-fault", "planner_fault"
SLOW_START = "slow-start"
KINDS = {
    "429": "refused before any work, with Retry-After where given",
    "500": "refused before any work",
    "drop": "the connection is closed in the middle of the answer, at the end of an event",
    "reset": "the connection is reset (RST) in the middle of the answer",
    "half-event": "half an event is sent, then the connection is closed",
    "stall": "nothing more is sent, and the connection stays open",
    "invalid-json": "one event holds broken JSON; the answer then goes on",
    "wrong-usage": "the token counts of `usage` are one too many",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer, `after` so many of its tokens were sent."""

    kind: str
    after: int = 1
    retry_after_s: int | None = None


@dataclass(frozen=True)
class FaultShare:
    """A fault and the share of requests that meet it."""

    fault: Fault
    share: float


class FaultPlan:
    """Which requests fail: drawn one by one, in the order in which they come."""

    def __init__(self, shares: Iterable[FaultShare], rng: random.Random) -> None:
        self._shares, self._rng = tuple(shares), rng

    def draw(self) -> Fault | None:
        """The fault of the next request, if it is to have one."""
        if not self._shares:
            return None
        drawn = self._rng.random()
        for row in self._shares:
            if drawn < row.share:
                return row.fault
            drawn -= row.share
        return None


def parse_fault(text: str) -> Fault:
    """A fault as a request names it. Raises InputError."""
    kind, *parameters = (part.strip() for part in text.split(";"))
    if kind not in KINDS:
        raise InputError("fault", text, f"must be one of {', '.join(KINDS)}", nearest_names(kind, KINDS))
    given: dict[str, int] = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key not in ("after", "retry-after") or not value.isdecimal():
            raise InputError(
                "fault", text, "takes ;after=TOKENS and ;retry-after=SECONDS, whole numbers", f"{kind};after=1"
            )
        given[key] = int(value)
    return Fault(kind, given.get("after", 1), given.get("retry-after"))


def parse_shares(options: Iterable[str]) -> tuple[tuple[FaultShare, ...], float]:
    """The shares of all `--fault` options, and the seconds of a slow start (0 without one). Raises InputError."""
    shares: list[FaultShare] = []
    slow_start_s = 0.0
    for option in options:
        head, *parameters = option.split(";")
        kind, _, number = head.partition(":")
        value = _number(number)
        if kind == SLOW_START:
            if value is None or parameters:
                raise InputError("--fault", option, "must be slow-start:SECONDS", "slow-start:20")
            slow_start_s = value
            continue
        fault = parse_fault(";".join((kind, *parameters)))
        if value is None or value > 1:
            raise InputError("--fault", option, "needs a share of requests between 0 and 1", f"{kind}:0.05")
        shares.append(FaultShare(fault, value))
    if sum(row.share for row in shares) > 1:
        raise InputError("--fault", ", ".join(options), "the shares must not add up to more than 1")
    return tuple(shares), slow_start_s


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
