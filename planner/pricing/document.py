"""The plan's JSON about money."""

from __future__ import annotations

from dataclasses import asdict
from math import isclose
from typing import Any

from planner.economics import Cost, Economics, LoadShape, PricePart, Prices, all_in_gpu_hour_usd
from planner.scenario import Scenario
from planner.units import HOURS_PER_YEAR

WHOLE = 0.01  # of a GPU, by which a share may miss it: 1/3 is written with a few digits


def money_document(
    scenario: Scenario, gpus: int, prices: Prices, money: Economics, shape: LoadShape | None
) -> dict[str, Any]:
    """`day`, `cost`, `cost_lines`, `revenue`, `margin`, `break_even`, `economics_notes` and `load_shape` of a plan."""
    document = {
        "day": [asdict(hour) for hour in money.day],
        "cost": None if money.cost is None else _cost(scenario, gpus, prices, money, money.cost),
        "cost_lines": [asdict(line) for line in money.lines],
        "revenue": None if money.revenue is None else asdict(money.revenue) | {"subscription": _subscription(money)},
        "margin": None if money.margin is None else asdict(money.margin),
        "break_even": asdict(money.break_even),
        "break_even_after_training": None if money.after_training is None else asdict(money.after_training),
        "economics_notes": [*money.notes, *_split_gpus(scenario, gpus)],
        "load_shape": None if shape is None else asdict(shape),
    }
    listed: dict[str, Any] = _lists(document)
    return listed


def _cost(scenario: Scenario, gpus: int, prices: Prices, money: Economics, cost: Cost) -> dict[str, Any]:
    split, trained = money.allocation, money.training_usd_per_query
    foreign = scenario.prices.currency != "USD"
    return {
        **asdict(cost),
        "price": {
            "kind": prices.kind,
            "gpu_hour_usd": all_in_gpu_hour_usd(gpus, prices),
            "parts": _parts(gpus, prices),
        },
        "usage_usd_per_query": None if split is None else split.usage_usd_per_query,
        "idle_usd_per_query": None if split is None else split.idle_usd_per_query,
        "busy_gpu_hours": None if split is None else split.busy_gpu_hours,
        "idle_gpu_hours": None if split is None else split.idle_gpu_hours,
        "amortised_training_usd_per_query": trained,
        "usd_per_query_with_training": None if trained is None else cost.usd_per_query + trained,
        "currency": {"code": scenario.prices.currency, "per_usd": scenario.prices.per_usd} if foreign else None,
    }


def _parts(gpus: int, prices: Prices) -> list[dict[str, Any]]:
    """What a GPU-hour is made of, the staff of the fleet shared among its GPUs; they add up to price.gpu_hour_usd."""
    parts = prices.parts or (PricePart("GPUs", 1.0, "GPU-hour", prices.gpu_hour_usd or 0.0, "running"),)
    rows = [asdict(part) | {"usd_per_gpu_hour": part.usd_per_gpu_hour} for part in parts]
    if prices.staff_usd_per_year > 0:
        shared = 1 / HOURS_PER_YEAR / gpus
        row = {"what": "staff of the fleet", "quantity": shared, "unit": "year", "paid": "always"}
        row |= {"unit_price_usd": prices.staff_usd_per_year, "usd_per_gpu_hour": shared * prices.staff_usd_per_year}
        rows.append(row)
    return rows


def _split_gpus(scenario: Scenario, gpus: int) -> list[str]:
    """A note where the shares of a mix are no whole GPUs of this fleet: it is billed as if GPUs could be split."""
    rows = scenario.prices.commitments or ()
    parts = [(row.kind, row.share * gpus) for row in rows]
    if all(isclose(count, round(count), abs_tol=WHOLE) for _, count in parts):
        return []
    said = ", ".join(f"{count:.3g} {kind.replace('_', ' ')}" for kind, count in parts)
    return [f"the shares of prices.commitments are billed as parts of a GPU: of {gpus}, {said}"]


def _subscription(money: Economics) -> dict[str, Any] | None:
    return None if money.subscribers is None else asdict(money.subscribers)


def _lists(value: Any) -> Any:
    """Tuples as lists, as JSON will have them."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
