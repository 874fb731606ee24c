"""Scenarios to begin with: from nothing, from a running server, from its command line.

`recorded_draft` makes one from a load test's records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner import vllm_metrics as names
from planner.catalogue.engine_defaults import known_versions
from planner.catalogue.hardware import gpu_names
from planner.catalogue.models import model as find_model
from planner.catalogue.models import model_names
from planner.errors import PlannerError, nearest_names
from planner.live import Scrape, ServerFacts, release
from planner.readers.vllm_args import ServeArguments
from planner.scenario.writing import Draft, Section, Value
from planner.specs import Model

FORMATS = {"-fp8-dynamic": "fp8", "-fp8": "fp8", "-awq": "awq", "-gptq": "gptq", "-nvfp4": "nvfp4", "-mxfp4": "mxfp4"}
ASK = "must be filled in before anything can be simulated"
QUANTIZATION_NOTE = "auto = the checkpoint's own number format; fp8, awq … as --quantization says"


def blank_draft() -> Draft:
    """A whole scenario of common values, to be changed line by line."""
    return Draft(
        heading=(
            "A planning question. Everything runs as it stands; every value is an example to be replaced.",
            "  planner simulate FILE     one fleet under this load",
            "  planner plan FILE         the cheapest fleet that holds the service levels",
        ),
        name="first scenario",
        model=Value("llama-3.1-8b", "planner catalogue models, or the path of a config.json; a list = choose"),
        hardware=Value("h100-sxm-80gb", "planner catalogue hardware; a list = choose"),
        engine={"max_model_len": Value(8192, "most tokens of one request, prompt and output together")},
        optional=_optional({}, "as vLLM's own default"),
        traffic={
            "peak_qps": Value(5, "user queries per second in the busiest hour"),
            "arrivals": Value("poisson", "or constant, {gamma: {burstiness: 0.5}}, {closed: {concurrency: 8}} …"),
        },
        stages=(_assumed_stage(),),
        **_business(known=True),
    )


def draft_from_server(facts: ServerFacts, read: Scrape | None, url: str) -> Draft:
    """What a running server tells; its hardware, its batch limits and its load it does not tell."""
    names_of_it = (facts.repository or _last_part(facts.model_root or ""), *facts.models[:1])
    model, quantization = _found_model([name for name in names_of_it if name])
    version = release(facts.version)
    engine: dict[str, Value] = {}
    if quantization:
        engine["quantization"] = Value(quantization, "by the model's name")
    if facts.max_model_len:
        engine["max_model_len"] = Value(facts.max_model_len, "/v1/models")
    for key in ("gpu_memory_utilization", "block_size", "enable_prefix_caching"):
        if getattr(facts, key) is not None:
            engine[key] = Value(getattr(facts, key), "/metrics")
    if (facts.kv_cache_dtype or "").startswith("fp8"):
        engine["kv_cache_dtype"] = Value("fp8", "/metrics")
    if facts.engines and facts.engines > 1:
        engine["data_parallel_size"] = Value(facts.engines, "/metrics: engines behind this address")
    if version:
        engine["vllm_version"] = Value(version, "/version")
    engine |= _blocks(facts.kv_cache_tokens, facts.block_size)
    on_cpu = "cpu" in (facts.version or "")
    return Draft(
        heading=heading(f"planner init --from {url}"),
        name=f"{_last_part(facts.models[0])}, as running",
        model=model,
        hardware=Value("cpu", "/version") if on_cpu else _unknown_hardware(),
        engine=engine,
        optional=_optional(engine, "the server does not say"),
        traffic=_unknown_traffic(),
        stages=(_stage_seen(read),),
        **_business(known=False),
    )


def draft_from_arguments(arguments: ServeArguments) -> Draft:
    """What a `vllm serve` command line tells."""
    model, quantization = _model_given(arguments.model) if arguments.model else _found_model([])
    engine = {key: Value(value, "") for key, value in arguments.engine.items()}
    if quantization and "quantization" not in engine:
        engine["quantization"] = Value(quantization, "by the model's name")
    told = [*heading("planner init --vllm-args"), *(f"Note: {note}." for note in arguments.notes)]
    if arguments.not_modelled:
        told.append(f"These flags change speed or memory and are NOT modelled: {' '.join(arguments.not_modelled)}")
    if arguments.others:
        told.append(f"These flags are not used, or not known here: {' '.join(arguments.others)}")
    short = _last_part(arguments.model or "a server")
    return Draft(
        heading=tuple(told),
        name=f"{short}, from its command line",
        model=model,
        hardware=_unknown_hardware(),
        engine=engine,
        optional=_optional(engine, "not on the command line: vLLM's own default"),
        traffic=_unknown_traffic(),
        stages=(_assumed_stage(known=False),),
        **_business(known=False),
    )


def left_open(draft: Draft) -> list[str]:
    """The keys of a draft that are marked to fill in, dotted as `--set` takes them, in the file's order."""
    sections = {"": {"model": draft.model, "hardware": draft.hardware}, "engine.": draft.engine}
    sections |= {"traffic.": draft.traffic, "query.": draft.query}
    sections |= {f"query.stages[{place}].": stage for place, stage in enumerate(draft.stages)}
    sections |= {f"{name}.": getattr(draft, name) for name in ("slo", "fleet", "prices", "revenue")}
    return [f"{at}{key}" for at, section in sections.items() for key, value in section.items() if not value.known]


# --- the parts ---


def heading(command: str) -> tuple[str, ...]:
    """The first lines of a scenario that a command made."""
    return (f"Made by `{command}`.", "Lines that say `fill in` could not be read: put your own values there.")


def _model_given(name: str) -> tuple[Value, str | None]:
    """The model of a command line of this machine: a folder with its configuration, or a name."""
    config = Path(name) / "config.json"
    return (Value(str(config), "its own config.json"), None) if config.is_file() else _found_model([name])


def _found_model(candidates: list[str]) -> tuple[Value, str | None]:
    """The model by any of its names, and the number format that its name gives away.

    A name is never looked for on this machine's disk: a server's paths are those of its own machine.
    """
    for name in candidates:
        plain = _last_part(name)
        for tried in (name, plain, plain.lower().removeprefix("meta-")):
            if model := _catalogue(tried):
                return Value(model.name, f"served as {name}" if name != model.name else ""), None
        for ending, quantization in FORMATS.items():
            base = plain.lower().removeprefix("meta-").removesuffix(ending)
            if base != plain.lower().removeprefix("meta-") and (model := _catalogue(base)):
                return Value(model.name, f"served as {name}"), quantization
    served = f"served as {candidates[0]}, which the catalogue does not hold; " if candidates else ""
    near = nearest_names(_last_part(candidates[0]), model_names()) if candidates else None
    hint = f"nearest: {near}; " if near else ""
    return Value(None, f"{served}{hint}a name of `planner catalogue models` or a config.json", known=False), None


def _last_part(name: str) -> str:
    """A repository's or path's own name."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _catalogue(name: str) -> Model | None:
    try:
        return None if name.lower().endswith(".json") else find_model(name, Path("/dev/null"))
    except PlannerError:
        return None


def _unknown_hardware() -> Value:
    common = [name for name in ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb", "l40s-48gb") if name in gpu_names()]
    return Value(None, f"{ASK}: {', '.join(common)} …; all: planner catalogue hardware", known=False)


def _unknown_traffic() -> Section:
    return {
        "peak_qps": Value(1, "user queries per second in the busiest hour", known=False),
        "arrivals": Value("poisson", "constant, poisson, {gamma: {burstiness: 0.5}}", known=False),
    }


def _assumed_stage(*, known: bool = True) -> Section:
    return {
        "name": Value("answer"),
        "prompt_tokens": Value({"lognormal": {"mean": 1000, "cv": 0.8}}, "tokens of a prompt", known),
        "output_tokens": Value({"lognormal": {"mean": 250, "cv": 0.7}}, "tokens of an answer", known),
        "shared_prefix": Value({"tokens": 100}, "of the prompt: a system prompt that all have in common", known),
    }


def _stage_seen(read: Scrape | None) -> Section:
    """Mean lengths of what the server has finished so far, if it tells; their spread is not told."""
    stage = dict(_assumed_stage(known=False))
    for key, name in (("prompt_tokens", names.REQUEST_PROMPT), ("output_tokens", names.REQUEST_GENERATION)):
        mean = None if read is None else read.mean(name)
        if mean and mean >= 1:
            note = "the mean is that of all requests since the server started; the spread is a guess"
            stage[key] = Value({"lognormal": {"mean": round(mean), "cv": 0.7}}, note, known=False)
            if key == "prompt_tokens":
                stage["shared_prefix"] = Value(
                    {"tokens": max(1, round(mean / 10))}, "tokens that all prompts have in common", known=False
                )
    return stage


def _optional(engine: Section, why: str) -> Section:
    """Engine keys that matter and are not known, as comments with vLLM's default in mind."""
    suggestions: dict[str, tuple[Any, str]] = {
        "quantization": ("auto", QUANTIZATION_NOTE),
        "tensor_parallel_size": (1, "GPUs that share the model"),
        "max_num_seqs": (256, "most requests in a batch"),
        "max_num_batched_tokens": (8192, "most tokens in a step"),
        "vllm_version": (known_versions()[-1], "quoted"),
    }
    return {key: Value(value, f"{note}; {why}") for key, (value, note) in suggestions.items() if key not in engine}


def _business(*, known: bool) -> dict[str, Section]:
    """Service levels, fleet, prices and revenue: what no server can tell."""
    return {
        "slo": {
            "p99_ttft_ms": Value("<=1000", "to the first token, in milliseconds", known),
            "p99_tpot_ms": Value("<=50", "for each further token", known),
        },
        "fleet": {"spare_replicas": Value(1, "replicas that may fail at the peak")} if known else {},
        "prices": {"gpu_hour_usd": Value({"rate_card": "on-demand"}, "or USD per GPU and hour", known)},
        "revenue": {"ads": Value({"usd_per_query": 0.03}, "or {ecpm_usd: 8, ads_per_query: 3}")} if known else {},
    }


def _blocks(kv_tokens: int | None, block_size: int | None) -> dict[str, Value]:
    if not kv_tokens or not block_size:
        return {}
    note = f"KV cache of {kv_tokens} tokens, as the server reported, ÷ block_size"
    return {"num_gpu_blocks_override": Value(kv_tokens // block_size, note)}
