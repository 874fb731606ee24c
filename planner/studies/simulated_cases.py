"""Steps of a case that simulate: what a document claims, measured on the planner's own scheduler and step cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from planner.catalogue.models import model_names
from planner.economics.cases import Case, CaseAnswer, shipped, work_out
from planner.economics.models import MODELS, Model
from planner.economics.models.fields import Given, Made, PositiveShare, Why
from planner.errors import InputError, UnknownNameError, nearest_names
from planner.planning import plan
from planner.provenance import Provenance
from planner.scenario import Scenario
from planner.studies.batching import compare_batching

TokensPerRequest = Annotated[float, Given("token/request", 1)]
Whole = Annotated[float, Given("", 1)]
Spread = Annotated[float, Given("", 0, 100)]
SEED = Why("the first of the repeatable random numbers")


@dataclass(frozen=True)
class StaticAgainstContinuous:
    """One server, the same queries, batched statically and continuously."""

    static_saturated: Annotated[float, Made("query/s")]
    continuous_saturated: Annotated[float, Made("query/s")]
    saturated_ratio: Annotated[float, Made("", "continuous_saturated ÷ static_saturated")]
    static_in_limit: Annotated[float, Made("query/s")]
    continuous_in_limit: Annotated[float, Made("query/s")]
    in_limit_ratio: Annotated[float, Made("", "continuous_in_limit ÷ static_in_limit")]
    cost_factor: Annotated[float, Made("", "static_in_limit ÷ continuous_in_limit")]
    static_seats_in_use: Annotated[float, Made("")]
    continuous_seats_in_use: Annotated[float, Made("")]
    seats_ratio: Annotated[float, Made("", "continuous_seats_in_use ÷ static_seats_in_use")]
    provenance: tuple[Provenance, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class PlannedFleet:
    """The cheapest fleet that holds the service levels, by simulation."""

    gpus: Annotated[float, Made("gpu")]
    replicas: Annotated[float, Made("server")]
    gpus_per_replica: Annotated[float, Made("gpu/server", "gpus ÷ replicas")]
    usd_per_hour: Annotated[float, Made("USD/hour")]
    usd_per_query: Annotated[float, Made("USD/query", "usd_per_hour ÷ 3600 ÷ queries_per_s")]
    utilisation: Annotated[float, Made("")]
    provenance: tuple[Provenance, ...] = field(default=(), repr=False)


def static_against_continuous(
    model: str,
    hardware: str,
    tensor_parallel_size: Whole,
    max_num_seqs: Whole,
    max_model_len: Annotated[float, Given("token/request", 2)],
    prompt_tokens: TokensPerRequest,
    prompt_cv: Spread,
    output_tokens: TokensPerRequest,
    output_cv: Spread,
    p95_e2e_limit: Annotated[float, Given("s", 0, above=True)],
    queries: Annotated[float, Given("query", 500, 1e6), Why("enough for a 95th percentile")] = 5000.0,
    seed: Annotated[float, Given("", 0), SEED] = 0.0,
) -> StaticAgainstContinuous:
    """Serve the same queries on one server with static and with continuous batching, and simulate both.

    Static: a batch is formed of what waits, runs until its longest answer has ended, nobody joins. Continuous: the
    planner's scheduler, as vLLM's. Model, GPU, seats, step cost, prompts, answers and arrivals are the same.
    """
    scenario = _scenario(
        model,
        hardware,
        {
            "tensor_parallel_size": _whole("tensor_parallel_size", tensor_parallel_size),
            "max_num_seqs": _whole("max_num_seqs", max_num_seqs),
            "max_model_len": _whole("max_model_len", max_model_len),
        },
        prompt=_lengths(prompt_tokens, prompt_cv),
        output=_lengths(output_tokens, output_cv),
    )
    found = compare_batching(scenario, p95_e2e_limit, _whole("queries", queries), _whole("seed", seed))
    static, continuous = found.static, found.continuous
    return StaticAgainstContinuous(
        static_saturated=static.saturated_qps,
        continuous_saturated=continuous.saturated_qps,
        saturated_ratio=continuous.saturated_qps / static.saturated_qps,
        static_in_limit=static.limit_qps,
        continuous_in_limit=continuous.limit_qps,
        in_limit_ratio=continuous.limit_qps / static.limit_qps,
        cost_factor=static.limit_qps / continuous.limit_qps,
        static_seats_in_use=static.seats_in_use,
        continuous_seats_in_use=continuous.seats_in_use,
        seats_ratio=continuous.seats_in_use / static.seats_in_use,
        provenance=tuple(row for row in found.deployment.provenance if row.kind == "assumed"),
    )


def planned_fleet(
    model: str,
    hardware: str,
    queries_per_s: Annotated[float, Given("query/s", 0, above=True)],
    prompt_tokens: TokensPerRequest,
    output_tokens: TokensPerRequest,
    p99_ttft: Annotated[float, Given("s", 0, above=True)],
    p99_tpot: Annotated[float, Given("s", 0, above=True)],
    usd_per_gpu_hour: Annotated[float, Given("USD/gpu/hour", 0, above=True)],
    tensor_parallel_size: tuple[Whole, ...],
    max_model_len: Annotated[float, Given("token/request", 2)],
    quantization: Annotated[str, Why("the checkpoint's own number format")] = "auto",
    prompt_cv: Annotated[Spread, Why("every prompt of the same length")] = 0.0,
    output_cv: Annotated[Spread, Why("every answer of the same length")] = 0.0,
    compute_share: Annotated[PositiveShare, Why("nothing but GPUs is paid for")] = 1.0,
    queries: Annotated[float, Given("query", 1000, 1e7), Why("a tenth of what a plan counts by itself")] = 10_000.0,
    seed: Annotated[float, Given("", 0), SEED] = 0.0,
) -> PlannedFleet:
    """Plan the cheapest fleet that holds the service levels at this rate, all day, and price it.

    The same as `planner plan` on a scenario of these values. Raises InputError where no fleet holds them.
    """
    sizes = [_whole("tensor_parallel_size", size) for size in tensor_parallel_size]
    scenario = _scenario(
        model,
        hardware,
        {
            "tensor_parallel_size": sizes,
            "quantization": quantization,
            "max_model_len": _whole("max_model_len", max_model_len),
        },
        prompt=_lengths(prompt_tokens, prompt_cv),
        output=_lengths(output_tokens, output_cv),
        more={
            "traffic": {"peak_qps": queries_per_s},
            "slo": {"p99_ttft_ms": f"<={p99_ttft * 1000:g}", "p99_tpot_ms": f"<={p99_tpot * 1000:g}"},
            "prices": {"gpu_hour_usd": usd_per_gpu_hour, "compute_share": compute_share},
        },
    )
    found = plan(scenario, seed=_whole("seed", seed), requests=_whole("queries", queries), worlds=0).as_dict()
    if not found["feasible"]:
        reasons = [row["reason"] for row in found["alternatives"] if row["reason"]]
        raise InputError("model", model, f"no fleet of {hardware} holds these service levels: {reasons[0]}")
    fleet, cost = found["fleet"], found["cost"]
    return PlannedFleet(
        gpus=float(fleet["gpus"]),
        replicas=float(fleet["replicas"]),
        gpus_per_replica=float(fleet["gpus_per_replica"]),
        usd_per_hour=cost["usd_per_hour"],
        usd_per_query=cost["usd_per_query"],
        utilisation=found["at_peak"]["utilisation"],
        provenance=tuple(Provenance(**row) for row in found["provenance"] if row["kind"] == "assumed"),
    )


def _scenario(
    model: str,
    hardware: str,
    engine: Mapping[str, Any],
    prompt: Any,
    output: Any,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Scenario:
    if model.lower() not in model_names():  # a case names no files: a path would be read from wherever it stands
        rule = "must be a model's name of the catalogue (planner catalogue models)"
        raise UnknownNameError("model", model, rule, nearest_names(model.rsplit("/", 1)[-1].lower(), model_names()))
    stage = {"name": "answer", "prompt_tokens": prompt, "output_tokens": output}
    return Scenario.from_dict(
        {
            "version": 1,
            "model": model,
            "hardware": hardware,
            "engine": dict(engine),
            "traffic": {"peak_qps": 1.0},
            "query": {"stages": [stage]},
            **more,
        }
    )


def _lengths(mean: float, cv: float) -> Any:
    """Token counts as a scenario says them: log-normal, or all the same."""
    return {"lognormal": {"mean": mean, "cv": cv}} if cv > 0 else _whole("tokens", mean)


def _whole(key: str, value: float) -> int:
    if value != int(value):
        raise InputError(key, value, "must be a whole number", str(round(value)))
    return int(value)


# Name in a case file -> function: the arithmetic ones, and those that simulate.
ALL_MODELS: Mapping[str, Model] = MappingProxyType(
    {**MODELS, **{model.__name__: model for model in (static_against_continuous, planned_fleet)}}
)


def answer_case(case: Case, changes: Mapping[str, Any] | None = None) -> CaseAnswer:
    """Work out a case with all models, `changes` (as of `--set`) in place of its own inputs. Raises InputErrors."""
    changed = case.with_values(changes) if changes else case
    return work_out(changed, ALL_MODELS, shipped, changes)
