"""The fleet's own options in the waterfall: what stands there without them, and what a spare replica is worth."""

from __future__ import annotations

from typing import Any

import pytest

from planner import Scenario, plan
from planner.studies.waterfall import with_waterfall
from planner.studies.waterfall_option import Option
from planner.studies.waterfall_options import options_of
from tests.test_waterfall import scenario

MIXTURE = {"model": "qwen3-235b-a22b-fp8", "hardware": "h200"}
TP, DP, EP = "engine.tensor_parallel_size", "engine.data_parallel_size", "engine.enable_expert_parallel"


def option(asked: Scenario, step: str) -> Option:
    (found,) = (one for one in options_of(asked, {"model": {"name": asked.model[0]}}) if one.step == step)
    return found


@pytest.mark.parametrize(
    ("given", "values", "without", "because"),
    [
        ({DP: 8, EP: True}, {DP: [8], TP: [1], EP: [True]}, {DP: 1, TP: [8], EP: False}, "a node of ranks"),
        ({DP: 4}, {DP: [4], TP: [1]}, {DP: 1, TP: [4]}, "no expert parallelism to take away"),
        ({DP: [2, 4], TP: [1, 2]}, {DP: [2, 4], TP: [1, 2]}, {DP: 1, TP: [2, 4, 8]}, "every product once"),
        ({DP: [1, 2], TP: 2}, {DP: [1, 2], TP: [2]}, {DP: 1, TP: [2, 4]}, "one rank is a choice of the scenario's"),
        ({DP: 4, TP: 4}, {DP: [4], TP: [4]}, {DP: 1, TP: [8]}, "an engine does not reach beyond its node"),
        ({DP: 2, TP: 4, "fleet.gpus_per_node": 4}, {DP: [2], TP: [4]}, {DP: 1, TP: [4]}, "nor beyond a smaller one"),
    ],
)
def test_ranks_are_held_against_one_engine_over_the_same_gpus(
    given: dict[str, Any], values: dict[str, Any], without: dict[str, Any], because: str
) -> None:
    found = option(scenario(**MIXTURE).with_values(given), "data-parallel ranks")
    assert (values, without) == (found.values, found.without), because


def test_one_rank_a_replica_is_no_option() -> None:
    assert "one rank a replica" in option(scenario(**MIXTURE), "data-parallel ranks").unused


def test_admission_is_taken_away_whole() -> None:
    found = option(scenario(fleet__admission={"max_requests_per_replica": 72}), "admission")
    assert {"fleet.admission": {"max_requests_per_replica": 72}} == found.values
    assert "finds 72 requests at every replica" in found.what
    assert {} == found.without, "nothing stands in its place"


def test_a_spare_replica_costs_what_it_is() -> None:
    """One replica of one GPU more, at the same price a GPU: nothing else in the plan changes."""
    asked = scenario(query__response_cache=None, traffic__peak_qps=20, fleet__spare_replicas=1)
    rows = with_waterfall(plan(asked, requests=2000, worlds=0), asked, requests=2000).as_dict()["waterfall"]
    fitting = [row for row in rows if row["feasible"]]
    assert fitting[-1]["step"] == "spare replicas"
    assert fitting[-1]["removed"]["gpus"] == -1
    assert fitting[-1]["usd_per_query"] / fitting[-2]["usd_per_query"] == pytest.approx(
        fitting[-1]["gpus"] / fitting[-2]["gpus"], rel=1e-12
    )
