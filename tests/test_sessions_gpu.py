"""Sessions on real GPUs: caches too small for them, replicas that do not know them, and how long a run is."""

from __future__ import annotations

import numpy as np
import pytest

import planner
from planner.deployment import deploy, idle_e2e_s, idle_outcome, only_candidate, run_length
from planner.scenario import Scenario
from planner.workload import build_load, turns_due
from tests.session_loads import CHAT, simulated

# --- on a GPU ---


def test_hits_collapse_where_the_cache_is_too_small_for_what_users_come_back_to():
    """6 turns/s · 20 s of pauses · some 2,000 tokens of history are about 240,000 tokens to be kept between turns."""
    roomy, small, none = (
        simulated(engine__num_gpu_blocks_override=25_000),  # 400,000 tokens
        simulated(engine__num_gpu_blocks_override=5_000),
        simulated(engine__enable_prefix_caching=False),
    )
    assert roomy["prefix_cache_hit_rate"] > 0.8
    assert small["prefix_cache_hit_rate"] < 0.2
    assert none["prefix_cache_hit_rate"] is None
    # without its history every turn computes some four times the tokens
    assert small["ledger"]["prefill_tokens"] > 3 * roomy["ledger"]["prefill_tokens"]
    assert roomy["ttft_ms"]["p50"] < 0.6 * small["ttft_ms"]["p50"]


def test_a_session_that_changes_replicas_leaves_its_history_behind():
    one, four = simulated(), simulated(fleet__replicas=4, traffic__peak_qps=24)
    assert one["prefix_cache_hit_rate"] > 2 * four["prefix_cache_hit_rate"]
    rows = {row["what"]: row for row in four["provenance"]}
    assert "pessimistic" == rows["session routing"]["errs"]
    assert "6 turns" == rows["session history"]["value"]
    assert "pause between turns" not in rows, "it was given"
    chat = {"name": "chat", "prompt_tokens": 99, "output_tokens": 9, "turns": 2}
    instant = planner.simulate(Scenario.from_dict(CHAT | {"query": {"stages": [chat]}}), requests=200).as_dict()
    assert "optimistic" == {row["what"]: row for row in instant["provenance"]}["pause between turns"]["errs"]


def test_overload_is_told_from_load():
    calm, over = simulated(traffic__peak_qps=6), simulated(traffic__peak_qps=60)
    assert (False, True) == (calm["saturated"], over["saturated"])
    assert calm["query_throughput"] == pytest.approx(6, rel=4 * (4000 / 6) ** -0.5)  # Poisson: 667 sessions
    assert over["query_throughput"] < 20


def test_a_capacity_and_a_plan_stand_where_the_slo_breaks():
    scenario = Scenario.from_dict(CHAT | {"prices": {"gpu_hour_usd": 2.0}}).with_values(
        {"query.stages[0].turns": 3, "query.stages[0].think_s": 5}
    )
    document = planner.capacity(scenario, requests=2000).as_dict()
    assert True is document["at_max"]["slo_met"]
    most = document["max_rate_qps"]
    assert [probe["rate_qps"] for probe in document["probes"] if not probe["met"]], "beyond it a limit breaks"
    plan = planner.plan(scenario.with_values({"traffic.peak_qps": 1.5 * most}), requests=2000, worlds=0).as_dict()
    assert (True, 2) == (plan["feasible"], plan["fleet"]["replicas"])
    # turns are what is paid for
    assert plan["cost"]["usd_per_query"] == pytest.approx(2 * 2.0 / 3600 / (1.5 * most))
    assert 24 == len(plan["day"])


# --- how long a run is ---


def test_a_run_lasts_through_the_pauses_before_it_counts():
    scenario = Scenario.from_dict(CHAT)
    length = run_length(scenario, 2000, 2.0, 3)
    pauses = turns_due(6, 6, 20, 120)  # one a second more every 20 s: 1 + 2 + … + 6, 20 s each
    assert 420 == pauses
    # to both ends three times the answers of six turns, 12 turns coming during each; counted three times 6 · 22 s
    assert length == (3 * 6 * 132, 420 + 3 * 6 * 12, 3 * 6 * 12)
    assert run_length(scenario, 5000, 2.0, 3).counted == 5000
    assert run_length(scenario, 100, 2.0, 0).counted == 100, "as long as it was asked for"
    single = scenario.with_values({"query.stages[0].turns": 1, "query.stages[0].think_s": 0})
    assert run_length(single, 2000, 2.0, 3) == (2000, 500, 12)


def test_the_idle_run_holds_whole_sessions():
    scenario = Scenario.from_dict(CHAT)
    deployment = deploy(only_candidate(scenario, "simulate"))
    load, outcome = idle_outcome(deployment, scenario, 600, 0)
    assert load.follows is None
    built = build_load(
        scenario.with_values({"query.stages[0].think_s": 0}),
        queries=600, duration_s=None, warmup=0, rng=np.random.default_rng(0), max_model_len=8192,
    )  # fmt: skip
    assert 100 == np.count_nonzero(built.follows < 0)
    np.testing.assert_array_equal(built.prompt_tokens, load.prompt_tokens)
    assert outcome.figures["prefix_cache_hit_rate"] > 0.8
    assert idle_e2e_s(outcome) > 0
