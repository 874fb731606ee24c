"""A `vllm serve` command line: what of it the planner models, what it does not, and what changes no speed.

Values of flags that are not modelled are never kept: a key, a token or a password may be among them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from planner.errors import InputError
from planner.scenario.rules import scenario_error
from planner.scenario.sections import Engine

KEY = "--vllm-args"
SHORT = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp": "data-parallel-size",
    "ep": "enable-expert-parallel",
    "q": "quantization",
}
QUANTIZATIONS = {
    "fp8": "fp8",
    "modelopt": "fp8",
    "modelopt_fp4": "nvfp4",
    "awq": "awq",
    "awq_marlin": "awq",
    "gptq": "gptq",
    "gptq_marlin": "gptq",
    "mxfp4": "mxfp4",
    "compressed-tensors": "auto",  # the checkpoint says which
    "none": "auto",
}
SIZES = {"k": 1000, "m": 1000**2, "K": 1024, "M": 1024**2}  # vLLM tells 1k from 1K
SWITCHES = ("enforce-eager", "trust-remote-code", "async-scheduling", "language-model-only", "ep")
SWITCH_PREFIXES = ("enable-", "disable-", "no-", "skip-", "use-")
MODEL_FLAG = "model"
_CHANGE_SPEED = """
    speculative-config spec-method spec-model spec-tokens enable-lora max-loras lora-dtype dtype attention-backend
    attention-config moe-backend linear-backend all2all-backend compilation-config optimization-level
    cudagraph-capture-sizes max-cudagraph-capture-size performance-mode kernel-config cpu-offload-gb
    kv-offloading-size kv-transfer-config kv-cache-memory-bytes swap-space scheduling-policy scheduler-cls
    long-prefill-token-threshold max-num-partial-prefills max-long-partial-prefills max-num-active-seqs
    max-num-scheduled-tokens scheduler-reserve-full-isl watermark prefill-schedule-interval stream-interval
    decode-context-parallel-size prefill-context-parallel-size enable-dbo enable-eplb disable-cascade-attn
    disable-custom-all-reduce disable-sliding-window kv-sharing-fast-prefill distributed-executor-backend
    api-server-count tokenizer-mode nnodes
"""
CHANGE_SPEED = frozenset(_CHANGE_SPEED.split())


@dataclass(frozen=True)
class ServeArguments:
    """A command line, sorted. `engine` has the scenario's own keys; the others are names of flags."""

    model: str | None = None
    engine: dict[str, Any] = field(default_factory=dict)
    not_modelled: tuple[str, ...] = ()  # they change speed or memory
    others: tuple[str, ...] = ()  # without effect on the plan, or unknown
    notes: tuple[str, ...] = ()


def parse_serve_command(text: str) -> ServeArguments:
    """Sort the arguments of `vllm serve …`, with or without the command itself.

    Raises InputError for what is no command line and for values that vLLM would not take either.
    """
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise InputError(KEY, None, f"is no command line: {str(error).lower()}") from None
    words = _after_the_command([word for word in words if word.strip() != ""])
    model: str | None = None
    engine: dict[str, Any] = {}
    not_modelled: list[str] = []
    others: list[str] = []
    notes: list[str] = []
    for name, value in _flags(words):
        if name in ("", MODEL_FLAG):
            if value is None:
                raise InputError(f"{KEY} --model", None, "has no value")
            model = value
        elif name == "quantization":
            engine["quantization"] = _quantization(value, notes)
        elif name in _ENGINE:
            key, read = _ENGINE[name]
            try:
                engine[key] = read(value)
            except (ValueError, KeyError):
                raise InputError(f"{KEY} --{name}", value, "is no value for it") from None
            if engine[key] is None:
                del engine[key]
            else:
                _check_range(name, key, engine[key])
        elif name in CHANGE_SPEED or name.removeprefix("no-") in CHANGE_SPEED:
            not_modelled.append(f"--{name}")
        else:
            others.append(f"--{name}")
    _check_together(engine)
    return ServeArguments(model, engine, _once(not_modelled), _once(others), tuple(notes))


def _check_range(name: str, key: str, value: Any) -> None:
    """The scenario's own ranges; an InputError that names the flag where the value breaks one."""
    try:
        Engine.model_validate({key: value})
    except ValidationError as error:
        broken = scenario_error(error, {key: value}, ())
        raise InputError(f"{KEY} --{name}", broken.value, broken.rule, broken.nearest) from None


def _check_together(engine: dict[str, Any]) -> None:
    """What vLLM refuses of two flags that are both given (`SchedulerConfig`); an InputError that names the two."""
    tokens = engine.get("max_num_batched_tokens")
    if tokens is None:
        return
    floors = [("max_num_seqs", "")]
    if engine.get("enable_chunked_prefill") is False:
        floors.append(("max_model_len", " with --no-enable-chunked-prefill"))
    for key, because in floors:
        least = engine.get(key)
        if least is not None and tokens < least:
            rule = f"must be at least --{key.replace('_', '-')} (={least}){because}"
            raise InputError(f"{KEY} --max-num-batched-tokens", tokens, rule, str(least))


def _after_the_command(words: list[str]) -> list[str]:
    """What follows `vllm serve` or the API server's module; everything where neither is named."""
    for index, word in enumerate(words):
        if word == "serve" or word.endswith("entrypoints.openai.api_server"):
            return words[index + 1 :]
    start = 0
    while start < len(words) and re.fullmatch(r"[A-Za-z_]\w*=.*", words[start]):
        start += 1  # settings of the environment
    return words[start + 1 :] if words[start : start + 1] == ["vllm"] else words[start:]


def _flags(words: list[str]) -> list[tuple[str, str | None]]:
    """(name, value) of each flag, names in vLLM's spelling; a word that is nobody's value is the model, named ""."""
    found: list[tuple[str, str | None]] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not re.match(r"--?[A-Za-z]", word):
            found.append(("", word))
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        name = SHORT.get(name, name)
        following = words[index] if index < len(words) else None
        if equals:
            found.append((name, value))
        elif _is_switch(name) or following is None or re.match(r"--?[A-Za-z]", following):
            found.append((name, None))
        else:
            found.append((name, following))
            index += 1
    return found


def _is_switch(name: str) -> bool:
    return name in SWITCHES or name.startswith(SWITCH_PREFIXES)


def _quantization(value: str | None, notes: list[str]) -> str:
    known = QUANTIZATIONS.get((value or "").lower().replace("-", "_"), QUANTIZATIONS.get((value or "").lower()))
    if known is None:
        notes.append(f"--quantization {value} has no counterpart here: the checkpoint's own format is taken")
    return known or "auto"


def _size(value: str | None) -> int | None:
    """A number of tokens: 8192, 8k = 8000, 8K = 8192; None for vLLM's own choice (auto, -1)."""
    text = value or ""
    if text in ("auto", "-1"):
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * SIZES.get(found[2], 1))


def _share(value: str | None) -> float:
    share = float(value or "")
    if not 0 < share <= 1:
        raise ValueError(share)
    return share


def _kv_dtype(value: str | None) -> str:
    return "fp8" if (value or "").startswith("fp8") else {"auto": "auto", "bfloat16": "auto"}[value or ""]


def _switch(default: bool) -> Callable[[str | None], bool]:
    return lambda value: default if value is None else {"true": True, "false": False}[value.lower()]


_COUNTS = (
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "max-model-len",
    "max-num-seqs",
    "max-num-batched-tokens",
    "block-size",
    "num-gpu-blocks-override",
)
_SWITCHED = (
    "enable-expert-parallel",
    "enable-prefix-caching",
    "enable-chunked-prefill",
    "async-scheduling",
    "enforce-eager",
)
_ENGINE: dict[str, tuple[str, Callable[[str | None], Any]]] = {
    "gpu-memory-utilization": ("gpu_memory_utilization", _share),
    "kv-cache-dtype": ("kv_cache_dtype", _kv_dtype),
    **{name: (name.replace("-", "_"), _size) for name in _COUNTS},
    **{name: (name.replace("-", "_"), _switch(True)) for name in _SWITCHED},
    **{f"no-{name}": (name.replace("-", "_"), _switch(False)) for name in _SWITCHED},
}


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
