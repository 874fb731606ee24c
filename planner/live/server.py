"""What a server says of itself, and waiting until it does."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from planner.errors import EndpointError, nearest_names
from planner.live.endpoint import Answer, Endpoint
from planner.live.metrics import Scrape, scrape

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
FOREVER = ("TLS error", "redirect", "certificate file")  # waiting does not mend these
REFUSED = (401, 403)
_REPOSITORY = re.compile(r"(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class ServerFacts:
    """What /version, /v1/models and /metrics tell. None = the server does not say."""

    models: tuple[str, ...] = ()  # as requests must name them, adapters after their base model
    model_root: str | None = None  # behind the first of them: a repository, or a path of the server's own machine
    max_model_len: int | None = None
    version: str | None = None
    engines: int | None = None
    kv_cache_tokens: int | None = None  # of one engine
    num_gpu_blocks: int | None = None
    block_size: int | None = None
    enable_prefix_caching: bool | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str | None = None
    has_metrics: bool = False

    def as_dict(self) -> dict[str, Any]:
        """What is known, for a record's header and the JSON answer: a repository, but no path of another machine."""
        shown = asdict(self) | {"model_root": self.repository}
        known = {key: value for key, value in shown.items() if value not in (None, ())}
        return known | {"models": list(self.models)} if self.models else known

    @property
    def repository(self) -> str | None:
        """`model_root` where it has the form of a Hugging Face repository's name, not of a path."""
        return self.model_root if self.model_root and _REPOSITORY.fullmatch(self.model_root) else None


def wait_ready(endpoint: Endpoint, timeout_s: float, progress: Callable[[float], None] | None = None) -> None:
    """Return once /health answers 200; where there is no such path, once /v1/models does.

    Raises EndpointError after `timeout_s`, or at once for what waiting does not mend. `progress` is told the seconds
    waited so far.
    """
    begun, pause_s = time.monotonic(), FIRST_PAUSE_S
    while True:
        came, remedy = _not_ready(endpoint)
        if not came:
            return
        waited_s = time.monotonic() - begun
        if waited_s + pause_s > timeout_s:
            said = f"not ready after {timeout_s:g} s: {came}"
            raise EndpointError(endpoint.url, "GET /health", said, remedy or "give it longer with --wait")
        if progress is not None:
            progress(waited_s)
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def _not_ready(endpoint: Endpoint) -> tuple[str, str]:
    """Why the server cannot be used yet, and the remedy; empty if it can."""
    try:
        answer = endpoint.get("/health")
        if answer.status == 404:
            answer = endpoint.get("/v1/models")
    except EndpointError as error:
        if any(word in error.came for word in FOREVER):
            raise
        return error.came, error.remedy
    if answer.status in REFUSED:
        raise _no_entry(endpoint, "GET /health", answer)
    return ("", "") if answer.status == 200 else (f"HTTP {answer.status}", "")


def server_facts(endpoint: Endpoint) -> tuple[ServerFacts, Scrape | None]:
    """Everything that can be read, and the scrape it was read from. Only /v1/models must be there."""
    models = _models(endpoint)
    try:
        read = scrape(endpoint)
    except EndpointError:
        read = Scrape({})
    cache = read.cache_config[0] if read.cache_config else {}
    first = models[0]
    return ServerFacts(
        models=tuple(str(model["id"]) for model in models),
        model_root=str(first["root"]) if first.get("root") else None,
        max_model_len=_int(first.get("max_model_len")),
        version=_version(endpoint),
        engines=len(read.engines) or None,
        kv_cache_tokens=_kv_tokens(cache),
        num_gpu_blocks=_int(cache.get("num_gpu_blocks")),
        block_size=_int(cache.get("block_size")),
        enable_prefix_caching=_flag(cache.get("enable_prefix_caching")),
        gpu_memory_utilization=_float(cache.get("gpu_memory_utilization")),
        kv_cache_dtype=cache.get("cache_dtype"),
        has_metrics=read.is_vllm,
    ), read if read.is_vllm else None


def check_model(facts: ServerFacts, model: str, url: str) -> None:
    """Raise EndpointError where the server does not serve `model`."""
    if model not in facts.models:
        nearest = nearest_names(model, facts.models) or ", ".join(facts.models)
        raise EndpointError(url, "GET /v1/models", f"no model {model}", f"it serves: {nearest}")


def _models(endpoint: Endpoint) -> list[Mapping[str, Any]]:
    asked = "GET /v1/models"
    answer = endpoint.get("/v1/models")
    if answer.status in REFUSED:
        raise _no_entry(endpoint, asked, answer)
    if answer.status != 200:
        raise EndpointError(endpoint.url, asked, f"HTTP {answer.status}", "is it an OpenAI-compatible server?")
    try:
        models = json.loads(answer.text)["data"]
        if models and all(isinstance(model, dict) and isinstance(model["id"], str) for model in models):
            return list(models)
    except (ValueError, KeyError, TypeError):
        pass
    raise EndpointError(endpoint.url, asked, "no list of models", "is it an OpenAI-compatible server?")


def _no_entry(endpoint: Endpoint, asked: str, answer: Answer) -> EndpointError:
    remedy = "put the key into the environment as PLANNER_API_KEY or OPENAI_API_KEY"
    return EndpointError(endpoint.url, asked, f"HTTP {answer.status}", remedy)


def _version(endpoint: Endpoint) -> str | None:
    try:
        answer = endpoint.get("/version")
        version = json.loads(answer.text)["version"] if answer.status == 200 else None
    except (EndpointError, ValueError, KeyError, TypeError):
        return None
    return version[:40] if isinstance(version, str) else None


def release(version: str | None) -> str | None:
    """ "0.32.0" of "0.32.0+cpu", as a scenario's `engine.vllm_version` is written; None where it is not one."""
    found = re.match(r"v?(\d{1,4}\.\d{1,4}(\.\d{1,4})?)", version or "")
    return found[1] if found else None


def _kv_tokens(cache: Mapping[str, str]) -> int | None:
    """As the engine reports it; of versions that report blocks alone, blocks × block size."""
    told = _int(cache.get("kv_cache_size_tokens"))
    blocks, size = _int(cache.get("num_gpu_blocks")), _int(cache.get("block_size"))
    return told if told is not None else blocks * size if blocks and size else None


def _int(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _float(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _flag(value: object) -> bool | None:
    return {"true": True, "false": False}.get(str(value).lower())
