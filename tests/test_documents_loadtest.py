"""Documents over the wire: a load test sends the tokens that its schedule shares, and a server finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from planner import vllm_metrics
from planner.deployment import deploy, only_candidate
from planner.deployment.recorded import recorded_load, recorded_scenario, simulated_outcome
from planner.live import connect, scrape
from planner.simulation.load import shared_blocks
from tests.emulator_process import emulator
from tests.fault_server import fault_server
from tests.loadtest_process import loadtest, write_scenario

BLOCK = 16
READ = {
    "name": "read",
    "calls": 3,
    "prompt_tokens": {"uniform": [140, 170]},
    "output_tokens": 5,
    "shared_prefix": {"tokens": 20, "groups": 2},
    "document": {"tokens": 90, "corpus": 6, "zipf": 0.5},
}
WRITE = {"name": "write", "prompt_tokens": 80, "output_tokens": 5}
QUERY: dict[str, Any] = {"query": {"stages": [READ, WRITE]}}


def test_calls_of_a_query_send_one_document_behind_their_prefix(tmp_path: Path) -> None:
    with fault_server("--first-s", "0.005", "--gap-s", "0.001") as server:
        scenario = write_scenario(tmp_path, **QUERY)
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "40", "--warmup-s", "0")
        prompts = [row["prompt"] for row in server.log()]
    assert run.code == 0, run.output
    load = recorded_load(run.header, recorded_scenario(run.header))
    read = [prompt for prompt in prompts if len(prompt) > 80]
    assert sorted(map(len, prompts)) == sorted(load.prompt_tokens.tolist())
    assert len(read) == 120
    assert len({tuple(prompt[:20]) for prompt in read}) == 2
    documents = {tuple(prompt[:110]) for prompt in read}
    assert load.prefixes is not None
    assert len(documents) == len(load.prefixes.segment_tokens) - 2 <= 2 * 6, "one for each prefix and document drawn"
    assert len({tuple(prompt[110:]) for prompt in read}) == 120, "what follows is each call's own"
    pairs = {prompt[20:110][0] for prompt in read}
    assert len(pairs) > 6, "the same document behind another prefix is other content"


def test_an_emulated_server_finds_every_full_block_that_was_asked_before(tmp_path: Path) -> None:
    """The cache holds more than all that is asked, so each shared block is missed once and hit ever after."""
    scenario, truth = write_scenario(tmp_path, **QUERY), tmp_path / "truth.jsonl"
    with emulator(scenario, "--record", str(truth)) as server:
        run = loadtest(scenario, server.url, tmp_path / "r.jsonl", "--requests", "40", "--warmup-s", "0")
        totals = scrape(connect(server.url)).totals
    assert run.code == 0, run.output
    recorded = recorded_scenario(run.header)
    load = recorded_load(run.header, recorded)
    blocks = shared_blocks(load.prefixes, load.requests, BLOCK)
    alone = np.bincount(
        np.concatenate([blocks.ids[s : s + n] for s, n in zip(blocks.start, blocks.count, strict=True)])
    )
    assert alone.min() > 1
    hits = BLOCK * (int(blocks.count.sum()) - blocks.contents)
    assert totals[vllm_metrics.PREFIX_HITS_TOTAL] == hits > 0
    assert totals[vllm_metrics.PREFIX_QUERIES_TOTAL] == load.prompt_tokens.sum()
    assert sum(json.loads(line)["cached_tokens"] for line in truth.read_text().splitlines()) == hits
    outcome = simulated_outcome(deploy(only_candidate(recorded, "loadtest")), recorded, load, 1, 0)
    assert outcome.figures["saved_prefill_tokens"] == hits
    assert outcome.figures["prefix_cache_hit_rate"] == hits / load.prompt_tokens.sum()
    assert outcome.figures["evicted_blocks"] == 0
