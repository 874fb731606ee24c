"""`planner catalogue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import click

from planner.cli.output import json_text, print_table

Row = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]  # columns, rows


@click.command(short_help="Models, GPUs and prices that are known, with their sources.")
@click.argument("what", type=click.Choice(["models", "hardware", "prices"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every column.")
def catalogue(what: Literal["models", "hardware", "prices"], as_json: bool) -> None:
    """Models, GPUs and prices that are known by name, with their sources.

    models: a shape marked "assumed" was not published, only its parameter count. hardware: a figure marked "~" is
    assumed, "-" is unknown and never taken as zero. prices: USD for one GPU and hour; a plan takes the median of its
    rate card's trusted offers.
    """
    from planner.catalogue.hardware import hardware_table
    from planner.catalogue.models import models_table
    from planner.catalogue.prices import prices_table

    read, show = {
        "models": (models_table, _models),
        "hardware": (hardware_table, _hardware),
        "prices": (prices_table, _prices),
    }[what]
    rows = _records(read())
    if as_json:
        click.echo(json_text({"schema_version": 1, what: rows}))
    else:
        print_table(*show(rows))


def _models(rows: list[Row]) -> Table:
    columns = ["model", "Hugging Face", "parameters", "layers", "hidden", "heads/KV", "experts", "context", "weights"]
    cells = [
        [
            row["name"],
            _shown(row["hf_repo"]),
            _scaled(row["published_parameters"], 1e9, "B"),
            _shown(row["layers"]),
            _shown(row["hidden"]),
            f"{row['heads']}/{row['kv_heads']}",
            f"{row['experts_per_token']} of {row['experts']}" if row["experts"] else "-",
            _shown(row["max_position_tokens"]),
            row["checkpoint"],
            row["shape"],
            _sourced(row),
        ]
        for row in rows
    ]
    return [*columns, "shape", "source"], cells


def _hardware(rows: list[Row]) -> Table:
    figures: dict[str, tuple[str, float]] = {
        "memory GiB": ("memory_bytes", 2**30),
        "memory GB/s": ("memory_bandwidth_bytes_per_s", 1e9),
        "bf16 TFLOP/s": ("bf16_flop_per_s", 1e12),
        "fp8 TFLOP/s": ("fp8_flop_per_s", 1e12),
        "fp4 TFLOP/s": ("fp4_flop_per_s", 1e12),
        "link GB/s": ("link_bandwidth_bytes_per_s", 1e9),
        "between nodes GB/s": ("internode_bandwidth_bytes_per_s", 1e9),
        "GPUs a node": ("gpus_per_node", 1),
        "power W": ("power_w", 1),
    }
    cells = [[row["name"], *(_figure(row, *figure) for figure in figures.values()), _sourced(row)] for row in rows]
    return ["GPU", *figures, "source"], cells


def _prices(rows: list[Row]) -> Table:
    shown = ("provider", "offer", "confidence", "source", "date")
    cells = [
        [row["gpu"], row["kind"], f"{row['usd_per_gpu_hour']:.2f}", *(_shown(row[column]) for column in shown)]
        for row in rows
    ]
    return ["GPU", "rate card", "USD/h", *shown], cells


def _records(table: Any) -> list[Row]:
    """The rows of a table; whole numbers as such, an empty cell as None."""
    whole = table.convert_dtypes()
    return [
        {column: None if empty else value for (column, value), empty in zip(row.items(), gaps, strict=True)}
        for row, gaps in zip(whole.to_dict("records"), whole.isna().to_numpy(), strict=True)
    ]


def _figure(row: Row, column: str, unit: float) -> str:
    """The published figure, else the assumed one behind a "~"."""
    if row[column] is not None:
        return _scaled(row[column], unit)
    assumed = row.get(f"{column}_assumed")
    return "-" if assumed is None else f"~{_scaled(assumed, unit)}"


def _scaled(value: float | None, unit: float, suffix: str = "") -> str:
    return "-" if value is None else f"{value / unit:,.4g}{suffix}" if value / unit < 1e4 else f"{value / unit:,.0f}"


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _sourced(row: Row) -> str:
    return f"{row['source']} ({row['date']})"
