"""What a run works on reaches the compiled loop by name, in whatever order its columns stand."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from planner.coefficients import StepCost
from planner.simulation import fleet_driver
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.fleet_operations import Fleet
from planner.simulation.load import Load
from planner.simulation.operations import Change, Control
from planner.specs import SchedulerConfig

Reordered = namedtuple("Reordered", ["unknown", *reversed(Fleet._fields)])


def run() -> FleetRun:
    """Three clients of two replicas, of which one stops, comes back and is slow for a while."""
    changes = (Change(2.5, 0, "stop"), Change(5.0, 0, "start"), Change(6.0, 0, "pace", 2.0), Change(9.0, 0, "pace"))
    load = Load(np.zeros(12), np.full(12, 4, np.int32), np.arange(1, 13, dtype=np.int32), clients=3)
    config, cost = SchedulerConfig(200, 4, 4, 64, 64), StepCost(np.ones(65), np.zeros(5))
    control, marks_s = Control(changes), np.array([3.0, 7.0])
    return run_fleet(load, config, cost, 2, "power_of_two", np.random.default_rng(0), control=control, marks_s=marks_s)


def test_the_order_of_a_fleets_columns_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    usual = run()
    made = []

    def reordered(**columns: object) -> object:
        made.append(Reordered(unknown=-1, **columns))
        return made[-1]

    monkeypatch.setattr(fleet_driver, "Fleet", reordered)
    other = run()
    assert [Reordered] == [type(fleet) for fleet in made], "the run had these columns"
    assert usual.retried.sum() > 0
    for name in ("arrival_s", "first_token_s", "last_token_s", "replica", "retried", "changed_s", "on_s"):
        np.testing.assert_array_equal(getattr(usual, name), getattr(other, name), name)
    for ledger in ("ledger", "marks"):
        assert getattr(usual, ledger).tolist() == getattr(other, ledger).tolist()
