"""Days of one fleet, hour by hour: how they are simulated, and each hour's row.

Three ways, the first that applies:
- streams: every replica's own share of the traffic, whole, replica by replica (random routing, or one engine);
- whole: all replicas on one clock from the first midnight to the last, up to `MOST_WHOLE` model calls;
- samples: each hour by itself at its mean rate, beginning in a steady state; the busiest hour whole.

What the response cache answers is left out of each, hour by hour, as `workload.reaching` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from planner.deployment.autoscaled import refuse_scaled_ranks, refuse_scaled_sessions
from planner.deployment.collapse import session_pause, with_pause
from planner.deployment.day_rows import empty_row, folded_row, sampled_row
from planner.deployment.failure_changes import control_of
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
from planner.response_cache import stated
from planner.scenario import Autoscaler, GammaArrivals, Scenario
from planner.simulation.autoscaler import Kind, Rule, Wishes
from planner.simulation.day_bins import strictest_s
from planner.simulation.day_streams import run_streams
from planner.simulation.day_whole import run_whole
from planner.simulation.load import Load
from planner.units import S_PER_HOUR
from planner.workload import Rates, Reaching, build_load, reaching, varied_arrivals

MOST_WHOLE = 10_000_000  # model calls whose arrays are held at once: some two gigabytes
Way = Literal["streams", "whole", "samples"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DaysRun:
    """`rows`: one an hour, under JSON names; `preemptions`: None where hours were sampled; `wishes`: those of an
    autoscaler.
    """

    way: Way
    rows: list[dict[str, Any]]
    preemptions: int | None
    wishes: Wishes = field(default_factory=Wishes)


def at_rate(scenario: Scenario, qps: float, hit_rate: float | None = None) -> Scenario:
    """The scenario at one even rate, without what only days have: its traffic's day and its autoscaler.

    `hit_rate` takes the place of one that emerges: of an hour it is the hour's, not that of a long time at its rate.
    """
    nothing = dict.fromkeys(("traffic.day", "traffic.rates", "fleet.autoscaler"))
    steady = scenario.with_values({**nothing, "traffic.peak_qps": float(qps)})
    return steady if hit_rate is None else stated(steady, hit_rate)


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
    load = reaching(scenario, rates)
    way = _way(deployment, scenario, load)
    if way == "samples":
        return _samples(deployment, scenario, load, seed, progress)
    hours, limits = round(rates.end_s / S_PER_HOUR), strictest_s(scenario.slo)
    ranks_each = deployment.candidate.options.data_parallel_size
    ranks = first_replicas(scenario) * ranks_each
    wishes = Wishes()
    if way == "streams":

        def load_of(number: int) -> Load:
            return _load(deployment, scenario, load, ranks, [seed, 2, number])

        fold = run_streams(load_of, ranks, deployment.config, deployment.cost, hours, limits, progress)
    else:
        progress("simulating all hours on one clock", 0, 1)
        generator = np.random.default_rng([seed, 1])  # routing's own chance, as in `runs.run`
        fold, wishes = run_whole(
            _load(deployment, scenario, load, 1, seed),
            deployment.config,
            deployment.cost,
            ranks,
            deployment.candidate.routing,
            generator,
            hours,
            limits,
            _rule(scenario),
            control_of(scenario, ranks_each).room,
        )
        progress("simulating all hours on one clock", 1, 1)
    hits = [None if np.isnan(share) else 1.0 - float(share) for share in load.share_by_hour()]
    rows = [folded_row(fold, scenario, hour, ranks_each, hits[hour]) for hour in range(hours)]
    return DaysRun(way, rows, fold.preemptions, wishes)


# --- which way, and what arrives ---


def _way(deployment: Deployment, scenario: Scenario, load: Reaching) -> Way:
    stages, traffic = scenario.query.stages, scenario.traffic
    scaler = scenario.fleet.autoscaler
    ranks = (scenario.fleet.replicas or 1) * deployment.candidate.options.data_parallel_size
    width = sum(stage.calls * stage.samples for stage in stages)
    rates = load.model
    calls = float(rates.queries_before(np.array([rates.end_s]))[0]) * width
    if scaler is not None:
        _refuse_beside_scaler(deployment, scenario, calls, rates)
        return "whole"
    if scenario.session is not None:
        return "samples"
    waits = traffic.max_in_flight is not None or traffic.timeout_s is not None or scenario.fleet.admission is not None
    alone = ranks == 1 or deployment.candidate.routing == "random"
    if alone and not waits and len(stages) == 1 and stages[0].calls == 1 and calls / ranks <= MOST_WHOLE:
        return "streams"
    return "whole" if calls <= MOST_WHOLE else "samples"


def _refuse_beside_scaler(deployment: Deployment, scenario: Scenario, calls: float, rates: Rates) -> None:
    refuse_scaled_sessions(scenario)
    refuse_scaled_ranks(deployment.candidate.options.data_parallel_size)
    if calls > MOST_WHOLE:
        days = rates.end_s / S_PER_HOUR / 24
        fit = int(days * MOST_WHOLE / calls)
        rule = f"make {calls:.3g} model calls; an autoscaler's days are simulated whole, at most {MOST_WHOLE:.3g} calls"
        nearest = str(fit) if fit else f"a fleet and its load ÷ {calls / days / MOST_WHOLE:.1f}, on 1 day"
        raise UnsupportedError("days", f"{days:g}", rule, nearest)


def _load(deployment: Deployment, scenario: Scenario, load: Reaching, among: int, seed: int | list[int]) -> Load:
    """What arrives, at one of so many that share it; all of it counted."""
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
        timed=lambda gaps_rng, skips_rng: varied_arrivals(law, load.users, load.share / among, gaps_rng, skips_rng),
    )


# --- samples ---


def _samples(deployment: Deployment, scenario: Scenario, load: Reaching, seed: int, progress: Progress) -> DaysRun:
    """Hours of one rate and hit rate are one run: they differ by chance alone. Those without load need none."""
    by_hour, replicas = load.users.by_hour(), scenario.fleet.replicas or 1
    width = sum(stage.calls * stage.samples for stage in scenario.query.stages)
    # Rounded: what differs in the last bit alone is one run.
    hits = np.abs(np.round(1.0 - np.nan_to_num(load.share_by_hour(), nan=1.0), 12))
    hours = [(float(f"{qps:.12g}"), float(hit)) for qps, hit in zip(by_hour, hits, strict=True)]
    levels = sorted({level for level in hours if level[0] > 0}, key=lambda level: level[0] * (1.0 - level[1]))
    known: dict[tuple[float, float], dict[str, Any]] = {}
    _, idle = idle_outcome(deployment, at_rate(scenario, *levels[-1]), IDLE_QUERIES, seed)
    for number, (qps, hit_rate) in enumerate(levels):
        steady = at_rate(scenario, qps, hit_rate)
        reaching_queries = max(round(qps * S_PER_HOUR * (1.0 - hit_rate)), 1)
        length = run_length(steady, default_queries(scenario), idle_e2e_s(idle), FULL_SPANS)
        whole = (qps, hit_rate) == levels[-1] and scenario.session is None and reaching_queries * width <= MOST_WHOLE
        counted = reaching_queries if whole else min(length.counted, max(reaching_queries, 1000))
        length = Length(counted, length.warmup, length.cooldown)
        sample = make_load(steady, deployment.config.max_model_len, seed, length)
        outcome = run(deployment, steady, sample, replicas, seed)
        row = sampled_row(outcome, steady, sample, replicas, reaching_queries, whole)
        known[qps, hit_rate] = row | with_pause(session_pause(deployment, steady, sample, outcome, replicas, seed))
        progress("simulating hours", number + 1, len(levels))
    known |= {level: empty_row(row) for level in hours if level[0] == 0}
    return DaysRun("samples", [{"hour": hour} | known[level] for hour, level in enumerate(hours)], None)
