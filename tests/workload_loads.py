"""Scenarios of one stage, and the loads drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from planner.scenario import Scenario
from planner.simulation.load import Load
from planner.workload import build_load

LOGNORMAL = {"lognormal": {"mean": 1800, "cv": 0.6}}


def scenario(folder: Path | None = None, **values: Any) -> Scenario:
    """One stage at 10 queries/s; double underscores in names are dots, `stage__` is the first stage."""
    base = {
        "version": 1,
        "model": "m",
        "traffic": {"peak_qps": 10},
        "query": {"stages": [{"name": "answer", "prompt_tokens": 1000, "output_tokens": 100}]},
    }
    keys = {key.replace("stage__", "query.stages[0].").replace("__", "."): value for key, value in values.items()}
    return Scenario.from_dict(base, folder).with_values(keys)


def load(
    made: Scenario,
    queries: int | None = 1000,
    *,
    duration_s: float | None = None,
    warmup: int = 0,
    seed: int = 1,
    max_model_len: int = 8192,
) -> Load:
    rng = np.random.default_rng(seed)
    return build_load(made, queries=queries, duration_s=duration_s, warmup=warmup, rng=rng, max_model_len=max_model_len)


def assert_same(left: Load, right: Load) -> None:
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
