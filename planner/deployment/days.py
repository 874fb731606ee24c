"""Days of one fleet, hour by hour: how they are simulated, and each hour's row.

Three ways, the first that applies:
- streams: every replica's own share of the traffic, whole, replica by replica (random routing, or one engine);
- whole: all replicas on one clock from the first midnight to the last, up to `MOST_WHOLE` model calls;
- samples: each hour by itself at its mean rate, beginning in a steady state; the busiest hour whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from planner.deployment.day_rows import folded_row, sampled_row
from planner.deployment.runs import (
    FULL_SPANS,
    IDLE_QUERIES,
    Deployment,
    Length,
    default_queries,
    idle_e2e_s,
    idle_outcome,
    make_load,
    run,
    run_length,
)
from planner.errors import UnsupportedError
from planner.response_cache import response_hit_rate
from planner.scenario import Autoscaler, GammaArrivals, Scenario
from planner.simulation.autoscaler import Kind, Rule
from planner.simulation.day_bins import strictest_s
from planner.simulation.day_streams import run_streams
from planner.simulation.day_whole import run_whole
from planner.simulation.load import Load
from planner.units import S_PER_HOUR
from planner.workload import Rates, build_load, varied_arrivals

MOST_WHOLE = 10_000_000  # model calls whose arrays are held at once: some two gigabytes
MOST_DAYS = 7
Way = Literal["streams", "whole", "samples"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DaysRun:
    """`rows`: one an hour, under JSON names; `changes`: (s, replicas wanted) whenever an autoscaler changed its mind;
    `preemptions`: None where hours were sampled.
    """

    way: Way
    rows: list[dict[str, Any]]
    changes: tuple[tuple[float, int], ...]
    preemptions: int | None


def at_rate(scenario: Scenario, qps: float) -> Scenario:
    """The scenario at one even rate, without what only days have: its traffic's day and its autoscaler."""
    nothing = dict.fromkeys(("traffic.day", "traffic.rates", "fleet.autoscaler"))
    return scenario.with_values({**nothing, "traffic.peak_qps": float(qps)})


def first_replicas(scenario: Scenario) -> int:
    """Replicas at the first midnight: `fleet.replicas`, else the most that an autoscaler may have, or what it plans."""
    scaler = scenario.fleet.autoscaler
    if scenario.fleet.replicas is not None or scaler is None:
        return scenario.fleet.replicas or 1
    return scaler.most if scaler.schedule is None else max(scaler.schedule[0], scenario.fleet.min_replicas)


def _rule(scenario: Scenario) -> Rule | None:
    """The scenario's autoscaler as the simulator has it."""
    scaler = scenario.fleet.autoscaler
    if scaler is None:
        return None
    kind, target = _target(scaler)
    return Rule(
        kind=kind,
        target=target,
        least=scenario.fleet.min_replicas,
        most=scaler.most,
        interval_s=scaler.interval_s,
        delay_s=scaler.scale_down_delay_s,
        tolerance=scaler.tolerance,
        startup_s=scenario.fleet.startup_s,
        schedule=scaler.schedule or (),
    )


def _target(scaler: Autoscaler) -> tuple[Kind, float]:
    """What is held at a level, and the level; a schedule holds nothing."""
    target = scaler.target
    if target is None:
        return "schedule", 1.0
    if target.queue is not None:
        return "queue", target.queue
    if target.utilisation is not None:
        return "utilisation", target.utilisation
    return "requests", target.requests or 1.0


def run_days(deployment: Deployment, scenario: Scenario, rates: Rates, seed: int, progress: Progress) -> DaysRun:
    """`fleet.replicas` replicas, or those of `fleet.autoscaler`, under `rates` (whole hours from midnight).

    Raises ScenarioError and UnsupportedError for what cannot be run over days.
    """
    way = _way(deployment, scenario, rates)
    if way == "samples":
        return _samples(deployment, scenario, rates, seed, progress)
    hours, limits = round(rates.end_s / S_PER_HOUR), strictest_s(scenario.slo)
    ranks_each = deployment.candidate.options.data_parallel_size
    ranks = first_replicas(scenario) * ranks_each
    changes: tuple[tuple[float, int], ...] = ()
    if way == "streams":

        def load_of(number: int) -> Load:
            return _load(deployment, scenario, rates, _reach(scenario) / ranks, [seed, 2, number])

        fold = run_streams(load_of, ranks, deployment.config, deployment.cost, hours, limits, progress)
    else:
        progress("simulating all hours on one clock", 0, 1)
        load = _load(deployment, scenario, rates, _reach(scenario), seed)
        generator = np.random.default_rng([seed, 1])  # routing's own chance, as in `runs.run`
        fold, changes = run_whole(
            load,
            deployment.config,
            deployment.cost,
            ranks,
            deployment.candidate.routing,
            generator,
            hours,
            limits,
            _rule(scenario),
        )
        progress("simulating all hours on one clock", 1, 1)
    rows = [folded_row(fold, scenario, hour, ranks_each) for hour in range(hours)]
    return DaysRun(way, rows, changes, fold.preemptions)


# --- which way, and what arrives ---


def _way(deployment: Deployment, scenario: Scenario, rates: Rates) -> Way:
    stages, traffic = scenario.query.stages, scenario.traffic
    scaler = scenario.fleet.autoscaler
    ranks = (scenario.fleet.replicas or 1) * deployment.candidate.options.data_parallel_size
    width = sum(stage.calls * stage.samples for stage in stages)
    calls = float(rates.queries_before(np.array([rates.end_s]))[0]) * _reach(scenario) * width
    if scaler is not None:
        _refuse_beside_scaler(deployment, scenario, calls, rates)
        return "whole"
    if scenario.session is not None:
        return "samples"
    waits = traffic.max_in_flight is not None or traffic.timeout_s is not None
    alone = ranks == 1 or deployment.candidate.routing == "random"
    if alone and not waits and len(stages) == 1 and stages[0].calls == 1 and calls / ranks <= MOST_WHOLE:
        return "streams"
    return "whole" if calls <= MOST_WHOLE else "samples"


def _refuse_beside_scaler(deployment: Deployment, scenario: Scenario, calls: float, rates: Rates) -> None:
    if scenario.session is not None:
        rule = "sessions of several turns beside fleet.autoscaler are not supported yet"
        raise UnsupportedError("query.stages[0].turns", scenario.session.turns, rule, "1")
    ranks = deployment.candidate.options.data_parallel_size
    if ranks > 1:
        rule = "several ranks beside fleet.autoscaler are not supported yet"
        raise UnsupportedError("engine.data_parallel_size", ranks, rule, "1")
    if calls > MOST_WHOLE:
        days = rates.end_s / S_PER_HOUR / 24
        fit = int(days * MOST_WHOLE / calls)
        rule = f"make {calls:.3g} model calls; an autoscaler's days are simulated whole, at most {MOST_WHOLE:.3g} calls"
        nearest = str(fit) if fit else f"a fleet and its load ÷ {calls / days / MOST_WHOLE:.1f}, on 1 day"
        raise UnsupportedError("days", f"{days:g}", rule, nearest)


def _reach(scenario: Scenario) -> float:
    """Share of the users' queries that reach the model, as at the peak."""
    return 1.0 - response_hit_rate(scenario)


def _load(deployment: Deployment, scenario: Scenario, rates: Rates, reach: float, seed: int | list[int]) -> Load:
    """What arrives, all of it counted."""
    law = scenario.traffic.arrivals
    if not isinstance(law, str | GammaArrivals):
        raise TypeError("a day has open arrivals")
    return build_load(
        scenario,
        queries=None,
        duration_s=None,
        warmup=0,
        rng=np.random.default_rng(seed),
        max_model_len=deployment.config.max_model_len,
        timed=lambda gaps_rng, skips_rng: varied_arrivals(law, rates, reach, gaps_rng, skips_rng),
    )


# --- samples ---


def _samples(deployment: Deployment, scenario: Scenario, rates: Rates, seed: int, progress: Progress) -> DaysRun:
    """Hours of one rate are one run: they differ by chance alone."""
    by_hour, replicas = rates.by_hour(), scenario.fleet.replicas or 1
    if not by_hour.all():
        raise UnsupportedError("traffic.rates", "0 qps in an hour", "an hour without load cannot be sampled")
    width = sum(stage.calls * stage.samples for stage in scenario.query.stages)
    known: dict[float, dict[str, Any]] = {}
    levels = np.unique(by_hour)
    _, idle = idle_outcome(deployment, at_rate(scenario, float(levels[-1])), IDLE_QUERIES, seed)
    for number, qps in enumerate(levels):
        steady = at_rate(scenario, float(qps))
        reaching = max(round(qps * S_PER_HOUR * _reach(scenario)), 1)
        length = run_length(steady, default_queries(scenario), idle_e2e_s(idle), FULL_SPANS)
        whole = qps == levels[-1] and scenario.session is None and reaching * width <= MOST_WHOLE
        counted = reaching if whole else min(length.counted, max(reaching, 1000))
        length = Length(counted, length.warmup, length.cooldown)
        load = make_load(steady, deployment.config.max_model_len, seed, length)
        outcome = run(deployment, steady, load, replicas, seed)
        known[float(qps)] = sampled_row(outcome, replicas, reaching, whole)
        progress("simulating hours", number + 1, len(levels))
    return DaysRun("samples", [{"hour": hour} | known[float(qps)] for hour, qps in enumerate(by_hour)], (), None)
