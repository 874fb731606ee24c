"""What stands before the engine, from first tokens under load: measured against a replay of the same sends.

Requests that met an idle engine tell it directly, but they are few, and a front end under load is what a plan needs.
So: replay every run with the fitted engine, take what its first tokens lack for the front end's, fit it, constant and
per prompt token, to that, and replay again, since a front end also shifts when the engine sees a request. The engine's
own doubt is carried over by shifting each of its factors by one standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.calibration.fit import Fit, Problem, solve
from planner.calibration.replayed import RecordedRun, replay_run
from planner.calibration.rows import time_blocks
from planner.deployment.parts import FRONTEND, parts_of, scaled
from planner.readers.calibration_file import Part

F64 = NDArray[np.float64]
ROUNDS = 4


def refine(runs: Sequence[RecordedRun], parts: Sequence[Part], engine: Fit) -> Fit:
    """The same fit with the front end's factors, and their rows of the covariance, from replays."""
    front = [place for place, part in enumerate(parts) if part in FRONTEND]
    if not front:
        return engine
    inner = [place for place in range(len(parts)) if place not in front]
    logs = engine.log_factor.copy()
    found = None
    for _ in range(ROUNDS):
        found = _once(runs, parts, front, logs)
        logs[front] = found.log_factor
    assert found is not None
    spreads = np.sqrt(np.diag(engine.covariance))
    gradient = np.zeros((len(front), len(inner)))
    for column, place in enumerate(inner):
        shift = min(float(spreads[place]), 0.5)
        if shift == 0.0:
            continue
        shifted = logs.copy()
        shifted[place] += shift
        gradient[:, column] = (_once(runs, parts, front, shifted).log_factor - logs[front]) / shift
    covariance = engine.covariance.copy()
    own = engine.covariance[np.ix_(inner, inner)]
    covariance[np.ix_(front, inner)] = gradient @ own
    covariance[np.ix_(inner, front)] = (gradient @ own).T
    covariance[np.ix_(front, front)] = gradient @ own @ gradient.T + found.covariance
    linear_sd, reach = engine.linear_sd.copy(), engine.reach.copy()
    linear_sd[front], reach[front] = found.linear_sd, found.reach
    return replace(engine, log_factor=logs, covariance=covariance, linear_sd=linear_sd, reach=reach)


def _once(runs: Sequence[RecordedRun], parts: Sequence[Part], front: Sequence[int], logs: F64) -> Fit:
    """The front end's factors that first tokens ask for, where the engine sees requests as `logs` have it."""
    factors: Mapping[Part, float] = dict(zip(parts, np.exp(logs).tolist(), strict=True))
    measured, share, run_of, block = [], [], [], []
    for number, run in enumerate(runs):
        costs = parts_of(run.deployment.breakdown, run.deployment.candidate)
        cost = scaled(costs, factors)
        simulated = replay_run(run, cost).first_token_s
        prompt = run.load.prompt_tokens
        before = cost.frontend_s + cost.frontend_token_s * prompt
        keep = run.whole & np.isfinite(simulated) & ~run.unseen.touches(run.sent_s, run.first_s)
        measured.append((run.first_s - simulated + before)[keep])
        columns = [
            costs[parts[place]].frontend_s + costs[parts[place]].frontend_token_s * prompt[keep]
            if parts[place] in costs
            else np.zeros(int(keep.sum()))
            for place in front
        ]
        share.append(np.column_stack(columns))
        run_of.append(np.full(int(keep.sum()), number))
        block.append(time_blocks(run, run.first_s[keep], number))
    runs_ = np.concatenate(run_of)
    counts = np.bincount(runs_)
    weight = (len(runs_) / len(runs) / counts)[runs_]
    problem = Problem(np.concatenate(measured), np.concatenate(share), weight, runs_, np.concatenate(block))
    return solve(problem, logs[list(front)])
