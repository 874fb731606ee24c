"""Sessions against real vLLM: it says which tokens it generated, and finds them when they are sent again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planner import vllm_metrics
from planner.deployment.recorded import recorded_load, recorded_scenario
from planner.live import connect, scrape
from tests.loadtest_process import loadtest
from tools.vllm_cpu.server import VllmServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpu-tiny.yaml"
BLOCK = 128
OPTIONS = ("--requests", "30", "--warmup-s", "0", "--set", "query.stages[0].turns=3", "--set", "traffic.peak_qps=6")


def test_what_is_sent_again_is_found_generated_tokens_included(dense: VllmServer, tmp_path: Path) -> None:
    """Nobody shares anything but a session with itself: every full block that the turn before computed, and no other.

    Turns have 64 to 192 tokens and answers 100, so that blocks of 128 begin in a prompt and end in an answer.
    """
    before = scrape(connect(dense.url)).totals
    options = (*OPTIONS, "--set", "query.stages[0].output_tokens=100")
    run = loadtest(str(EXAMPLE), dense.url, tmp_path / "r.jsonl", *options)
    after = scrape(connect(dense.url)).totals
    assert run.code == 0, run.output
    assert {row.error for row in run.rows} == {""}
    assert run.end.notes == []
    load = recorded_load(run.header, recorded_scenario(run.header))
    assert [row.prompt_tokens for row in run.rows] == load.prompt_tokens.tolist()
    assert load.follows is not None
    later = np.flatnonzero(load.follows >= 0)
    said = load.prompt_tokens[load.follows[later]] + load.output_tokens[load.follows[later]] - 1
    only_prompts = load.prompt_tokens[load.follows[later]] // BLOCK * BLOCK
    expected = np.minimum(said, load.prompt_tokens[later] - 1) // BLOCK * BLOCK
    hits = after[vllm_metrics.PREFIX_HITS_TOTAL] - before[vllm_metrics.PREFIX_HITS_TOTAL]
    assert hits == expected.sum() > only_prompts.sum() > 0
