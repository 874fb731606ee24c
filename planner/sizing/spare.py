"""The spare replicas put to the proof: the whole fleet at the peak, and in the middle of it they stop."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from planner.deployment import Deployment, Length, make_load
from planner.deployment.collapse import other_seeds, session_pause
from planner.deployment.failure_changes import control_of, stops
from planner.deployment.runs import run_through
from planner.deployment.service_levels import Groups, Span, groups_of, in_order, met_by, windows_of, worst_stretch
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, without_cooldown
from planner.simulation.limits import Check, held_gaps, held_settling, windows_around
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome, served, summarise
from planner.simulation.service import only
from planner.specs import Limit

Verdict = Literal["holds", "fails", "undecided"]
BEFORE = 10  # the spare replicas stop after one in so many parts of the time in which a run's counted queries come
SETTLING = 1  # batches after the stop that are no chance


class _Tried(NamedTuple):
    proof: dict[str, Any]
    near: bool  # the sessions are near the collapse of their cache

    @property
    def holds(self) -> bool:
        return bool(self.proof["verdict"] == "holds")


def spare_proof(
    deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int
) -> dict[str, Any] | None:
    """A run of all `replicas` under `load`, the peak's: `fleet.spare_replicas` of them stop in it and do not return.

    Judged are the queries that arrive after the stop, however many the run has: each limit by the 95 % batch-means
    interval of its statistic, an ITL limit by the gaps after the stop. The spread is that of the batches after the
    first, the stop being no chance. `verdict` is "holds" where every upper end is within its limit, "fails" where a
    lower end is not or the backlog grows, else "undecided": then `slo_met_after` is None. All of the load is run, once:
    a part of it that holds a limit is the weaker evidence, and to stop at the first that does would lean to "holds".

    Those that the stop cut off (`in_hand`) and those under way elsewhere (`under_way`) are told apart and not judged:
    their share would hang on the length of the run. `worst` and `recovered_s` say what the moment of the stop does.

    Near the collapse of a session's cache other seeds are run too, as they are for the size, up to one that does not
    hold: `seeds` are those that were run, and all else is of `seed`, the one of them that does not hold, or the first.

    None without spare replicas, for demand that is no open one, and beside data-parallel ranks.
    """
    spare = scenario.fleet.spare_replicas
    if not spare or scenario.demand != "open" or deployment.candidate.options.data_parallel_size > 1:
        return None
    length = Length(load.queries - load.warmup - load.cooldown, load.warmup, load.cooldown)
    tried = _tried(deployment, scenario, load, replicas, seed)
    seeds, of = [seed], seed
    for other in other_seeds(seed) if tried.near else ():
        if not tried.holds:
            break
        again = make_load(scenario, deployment.config.max_model_len, other, length)
        found = _tried(deployment, scenario, again, replicas, other)
        seeds.append(other)
        if not found.holds:
            tried, of = found, other
    return tried.proof | {"seed": of, "seeds": seeds}


def _tried(deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int) -> _Tried:
    """The proof by one run, all of whose `load` is simulated."""
    spare = scenario.fleet.spare_replicas
    stop_s = _stop_s(load)
    control = replace(control_of(scenario, 1), changes=tuple(stops(range(replicas - spare, replicas), stop_s, None)))
    run = without_cooldown(run_through(deployment, load, replicas, seed, control))
    outcome = summarise(run, scenario.slo, steady=False, settled_s=stop_s)
    arrived_s = run.arrival_s[load.warmup :]
    met = met_by(run, 0, spare - 1)
    groups = groups_of(run, Span(float(arrived_s[0]), stop_s, np.inf, np.inf), met)
    came = groups._replace(during=groups.during & ~groups.in_hand)
    rows = windows_of(scenario.slo, outcome.latencies, run, came, met)
    checks = [_check(limit, run, outcome, came, stop_s) for limit in scenario.slo]
    verdict = _worst([*map(verdict_of, checks), "fails" if outcome.saturated else "holds"])
    pause = session_pause(deployment, scenario, load, outcome, replicas - spare, seed)
    after = [check.as_dict() | {"verdict": verdict_of(check)} for check in checks]
    proof = {
        "replicas": replicas,
        "stopped": spare,
        "retried": int(run.retried[load.warmup :].sum()),
        "verdict": verdict,
        "slo_met_after": None if verdict == "undecided" else verdict == "holds",
        "saturated_after": outcome.saturated,
        "before": rows["before"] and rows["before"] | {"limits": _limits_before(scenario, run, rows["before"], stop_s)},
        "after": (rows["during"] or {"queries": 0}) | {"limits": after},
        "in_hand": rows["in_hand"],
        "under_way": rows["under_way"],
        **worst_stretch(scenario.slo, outcome.latencies, arrived_s, came.before, came.during, stop_s),
    }
    return _Tried(proof, pause is not None and pause.near)


def _stop_s(load: Load) -> float:
    """When the spare replicas stop, in seconds of the run: where a time window of its gaps between tokens begins."""
    counted_s = load.arrival_s[load.warmup : load.queries - load.cooldown]
    return float(counted_s[0] + (counted_s[-1] - counted_s[0]) / BEFORE)


def _check(limit: Limit, run: FleetRun, outcome: Outcome, groups: Groups, stop_s: float) -> Check:
    """One limit against those who came after the stop; gaps between tokens are those of whoever was served then."""
    if limit.metric == "itl":
        _, windows = windows_around(run.gaps, stop_s)
        return held_gaps(limit, served(run), groups.during, windows, steady=True, settling=SETTLING)
    after = in_order(groups.during, run.arrival_s[run.load.warmup :])
    return held_settling(limit, only(outcome.latencies, after), SETTLING)


def _limits_before(scenario: Scenario, run: FleetRun, row: dict[str, Any], stop_s: float) -> list[dict[str, Any]]:
    """The limits of the row `before`, but those of ITL by the gaps up to the stop: what `after` is compared with."""
    nobody = np.zeros(run.load.queries - run.load.warmup, np.bool_)
    windows, _ = windows_around(run.gaps, stop_s)
    return [
        held_gaps(limit, served(run), nobody, windows, steady=False).as_dict() if limit.metric == "itl" else judged
        for limit, judged in zip(scenario.slo, row["limits"], strict=True)
    ]


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
