"""Records of a server whose truth is known: the simulator's own times, written as a load test writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from planner.deployment import Length, deploy, make_load, only_candidate
from planner.records import RequestRow, RunEnd, RunHeader, encode_line
from planner.scenario import Scenario
from planner.simulation.fleet import FleetRun, run_fleet
from planner.simulation.load import Load

SENT_LATE_S = 0.0005
BASE = {
    "version": 1,
    "name": "known truth",
    "model": "qwen3-0.6b",
    "hardware": "h100-sxm-80gb",
    "engine": {"max_model_len": 4096, "max_num_seqs": 32, "num_gpu_blocks_override": 4096},
    "traffic": {"peak_qps": 40},
    "query": {
        "stages": [
            {
                "name": "answer",
                "prompt_tokens": {"lognormal": {"mean": 300, "cv": 0.6}},
                "output_tokens": {"lognormal": {"mean": 24, "cv": 0.5}},
                "shared_prefix": {"tokens": 64},
            }
        ]
    },
    "slo": {"p99_ttft_ms": "<=200", "p90_tpot_ms": "<=50", "p50_itl_ms": "<=50"},
}


def scenario_with(**changes: Any) -> Scenario:
    """The base scenario with other values at dotted keys, `__` for a dot."""
    return Scenario.from_dict(BASE).with_values({key.replace("__", "."): value for key, value in changes.items()})


def simulated_run(scenario: Scenario, queries: int = 400, warmup: int = 40, seed: int = 0) -> tuple[Load, FleetRun]:
    """The arrays of a run and what the simulator makes of them."""
    deployment = deploy(only_candidate(scenario, "loadtest"))
    load = make_load(scenario, deployment.config.max_model_len, seed, Length(queries - warmup, warmup, 0))
    rng = np.random.default_rng([seed, 1])
    run = run_fleet(load, deployment.config, deployment.cost, 1, deployment.candidate.routing, rng)
    return load, run


def write_records(
    path: Path,
    scenario: Scenario,
    *,
    queries: int = 400,
    warmup: int = 40,
    seed: int = 0,
    slower: float = 1.0,
    noise: float = 0.0,
    change: Callable[[RequestRow], RequestRow | None] = lambda row: row,
    end: RunEnd | None = None,
    killed: bool = False,
) -> Path:
    """A run of `queries` queries, each request's times as simulated, `slower` times as long and with relative `noise`.

    `change` may alter a row, or leave it out by None. Gaps are equal, for the simulator keeps no times of their own.
    """
    load, run = simulated_run(scenario, queries, warmup, seed)
    rng = np.random.default_rng(seed + 1)
    header = RunHeader(
        name=scenario.name,
        scenario=scenario.as_dict(),
        seed=seed,
        queries=load.queries,
        warmup=load.warmup,
        width=load.width,
        max_model_len=4096,
        demand=scenario.demand,
        api="completions",
        host="http://127.0.0.1:8000",
        model=scenario.model[0],
        started_at="2026-01-01T00:00:00+00:00",
    )
    lines = [encode_line(header)]
    for i in range(load.requests):
        due_s = float(run.arrival_s[i // load.width])
        stretch = slower * (1.0 + noise * float(rng.standard_normal()))
        first_s, last_s = (
            due_s + (float(times[i]) - due_s) * stretch for times in (run.first_token_s, run.last_token_s)
        )
        tokens = int(load.output_tokens[i])
        row = RequestRow(
            request=i,
            query_s=due_s,
            scheduled_s=due_s,
            sent_s=due_s + SENT_LATE_S,
            first_token_s=first_s,
            last_token_s=last_s,
            ended_s=last_s,
            gaps_ms=[(last_s - first_s) / (tokens - 1) * 1000.0] * (tokens - 1) if tokens > 1 else [],
            asked_prompt_tokens=int(load.prompt_tokens[i]),
            asked_output_tokens=tokens,
            prompt_tokens=int(load.prompt_tokens[i]),
            output_tokens=tokens,
            events=tokens,
            status=200,
        )
        changed = change(row)
        if changed is not None:
            lines.append(encode_line(changed))
    if not killed:
        told = end or RunEnd(finished_at="2026-01-01T00:01:00+00:00", reason="complete", rows=len(lines) - 1)
        lines.append(encode_line(told))
    path.write_bytes(b"".join(lines))
    return path
