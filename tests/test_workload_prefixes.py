"""Stages, calls and samples of a query, and the prompts that they share."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from planner.errors import ScenarioError
from planner.simulation.load import Load, Stage
from tests.workload_loads import LOGNORMAL, load, scenario


def test_stages_calls_and_samples_stand_in_that_order() -> None:
    made = scenario(
        query__stages=[
            {"name": "draft", "calls": 2, "samples": 3, "prompt_tokens": {"uniform": [10, 90]}, "output_tokens": 7},
            {"name": "pick", "prompt_tokens": 500, "output_tokens": {"uniform": [1, 9]}},
        ]
    )
    run = load(made, 50)
    assert run.stages == (Stage("draft", 2, 3), Stage("pick"))
    assert (run.width, run.requests) == (7, 350)
    prompts, outputs = run.prompt_tokens.reshape(50, 7), run.output_tokens.reshape(50, 7)
    np.testing.assert_array_equal(prompts[:, 0], prompts[:, 2])
    np.testing.assert_array_equal(prompts[:, 3], prompts[:, 5])
    assert not np.array_equal(prompts[:, 0], prompts[:, 3])
    assert (prompts[:, 6] == 500).all()
    assert (outputs[:, :6] == 7).all()
    assert outputs[:, 6].max() <= 9


def chains(run: Load) -> list[list[int]]:
    assert run.prefixes is not None
    bounds = run.prefixes.chain_start
    return [run.prefixes.chain_segment[start:end].tolist() for start, end in pairwise(bounds)]


def test_samples_share_their_whole_prompt_and_nothing_else() -> None:
    run = load(scenario(stage__samples=3, stage__prompt_tokens={"uniform": [10, 90]}), 20)
    assert chains(run) == [[request // 3] for request in range(60)]
    assert run.prefixes is not None
    np.testing.assert_array_equal(run.prefixes.segment_tokens, run.prompt_tokens[::3])


def test_samples_share_a_prefix_and_then_their_own_prompt() -> None:
    run = load(scenario(stage__samples=2, stage__shared_prefix={"tokens": 400}), 3)
    assert chains(run) == [[0, 1], [0, 1], [0, 2], [0, 2], [0, 3], [0, 3]]
    assert run.prefixes is not None
    assert run.prefixes.segment_tokens.tolist() == [400, 600, 600, 600]


def test_prompts_of_samples_are_clipped_for_their_longest_answer() -> None:
    made = scenario(stage__samples=4, stage__prompt_tokens=LOGNORMAL, stage__output_tokens={"uniform": [1, 900]})
    run = load(made, max_model_len=1000)
    prompts, outputs = run.prompt_tokens.reshape(-1, 4), run.output_tokens.reshape(-1, 4)
    assert (prompts == prompts[:, :1]).all()
    assert (prompts[:, 0] + outputs.max(axis=1)).max() == 1000


def test_without_anything_shared_there_are_no_chains() -> None:
    assert load(scenario()).prefixes is None


def test_stages_have_prefixes_of_their_own() -> None:
    stage = {"prompt_tokens": 500, "output_tokens": 5, "shared_prefix": {"tokens": 100}}
    made = scenario(
        query__stages=[{"name": "a", **stage}, {"name": "b"} | stage | {"shared_prefix": None}, {"name": "c", **stage}]
    )
    run = load(made, 4)
    assert chains(run) == [[0], [], [1]] * 4


@pytest.mark.parametrize(("zipf", "first"), [(0.0, 0.25), (1.0, 0.48), (2.0, 0.7024)])
def test_groups_are_drawn_by_their_popularity(zipf: float, first: float) -> None:
    run = load(scenario(stage__shared_prefix={"tokens": 100, "groups": 4, "zipf": zipf}), 50_000)
    assert run.prefixes is not None
    shares = np.bincount(run.prefixes.chain_segment, minlength=4) / run.requests
    weights = np.arange(1, 5) ** -zipf
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    assert shares[0] == pytest.approx(first, abs=0.01)


def test_a_prompt_drawn_shorter_than_its_prefix_is_raised_and_counted() -> None:
    run = load(scenario(stage__prompt_tokens={"uniform": [301, 500]}, stage__shared_prefix={"tokens": 400}), 10_000)
    assert run.prompt_tokens.min() == 401
    (note,) = run.notes
    raised = int(note.split(": ")[1].split(" of ")[0])
    assert raised == pytest.approx(5000, rel=0.1)
    assert "of 10000 prompts" in note


def test_a_clipped_prompt_keeps_its_shared_prefix() -> None:
    made = scenario(
        stage__prompt_tokens=LOGNORMAL, stage__output_tokens=LOGNORMAL, stage__shared_prefix={"tokens": 400}
    )
    run = load(made, max_model_len=3000)
    assert run.prompt_tokens.min() == 401
    assert (run.prompt_tokens + run.output_tokens).max() == 3000
    assert 0 < run.clipped_share < 1


def test_a_run_beyond_all_memory_is_refused() -> None:
    rule = r"^requests \(=200000000\): a run has at most 100000000 queries: .* traffic.peak_qps \(=10\)$"
    with pytest.raises(ScenarioError, match=rule):
        load(scenario(), 200_000_000)
    for seldom in ({"peak_qps": 1e-310}, {"query__response_cache__hit_rate": 1 - 1e-16}):
        with pytest.raises(ScenarioError, match=r"^traffic.peak_qps .*: 1000 queries that reach .* more than 2e\+13 s"):
            load(scenario(**seldom))
    with pytest.raises(
        ScenarioError, match=r"^duration \(=1e\+07 s\): more than 100000000 queries at traffic.peak_qps"
    ):
        load(scenario(peak_qps=100), None, duration_s=1e7)
    with pytest.raises(ScenarioError, match="more than 100000000 model calls"):
        load(scenario(stage__calls=1_000_000), 1000)
