"""Constants of the step cost: read from the CSV files beside this module, each with its origin.

`gemm.csv`, `experts.csv`, `attention.csv` and `allreduce.csv` hold efficiencies fitted to kernel tables, by kernel,
GPU and variant (weight format, KV format, or GPUs in the group); `overheads.csv` what an engine step pays around its
kernels; `relatives.csv` names the GPU whose kernel constants stand in for one that nobody measured, and how much wider
the spread of its kernels then is (a judgement: kinship of chip, memory and software). A GPU in none of them is
refused, never guessed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import hypot
from typing import cast

from planner.errors import UnsupportedError, nearest_names
from planner.provenance import Kind, Provenance

KERNEL_FILES = ("gemm.csv", "experts.csv", "attention.csv", "allreduce.csv")
_SCALE = {"1": 1.0, "us": 1e-6, "ms": 1e-3, "bytes": 1.0}  # to seconds, shares and bytes


@dataclass(frozen=True)
class Constants:
    """The constants of one kernel on one GPU, in seconds and shares, and where they come from.

    `spread` is the standard deviation of the log of a shape's time around the fit: the error that the kernels of one
    model share, and that the uncertainty bands draw.
    """

    values: dict[str, float]
    provenance: Provenance
    spread: float

    def __getitem__(self, quantity: str) -> float:
        return self.values[quantity]


def kernel_constants(kernel: str, gpu: str, variant: str) -> Constants | None:
    """Constants of `kernel` for `variant` on the GPU, or on its named relative; None where neither has that variant.

    Raises UnsupportedError for a GPU without constants of its own and without a relative.
    """
    table = _kernels()
    if (kernel, gpu, variant) in table:
        return table[kernel, gpu, variant]
    if gpu in _measured_gpus():
        return None
    relatives = _relatives()
    row = relatives.get((gpu, kernel)) or relatives.get((gpu, "*"))
    if row is None:
        known = sorted(_measured_gpus() | {name for name, _ in relatives})
        rule = "no kernel constants and no relative to inherit them from"
        raise UnsupportedError("hardware", gpu, rule, nearest_names(gpu, known))
    found = table.get((kernel, row["relative"], variant))
    if found is None:
        return None
    source = f"{row['relative']} ({row['reason']}); {found.provenance.source}"
    kind = cast(Kind, row["kind"])
    spread = hypot(found.spread, float(row["spread"]))
    return Constants(found.values, replace(found.provenance, kind=kind, source=source, errs=row["errs"]), spread)


def group_sizes(gpu: str) -> list[int]:
    """Group sizes that all-reduce constants exist for, on the GPU or its relative."""
    row = _relatives().get((gpu, "allreduce")) or _relatives().get((gpu, "*"))
    name = row["relative"] if row and gpu not in _measured_gpus() else gpu
    return sorted(int(variant) for kernel, owner, variant in _kernels() if (kernel, owner) == ("allreduce", name))


def overhead(quantity: str, gpu: str) -> tuple[float, Provenance]:
    """One overhead in seconds, bytes or as a share; a value fitted on other GPUs is marked as inherited."""
    row = _overheads()[quantity]
    value = float(row["value"]) * _SCALE[row["unit"]]
    kind = cast(Kind, row["kind"])
    source = f"{row['source']} {row['fitted_to']}".strip()
    if row["fitted_gpus"] and gpu not in row["fitted_gpus"].split():
        kind, source = "inherited", f"fitted on {row['fitted_gpus'].replace(' ', ', ')}: {source}"
    if row["fit_error"]:
        source = f"{source} ({row['fit_error']})"
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    what = f"overhead: {quantity.replace('_', ' ')}"
    shown = f"{row['value']}{unit}"
    return value, Provenance(what, kind, source, shown, row["date"], row["vllm_version"], row["errs"])


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("planner.performance").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def _kernels() -> dict[tuple[str, str, str], Constants]:
    grouped: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for name in KERNEL_FILES:
        for row in _rows(name):
            grouped.setdefault((row["kernel"], row["gpu"], row["variant"]), []).append(row)
    return {key: _group(*key, rows) for key, rows in grouped.items()}


def _group(kernel: str, gpu: str, variant: str, rows: list[dict[str, str]]) -> Constants:
    first = rows[0]
    values = {row["quantity"]: float(row["value"]) * _SCALE[row["unit"]] for row in rows}
    shown = ", ".join(
        f"{row['quantity']} {row['value']}{'' if row['unit'] == '1' else ' ' + row['unit']}" for row in rows
    )
    label = f"{variant} GPUs" if kernel == "allreduce" else variant
    row = Provenance(
        what=f"kernel: {kernel.replace('_', ' ')} ({label})",
        kind=cast(Kind, first["kind"]),
        source=f"{first['source']}, {first['fitted_to']}; fit error {first['fit_error']}",
        value=shown,
        date=first["date"],
        vllm_version=first["vllm_version"],
        errs=first["errs"],
    )
    return Constants(values, row, float(first["spread"]))


@cache
def _measured_gpus() -> frozenset[str]:
    return frozenset(gpu for _, gpu, _ in _kernels())


@cache
def _relatives() -> dict[tuple[str, str], dict[str, str]]:
    return {(row["gpu"], row["kernel"]): row for row in _rows("relatives.csv")}


@cache
def _overheads() -> dict[str, dict[str, str]]:
    return {row["quantity"]: row for row in _rows("overheads.csv")}


def log_spreads() -> dict[str, float]:
    """Standard deviation of the log of each overhead, by quantity."""
    return {name: float(row["log_sd"]) for name, row in _overheads().items()}


def largest_factors() -> dict[str, float]:
    """How many times its value an overhead can be at most, by quantity; those without a bound are left out.

    `unaligned` is a share of a surcharge that was timed with the kernel alone: there is no more than all of it.
    """
    return {name: float(row["most"]) / float(row["value"]) for name, row in _overheads().items() if row["most"]}


@cache
def correlations() -> dict[tuple[str, str], float]:
    """Correlation of the logs of two overheads that were fitted together."""
    return {(row["quantity"], row["with"]): float(row["correlation"]) for row in _rows("correlations.csv")}
