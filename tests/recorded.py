"""Load tests whose truth is known: the reference scheduler under a chosen step cost, seen by a client with jitter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.coefficients import StepCost
from planner.deployment import Deployment, Length, deploy, make_load, only_candidate
from planner.deployment.parts import parts_of, scaled
from planner.records import RequestRow, RunEnd, RunHeader, encode_line
from planner.scenario import Scenario
from planner.simulation.load import Load, shared_blocks
from planner.simulation.reference import Request, Scheduler

SEED = 7


@dataclass(frozen=True)
class World:
    """What the client does to the truth: jitter of each token in s, the share of requests that stall once, and how."""

    jitter_s: float = 0.0003
    step_noise: float = 0.0  # relative, of every step
    stalls: float = 0.0
    stall_s: float = 1.0


def scenario_of(rate: float, prompt: Any, output: Any, **changes: Any) -> Scenario:
    """A single-stage scenario on the CPU-like tiny model, or what `changes` says."""
    stage = {"name": "answer", "prompt_tokens": prompt, "output_tokens": output}
    stage |= changes.pop("stage", {})
    return Scenario.from_dict(
        {
            "version": 1,
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "engine": {
                "max_model_len": 4096,
                "max_num_seqs": 64,
                "max_num_batched_tokens": 2048,
                "vllm_version": "0.32",
            },
            "traffic": {"peak_qps": rate},
            "query": {"stages": [stage]},
        }
        | changes
    )


def true_cost(deployment: Deployment, factors: dict[str, float]) -> StepCost:
    """The planner's own step cost with its parts times the factors."""
    return scaled(parts_of(deployment.breakdown, deployment.candidate), factors)  # type: ignore[arg-type]


def token_times(
    load: Load, deployment: Deployment, cost: StepCost, noise: float, rng: np.random.Generator
) -> list[list[float]]:
    """When each request's tokens leave the engine: the reference scheduler, one step after the other."""
    config = deployment.config
    shared = shared_blocks(load.prefixes, load.requests, config.block_size)
    ready = load.arrival_s + cost.frontend_s + cost.frontend_token_s * load.prompt_tokens
    order = np.argsort(ready, kind="stable")
    scheduler, times = Scheduler(config), [[] for _ in range(load.requests)]
    now = horizon = 0.0
    unseen = 0
    while True:
        while unseen < load.requests and ready[order[unseen]] <= horizon:
            i = int(order[unseen])
            blocks = shared.ids[shared.start[i] : shared.start[i] + shared.count[i]].tolist()
            scheduler.add(
                Request(
                    id=i,
                    prompt_tokens=int(load.prompt_tokens[i]),
                    output_tokens=int(load.output_tokens[i]),
                    blocks=blocks,
                )
            )
            unseen += 1
        if not scheduler.running and not scheduler.waiting:
            if unseen == load.requests:
                return times
            now = horizon = max(now, float(ready[order[unseen]]))
            continue
        step = scheduler.schedule()
        seconds = cost.step_s(step.decodes, step.prefills) * float(np.exp(noise * rng.standard_normal()))
        horizon = now if config.async_scheduling else now + seconds
        now += seconds
        for emitted in scheduler.update(step).emitted:
            times[int(emitted)].append(now)


def write_run(
    path: Path,
    scenario: Scenario,
    factors: dict[str, float],
    queries: int = 300,
    seed: int = SEED,
    world: World = World(),
    deployment: Deployment | None = None,
    **header: Any,
) -> Path:
    """A records file of a run whose step cost is the planner's own times `factors`."""
    deployment = deployment or deploy(only_candidate(scenario, "a test"))
    load = make_load(scenario, deployment.config.max_model_len, seed, Length(queries, 0, 0))
    rng = np.random.default_rng([seed, 99])
    times = token_times(load, deployment, true_cost(deployment, factors), world.step_noise, rng)
    rows = []
    for i, exact in enumerate(times):
        seen = np.maximum.accumulate(np.array(exact) + np.abs(rng.normal(0, world.jitter_s, len(exact))))
        if rng.random() < world.stalls and len(seen) > 2:
            seen[rng.integers(1, len(seen)) :] += world.stall_s
        sent = float(load.arrival_s[i]) + abs(float(rng.normal(0, world.jitter_s)))
        rows.append(
            RequestRow(
                request=i,
                query_s=float(load.arrival_s[i]),
                scheduled_s=float(load.arrival_s[i]),
                sent_s=sent,
                first_token_s=float(seen[0]),
                last_token_s=float(seen[-1]),
                ended_s=float(seen[-1]),
                gaps_ms=(np.diff(seen) * 1e3).tolist(),
                asked_prompt_tokens=int(load.prompt_tokens[i]),
                asked_output_tokens=int(load.output_tokens[i]),
                prompt_tokens=int(load.prompt_tokens[i]),
                output_tokens=int(load.output_tokens[i]),
                events=len(exact),
                status=200,
            )
        )
    server = {"version": "0.32.0", "kv_cache_tokens": deployment.kv.logged_tokens}
    given = {
        "name": scenario.name,
        "scenario": scenario.as_dict(),
        "seed": seed,
        "queries": queries,
        "warmup": 0,
        "width": 1,
        "max_model_len": deployment.config.max_model_len,
        "demand": scenario.demand,
        "api": "completions",
        "host": "http://127.0.0.1",
        "model": "tiny",
        "started_at": "2026-11-22T00:00:00Z",
        "server": server,
    } | header
    end = RunEnd(finished_at="2026-11-22T00:01:00Z", reason="complete", rows=len(rows))
    lines = [RunHeader(**given), *sorted(rows, key=lambda row: row.ended_s), end]
    path.write_bytes(b"".join(encode_line(line) for line in lines))
    return path
