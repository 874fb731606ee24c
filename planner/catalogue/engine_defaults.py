"""What `vllm serve` chooses by itself for the arguments that nobody gave, by GPU and vLLM version.

Versions are known by minor release: `0.25.1` is looked up as `0.25`. The rule for batch sizes is that of vLLM's
`EngineArgs.get_batch_defaults` for the API server, by the memory that the GPU offers:

    from 160 GiB (0.28 and later)    16384 tokens, 1024 sequences
    from 70 GiB, and not an A100      8192 tokens, 1024 sequences
    else                              2048 tokens,  256 sequences
    CPU                               2048 tokens,  128 sequences, each times the tensor and pipeline ranks

vLLM then lowers the tokens to at most sequences × max_model_len and the sequences to at most the tokens, which
needs the model and is left to the caller. Some attention backends prefer a larger block (64 for FlashMLA).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from planner.catalogue.tables import Row, flag, read_rows, whole
from planner.errors import ScenarioError
from planner.provenance import Kind, Provenance
from planner.specs import Gpu
from planner.units import GIB

FILE = "vllm_defaults.csv"
LARGE_BYTES = 160 * GIB
MEDIUM_BYTES = 70 * GIB
VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\d{1,4})?")


@dataclass(frozen=True)
class EngineDefaults:
    """vLLM's own values; field names are vLLM's arguments. `vllm_version` is the version they belong to."""

    vllm_version: str
    max_num_batched_tokens: int
    max_num_seqs: int
    gpu_memory_utilization: float
    block_size: int
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    async_scheduling: bool
    provenance: tuple[Provenance, ...] = ()  # one row per argument, `what` is `engine.<argument>`


def engine_defaults(gpu: Gpu, version: str, world_size: int = 1) -> EngineDefaults:
    """What `vllm serve` of that version chooses on that GPU.

    `version` is `major.minor[.patch]`; an unknown one takes the nearest known one, which the provenance rows say.
    `world_size` (tensor × pipeline ranks) matters on CPUs only.
    Raises `ScenarioError` for a malformed version.
    """
    known, exact = nearest_version(version)
    row = next(row for row in read_rows(FILE) if row["vllm_version"] == known)
    device = _device(gpu)
    is_cpu = device == "cpu"
    ranks = world_size if is_cpu else 1
    defaults = EngineDefaults(
        vllm_version=known,
        max_num_batched_tokens=whole(row[f"tokens_{device}"]) * ranks,
        max_num_seqs=whole(row[f"seqs_{device}"]) * ranks,
        gpu_memory_utilization=float(row["gpu_memory_utilization"]),
        block_size=whole(row["block_size_cpu" if is_cpu else "block_size"]),
        enable_prefix_caching=flag(row["enable_prefix_caching"]),
        enable_chunked_prefill=flag(row["enable_chunked_prefill"]),
        async_scheduling=flag(row["async_scheduling"]) and not is_cpu,
    )
    arguments = [field.name for field in fields(defaults) if field.name not in ("vllm_version", "provenance")]
    rows = [_provenance(name, getattr(defaults, name), row, version, exact) for name in arguments]
    return replace(defaults, provenance=tuple(rows))


def known_versions() -> list[str]:
    """Every minor version with known defaults, oldest first; the last one is the scenario's default."""
    return [row["vllm_version"] for row in read_rows(FILE)]


def nearest_version(requested: str) -> tuple[str, bool]:
    """The known minor version nearest to the requested one, and whether it is that one.

    Raises `ScenarioError` if `requested` is not `major.minor[.patch]`.
    """
    wanted = _release(requested)
    known = min(known_versions(), key=lambda version: abs(_release(version) - wanted))
    return known, _release(known) == wanted


def _release(version: str) -> int:
    """Minor releases on one line, a major release far away from any other."""
    match = VERSION.fullmatch(version.strip())
    if not match:
        rule = "must be a vLLM version, quoted, as in '0.32' or '0.32.0'"
        raise ScenarioError("engine.vllm_version", version, rule, known_versions()[-1])
    return int(match[1]) * 10_000 + int(match[2])


def _device(gpu: Gpu) -> str:
    """The class of device that vLLM's rule puts this GPU into: the ending of the table's columns."""
    if gpu.vendor == "cpu":
        return "cpu"
    if gpu.memory_bytes >= LARGE_BYTES:
        return "160_gib"
    # A large token budget lowered throughput on A100, so vLLM looks at the name.
    if gpu.memory_bytes >= MEDIUM_BYTES and "a100" not in gpu.name:
        return "70_gib"
    return "other"


def _provenance(name: str, value: float, row: Row, requested: str, exact: bool) -> Provenance:
    read = row["basis"] == "datum" and exact
    kind: Kind = "datasheet" if read else "inherited"
    source = f"vLLM default: {row['source']}"
    if not exact:
        source = f"defaults of {requested} are not known, those of {row['vllm_version']} taken; {source}"
    errs = "" if read else "unknown"
    return Provenance(f"engine.{name}", kind, source, str(value), row["date"], row["vllm_version"], errs)
