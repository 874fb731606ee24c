"""Which servers are recorded, and the loads that each gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent / "models"
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Load:
    """Poisson arrivals of random prompts; lengths vary by ± `spread`, `prefix` tokens are the same in all prompts."""

    name: str
    rate_qps: float
    prompt: int  # tokens without the prefix
    output: int
    prefix: int = 0
    spread: float = 0.0
    duration_s: float = 20.0

    @property
    def requests(self) -> int:
        """How many are sent."""
        return max(16, round(self.rate_qps * self.duration_s))


@dataclass(frozen=True)
class Served:
    """One way to start vLLM. `model` is the catalogue's name, `config` its shape."""

    name: str
    model: str
    config: Path
    flags: tuple[str, ...]
    loads: tuple[Load, ...]


def _loads(scale: float, *names: str) -> tuple[Load, ...]:
    """Light, medium and heavy; long prompts, long answers, mixed lengths; a shared prefix. All, or those named.

    `scale` = 1 suits eight billion parameters in 16 bits on a card of 80 GB.
    """
    loads = (
        Load("light", 2 * scale, 512, 128),
        Load("medium", 8 * scale, 512, 128),
        Load("heavy", 20 * scale, 512, 128),
        Load("long-prompts", 3 * scale, 3072, 64),
        Load("long-answers", 4 * scale, 64, 512),
        Load("mixed", 6 * scale, 768, 192, spread=0.8),
        Load("shared-prefix", 10 * scale, 256, 128, prefix=1024),
    )
    return tuple(load for load in loads if not names or load.name in names)


LENGTHS = ("--max-model-len", "8192")
UNCACHED = "--no-enable-prefix-caching"

# The most telling first: a lent card may be gone before the end.
PLAN = (
    Served("llama-3.1-8b-bf16", "llama-3.1-8b", MODELS / "llama-3.1-8b.json", LENGTHS, _loads(1)),
    Served("qwen3-30b-a3b-bf16", "qwen3-30b-a3b", MODELS / "qwen3-30b-a3b.json", LENGTHS, _loads(1)),
    Served(
        "llama-3.1-8b-fp8",
        "llama-3.1-8b",
        MODELS / "llama-3.1-8b.json",
        (*LENGTHS, "--quantization", "fp8"),
        _loads(1.4, "light", "heavy", "long-prompts", "mixed"),
    ),
    Served(
        "gpt-oss-20b-mxfp4",
        "gpt-oss-20b",
        MODELS / "gpt-oss-20b.json",
        LENGTHS,
        _loads(1.4, "light", "medium", "long-answers", "mixed"),
    ),
    Served(
        "llama-3.1-8b-bf16-uncached",
        "llama-3.1-8b",
        MODELS / "llama-3.1-8b.json",
        (*LENGTHS, UNCACHED),
        _loads(1, "shared-prefix"),
    ),
    Served(
        "qwen3-30b-a3b-bf16-uncached",
        "qwen3-30b-a3b",
        MODELS / "qwen3-30b-a3b.json",
        (*LENGTHS, UNCACHED),
        _loads(1, "shared-prefix"),
    ),
)

REHEARSAL = (
    Served(
        "rehearsal-cpu-tiny",
        "cpu-tiny",
        EXAMPLES / "cpu-tiny" / "config.json",
        ("--enforce-eager", "--max-num-seqs", "32"),
        (
            Load("light", 2, 128, 16, duration_s=8),
            Load("shared-prefix", 3, 64, 16, prefix=256, spread=0.5, duration_s=6),
        ),
    ),
)
