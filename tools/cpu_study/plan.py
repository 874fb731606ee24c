"""Which loads the study sends, and to which servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.vllm_cpu.server import DENSE, MOE

DURATION_S, WARMUP_S = 24, 5
WARMING_S = 8  # of each load that a fresh server is warmed up with
SEED = 7  # one for all repeats: the same arrays, so that what differs between repeats is the server's own


@dataclass(frozen=True)
class Traffic:
    """One load, as changes to the scenario. `role`: the calibration is made from "fit" loads, "judge" ones are kept."""

    name: str
    role: str
    what: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """One way to start vLLM, and what the scenario says of it.

    `loads` are sent to it in this order; `fit` are those of them that its calibration is made from.
    """

    name: str
    model: str
    loads: tuple[str, ...]
    flags: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    fit: tuple[str, ...] = ()


def _lengths(prompt: str, output: str) -> dict[str, str]:
    return {"query.stages[0].prompt_tokens": prompt, "query.stages[0].output_tokens": output}


SHORT = _lengths("128", "32")
PREFIX = {**_lengths("512", "32"), "query.stages[0].shared_prefix": "{tokens: 384, groups: 4}"}
TRAFFIC = {
    one.name: one
    for one in (
        Traffic("light", "fit", "1.5 requests/s, 128 + 32 tokens", {"traffic.peak_qps": 1.5, **SHORT}),
        Traffic("medium", "fit", "6 requests/s, 128 + 32 tokens", {"traffic.peak_qps": 6, **SHORT}),
        Traffic(
            "mixed",
            "fit",
            "3 requests/s, prompts 256 (cv 0.8), answers 40 (cv 0.6)",
            {
                "traffic.peak_qps": 3,
                **_lengths("{lognormal: {mean: 256, cv: 0.8}}", "{lognormal: {mean: 40, cv: 0.6}}"),
            },
        ),
        Traffic("rate", "judge", "4 requests/s, 128 + 32 tokens", {"traffic.peak_qps": 4, **SHORT}),
        Traffic(
            "lengths",
            "judge",
            "1.8 requests/s, prompts 448 (cv 0.5), answers 64 (cv 0.5)",
            {
                "traffic.peak_qps": 1.8,
                **_lengths("{lognormal: {mean: 448, cv: 0.5}}", "{lognormal: {mean: 64, cv: 0.5}}"),
            },
        ),
        Traffic(
            "prefix",
            "judge",
            "3 requests/s, 512 + 32 tokens, 384 of the prompt shared in 4 groups",
            {"traffic.peak_qps": 3, **PREFIX},
        ),
        Traffic("busy", "judge", "7 requests/s, 128 + 32 tokens", {"traffic.peak_qps": 7, **SHORT}),
        Traffic("moe", "judge", "3 requests/s, 128 + 32 tokens", {"traffic.peak_qps": 3, **SHORT}),
    )
}
WARMING = tuple(
    Traffic(name, "warm-up", f"{rate:g} requests/s, {what}", {"traffic.peak_qps": rate, **settings})
    for name, rate, what, settings in (
        ("short", 6, "prompts of 16 to 192 tokens", _lengths("{uniform: [16, 192]}", "32")),
        ("medium", 3, "prompts of 192 to 640 tokens", _lengths("{uniform: [192, 640]}", "32")),
        ("long", 1, "prompts of 640 to 1,900 tokens", _lengths("{uniform: [640, 1900]}", "32")),
        ("prefix", 3, "512 + 32 tokens, 384 of the prompt shared in 4 groups", PREFIX),
    )
)
"""What a server answers before anything is recorded: the first product of each matrix shape, that is of each number of
tokens in a step, is slow on a CPU, and would spoil the first repeat of whatever comes first."""
FIT = tuple(name for name, one in TRAFFIC.items() if one.role == "fit")
MAIN_JUDGES = ("rate", "lengths", "prefix")

MAIN = Server("dense", DENSE, (*FIT, *MAIN_JUDGES), fit=FIT)
OTHERS = (
    Server("dense, again", DENSE, ("busy", "moe")),
    Server(
        "no prefix cache",
        DENSE,
        ("prefix",),
        ("--no-enable-prefix-caching",),
        {"engine.enable_prefix_caching": False},
    ),
    Server("4 seats", DENSE, ("busy",), ("--max-num-seqs", "4"), {"engine.max_num_seqs": 4}),
    # A mixture reads more experts with every token: what that costs is told from sequences where many run.
    Server("moe", MOE, (*FIT, "busy", "moe"), settings={"model": MOE}, fit=(*FIT, "busy")),
)
# (what, server and load before, server and load after)
CHANGES = (
    ("prefix cache: off → on", ("no prefix cache", "prefix"), ("dense", "prefix")),
    ("max_num_seqs: 4 → 32", ("4 seats", "busy"), ("dense, again", "busy")),
    ("tiny dense → tiny MoE", ("dense, again", "moe"), ("moe", "moe")),
)
