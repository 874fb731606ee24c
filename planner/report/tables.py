"""Documents as rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.summary.words import usd


def sweep_table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a sweep: the varied keys, then the fleet and the money; "-" where there is no figure.

    Cost is per query of the whole day, those answered from the response cache included.
    """
    keys = [varied["key"] for varied in document["vary"]]
    points = document["points"]
    several_models = len({point["model"] for point in points if point["feasible"]}) > 1
    columns = [
        *short_keys(keys),
        "GPUs",
        "replicas",
        *(["model"] if several_models else []),
        "hardware",
        "TP",
        "weights",
        "busy",
        "USD/h",
        "USD/query",
        "margin USD/query",
        "cost ÷ revenue",
        "",
    ]
    rows = []
    for point in points:
        rows.append(
            [
                *(str(point["values"][key]) for key in keys),
                _text(point["gpus"]),
                _text(point["replicas"]),
                *([_text(point["model"])] if several_models else []),
                _text(point["hardware"]),
                _text(point["tensor_parallel_size"]),
                _text(point["quantization"]),
                _text(point["utilisation"], ".0%"),
                _text(point["usd_per_hour"], ",.2f"),
                _usd(point["usd_per_query"]),
                _usd(point["margin_usd_per_query"]),
                _text(point["cost_share_of_revenue"], ".1%"),
                "" if point["feasible"] else f"no fleet fits: {point['reason']}",
            ]
        )
    return columns, rows


def short_keys(keys: Sequence[str]) -> list[str]:
    """The last name of each dotted key, or the whole keys where two end alike."""
    short = [key.rsplit(".", 1)[-1] for key in keys]
    return short if len(set(short)) == len(short) else list(keys)


def _usd(value: float | None) -> str:
    return "-" if value is None else usd(value)


def _text(value: Any, form: str = "") -> str:
    return "-" if value is None else format(value, form)
