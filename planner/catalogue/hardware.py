"""GPUs by name or alias."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from planner.catalogue.tables import Row, names_of, number, read_rows, read_table
from planner.errors import UnknownNameError, nearest_names
from planner.provenance import Provenance
from planner.specs import Gpu

if TYPE_CHECKING:
    import pandas as pd

FILE = "hardware.csv"
ASSUMED = "_assumed"


def gpu(name: str) -> Gpu:
    """The GPU of a catalogue name or alias (`h100`, `h100-sxm`), whatever the case.

    Raises `UnknownNameError` with the nearest names. A name that fits several GPUs (`a100`) is not an alias.
    """
    return _gpu(_row(gpu_name(name)))


def gpu_name(name: str) -> str:
    """The catalogue's own name of a GPU given by name or alias; raises `UnknownNameError`."""
    known = _canonical().get(name.strip().lower())
    if known is None:
        near = _same_family(name) or nearest_names(name, gpu_names())
        raise UnknownNameError("hardware", name, "is not in the catalogue (`planner catalogue hardware`)", near)
    return known


def gpu_names() -> list[str]:
    """Every catalogue name, without aliases, in the order of the catalogue."""
    return [row["name"] for row in read_rows(FILE)]


def hardware_table() -> pd.DataFrame:
    """The catalogue's GPUs, one row each, columns as in `data/hardware.csv`: X published, X_assumed assumed."""
    return read_table(FILE)


def gpu_provenance(gpu: Gpu) -> list[Provenance]:
    """One row for the published figures of a catalogue GPU and one for each assumed figure."""
    row = _row(gpu.name)
    assumed = [column for column in row if column.endswith(ASSUMED) and row[column]]
    rows = [
        Provenance(f"hardware.{gpu.name}.{column.removesuffix(ASSUMED)}", "assumed", row["source"], row[column])
        for column in assumed
    ]
    if row["memory_bytes"]:
        basis = f"memory {row['memory_bytes']} bytes ({row['memory_basis']})"
        rows.append(Provenance(f"hardware.{gpu.name}", "datasheet", row["source"], basis, row["date"]))
    return rows


@cache
def _canonical() -> dict[str, str]:
    known: dict[str, str] = {}
    for row in read_rows(FILE):
        for name in (row["name"], *names_of(row)):
            known[name] = row["name"]
    return known


def _same_family(name: str) -> str | None:
    """GPUs that share the part before the first hyphen, such as every form of an `a100`."""
    family = name.strip().lower().split("-")[0]
    return ", ".join(known for known in gpu_names() if len(family) >= 3 and known.startswith(family)) or None


def _row(name: str) -> Row:
    return next(row for row in read_rows(FILE) if row["name"] == name)


def _gpu(row: Row) -> Gpu:
    def figure(column: str) -> float | None:
        published = number(row[column])
        return published if published is not None else number(row.get(column + ASSUMED, ""))

    def needed(column: str) -> float:
        value = figure(column)
        if value is None:
            raise ValueError(f"{FILE}: {row['name']} has neither {column} nor {column}{ASSUMED}")
        return value

    return Gpu(
        name=row["name"],
        memory_bytes=needed("memory_bytes"),
        memory_bandwidth=needed("memory_bandwidth_bytes_per_s"),
        bf16_flops=needed("bf16_flop_per_s"),
        fp8_flops=figure("fp8_flop_per_s"),
        fp4_flops=figure("fp4_flop_per_s"),
        int8_flops=figure("int8_flop_per_s"),
        power_w=figure("power_w"),
        link_bandwidth=needed("link_bandwidth_bytes_per_s"),
        internode_bandwidth=figure("internode_bandwidth_bytes_per_s"),
        gpus_per_node=int(needed("gpus_per_node")),
        vendor=row["vendor"],
        source=f"{row['source']}, read {row['date']}",
    )
