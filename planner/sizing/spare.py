"""The spare replicas put to the proof: the whole fleet at the peak, and in the middle of it they stop."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from planner.deployment import Deployment
from planner.deployment.failures import control_of, stops
from planner.deployment.runs import run_through
from planner.deployment.service_levels import around, hit_by
from planner.scenario import Scenario
from planner.simulation.fleet import without_cooldown
from planner.simulation.limits import Check, held_among
from planner.simulation.load import Load, Prefixes
from planner.simulation.outcome import summarise
from planner.simulation.service import only

Verdict = Literal["holds", "fails", "undecided"]
BEFORE = 10  # the spare replicas stop after one in so many of the counted queries
FIRST = 2  # one in so many of the counted queries is run at first; where these do not decide it, all


def spare_proof(
    deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int
) -> dict[str, Any] | None:
    """A run of all `replicas` under `load`, the peak's: `fleet.spare_replicas` of them stop in it and do not return.

    Judged are the queries that arrive after the stop, and those that it hit: each limit by the 95 % batch-means
    interval of its statistic (of an ITL limit of their TPOT, which is a request's mean gap), whose spread is that of
    the batches after the first, the stop being no chance. `verdict` is "holds" where every upper end is within its
    limit, "fails" where a lower end is not or the backlog grows, else "undecided": then `slo_met_after` is None. Half
    of the load is run, and all of it where that does not decide. `worst` and `recovered_s` say what the moment of the
    stop does, which the figures of a long run hide. None without spare replicas, for demand that is no open one, and
    beside data-parallel ranks.
    """
    spare = scenario.fleet.spare_replicas
    if not spare or scenario.demand != "open" or deployment.candidate.options.data_parallel_size > 1:
        return None
    counted = load.queries - load.warmup - load.cooldown
    stop_s = float(load.arrival_s[load.warmup + counted // BEFORE])
    proof = _proof(deployment, scenario, shortened(load, counted // FIRST), replicas, seed, stop_s)
    if proof["verdict"] == "undecided":
        proof = _proof(deployment, scenario, load, replicas, seed, stop_s)
    return proof


def _proof(
    deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int, stop_s: float
) -> dict[str, Any]:
    spare = scenario.fleet.spare_replicas
    which = range(replicas - spare, replicas)
    control = replace(control_of(scenario, 1), changes=tuple(stops(which, stop_s, None)))
    run = without_cooldown(run_through(deployment, load, replicas, seed, control))
    outcome = summarise(run, scenario.slo, steady=False, settled_s=stop_s)
    arrived_s = run.arrival_s[load.warmup :]
    spans = around(scenario, run, outcome, (float(arrived_s[0]), stop_s, np.inf, np.inf))
    after = np.flatnonzero((arrived_s >= stop_s) | hit_by(run, stop_s))
    those = only(outcome.latencies, after[np.argsort(arrived_s[after], kind="stable")])
    checks = [held_among(limit, those, steady=True, settling=1) for limit in scenario.slo]
    verdict = _worst([*map(verdict_of, checks), "fails" if outcome.saturated else "holds"])
    return {
        "replicas": replicas,
        "stopped": spare,
        "retried": int(run.retried[load.warmup :].sum()),
        "verdict": verdict,
        "slo_met_after": None if verdict == "undecided" else verdict == "holds",
        "saturated_after": outcome.saturated,
        "before": spans["before"],
        "after": spans["during"] | {"limits": [check.as_dict() | {"verdict": verdict_of(check)} for check in checks]},
        **{name: spans[name] for name in ("in_hand", "held_before", "worst", "recovered_s")},
    }


def verdict_of(check: Check) -> Verdict:
    """Whether the interval about a limit's value lies within the limit, beyond it, or on both sides."""
    if check.value_ms is None or check.upper_ms is None or check.met:
        return "holds" if check.met else "fails"
    if not math.isfinite(check.value_ms):
        return "fails"
    lower_ms = 2.0 * check.value_ms - check.upper_ms  # -inf where nothing is known about the spread
    return "fails" if lower_ms > check.limit_ms else "undecided"


def _worst(verdicts: list[Verdict]) -> Verdict:
    return next((verdict for verdict in ("fails", "undecided") if verdict in verdicts), "holds")


def shortened(load: Load, counted: int) -> Load:
    """`load` as if only so many queries of it were counted, with as many before and after them; sessions stay whole."""
    queries = load.warmup + counted + load.cooldown
    if load.follows is not None or queries >= load.queries:
        return load
    requests, prefixes = queries * load.width, load.prefixes
    if prefixes is not None:
        starts = prefixes.chain_start[: requests + 1]
        prefixes = Prefixes(starts, prefixes.chain_segment[: starts[-1]], prefixes.segment_tokens)
    return replace(
        load,
        arrival_s=load.arrival_s[:queries],
        prompt_tokens=load.prompt_tokens[:requests],
        output_tokens=load.output_tokens[:requests],
        think_s=None if load.think_s is None else load.think_s[:queries],
        prefixes=prefixes,
    )
