"""Before a load test is sent: whether the simulator expects the scenario's own fleet to carry it."""

from __future__ import annotations

import math

from planner.deployment import FULL_SPANS, Deployment, Length, deploy, make_load, only_candidate, run, run_length
from planner.deployment.recorded import simulated_outcome
from planner.errors import InputError
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.outcome import Outcome
from planner.studies.load_sessions import idle_answer_s

LONGEST_S, MOST_QUERIES = 300.0, 20_000  # that are simulated: a queue that grows shows long before
TRIED = (0.95, 0.8, 0.65, 0.5, 0.35)  # of what the overloaded fleet served


def overload_warning(scenario: Scenario, seed: int, requests: int | None, duration_s: float) -> str:
    """A warning, with a rate that is carried, where the simulated queue grows without end under `traffic.peak_qps`.

    The first `requests` queries, or those of `duration_s` seconds, are simulated on `fleet.replicas` (default 1).
    Empty where they are carried, where the demand is not open, and where nothing can be simulated.
    """
    peak_qps = scenario.traffic.peak_qps
    if scenario.demand != "open" or peak_qps is None:
        return ""
    reach_model = 1.0 - response_hit_rate(scenario)
    length_s = min(duration_s if requests is None else requests / (peak_qps * reach_model), LONGEST_S)
    try:
        deployment = deploy(only_candidate(scenario, "loadtest"))
        outcome = _at(deployment, scenario, peak_qps, length_s, seed)
        if not outcome.saturated:
            return ""
        served_qps = outcome.figures["query_throughput"] / reach_model
        lower = None
        if served_qps > 0.0:
            carried = (rate for share in TRIED if (rate := _two_digits(share * served_qps)) < peak_qps)
            steady = (rate for rate in carried if not _at(deployment, scenario, rate, length_s, seed).saturated)
            lower = next(steady, None)
    except InputError:
        return ""
    replicas = scenario.fleet.replicas or 1
    who = "1 replica does" if replicas == 1 else f"{replicas} replicas do"
    served = "nothing of it is answered in time"
    if served_qps > 0.0:
        served = f"about {served_qps:.2g} are served in a second and the queue grows"
    remedy = "" if lower is None else f"; --set traffic.peak_qps={lower:g} is carried"
    return (
        f"by the simulator {who} not carry {peak_qps:g} queries/s: {served}{remedy}; "
        "fleet.replicas says how many the server has"
    )


def _at(deployment: Deployment, scenario: Scenario, rate_qps: float, length_s: float, seed: int) -> Outcome:
    """The arrivals of `length_s` at this rate, simulated; of sessions `MOST_QUERIES`, after a warm-up.

    From an empty start late turns come only after a while, and the full rate with them. A session waits for its answer
    before it asks again, so a queue of sessions grows slowly.
    """
    at_rate, replicas = scenario.with_values({"traffic.peak_qps": rate_qps}), scenario.fleet.replicas or 1
    max_model_len = deployment.config.max_model_len
    if at_rate.session is None:
        queries = max(2, min(math.ceil(rate_qps * length_s), MOST_QUERIES))
        load = make_load(at_rate, max_model_len, seed, Length(queries, 0, 0))
        return simulated_outcome(deployment, at_rate, load, replicas, seed)
    length = run_length(at_rate, MOST_QUERIES, idle_answer_s(deployment, at_rate, seed), least_spans=FULL_SPANS)
    return run(deployment, at_rate, make_load(at_rate, max_model_len, seed, length), replicas, seed)


def _two_digits(rate_qps: float) -> float:
    """Rounded down to two significant digits."""
    step = 10.0 ** (math.floor(math.log10(rate_qps)) - 1)
    return float(f"{math.floor(rate_qps / step) * step:.2g}")
