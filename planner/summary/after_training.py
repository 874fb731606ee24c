"""The break-even values that bear the training bill too, as rows of the break-even table."""

from __future__ import annotations

from typing import Any

from planner.summary.currency import currency_of, other
from planner.summary.words import number, usd

Document = dict[str, Any]


def after_training_rows(document: Document) -> list[list[str]]:
    """A row for each value, in USD and the other currency, with what it is; none without a training bill."""
    values, currency = document.get("break_even_after_training") or {}, currency_of(document)
    if not values:
        return []
    rows = []
    if values.get("qps") is not None:
        rows.append([number(values["qps"]), "", "queries/s at the peak, the training bill borne too"])
    for key, said in (
        ("rpm_usd", "query RPM, the training bill borne too"),
        ("gpu_hour_usd", "per GPU-hour, the training bill borne too"),
    ):
        if values.get(key) is not None:
            rows.append([usd(values[key]), other(values[key], currency), said])
    without = (document.get("break_even") or {}).get("gpu_hour_usd")
    if values.get("gpu_hour_usd") is None and without is not None:
        rows.append(["none", "", "no GPU price bears the training bill too: it takes all that the queries earn"])
    return rows
