"""A bill that nobody tells is taken at the plan's prices, and then price is no cause; utilisation is the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from drift_specimens import document, window
from test_drift import part

from planner.drift import drift, fleet_model
from planner.planned import planned

STAFF = {
    "prices__own": {"capex_usd_per_gpu": 9000, "life_years": 4, "staff_usd_per_year": 8760},
    "prices__energy": {"usd_per_kwh": 0.1},
}
PRICED = [  # (plan, replicas, because)
    ({"prices__gpu_hour_usd": 0.1}, 3.0, "3 GPUs at $0.10 are no $0.30 to the last bit"),
    ({"prices__gpu_hour_usd": None, **STAFF}, 7.0, "staff stays as it is, which is utilisation"),
]


@pytest.mark.parametrize(("changes", "replicas", "because"), PRICED)
def test_a_price_that_nobody_tells_is_neither_judged_nor_a_cause(
    changes: dict[str, Any], replicas: float, because: str
) -> None:
    plan = planned(document(**changes))
    found = drift(plan, replace(window(plan), replicas=replicas, cost_usd_per_hour=None), fleet_model(plan))
    price = part(found, "price")
    assert (None,) * 5 == tuple(price[key] for key in ("actual", "ratio", "factor", "share", "holds")), because
    parts = [row["usd_per_query"] for row in found.document["parts"] if row["usd_per_query"] is not None]
    assert math.isclose(math.fsum(parts), found.document["total"]["usd_per_query"], rel_tol=1e-9)
    assert "gpu_hour_usd" in {row["figure"] for row in found.document["assumed"]}
    assert not [row for row in found.document["quantities"] if row["name"] == "gpu_hour_usd" and row["actual"]]


def test_a_bill_beside_a_plan_without_a_price_judges_no_price() -> None:
    plan = planned(document(prices__gpu_hour_usd=None))
    found = drift(plan, replace(window(plan), cost_usd_per_hour=4.0), fleet_model(plan))
    assert (None, None) == (part(found, "price")["factor"], part(found, "price")["holds"])


def test_a_bill_that_is_told_is_judged() -> None:
    plan = planned(document())
    found = drift(plan, replace(window(plan), cost_usd_per_hour=2 * (plan.usd_per_hour or 0)), fleet_model(plan))
    price = part(found, "price")
    assert (2.0, False) == (pytest.approx(price["factor"]), price["holds"])
