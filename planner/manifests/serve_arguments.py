"""vLLM's command line for an engine that was planned: the inverse of `readers.vllm_args.parse_serve_command`."""

from __future__ import annotations

from planner.catalogue.models import model as find_model
from planner.errors import InputError, PlannerError, UnsupportedError
from planner.manifests.facts import Facts
from planner.manifests.plan_shape import EngineFacts
from planner.specs import Quantization

PORT = 8000
SECRET = ("api-key", "hf-token")
# What vLLM makes of a 16-bit checkpoint as it loads. Every other format needs a checkpoint that has it.
ONLINE: dict[Quantization, str] = {"fp8": "fp8"}
_SIZES = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "block_size",
    "num_gpu_blocks_override",
)
_SWITCHES = (
    "enable_expert_parallel",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "async_scheduling",
    "enforce_eager",
)


def engine_arguments(engine: EngineFacts, checkpoint: Quantization) -> list[str]:
    """The plan's engine as arguments, every one written out: a later vLLM may have other defaults.

    `checkpoint` is the weight format of the checkpoint that is served. Raises UnsupportedError where vLLM cannot make
    the planned format of it as it loads.
    """
    words: list[str] = []
    if engine.quantization != checkpoint:
        if checkpoint != "bf16" or engine.quantization not in ONLINE:
            rule = (
                f"vLLM makes {' or '.join(ONLINE)} of a bf16 checkpoint as it loads; of one in {checkpoint} this "
                "format needs another checkpoint: name it with --checkpoint"
            )
            raise UnsupportedError("fleet.engine.quantization", engine.quantization, rule)
        words += ["--quantization", ONLINE[engine.quantization]]
    words += ["--kv-cache-dtype", engine.kv_cache_dtype]
    for key in _SIZES:
        value = getattr(engine, key)
        if value is not None:
            words += [_flag(key), f"{value:g}" if isinstance(value, float) else str(value)]
    return words + [_flag(key) if getattr(engine, key) else f"--no-{key.replace('_', '-')}" for key in _SWITCHES]


def serve_arguments(facts: Facts, given: str | None, more: tuple[str, ...], host: str) -> list[str]:
    """All arguments of `vllm serve` for the plan; `given` is another checkpoint than the model's own, `more` is added.

    Raises InputError for a plan whose model has no repository, and for a flag in `more` that the plan sets.
    """
    if given is None and facts.hf_repo is None:
        rule = "it has no repository on the Hugging Face Hub to serve from: name one, or a path, with --checkpoint"
        raise InputError("model.hf_repo", None, f"of {facts.model}: {rule}")
    # A checkpoint that is named is one in the planned format.
    made = engine_arguments(facts.engine, facts.engine.quantization if given else _checkpoint(facts))
    words = [
        given or str(facts.hf_repo),
        "--served-model-name",
        served_name(facts),
        "--host",
        host,
        "--port",
        str(PORT),
    ]
    words += made
    taken = {_plain(word) for word in words if word.startswith("--")}
    for word in more:
        flag = word.partition("=")[0]
        if not word.startswith("--") or not word.isprintable():
            raise InputError("--vllm-arg", word, "must be one flag of vLLM's, with its value after =", "--dtype=auto")
        # vLLM takes a flag's beginning for the flag.
        if any(name.startswith(_plain(flag)) for name in SECRET):
            raise InputError("--vllm-arg", flag, "comes from a secret: it would be readable in the objects")
        if any(name.startswith(_plain(flag)) for name in (*taken, "model")):
            raise InputError("--vllm-arg", flag, "comes from the plan: change it there")
    return [*words, *more]


def served_name(facts: Facts) -> str:
    """The name under which clients ask for the model, whatever it is loaded from."""
    return facts.hf_repo or facts.model


def _checkpoint(facts: Facts) -> Quantization:
    try:
        if facts.model.endswith(".json"):  # a file, which the catalogue would read
            raise InputError("model.name", facts.model, "is a file")
        return find_model(facts.model).checkpoint
    except PlannerError:
        rule = "is not in this planner's catalogue, so the format of its checkpoint is unknown: give --checkpoint"
        raise InputError("model.name", facts.model, rule) from None


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _plain(flag: str) -> str:
    """A flag's name, switched on or off, in any spelling, so that neither slips past the plan's own."""
    name = flag.lstrip("-").replace("_", "-")
    short = {
        "tp": "tensor-parallel-size",
        "pp": "pipeline-parallel-size",
        "dp": "data-parallel-size",
        "q": "quantization",
    }
    return short.get(name, name.removeprefix("no-"))
