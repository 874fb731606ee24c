"""One candidate made ready to run, and runs of it: how long, under which arrays, on how many replicas."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.deployment.calibrated import Applied, apply, cache_note, differences, unused_note
from planner.deployment.candidates import SESSION_ROUTING, Candidate
from planner.deployment.failure_changes import control_of
from planner.errors import ScenarioError
from planner.memory import KvCapacity, kv_capacity
from planner.performance import BALANCED_RANKS, Breakdown, breakdown
from planner.provenance import Provenance, weakest_first
from planner.response_cache import response_hit_rate
from planner.scenario import Scenario
from planner.simulation.fleet import NO_MARKS, Control, FleetRun, run_fleet, without_cooldown
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome, summarise
from planner.specs import SchedulerConfig
from planner.units import MS_PER_S
from planner.workload import build_load, session_span_s, session_warmup

SAMPLES_BEYOND_PERCENTILE = 1000
REPORTED_PERCENTILE = 99.0  # every answer shows p99, so a run is long enough for it
LEAST_WARMUP = 500  # queries
WARMUP_SPANS = 3  # times the E2E of an idle fleet
FULL_SPANS = 10  # likewise: the least that a full-length run lasts
SESSIONS = 3  # times the length of a session: the least that a run of sessions counts, unless its length is asked for
IDLE_QUERIES = 500  # to tell how long a query takes without load
IDLE_GAP_S = 1e5  # so far apart that no query ever meets another


@dataclass(frozen=True)
class Deployment:
    """A candidate with everything a simulation needs. `kv` and `config` are those of one data-parallel rank.

    `cost` is the sum of `breakdown`'s terms, or what it would be in another possible world. `calibrated` is there
    where the scenario's calibration belongs to this candidate: `breakdown` is then made of its parts. `warnings` are
    what a reader must know before the figures: that the calibration is not used, or only in part.
    """

    candidate: Candidate
    kv: KvCapacity
    config: SchedulerConfig
    breakdown: Breakdown
    cost: StepCost
    provenance: tuple[Provenance, ...]
    calibrated: Applied | None = None
    warnings: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether kernels, engine mode and vLLM version are known, or one of them is stood in for."""
        return self.breakdown.known and self.candidate.known_version

    @property
    def gpus_per_replica(self) -> int:
        """GPUs behind one endpoint."""
        return self.candidate.options.gpus_per_replica

    def provenance_of(self, replicas: int) -> tuple[Provenance, ...]:
        """What so many serving replicas rest on: a single engine has nobody to route a session away to."""
        if replicas * self.candidate.options.data_parallel_size > 1:
            return self.provenance
        return tuple(row for row in self.provenance if row.what != SESSION_ROUTING)


def deploy(candidate: Candidate) -> Deployment:
    """KV cache, scheduler and step cost of a candidate, calibrated where its calibration file belongs to it.

    Raises MisfitError where it does not fit the GPU.
    """
    options = candidate.options
    terms = breakdown(candidate.model, candidate.gpu, options, candidate.gpus_per_node)
    terms, applied, notes, warnings = _calibrate(candidate, terms)
    kv = _kv_capacity(candidate, applied)
    rows = [*candidate.provenance, *kv.provenance, *terms.provenance, *notes]
    if candidate.ranks_in_step > 1:  # what the step cost assumes of other ranks' tokens, the simulation knows
        rows = [row for row in rows if row.what != BALANCED_RANKS]
    if candidate.gpu.vendor == "cpu" and applied is None:
        source = "a guess until planner calibrate measures it: an A100's kernels stand in, scaled to this CPU"
        rows.append(Provenance("kernel path: CPU", "assumed", source, "an A100's, scaled", errs="unknown"))
    if options.async_scheduling:
        rows.append(
            Provenance(
                "asynchronous scheduling",
                "assumed",
                "each step is decided while the one before runs, as in vLLM; but every answer's end is foreseen: "
                "a stop token costs vLLM one token more, and a client that gives up is noticed a step later",
                errs="optimistic",
            )
        )
    return Deployment(
        candidate,
        kv,
        SchedulerConfig(
            num_blocks=kv.num_blocks,
            block_size=options.block_size,
            max_num_seqs=options.max_num_seqs,
            max_num_batched_tokens=options.max_num_batched_tokens,
            max_model_len=options.max_model_len,
            enable_prefix_caching=options.enable_prefix_caching,
            enable_chunked_prefill=options.enable_chunked_prefill,
            async_scheduling=options.async_scheduling,
        ),
        terms,
        terms.cost(),
        tuple(weakest_first(rows)),
        applied,
        tuple(warnings),
    )


def _calibrate(candidate: Candidate, terms: Breakdown) -> tuple[Breakdown, Applied | None, list[Provenance], list[str]]:
    """The step cost as the scenario's calibration has it, or the planner's own and why: its rows and warnings."""
    if candidate.calibration is None:
        return terms, None, [], []
    file = candidate.calibration_file
    differs = differences(candidate, candidate.calibration)
    if differs:
        key, here, calibrated_for = differs[0]
        source = f"{file} is of {key} {calibrated_for}, this is {here}: the planner's own step cost"
        row = Provenance("calibration not used", "assumed", source, key, errs="unknown")
        return terms, None, [row], [unused_note(file, differs)]
    calibrated, applied = apply(candidate.calibration, terms, candidate, file)
    if not candidate.calibration.kv_cache_tokens or applied.same_memory:
        return calibrated, applied, [], []
    source = f"{file} has it for other memory settings (max_num_seqs, max_num_batched_tokens or utilisation)"
    row = Provenance("KV cache tokens not as reported", "assumed", source, errs="unknown")
    return calibrated, applied, [row], [cache_note(file, candidate, candidate.calibration)]


def _kv_capacity(candidate: Candidate, applied: Applied | None) -> KvCapacity:
    """As the scenario states it, else as the calibrated server reported it, else as estimated."""
    options = candidate.options
    tokens = None if applied is None or not applied.same_memory else applied.calibration.kv_cache_tokens
    if tokens is None or options.num_gpu_blocks_override is not None:
        return kv_capacity(candidate.model, candidate.gpu, options, candidate.gpus_per_node)
    reported = replace(options, num_gpu_blocks_override=max(tokens // options.block_size, 1))
    kv = kv_capacity(candidate.model, candidate.gpu, reported, candidate.gpus_per_node)
    assert applied is not None
    source = f"{candidate.calibration_file}: as the server reported"
    row = Provenance("KV cache tokens", "measured", source, str(tokens), applied.calibration.date)
    return replace(kv, provenance=[row])


class Length(NamedTuple):
    """How many queries a run counts, and how many it simulates before and after them without counting them."""

    counted: int
    warmup: int
    cooldown: int


def default_queries(scenario: Scenario) -> int:
    """At least 1,000 samples beyond the strictest percentile that is judged or shown."""
    strictest = max([REPORTED_PERCENTILE, *(limit.percentile or 0.0 for limit in scenario.slo)])
    return round(SAMPLES_BEYOND_PERCENTILE / (1.0 - strictest / 100.0))


def model_rate_qps(scenario: Scenario) -> float:
    """Queries per second that reach the model at the peak; 0 where the demand names no rate."""
    if scenario.traffic.peak_qps is None:
        return 0.0
    return scenario.traffic.peak_qps * (1.0 - response_hit_rate(scenario))


def run_length(scenario: Scenario, queries: int, idle_e2e_s: float, least_spans: int) -> Length:
    """A run that counts `queries`, and lasts at least `least_spans` times as long as a query takes.

    A fleet that starts empty needs the time of a few queries to fill, and its last queries would find it emptying: so
    both ends are long in *time*, `rate · idle_e2e_s` being the queries that arrive while one is served (`idle_e2e_s`:
    the 99th percentile of E2E with nothing else to do; under load it is longer, hence the factor on the warm-up).

    Sessions: turns late in a session begin to come only after the pauses and answers before them, so the warm-up lasts
    as long as a session. What a turn left in the KV cache is gone when its successor comes only if the cache is filled
    anew within a pause: by the end of that warm-up it has been, if ever. The run counts `SESSIONS` times a session's
    length at least, and is kept going while the answers of the last counted session come, with the warm-up's factor.
    """
    rate_qps = model_rate_qps(scenario)
    meanwhile = math.ceil(rate_qps * idle_e2e_s)
    counted = max(queries, least_spans * meanwhile)
    if scenario.session is None:
        return Length(counted, max(queries // 10, LEAST_WARMUP, WARMUP_SPANS * meanwhile), meanwhile)
    warmup = max(queries // 10, LEAST_WARMUP, session_warmup(scenario, WARMUP_SPANS * idle_e2e_s))
    if least_spans:
        counted = max(counted, math.ceil(SESSIONS * rate_qps * session_span_s(scenario, idle_e2e_s)))
    return Length(counted, warmup, WARMUP_SPANS * scenario.session.turns * meanwhile)


def make_load(
    scenario: Scenario, max_model_len: int, seed: int, length: Length, duration_s: float | None = None
) -> Load:
    """The arrays of one run; the same seed gives the same token counts at every rate and length.

    `duration_s` counts the queries of that many seconds instead of `length.counted`, and has a cool-down of sessions
    only. Closed, offline and trace demand say their own length.
    """
    cooldown_s = 0.0
    if duration_s is not None and scenario.session is not None and length.cooldown:
        cooldown_s = length.cooldown / model_rate_qps(scenario)
    load = build_load(
        scenario,
        queries=length.counted + length.cooldown if duration_s is None else None,
        duration_s=None if duration_s is None else duration_s + cooldown_s,
        warmup=length.warmup,
        rng=np.random.default_rng(seed),
        max_model_len=max_model_len,
    )
    if scenario.demand != "open":
        return load
    if duration_s is None:
        return replace(load, cooldown=length.cooldown)
    if cooldown_s == 0.0:
        return load
    begun_s = load.arrival_s[length.warmup - 1] if length.warmup else 0.0
    counted = int(np.searchsorted(load.arrival_s, begun_s + duration_s, side="right"))
    if counted <= length.warmup:
        rule = f"no query arrives in it at {scenario.traffic.peak_qps:g} queries/s"
        raise ScenarioError("duration", f"{duration_s:g} s", rule)
    return replace(load, cooldown=load.queries - counted)


def idle_outcome(deployment: Deployment, scenario: Scenario, queries: int, seed: int) -> tuple[Load, Outcome]:
    """The queries one at a time, on as many replicas as one has calls at once: the best that any fleet can do.

    The turns of a session come right after one another, whatever their pauses.
    """
    at_once = scenario if scenario.session is None else scenario.with_values({"query.stages[0].think_s": 0.0})
    load = make_load(at_once, deployment.config.max_model_len, seed, Length(queries, 0, 0))
    arrival_s = IDLE_GAP_S * np.arange(load.queries, dtype=np.float64)
    alone = replace(load, arrival_s=arrival_s, clients=0, think_s=None, max_in_flight=0, follows=None)
    return alone, run(deployment, scenario, alone, max(stage.calls for stage in load.stages), seed)


def idle_e2e_s(outcome: Outcome) -> float:
    """99th percentile of E2E of a run without load, in seconds; 0 if nothing was completed."""
    row = outcome.figures["e2e_ms"]
    return 0.0 if row is None else float(row["p99"]) / MS_PER_S


def run(deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int) -> Outcome:
    """Statistics of `fleet_run`, judged by the scenario's limits. `fleet.failures` are for `run_through`."""
    return outcome_of(fleet_run(deployment, scenario, load, replicas, seed), scenario)


def fleet_run(
    deployment: Deployment,
    scenario: Scenario,
    load: Load,
    replicas: int,
    seed: int,
    marks_s: NDArray[np.float64] = NO_MARKS,
) -> FleetRun:
    """Simulate `replicas` endpoints of `deployment` under `load`, to which nothing happens.

    Data-parallel ranks are routed to one by one, or as groups in step (`Candidate.ranks_in_step`).
    """
    control = control_of(scenario, deployment.candidate.options.data_parallel_size)
    return run_through(deployment, load, replicas, seed, control, marks_s)


def run_through(
    deployment: Deployment,
    load: Load,
    replicas: int,
    seed: int,
    control: Control,
    marks_s: NDArray[np.float64] = NO_MARKS,
) -> FleetRun:
    """The same with `control` done to them; at `marks_s` their ledgers are looked at."""
    candidate = deployment.candidate
    ranks = replicas * candidate.options.data_parallel_size
    generator = np.random.default_rng([seed, 1])  # routing's own chance, apart from the load's
    fixed = (deployment.config, deployment.cost, ranks, candidate.routing, generator)
    return run_fleet(load, *fixed, control=control, ranks_in_step=candidate.ranks_in_step, marks_s=marks_s)


def outcome_of(fleet: FleetRun, scenario: Scenario) -> Outcome:
    """Statistics of a run, judged by the scenario's limits."""
    return summarise(without_cooldown(fleet), scenario.slo, steady=scenario.demand == "open")
