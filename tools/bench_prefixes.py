"""Loads whose prompts share much: sessions, and the block ids of a trace."""

from __future__ import annotations

import numpy as np

from planner.scenario import Scenario
from planner.simulation.load import Load, Prefixes
from planner.workload import build_load
from planner.workload.traces import HASH_BLOCK_TOKENS

CONVERSATIONS = 2000  # that a trace's requests go on from
MOST_LINKS = 23  # of a request; 15 on average


def sessions(turns: int) -> Load:
    """So many turns of sessions of six, ten a second: 750 prompt tokens on average, of which 85 % were said before."""
    stage = {
        "name": "chat",
        "prompt_tokens": {"uniform": [80, 160]},
        "output_tokens": {"uniform": [80, 180]},
        "shared_prefix": {"tokens": 100},
        "turns": 6,
        "think_s": 10,
    }
    made = {"version": 1, "model": "none", "traffic": {"peak_qps": 10}, "query": {"stages": [stage]}}
    rng = np.random.default_rng(0)
    scenario = Scenario.from_dict(made)
    return build_load(scenario, queries=turns, duration_s=None, warmup=0, rng=rng, max_model_len=8192)


def recorded_blocks(requests: int) -> Load:
    """Prompts of about 15 recorded blocks, as a Mooncake trace has them, three a second.

    Four of five go on from the beginning of one of `CONVERSATIONS`, few of which are popular; the rest is their own.
    """
    rng = np.random.default_rng(0)
    links = rng.integers(7, MOST_LINKS + 1, requests)
    common = np.where(rng.random(requests) < 0.8, rng.integers(0, links + 1), 0)
    conversation = np.minimum(rng.zipf(1.3, requests), CONVERSATIONS) - 1
    start = np.concatenate(([0], np.cumsum(links)))
    place = np.arange(start[-1]) - np.repeat(start[:-1], links)
    shared = place < np.repeat(common, links)
    own = CONVERSATIONS * MOST_LINKS + np.cumsum(~shared) - 1
    segment = np.where(shared, np.repeat(conversation, links) * MOST_LINKS + place, own).astype(np.int32)
    sizes = np.full(int(segment.max()) + 1, HASH_BLOCK_TOKENS, np.int32)
    return Load(
        np.cumsum(rng.exponential(1 / 3, requests)),
        (links * HASH_BLOCK_TOKENS - rng.integers(0, HASH_BLOCK_TOKENS, requests)).astype(np.int32),
        rng.integers(80, 181, requests).astype(np.int32),
        prefixes=Prefixes(start, segment, sizes),
    )
