"""The lists of a scenario unfolded: names looked up, vLLM's arguments resolved, impossible combinations told apart."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

from planner.catalogue.engine_defaults import EngineDefaults, engine_defaults, known_versions, nearest_version
from planner.catalogue.hardware import gpu as find_gpu
from planner.catalogue.hardware import gpu_provenance
from planner.catalogue.models import model as find_model
from planner.catalogue.models import model_provenance
from planner.deployment.router_origins import admission_origins
from planner.errors import MisfitError, PlannerError, ScenarioError, UnsupportedError
from planner.memory import check_parallelism, resolve_quantization
from planner.provenance import Provenance
from planner.readers.calibration_file import Calibration, read_calibration
from planner.response_cache import cache_origins
from planner.scenario import Scenario
from planner.simulation.fleet import BLIND, Routing
from planner.specs import EngineOptions, Gpu, Model

SESSION_ROUTING = "session routing"  # the row that `Deployment.provenance_of` leaves out for a single engine
ANYWHERE = "sends a turn to any replica, and its history is cached where the turns before were served"
SESSION_ROUTES = {  # what a routing that keeps sessions together takes for granted, and in which direction that errs
    "session_affinity": (
        "every turn carries its session's name, and all of a session go to one replica while it serves",
        "optimistic",
    ),
    "prefix_aware": (
        "the router knows at once every prompt it sent and how busy each replica is, llm-d's some 50 ms later",
        "optimistic",
    ),
}


@dataclass(frozen=True)
class Candidate:
    """One combination of the scenario's lists. `choice` holds the keys that had more than one value.

    `calibration` is what the scenario names, whether it belongs to this combination or not. `ranks_in_step` is how many
    data-parallel ranks are simulated as one group that begins and ends each step together, 1 = none.
    """

    model: Model
    gpu: Gpu
    options: EngineOptions
    routing: Routing
    gpus_per_node: int
    choice: dict[str, Any]
    provenance: tuple[Provenance, ...]
    calibration: Calibration | None = None
    calibration_file: str = ""
    ranks_in_step: int = 1

    @property
    def known_version(self) -> bool:
        """Whether anything is known of this very version of vLLM, or a neighbour stands in."""
        return nearest_version(self.options.vllm_version)[1]


@dataclass(frozen=True)
class Rejected:
    """A combination that cannot be, and why."""

    choice: dict[str, Any]
    reason: str


def candidates(scenario: Scenario) -> list[Candidate | Rejected]:
    """Every combination of the lists in `model`, `hardware`, `engine.*` and `fleet.routing`, in the file's order.

    Raises for what is wrong whatever is chosen: an unknown model or GPU name, a missing `hardware`.
    """
    _refuse_days(scenario)
    if scenario.hardware is None:
        raise ScenarioError("hardware", None, "is required: name a GPU of the catalogue")
    models = [find_model(name, scenario.base) for name in scenario.model]
    gpus = [find_gpu(name) for name in scenario.hardware]
    named = scenario.calibration
    calibration = None if named is None else read_calibration(scenario.resolve(named))
    given = {key: getattr(scenario.engine, key) for key in type(scenario.engine).model_fields}
    keys = list(given)
    varied = scenario.choices()
    cached = cache_origins(scenario)
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
            in_step = _ranks_in_step(scenario, model, options, routing)
        except PlannerError as error:
            if not varied:
                raise
            found.append(Rejected(choice, str(error)))
            continue
        rows = (*provenance, *_ranks_provenance(model, options, in_step), *_session_provenance(scenario, routing))
        rows += tuple(admission_origins(scenario, routing))
        found.append(
            Candidate(
                model,
                gpu,
                options,
                cast(Routing, routing),
                scenario.fleet.gpus_per_node,
                choice,
                (*model_provenance(model), *gpu_provenance(gpu), *rows, *cached),
                calibration,
                "" if named is None else PurePath(named).name,
                in_step,
            )
        )
    return found


def _ranks_in_step(scenario: Scenario, model: Model, options: EngineOptions, routing: str) -> int:
    """Data-parallel ranks that share experts, where the load is one that groups can be simulated under, else 1.

    vLLM keeps the ranks of every mixture of experts in step, with expert parallelism or without: without it each expert
    is cut over all ranks. Arrivals must be known beforehand (`simulation.fleet.arrivals_known`).

    Raises UnsupportedError for a routing that groups of ranks are not simulated under.
    """
    traffic = scenario.traffic
    waits = scenario.demand == "closed" or traffic.max_in_flight is not None or scenario.session is not None
    if model.experts is None or waits or len(scenario.query.stages) > 1 or traffic.timeout_s is not None:
        return 1
    if options.data_parallel_size > 1 and routing not in (*BLIND, "least_loaded"):
        rule = "beside data-parallel ranks that compute in step it is not supported yet"
        raise UnsupportedError("fleet.routing", routing, rule, "least_loaded")
    return options.data_parallel_size


def _ranks_provenance(model: Model, options: EngineOptions, in_step: int) -> list[Provenance]:
    """What is taken for granted of data-parallel ranks."""
    if options.data_parallel_size == 1:
        return []
    source, errs = "data-parallel ranks are simulated as independent engines", ""
    if in_step > 1:
        source = "ranks begin and end each step together, as long as the slowest; none is padded to the largest batch"
        errs = "optimistic"
    elif model.experts is not None:
        source += "; a mixture of experts would keep them in step (simulated for single-stage open arrivals)"
        errs = "optimistic"
    return [Provenance("engine.data_parallel_size", "assumed", source, str(options.data_parallel_size), errs=errs)]


def _refuse_days(scenario: Scenario) -> None:
    """Raise UnsupportedError for what only days have, which `days` and `plan` take out first: here the load stands
    still. Rates whose peak and day stand beside them are a record: nothing of them is left to read.
    """
    rates = scenario.traffic.rates if scenario.traffic.peak_qps is None else None
    for key, value in (("fleet.autoscaler", scenario.fleet.autoscaler), ("traffic.rates", rates)):
        if value is not None:
            given = value.model_dump(mode="json", exclude_unset=True)
            rule = "follows the hours, and here the load is that of one moment: plan and simulate --days N read it"
            raise UnsupportedError(key, given, rule, f"--set {key}=null, or simulate --days 1")


def _session_provenance(scenario: Scenario, routing: str) -> list[Provenance]:
    """What is taken for granted of sessions of several turns."""
    session = scenario.session
    if session is None:
        return []
    turns = f"{session.turns} turns"
    history = "every earlier prompt and answer of a session is sent again whole: nothing is summarised or left out"
    where, errs = SESSION_ROUTES.get(routing, (f"{routing} {ANYWHERE}", "pessimistic"))
    rows = [
        Provenance("session history", "assumed", history, turns, errs="unknown"),
        Provenance(SESSION_ROUTING, "assumed", where, routing, errs=errs),
    ]
    if "think_s" in session.model_fields_set:
        return rows
    pause = "query.stages[0].think_s is not given: a turn is due when the one before has ended"
    return [*rows, Provenance("pause between turns", "assumed", pause, "0 s", errs="optimistic")]


def only_candidate(scenario: Scenario, verb: str) -> Candidate:
    """The scenario's single combination. Raises ScenarioError where a list is left to choose from."""
    choices = scenario.choices()
    for key, values in choices.items():
        one_of_each = " ".join(f"--set {name}={options[0]}" for name, options in choices.items())
        raise ScenarioError(key, list(values), f"{verb} takes one value, not a list to choose from", one_of_each)
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
    rows = [row for row in defaults.provenance if row.what.removeprefix("engine.") not in given]
    nearest, exact = nearest_version(version)
    if not exact:
        source = f"nothing is known of vLLM {version}: defaults, kernels and scheduling are taken as those of {nearest}"
        rows.append(Provenance("engine mode: vLLM version", "assumed", source, version, errs="unknown"))
    return options, tuple(rows)


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
