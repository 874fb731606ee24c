"""The step time in a draw: a given factor on all of it, or a whole possible world as the 80 % bands draw them.

A world multiplies each kernel and each overhead by a factor of its own. What the response surface needs is two numbers:
the *step-time factor*, the engine's busy seconds in that world over those in the nominal one, for the steps that the
planned fleet takes at the peak (`busy_seconds` says how they divide among the terms of the step cost); and the
*prompt-time factor*, likewise the seconds of a long prompt that has the engine to itself, over the step-time factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.deployment import Deployment, World, draw_worlds, in_world
from planner.simulation.load import Load
from planner.simulation.outcome import Outcome

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
LONG_PROMPT = 0.99  # of the prompts are no longer


@dataclass(frozen=True)
class StepTimes:
    """The step time in every draw, shape [samples].

    `factors`: of the deployment that is planned. `order`: which world each draw has (the worlds of every deployment
    are drawn from the same streams, so that one world is the same mistake everywhere); None where a cv was given,
    and the factor is then the whole difference, for every deployment alike.
    """

    factors: F64
    order: I64 | None = field(default=None, repr=False)
    seed: int = 0

    def worlds(self, deployment: Deployment) -> list[World] | None:
        """The worlds of a deployment, in the draws' order; None where a cv was given."""
        if self.order is None:
            return None
        drawn = draw_worlds(deployment, self.seed, len(self.order))
        return [drawn[place] for place in self.order]


def from_worlds(deployment: Deployment, load: Load, outcome: Outcome, scores: F64, seed: int) -> StepTimes:
    """Step times from how well the step cost is known, ranked as the scores are."""
    drawn = draw_worlds(deployment, seed, len(scores))
    factors, _ = world_factors(deployment, drawn, load, outcome)
    order = np.empty(len(scores), np.int64)
    order[np.argsort(scores, kind="stable")] = np.argsort(factors, kind="stable")
    return StepTimes(factors[order], order, seed)


def in_draws(times: StepTimes, draws: Sequence[int]) -> Callable[[int, Deployment], Deployment]:
    """A function (one of `draws`, deployment) -> the deployment in that draw, whatever deployment a search meets."""
    known: dict[object, dict[int, World]] = {}

    def changed(draw: int, deployment: Deployment) -> Deployment:
        if times.order is None:
            return replace(deployment, cost=slower(deployment.cost, float(times.factors[draw])))
        candidate = deployment.candidate
        key = (candidate.model.name, candidate.gpu.name, candidate.options, candidate.routing)
        if key not in known:
            drawn = draw_worlds(deployment, times.seed, len(times.order))
            known[key] = {one: drawn[times.order[one]] for one in draws}
        return in_world(deployment, known[key][draw])

    return changed


def slower(cost: StepCost, factor: float) -> StepCost:
    """The step cost with every duration times `factor`."""
    durations = {name: value * factor for name, value in vars(cost).items() if name != "window"}
    return replace(cost, **durations)


def world_factors(deployment: Deployment, worlds: Sequence[World], load: Load, outcome: Outcome) -> tuple[F64, F64]:
    """The step-time and the prompt-time factor of each world, for the steps of a run of the nominal one."""
    drivers = {name: np.array([world.factors[name] for world in worlds]) for name in deployment.breakdown.drivers}

    def times(seconds: Sequence[float]) -> F64:
        total = np.zeros(len(worlds))
        for part, term in zip(seconds, deployment.breakdown.terms, strict=True):
            total += part * prod((drivers[name] for name in term.drivers), start=np.ones(len(worlds)))
        return total / sum(seconds)

    step_time = times(busy_seconds(deployment, load, outcome))
    return step_time, times(prompt_seconds(deployment, load)) / step_time


def busy_seconds(deployment: Deployment, load: Load, outcome: Outcome) -> list[float]:
    """About how many of a run's busy seconds each term of the step cost takes, in the breakdown's order.

    The run is taken as two kinds of steps: those with a prefill, at most one for each request, and those without.
    What passes in the API server keeps no engine busy.
    """
    ledger = outcome.figures["ledger"]
    steps = max(int(ledger["steps"]), 1)
    prompt, output = load.prompt_tokens.astype(np.float64), load.output_tokens.astype(np.float64)
    context = float(prompt.mean() + output.mean() / 2)
    filling = min(load.requests, steps)
    running = ledger["decode_tokens"] / steps
    decoded = float(ledger["decode_tokens"])

    return [
        filling * _at(term.tokens_s, running + ledger["prefill_tokens"] / filling)
        + (steps - filling) * _at(term.tokens_s, running)
        + steps * (_at(term.requests_s, max(running, 1.0)) + term.decode_attention_s)
        + decoded * (term.decode_token_s * context + term.window_token_s * min(context, deployment.cost.window))
        + term.prefill_token2_s * float((prompt**2).sum())
        + term.prefill_window_s * load.requests * deployment.cost.attended(int(prompt.mean()))
        + term.prefill_step_s * filling
        for term in deployment.breakdown.terms
    ]


def prompt_seconds(deployment: Deployment, load: Load) -> list[float]:
    """What each term takes of a prompt as long as the 99th percentile, alone in the engine, API server included."""
    prompt = float(np.quantile(load.prompt_tokens, LONG_PROMPT))
    budget = deployment.config.max_num_batched_tokens
    return [
        _at(term.tokens_s, min(prompt, budget)) * max(prompt / budget, 1.0)
        + _at(term.requests_s, 1.0)
        + term.prefill_token2_s * prompt**2
        + term.prefill_window_s * deployment.cost.attended(int(prompt))
        + term.prefill_step_s
        + term.frontend_s
        + term.frontend_token_s * prompt
        for term in deployment.breakdown.terms
    ]


def _at(curve: F64 | float, place: float) -> float:
    """A term's curve at a place between its entries; a plain number is the same everywhere."""
    return float(curve) if np.ndim(curve) == 0 else float(np.interp(place, np.arange(np.size(curve)), curve))
