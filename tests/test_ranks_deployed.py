"""From a scenario to ranks in step: whose ranks wait for each other, what the answer says of it, what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.deployment import Length, deploy, make_load, only_candidate, run
from planner.scenario import Scenario

MIXTURE: dict[str, Any] = {
    "version": 1,
    "model": "qwen3-30b-a3b",
    "hardware": "h100-sxm-80gb",
    "engine": {"data_parallel_size": 4, "enable_expert_parallel": True, "max_model_len": 8192, "max_num_seqs": 64},
    "traffic": {"peak_qps": 20},
    "query": {"stages": [{"name": "answer", "prompt_tokens": 800, "output_tokens": 60}]},
}
CLOSED = {"traffic.peak_qps": None, "traffic.arrivals": {"closed": {"concurrency": 8}}}
SESSION = {"query.stages": [{"name": "answer", "prompt_tokens": 800, "output_tokens": 60, "turns": 3}]}
TWO = {"query.stages": MIXTURE["query"]["stages"] + [{"name": "more", "prompt_tokens": 80, "output_tokens": 6}]}
WHOSE = [
    ({}, 4, "optimistic", "a mixture of experts with expert parallelism"),
    ({"engine.enable_expert_parallel": False}, 4, "optimistic", "without it each expert is cut over all ranks"),
    ({"traffic.arrivals": {"offline": {"requests": 50}}, "traffic.peak_qps": None}, 4, "optimistic", "all at once"),
    ({"engine.data_parallel_size": 1}, 1, None, "a lone rank waits for nobody, and nothing is said of it"),
    ({"model": "llama-3.1-8b", "engine.enable_expert_parallel": False}, 1, "", "dense ranks share nothing"),
    (CLOSED, 1, "optimistic", "clients that wait for answers: not simulated in step"),
    (SESSION, 1, "optimistic", "turns that wait for answers"),
    (TWO, 1, "optimistic", "stages that wait for answers"),
    ({"traffic.timeout_s": 60}, 1, "optimistic", "queries that are given up"),
    ({"traffic.max_in_flight": 100}, 1, "optimistic", "queries that wait at the client"),
]


@pytest.mark.parametrize(("values", "ranks", "errs", "because"), WHOSE, ids=[row[-1] for row in WHOSE])
def test_ranks_of_a_mixture_are_in_step_where_arrivals_are_known(values, ranks, errs, because):
    deployment = deploy(only_candidate(Scenario.from_dict(MIXTURE).with_values(values), "simulate"))
    assert ranks == deployment.candidate.ranks_in_step, because
    rows = [row for row in deployment.provenance if row.what == "engine.data_parallel_size"]
    assert ([] if errs is None else [errs]) == [row.errs for row in rows], because
    assert all(("begin and end each step together" in row.source) == (ranks > 1) for row in rows)
    balanced = [row for row in deployment.provenance if row.what == "engine mode: balance of data-parallel ranks"]
    assert (ranks == 1 and errs == "optimistic") == bool(balanced), because


def test_the_part_that_hangs_on_all_ranks_is_the_experts_and_their_exchange():
    deployment = deploy(only_candidate(Scenario.from_dict(MIXTURE), "simulate"))
    shared = [term for term in deployment.breakdown.terms if term.name in ("routed experts", "expert exchange")]
    np.testing.assert_allclose(deployment.cost.ranks_tokens_s[1:], sum(term.tokens_s for term in shared)[1:])
    assert (deployment.cost.ranks_tokens_s < deployment.cost.tokens_s)[1:].all()
    alone = Scenario.from_dict(MIXTURE).with_values({"engine.data_parallel_size": 1})
    assert not deploy(only_candidate(alone, "simulate")).cost.ranks_tokens_s.any()


def test_a_run_in_step_is_slower_for_tokens_than_one_of_independent_ranks():
    """The same load and routing; a limit that nobody reaches makes the ranks independent."""
    means = {}
    for name, values in (("in step", {}), ("apart", {"traffic.timeout_s": 1e6})):
        scenario = Scenario.from_dict(MIXTURE).with_values(values)
        deployment = deploy(only_candidate(scenario, "simulate"))
        outcome = run(deployment, scenario, make_load(scenario, 8192, 0, Length(800, 100, 0)), 1, 0)
        means[name] = outcome.figures["tpot_ms"]["mean"]
    assert means["apart"] < means["in step"]
