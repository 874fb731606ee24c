"""The most load that a real server carried within its service levels, found by load tests at several rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from planner.deployment import SCHEMA_VERSION
from planner.deployment.recorded import INTERRUPTED
from planner.errors import InputError, PlannerError, ScenarioError
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.sizing import capacity
from planner.sizing.most import most_rate
from planner.sizing.probes import Probe
from planner.studies.loadtest import LoadTest
from planner.summary.loadtest import broken_words
from planner.summary.loadtest_capacity import STOPPED, loadtest_capacity_text

STRIDE = 1.5
STOPPED_SIMULATION: dict[str, Any] = {"max_rate_qps": None, "not_simulated": STOPPED}
MOST_STEPS = 24
LEAST_QUERIES = 20  # to be expected of a step: fewer tell nothing of a rate
SHORT_STEP_S = 30.0  # a queue that grows slowly breaks no limit within less
LONGEST_STEP_S = 3600.0  # of a step whose length is a number of queries


@dataclass(frozen=True)
class MeasuredCapacity:
    """The answer of `loadtest --find-capacity`; `tests` holds every step's own, in the order in which they were run.

    `error` is what ended the search where a step could not be made at all.
    """

    document: dict[str, Any] = field(repr=False)
    tests: tuple[LoadTest, ...] = field(repr=False)
    error: PlannerError | None = None

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
    error: PlannerError | None = None


def lowest_rate(scenario: Scenario, requests: int | None, duration_s: float) -> float:
    """The lowest rate in queries/s that a step can test, a length being a number of queries or a time."""
    reach_model = 1.0 - response_hit_rate(scenario)
    least_qps = LEAST_QUERIES / duration_s if requests is None else requests / LONGEST_STEP_S
    return least_qps / reach_model


def measured_capacity(
    scenario: Scenario,
    test_at: Callable[[float, int], LoadTest | None],
    seed: int,
    tolerance: float,
    lowest_qps: float,
) -> MeasuredCapacity:
    """Steps of the rate from `traffic.peak_qps` on: geometric until the SLO breaks, then between, to `tolerance`.

    `test_at(rate, number)` makes one load test; None ends the search (the user stopped it). A run that was not valid
    ends it too: the load tester, not the server, gave way. So does a step that could not be made; what was measured
    before it stays. The search goes no lower than `lowest_qps`, or than where it begins. Raises ScenarioError where
    there is nothing to search, and what the first step raises.
    """
    if not scenario.slo:
        raise ScenarioError("slo", None, "is required: capacity is the most load within service levels")
    if scenario.demand != "open":
        raise ScenarioError("traffic.arrivals", scenario.demand, "has no rate to step", "poisson")
    if scenario.traffic.peak_qps is None:
        raise ScenarioError("traffic.peak_qps", None, "is required: the rate to begin with")
    start = scenario.traffic.peak_qps
    lowest_qps = min(lowest_qps, start)
    steps = _Steps()

    def at(rate: float) -> Probe:
        if rate < lowest_qps:
            if any(tried <= lowest_qps for tried, _ in steps.done):
                steps.ended = f"even {lowest_qps:.4g} queries/s, the lowest rate that can be tested, did not hold"
                raise _EnoughError
            rate = lowest_qps
        if len(steps.done) >= MOST_STEPS:
            steps.ended = f"after {MOST_STEPS} steps"
            raise _EnoughError
        test = _step(steps, test_at, rate)
        return Probe(rate, True, test.load, test.measured)

    try:
        most_rate(at, start, STRIDE, tolerance)
    except _EnoughError:
        pass
    except KeyboardInterrupt:  # what was measured is kept
        steps.ended = STOPPED
    return MeasuredCapacity(_document(scenario, steps, seed), tuple(test for _, test in steps.done), steps.error)


def _step(steps: _Steps, test_at: Callable[[float, int], LoadTest | None], rate: float) -> LoadTest:
    """One more step, noted. Raises _EnoughError where no other may follow it."""
    try:
        test = test_at(rate, len(steps.done) + 1)
    except PlannerError as error:
        if not steps.done:
            raise
        steps.ended, steps.error = f"at {rate:.4g} queries/s: {error}", error
        raise _EnoughError from error
    if test is None:
        steps.ended = STOPPED
        raise _EnoughError
    steps.done.append((rate, test))
    if test.document["ended"] == INTERRUPTED:
        steps.ended = STOPPED
    elif "gone" in test.document["server"]:
        steps.ended = f"at {rate:.4g} queries/s: the server is gone ({test.document['server']['gone']})"
    elif test.endpoint_failed:
        steps.ended = f"at {rate:.4g} queries/s: the server answered nothing"
    elif not test.usable:
        steps.ended = f"at {rate:.4g} queries/s by the load tester itself: {'; '.join(test.document['invalid'])}"
    else:
        return test
    raise _EnoughError


def _document(scenario: Scenario, steps: _Steps, seed: int) -> dict[str, Any]:
    held = [step for step in steps.done if step[1].document["valid"] and step[1].document["slo_met"]]
    best = max(held, key=lambda step: step[0], default=None)
    over = [
        step
        for step in steps.done
        if step[1].document["valid"] and not step[1].document["slo_met"] and (best is None or step[0] > best[0])
    ]
    judged = any(test.document["valid"] for _, test in steps.done)
    broke = min(over, key=lambda step: step[0], default=None)
    limited_by = broken_words(broke[1].document) if broke else steps.ended or "nothing within the range searched"
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "vary": "rate",
        "warnings": [*_short_steps(steps), *_warnings(steps)],
        "max_rate_qps": best[0] if best else 0 if judged else None,
        "first_broken_qps": broke[0] if broke else None,
        "limited_by": limited_by,
        "ended": steps.ended,
        "probes": [_row(rate, test) for rate, test in sorted(steps.done, key=lambda step: step[0])],
        "at_max": best[1].document if best else None,
        "kv_cache_tokens": next((test.document["kv_cache_tokens"] for _, test in steps.done), None),
        "simulated": {
            **(_simulated(scenario, seed) if judged or steps.ended != STOPPED else STOPPED_SIMULATION),
            **_simulated_steps(steps),
        },
    }


def _simulated_steps(steps: _Steps) -> dict[str, Any]:
    """The search's own question put to the simulations of the same arrays: the highest step that held, what did not.

    None where no step was simulated, or none below the lowest that broke; 0 where none held.
    """
    told = [
        (rate, bool(test.document["simulated"]["slo_met"]))
        for rate, test in steps.done
        if test.document["valid"] and test.document["simulated"] is not None
    ]
    most = max((rate for rate, met in told if met), default=0.0 if told else None)
    over = [rate for rate, met in told if not met and (most is None or rate > most)]
    return {"steps_max_rate_qps": most, "steps_first_broken_qps": min(over, default=None)}


def _short_steps(steps: _Steps) -> list[str]:
    """That the steps were too short to be believed, where any that was judged was."""
    lengths_s = [_counted_s(rate, test) for rate, test in steps.done if test.document["valid"]]
    if not lengths_s or min(lengths_s) >= SHORT_STEP_S:
        return []
    return [
        f"steps that count less than {SHORT_STEP_S:g} s (the shortest {min(lengths_s):.3g} s) overstate the capacity: "
        "beyond it the queue grows, but has had no time to break a limit; --duration 120 is better"
    ]


def _counted_s(rate_qps: float, test: LoadTest) -> float:
    """Seconds that a step was to count."""
    header = test.recording.header
    if header is not None and header.duration_s is not None:
        return header.duration_s
    duration_s = test.document["duration_s"]
    return test.document["queries"] / rate_qps if duration_s is None else float(duration_s)


def _warnings(steps: _Steps) -> list[str]:
    """Those of the steps: what is said of each alike once, what only some say with the steps' rates."""
    rates: dict[str, list[str]] = {}
    for rate, test in sorted(steps.done, key=lambda step: step[0]):
        for warning in test.document["warnings"]:
            rates.setdefault(warning, []).append(f"{rate:.4g}")
    everywhere = len(steps.done)
    return [
        warning if len(at) == everywhere else f"at {', '.join(at)} queries/s: {warning}"
        for warning, at in rates.items()
    ]


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
    except KeyboardInterrupt:
        return STOPPED_SIMULATION
    return {key: document[key] for key in ("max_rate_qps", "band80", "limited_by", "kv_cache_tokens")}
