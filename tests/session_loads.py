"""Sessions without the generator's arithmetic, a fleet whose steps take a second, and a chat for real GPUs."""

from __future__ import annotations

from typing import Any

import numpy as np

import planner
from planner.coefficients import StepCost
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load, Prefixes
from planner.specs import SchedulerConfig

NEVER = float("nan")


def sessions(
    begins_s: list[float], said: list[list[tuple[int, int]]], think_s: float = 0.0, prefix: int = 0, **more: Any
) -> Load:
    """A load of sessions, turn after turn, each `said` as (own tokens, answer); all share `prefix` tokens.

    Written without the generator's arithmetic, so that the two can be held against each other.
    """
    turns = [
        (begin + turn * think_s, session, turn)
        for session, begin in enumerate(begins_s)
        for turn in range(len(said[session]))
    ]
    turns.sort()
    place = {(session, turn): query for query, (_, session, turn) in enumerate(turns)}
    chains: list[list[int]] = []
    tokens = [prefix]
    for _, session, turn in turns:
        begin = [0] if prefix else []
        chain = begin if turn == 0 else list(chains[place[session, turn - 1]])
        own, answer = said[session][turn]
        chain += [len(tokens), len(tokens) + 1]
        tokens += [own - (prefix if turn == 0 else 0), answer]
        chains.append(chain)
    return Load(
        np.array([due for due, _, _ in turns], np.float64),
        np.array([sum(tokens[link] for link in chain[:-1]) for chain in chains], np.int32),
        np.array([said[session][turn][1] for _, session, turn in turns], np.int32),
        prefixes=Prefixes(
            np.cumsum([0, *map(len, chains)]),
            np.array([link for chain in chains for link in chain], np.int32),
            np.array(tokens, np.int32),
        ),
        think_s=np.array([think_s if turn else 0.0 for _, _, turn in turns]),
        follows=np.array([place.get((session, turn - 1), -1) for _, session, turn in turns]),
        **more,
    )


def run(load: Load, *, seats: int = 4, replicas: int = 1, blocks: int = 200, caching: bool = True) -> FleetRun:
    """The load on steps of one second, blocks of 4 tokens."""
    config = SchedulerConfig(blocks, 4, seats, 64, 64, enable_prefix_caching=caching)
    cost = StepCost(np.ones(65), np.zeros(seats + 1))
    return run_fleet(load, config, cost, replicas, "least_loaded", np.random.default_rng(0))


TWO, THREE = [(4, 2)] * 2, [(4, 2)] * 3

CHAT = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 8192},
    "traffic": {"peak_qps": 6},
    "query": {
        "stages": [
            {
                "name": "chat",
                "prompt_tokens": {"lognormal": {"mean": 300, "cv": 0.5}},
                "output_tokens": {"lognormal": {"mean": 250, "cv": 0.5}},
                "turns": 6,
                "think_s": 20,
            }
        ]
    },
    "slo": {"p95_ttft_ms": "<=500", "p95_tpot_ms": "<=30"},
}


def simulated(**keys: Any) -> dict[str, Any]:
    changes = {key.replace("__", "."): value for key, value in keys.items()}
    return planner.simulate(Scenario.from_dict(CHAT).with_values(changes), requests=4000).as_dict()


# Sessions of five turns of about 250 tokens, ten seconds between them, in front of a cache of 2,999 blocks of 16.
FIVE_TURNS: dict[str, Any] = {
    "version": 1,
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 4096, "num_gpu_blocks_override": 3000},
    "traffic": {"peak_qps": 2},
    "query": {
        "stages": [
            {
                "name": "reply",
                "prompt_tokens": {"uniform": [100, 200]},
                "output_tokens": {"uniform": [50, 150]},
                "turns": 5,
                "think_s": 10,
            }
        ]
    },
}
