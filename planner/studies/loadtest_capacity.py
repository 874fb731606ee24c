"""The most load that a real server carried within its service levels, found by load tests at several rates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from planner.deployment import SCHEMA_VERSION
from planner.deployment.recorded import INTERRUPTED
from planner.errors import InputError, ScenarioError
from planner.scenario import Scenario
from planner.sizing import capacity
from planner.sizing.most import most_rate
from planner.sizing.probes import Probe
from planner.studies.loadtest import LoadTest
from planner.summary.loadtest import broken_words
from planner.summary.loadtest_capacity import loadtest_capacity_text

STRIDE = 1.5
STOPPED = "stopped by the user"
MOST_STEPS = 24


@dataclass(frozen=True)
class MeasuredCapacity:
    """The answer of `loadtest --find-capacity`; `tests` holds every step's own, in the order in which they were run."""

    document: dict[str, Any] = field(repr=False)
    tests: tuple[LoadTest, ...] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return loadtest_capacity_text(self.document)


class _EnoughError(Exception):
    """No further step is made."""


@dataclass
class _Steps:
    """Every step so far, and why the search ended early."""

    done: list[tuple[float, LoadTest]] = field(default_factory=list)
    ended: str = ""


def measured_capacity(
    scenario: Scenario, test_at: Callable[[float, int], LoadTest | None], seed: int, tolerance: float
) -> MeasuredCapacity:
    """Steps of the rate from `traffic.peak_qps` on: geometric until the SLO breaks, then between, to `tolerance`.

    `test_at(rate, number)` makes one load test; None ends the search (the user stopped it). A run that was not valid
    ends it too: the load tester, not the server, gave way. Raises ScenarioError where there is nothing to search.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: capacity is the most load within service levels")
    if scenario.demand != "open":
        raise ScenarioError("traffic.arrivals", scenario.demand, "has no rate to step", "poisson")
    if scenario.traffic.peak_qps is None:
        raise ScenarioError("traffic.peak_qps", None, "is required: the rate to begin with")
    steps = _Steps()

    def at(rate: float) -> Probe:
        if len(steps.done) >= MOST_STEPS:
            steps.ended = f"after {MOST_STEPS} steps"
            raise _EnoughError
        test = test_at(rate, len(steps.done) + 1)
        if test is None:
            steps.ended = STOPPED
            raise _EnoughError
        steps.done.append((rate, test))
        if test.document["ended"] == INTERRUPTED:
            steps.ended = STOPPED
            raise _EnoughError
        if not test.document["valid"]:
            steps.ended = f"at {rate:.4g} queries/s by the load tester itself: {'; '.join(test.document['invalid'])}"
            raise _EnoughError
        if not test.document["requests"]:
            steps.ended = f"at {rate:.4g} queries/s: the server answered nothing"
            raise _EnoughError
        return Probe(rate, True, test.load, test.measured)

    with contextlib.suppress(_EnoughError):
        most_rate(at, scenario.traffic.peak_qps, STRIDE, tolerance)
    return MeasuredCapacity(_document(scenario, steps, seed), tuple(test for _, test in steps.done))


def _document(scenario: Scenario, steps: _Steps, seed: int) -> dict[str, Any]:
    held = [step for step in steps.done if step[1].document["valid"] and step[1].document["slo_met"]]
    best = max(held, key=lambda step: step[0], default=None)
    over = [
        step
        for step in steps.done
        if step[1].document["valid"] and not step[1].document["slo_met"] and (best is None or step[0] > best[0])
    ]
    broke = min(over, key=lambda step: step[0], default=None)
    limited_by = broken_words(broke[1].document) if broke else steps.ended or "nothing within the range searched"
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "vary": "rate",
        "max_rate_qps": best[0] if best else 0,
        "first_broken_qps": broke[0] if broke else None,
        "limited_by": limited_by,
        "ended": steps.ended,
        "probes": [_row(rate, test) for rate, test in sorted(steps.done, key=lambda step: step[0])],
        "at_max": best[1].document if best else None,
        "kv_cache_tokens": next((test.document["kv_cache_tokens"] for _, test in steps.done), None),
        "simulated": _simulated(scenario, seed),
    }


def _row(rate: float, test: LoadTest) -> dict[str, Any]:
    """A line of the probes table: measured, and what the simulator says of the same arrays."""
    simulated = test.document["simulated"]
    return {
        "rate_qps": rate,
        "met": bool(test.document["slo_met"]) and test.document["valid"],
        "valid": test.document["valid"],
        "saturated": test.document["saturated"],
        "full_length": True,
        **{check["key"]: check["value_ms"] for check in test.document["slo"]},
        "simulated": None
        if simulated is None
        else {
            "met": simulated["slo_met"],
            "saturated": simulated["saturated"],
            **{check["key"]: check["value_ms"] for check in simulated["slo"]},
        },
        "failed": test.document["failed"],
        "records": test.document["records"],
    }


def _simulated(scenario: Scenario, seed: int) -> dict[str, Any]:
    """What `capacity` answers to the same question, or why it cannot."""
    try:
        document = capacity(scenario, seed=seed).as_dict()
    except InputError as error:
        return {"max_rate_qps": None, "not_simulated": str(error)}
    return {key: document[key] for key in ("max_rate_qps", "band80", "limited_by", "kv_cache_tokens")}
