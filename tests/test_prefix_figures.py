"""What an answer says of the prefix cache: figures worked out by hand, their text, and when there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planner
from planner.coefficients import StepCost
from planner.simulation.fleet import run_fleet
from planner.simulation.load import Load, Prefixes
from planner.simulation.outcome import summarise
from planner.specs import SchedulerConfig
from planner.summary.service import engine_facts
from tests.session_loads import CHAT
from tests.workload_loads import scenario

# A and C begin with the same eight tokens, B with nobody's; each comes when the one before has long ended.
LOAD = Load(
    np.array([0.0, 100.0, 200.0]),
    np.array([8, 12, 9], np.int32),
    np.ones(3, np.int32),
    prefixes=Prefixes(np.array([0, 1, 1, 2]), np.zeros(2, np.int32), np.array([8], np.int32)),
)

# each: usable blocks of four tokens, caching, saved tokens, evicted blocks, because
BY_HAND = [
    (4, True, 4, 3, "B takes the two plain blocks and A's last; C finds A's first and takes two of B's"),
    (3, True, 0, 5, "B takes the plain block and both of A's; C finds nothing and takes all three of B's"),
    (9, True, 8, 0, "there is room for all: C finds both of A's blocks"),
    (4, False, None, None, "a replica without a cache says nothing of it"),
]


@pytest.mark.parametrize(("blocks", "caching", "saved", "evicted", "because"), BY_HAND, ids=[row[4] for row in BY_HAND])
def test_saved_tokens_and_evicted_blocks_by_hand(
    blocks: int, caching: bool, saved: int | None, evicted: int | None, because: str
):
    config = SchedulerConfig(blocks + 1, 4, 4, 64, 13, enable_prefix_caching=caching)
    done = run_fleet(LOAD, config, StepCost(np.ones(65), np.zeros(5)), 1, "random", np.random.default_rng(0))
    figures = summarise(done, (), steady=False).figures
    assert (saved, evicted) == (figures["saved_prefill_tokens"], figures["evicted_blocks"]), because
    assert figures["prefix_cache_hit_rate"] == (None if saved is None else saved / 29)
    assert figures["ledger"]["prefill_tokens"] == 29 - (saved or 0), "what is saved is not computed"


TEXTS: list[tuple[dict[str, Any], str]] = [
    (
        {"prefix_cache_hit_rate": 0.5, "saved_prefill_tokens": 44_470_400, "evicted_blocks": 9876},
        "50.0 % of the prompt tokens found, 44.5 M saved, 9,876 cached blocks evicted",
    ),
    ({"prefix_cache_hit_rate": 0.0, "saved_prefill_tokens": 0, "evicted_blocks": 0}, "0 % of the prompt tokens found"),
    ({"prefix_cache_hit_rate": None, "saved_prefill_tokens": None, "evicted_blocks": None}, ""),
    ({"prefix_cache_hit_rate": 0.5}, "50.0 % of the prompt tokens found"),  # an answer of an earlier version
]


@pytest.mark.parametrize(("run", "text"), TEXTS)
def test_the_fleet_at_work_says_what_the_cache_did(run: dict[str, Any], text: str):
    assert text == dict(engine_facts(run, {}))["prefix cache"]


def test_of_sessions_all_three_figures_are_of_the_same_time():
    """Rate × looked-up tokens = saved tokens, where the warm-up's early turns are left out of both."""
    figures = planner.simulate(planner.Scenario.from_dict(CHAT), requests=2000).as_dict()
    looked_up = figures["saved_prefill_tokens"] / figures["prefix_cache_hit_rate"]
    assert looked_up == pytest.approx(round(looked_up), abs=1e-3)
    mean_prompt = looked_up / (6 * figures["duration_s"])  # six turns a second
    assert 1000 < mean_prompt < 2500  # 2.5 turns of history of 550 tokens, and 300 of its own
    assert figures["evicted_blocks"] >= 0


def test_documents_are_saved_once_for_each_reader_but_the_first():
    made = scenario(
        model="llama-3.1-8b",
        hardware="h100-sxm-80gb",
        query__stages=[
            {
                "name": "read",
                "calls": 4,
                "prompt_tokens": 900,
                "output_tokens": 1,
                "document": {"tokens": 800, "corpus": 1_000_000},
            }
        ],
        peak_qps=1,
    )
    figures = planner.simulate(made, requests=1000).as_dict()
    assert figures["prefix_cache_hit_rate"] == pytest.approx(3 / 4 * 800 / 900, abs=2e-3)
