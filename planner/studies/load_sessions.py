"""How long the sessions of a load test last: what its warm-up must cover, and what is said where it does not."""

from __future__ import annotations

import math

from planner.deployment import Deployment, deploy, idle_e2e_s, idle_outcome, only_candidate
from planner.deployment.runs import IDLE_QUERIES, WARMUP_SPANS
from planner.errors import InputError
from planner.records import RunHeader
from planner.scenario import Scenario
from planner.workload import session_span_s, session_warmup

FEW_SESSIONS = 5  # to be expected: less than one run in a hundred then holds none


def idle_answer_s(deployment: Deployment, scenario: Scenario, seed: int) -> float:
    """Seconds that an answer takes on a fleet with nothing else to do, the 99th percentile."""
    return idle_e2e_s(idle_outcome(deployment, scenario, IDLE_QUERIES, seed)[1])


def session_warmup_s(scenario: Scenario, seed: int) -> float:
    """Seconds until turns of every number come: a session's pauses and its answers, which load makes longer.

    0 without sessions. Where nothing can be simulated, of the pauses alone.
    """
    if scenario.session is None:
        return 0.0
    try:
        answer_s = idle_answer_s(deploy(only_candidate(scenario, "loadtest")), scenario, seed)
    except InputError:  # the server may be there all the same
        answer_s = 0.0
    return session_span_s(scenario, WARMUP_SPANS * answer_s)


def session_rate_words(scenario: Scenario) -> str:
    """How often sessions begin, and the seconds in which `FEW_SESSIONS` do, to be added to an error; else empty."""
    session, rate_qps = scenario.session, scenario.traffic.peak_qps
    if session is None or rate_qps is None:
        return ""
    return (
        f"; sessions of {session.turns} turns begin at peak_qps / turns = {rate_qps / session.turns:.3g} per second; "
        f"--duration {math.ceil(FEW_SESSIONS * session.turns / rate_qps)} holds some {FEW_SESSIONS}"
    )


def session_warnings(header: RunHeader, scenario: Scenario, deployment: Deployment) -> list[str]:
    """In what a run was too short for its sessions to come to rest."""
    session, rate_qps = scenario.session, scenario.traffic.peak_qps
    if session is None or rate_qps is None:
        return []
    answer_s = idle_answer_s(deployment, scenario, header.seed)
    span_s = session_span_s(scenario, answer_s)
    took = f"a session of {session.turns} turns takes at least {math.ceil(span_s)} s (by the simulator, without load)"
    found = []
    if header.warmup < math.floor(session_warmup(scenario, answer_s)):
        found.append(
            f"{took}, and the warm-up ends before that: among what is counted early turns are too many; "
            f"--warmup {math.ceil(session_span_s(scenario, WARMUP_SPANS * answer_s))} is long enough"
        )
    counted_s = header.duration_s or (header.queries - header.warmup) / rate_qps
    if counted_s < span_s:
        found.append(
            f"{took}, and {counted_s:.3g} s are counted: too few for what sessions do to each other to show; "
            f"--duration {math.ceil(span_s)} is the least"
        )
    return found
