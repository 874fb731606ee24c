"""From a scenario to something that can be run: lists resolved, names looked up, everything cross-checked.

`candidates` unfolds the lists of a scenario; `deploy` gives one candidate its KV cache, its scheduler and its step
cost, or refuses it; `run` simulates one fleet of it; `simulate` is the verb.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from planner.catalogue.engine_defaults import EngineDefaults, engine_defaults, known_versions
from planner.catalogue.hardware import gpu as find_gpu
from planner.catalogue.hardware import gpu_provenance
from planner.catalogue.models import model as find_model
from planner.catalogue.models import model_provenance
from planner.coefficients import StepCost
from planner.errors import MisfitError, PlannerError, ScenarioError
from planner.memory import KvCapacity, check_parallelism, kv_capacity, resolve_quantization
from planner.performance import step_cost
from planner.provenance import Provenance, weakest_first
from planner.scenario import Scenario
from planner.simulation.fleet import Routing, run_fleet
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome, summarise
from planner.specs import EngineOptions, Gpu, Model, SchedulerConfig
from planner.summary import simulation_text
from planner.units import GIB
from planner.workload import build_load

SCHEMA_VERSION = 1
SAMPLES_BEYOND_PERCENTILE = 1000
REPORTED_PERCENTILE = 99.0  # every answer shows p99, so a run is long enough for it
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Candidate:
    """One combination of the scenario's lists. `choice` holds the keys that had more than one value."""

    model: Model
    gpu: Gpu
    options: EngineOptions
    routing: Routing
    gpus_per_node: int
    choice: dict[str, Any]
    provenance: tuple[Provenance, ...]


@dataclass(frozen=True)
class Rejected:
    """A combination that cannot be, and why."""

    choice: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Deployment:
    """A candidate with everything a simulation needs. `kv` and `config` are those of one data-parallel rank."""

    candidate: Candidate
    kv: KvCapacity
    config: SchedulerConfig
    cost: StepCost
    provenance: tuple[Provenance, ...]

    @property
    def gpus_per_replica(self) -> int:
        """GPUs behind one endpoint."""
        return self.candidate.options.gpus_per_replica


@dataclass(frozen=True)
class Simulation:
    """The answer of `simulate`; `document` has the JSON names, `outcome` the arrays behind them."""

    document: dict[str, Any]
    outcome: Outcome

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return self.document

    def __str__(self) -> str:
        return simulation_text(self.document)


# --- lists ---


def candidates(scenario: Scenario) -> list[Candidate | Rejected]:
    """Every combination of the lists in `model`, `hardware`, `engine.*` and `fleet.routing`, in the file's order.

    Raises for what is wrong whatever is chosen: an unknown model or GPU name, a missing `hardware`.
    """
    if scenario.hardware is None:
        raise ScenarioError("hardware", None, "is required: name a GPU of the catalogue")
    models = [find_model(name, scenario.base) for name in scenario.model]
    gpus = [find_gpu(name) for name in scenario.hardware]
    given = {key: getattr(scenario.engine, key) for key in type(scenario.engine).model_fields}
    keys = list(given)
    varied = scenario.choices()
    found: list[Candidate | Rejected] = []
    for model, gpu, *values, routing in itertools.product(
        models, gpus, *(given[key] or (None,) for key in keys), scenario.fleet.routing
    ):
        engine = dict(zip(keys, values, strict=True))
        every = {"model": model.name, "hardware": gpu.name, "fleet.routing": routing}
        every |= {f"engine.{key}": value for key, value in engine.items()}
        choice = {key: every[key] for key in varied}
        try:
            options, provenance = _options(model, gpu, engine)
            check_parallelism(model, gpu, options, scenario.fleet.gpus_per_node)
        except PlannerError as error:
            if not varied:
                raise
            found.append(Rejected(choice, str(error)))
            continue
        found.append(
            Candidate(
                model,
                gpu,
                options,
                cast(Routing, routing),
                scenario.fleet.gpus_per_node,
                choice,
                (*model_provenance(model), *gpu_provenance(gpu), *provenance),
            )
        )
    return found


def only_candidate(scenario: Scenario, verb: str) -> Candidate:
    """The scenario's single combination. Raises ScenarioError where a list is left to choose from."""
    for key, values in scenario.choices().items():
        raise ScenarioError(
            key, list(values), f"{verb} takes one value, not a list to choose from", f"--set {key}={values[0]}"
        )
    (candidate,) = candidates(scenario)
    assert isinstance(candidate, Candidate)  # a single combination that cannot be has raised
    return candidate


def _options(model: Model, gpu: Gpu, engine: dict[str, Any]) -> tuple[EngineOptions, tuple[Provenance, ...]]:
    """All of vLLM's arguments: what was given, and vLLM's own defaults for that version and device for the rest."""
    version = engine["vllm_version"] or known_versions()[-1]
    ranks = engine["tensor_parallel_size"] * engine["pipeline_parallel_size"]
    defaults = engine_defaults(gpu, version, ranks)
    given = {key: value for key, value in engine.items() if value is not None}
    max_model_len = given.get("max_model_len", model.max_position)
    if max_model_len > model.max_position:
        rule = f"{model.name} has a context of {model.max_position} tokens"
        raise MisfitError("engine.max_model_len", max_model_len, rule, str(model.max_position))
    chunked = given.get("enable_chunked_prefill", defaults.enable_chunked_prefill)
    tokens, seqs = _batch_limits(given, defaults, max_model_len, chunked)
    options = EngineOptions(
        quantization=resolve_quantization(model, engine["quantization"]),
        kv_cache_dtype=engine["kv_cache_dtype"],
        tensor_parallel_size=engine["tensor_parallel_size"],
        pipeline_parallel_size=engine["pipeline_parallel_size"],
        data_parallel_size=engine["data_parallel_size"],
        enable_expert_parallel=engine["enable_expert_parallel"],
        max_model_len=max_model_len,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        gpu_memory_utilization=given.get("gpu_memory_utilization", defaults.gpu_memory_utilization),
        block_size=given.get("block_size", defaults.block_size),
        enable_prefix_caching=given.get("enable_prefix_caching", defaults.enable_prefix_caching),
        enable_chunked_prefill=chunked,
        async_scheduling=given.get("async_scheduling", defaults.async_scheduling),
        enforce_eager=given.get("enforce_eager", False),
        vllm_version=version,
        num_gpu_blocks_override=engine["num_gpu_blocks_override"],
    )
    return options, tuple(row for row in defaults.provenance if row.what.removeprefix("engine.") not in given)


def _batch_limits(
    given: dict[str, Any], defaults: EngineDefaults, max_model_len: int, chunked: bool
) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs as vLLM settles them (vLLM 0.32 `EngineArgs`).

    Only a value that was not given is adjusted: tokens to at most seqs · max_model_len, and to at least
    max_model_len where prompts may not be cut; seqs to at most tokens.
    """
    seqs = given.get("max_num_seqs", defaults.max_num_seqs)
    tokens = given.get("max_num_batched_tokens")
    if tokens is None:
        tokens = defaults.max_num_batched_tokens if chunked else max(defaults.max_num_batched_tokens, max_model_len)
        tokens = min(tokens, seqs * max_model_len)
    if "max_num_seqs" not in given:
        seqs = min(seqs, tokens)
    if tokens < seqs:
        rule = f"must be at least max_num_seqs (={seqs})"
        raise MisfitError("engine.max_num_batched_tokens", tokens, rule, str(seqs))
    if not chunked and tokens < max_model_len:
        rule = f"must be at least max_model_len (={max_model_len}) with enable_chunked_prefill off"
        raise MisfitError("engine.max_num_batched_tokens", tokens, rule, str(max_model_len))
    return tokens, seqs


# --- one candidate ---


def deploy(candidate: Candidate) -> Deployment:
    """KV cache, scheduler and step cost of a candidate. Raises MisfitError where it does not fit the GPU."""
    options = candidate.options
    kv = kv_capacity(candidate.model, candidate.gpu, options)
    cost, performance = step_cost(candidate.model, candidate.gpu, options)
    rows = [*candidate.provenance, *kv.provenance, *performance]
    if options.data_parallel_size > 1:
        rows.append(
            Provenance(
                "engine.data_parallel_size",
                "assumed",
                "data-parallel ranks are simulated as independent engines; expert parallelism would keep them in step",
                str(options.data_parallel_size),
                errs="optimistic" if options.enable_expert_parallel else "",
            )
        )
    if options.async_scheduling:
        rows.append(
            Provenance(
                "asynchronous scheduling",
                "assumed",
                "an arrival misses one extra step; a finished request gives its seat back at once, vLLM one step later",
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
        cost,
        tuple(weakest_first(rows)),
    )


# --- one run ---


def default_queries(scenario: Scenario) -> int:
    """At least 1,000 samples beyond the strictest percentile that is judged or shown."""
    strictest = max([REPORTED_PERCENTILE, *(limit.percentile or 0.0 for limit in scenario.slo)])
    return round(SAMPLES_BEYOND_PERCENTILE / (1.0 - strictest / 100.0))


def warmup_of(queries: int) -> int:
    """Queries simulated and discarded before `queries` are counted: a tenth of them, and at least 500."""
    return max(queries // 10, 500)


def make_load(
    scenario: Scenario, max_model_len: int, seed: int, queries: int | None, duration_s: float | None = None
) -> Load:
    """The arrays of one run; the same seed gives the same token counts at every rate."""
    counted = queries if queries is not None or duration_s is not None else default_queries(scenario)
    rate = scenario.traffic.peak_qps or 1.0
    expected = counted if counted is not None else int(rate * (duration_s or 0.0))
    return build_load(
        scenario,
        queries=counted,
        duration_s=duration_s,
        warmup=warmup_of(expected),
        rng=np.random.default_rng(seed),
        max_model_len=max_model_len,
    )


def run(deployment: Deployment, scenario: Scenario, load: Load, replicas: int, seed: int) -> Outcome:
    """Simulate `replicas` endpoints of `deployment` under `load`; each of their data-parallel ranks is routed to."""
    ranks = replicas * deployment.candidate.options.data_parallel_size
    generator = np.random.default_rng([seed, 1])  # routing's own chance, apart from the load's
    fleet = run_fleet(load, deployment.config, deployment.cost, ranks, deployment.candidate.routing, generator)
    return summarise(fleet, scenario.slo, steady=scenario.demand == "open")


def simulate(
    scenario: Scenario, *, seed: int = 0, requests: int | None = None, duration_s: float | None = None
) -> Simulation:
    """One fleet (`fleet.replicas`, default 1) under one load.

    `requests` or `duration_s` set the length of an open-loop run (queries counted after a warm-up); the default is
    `default_queries`. Raises InputErrors for lists and for whatever cannot be run.
    """
    deployment = deploy(only_candidate(scenario, "simulate"))
    load = make_load(scenario, deployment.config.max_model_len, seed, requests, duration_s)
    replicas = scenario.fleet.replicas or 1
    outcome = run(deployment, scenario, load, replicas, seed)
    document = {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "model": {"name": deployment.candidate.model.name, "hf_repo": deployment.candidate.model.hf_repo},
        "fleet": fleet_document(deployment, replicas),
        **run_document(deployment, load, outcome),
        "provenance": [row.as_dict() for row in deployment.provenance],
    }
    return Simulation(document, outcome)


# --- documents ---


def fleet_document(deployment: Deployment, replicas: int, spare: int = 0) -> dict[str, Any]:
    """`fleet` of a plan: everything that starts it."""
    candidate = deployment.candidate
    return {
        "hardware": candidate.gpu.name,
        "gpus": replicas * deployment.gpus_per_replica,
        "replicas": replicas,
        "spare_replicas": spare,
        "gpus_per_replica": deployment.gpus_per_replica,
        "routing": candidate.routing,
        "engine": engine_document(candidate.options),
    }


def engine_document(options: EngineOptions) -> dict[str, Any]:
    """vLLM's arguments under vLLM's names; what is not set is left out."""
    return {key: value for key, value in vars(options).items() if value is not None}


def run_document(deployment: Deployment, load: Load, outcome: Outcome) -> dict[str, Any]:
    """Statistics of one run with what they rest on: cache size, memory, clipping, notes."""
    terms = {name: size / GIB for name, size in deployment.kv.terms.items()}
    return {
        **outcome.figures,
        "kv_cache_tokens": deployment.kv.tokens,
        "memory": {f"{name}_gib": round(size, 3) for name, size in terms.items()},
        "clipped_share": load.clipped_share,
        "cached_share": load.cached_share,
        "notes": list(load.notes),
    }
