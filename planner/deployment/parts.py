"""The step cost cut into the parts that a load test can tell apart.

A step's seconds are a sum over parts, each a function that the planner models and a factor scales:

    step               what the smallest step costs: tokens_s[1] + requests_s[1]
    tokens             tokens_s[T] − tokens_s[1]: what more tokens in a step cost
    sequences          requests_s[n] − requests_s[1]: what more requests in a step cost
    experts            on a CPU: reading the experts that T tokens touch, beyond those of one token
    decode_attention   attention of decodes over their cached tokens
    prefill_attention  attention inside prompts, quadratic in their length
    prefill_step       what a step with prefills costs beside its tokens
    frontend           what a request pays before the engine sees it
    frontend_token     likewise, for each prompt token

Weights are read, layers launched and inputs prepared in every step whatever its size, so a load test sees only their
sum: `step`. On a CPU `tokens` and `sequences` are straight lines: the planner's curve is a stand-in GPU's, flat where
weights are read and bent where arithmetic takes over, and vLLM on a CPU showed no such bend; the experts of a mixture,
which the curve holds otherwise, are then a part of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.deployment.candidates import Candidate
from planner.performance import Breakdown
from planner.readers.calibration_file import Part
from planner.specs import Gpu, Model

F64 = NDArray[np.float64]
PARTS: tuple[Part, ...] = get_args(Part)
FRONTEND: tuple[Part, ...] = ("frontend", "frontend_token")
NAMES: dict[Part, str] = {
    "step": "engine step",
    "tokens": "tokens of a step",
    "sequences": "sequences of a step",
    "experts": "experts of a step",
    "decode_attention": "decode attention",
    "prefill_attention": "prefill attention",
    "prefill_step": "prefill step",
    "frontend": "API server",
    "frontend_token": "tokenizer",
}


def parts_of(breakdown: Breakdown, candidate: Candidate) -> dict[Part, StepCost]:
    """The planner's own step cost, cut into parts. A part that costs nothing is left out."""
    return cut(breakdown.cost(), candidate)


def cut(whole: StepCost, candidate: Candidate) -> dict[Part, StepCost]:
    """A step cost as the sum of its parts (on a CPU with straight lines through the same ends)."""
    tokens = np.arange(len(whole.tokens_s), dtype=np.float64)
    requests = np.arange(len(whole.requests_s), dtype=np.float64)
    nothing = StepCost(np.zeros_like(tokens), np.zeros_like(requests), window=whole.window)
    least = float(whole.tokens_s[1] + whole.requests_s[1])
    more_tokens, more_requests = whole.tokens_s - whole.tokens_s[1], whole.requests_s - whole.requests_s[1]
    experts = np.zeros_like(tokens)
    if candidate.gpu.vendor == "cpu":
        more_tokens = _line(more_tokens)
        more_requests = _line(more_requests)
        experts = _expert_reads_s(candidate.model, candidate.gpu, tokens)
    more_tokens[0] = more_requests[0] = 0.0
    found: dict[Part, StepCost] = {
        "step": replace(nothing, tokens_s=np.where(tokens > 0, least, 0.0)),
        "tokens": replace(nothing, tokens_s=more_tokens),
        "sequences": replace(nothing, requests_s=more_requests),
        "experts": replace(nothing, tokens_s=experts),
        "decode_attention": replace(
            nothing,
            decode_attention_s=whole.decode_attention_s,
            decode_token_s=whole.decode_token_s,
            window_token_s=whole.window_token_s,
        ),
        "prefill_attention": replace(
            nothing, prefill_token2_s=whole.prefill_token2_s, prefill_window_s=whole.prefill_window_s
        ),
        "prefill_step": replace(nothing, prefill_step_s=whole.prefill_step_s),
        "frontend": replace(nothing, frontend_s=whole.frontend_s),
        "frontend_token": replace(nothing, frontend_token_s=whole.frontend_token_s),
    }
    return {part: cost for part, cost in found.items() if size(cost, part)[0] > 0.0}


def _line(curve: F64) -> F64:
    """The straight line from (1, 0) through the curve's last point."""
    last = len(curve) - 1
    places = np.arange(len(curve), dtype=np.float64)
    return np.asarray((places - 1.0) * (curve[last] / max(last - 1, 1)))


def _expert_reads_s(model: Model, gpu: Gpu, tokens: F64) -> F64:
    """Seconds of reading the distinct experts that T tokens touch when each picks at random, beyond those of one.

    E·(1 − (1 − k/E)^T) experts of E, k for each token; two bytes a weight over the memory's bandwidth.
    """
    if model.experts is None:
        return np.zeros_like(tokens)
    count, each = model.experts.count, model.experts.per_token
    touched = count * (1.0 - (1.0 - each / count) ** np.maximum(tokens, 1.0))
    weights = (3.0 if model.gated_ffn else 2.0) * model.hidden * model.experts.ffn * model.moe_layers
    return np.asarray((touched - each) * weights * 2.0 / gpu.memory_bandwidth)


def size(cost: StepCost, part: Part) -> tuple[float, str]:
    """One number that stands for a part, in seconds, and what it is the cost of."""
    match part:
        case "step":
            return float(cost.tokens_s[1]), "a step of one token"
        case "tokens":
            seconds, place = _value(cost.tokens_s, 1000)
            return seconds, f"a step of {place:,} tokens, beyond the first"
        case "sequences":
            seconds, place = _value(cost.requests_s, 100)
            return seconds, f"a step of {place} requests, beyond the first"
        case "experts":
            return float(cost.tokens_s[-1]), "all experts, beyond those of one token"
        case "decode_attention":
            return 1e3 * (cost.decode_token_s + cost.window_token_s), "1,000 cached tokens read in a step"
        case "prefill_attention":
            pairs = cost.prefill_token2_s * 1e6 + cost.prefill_window_s * cost.attended(1000)
            return float(pairs), "a prompt of 1,000 tokens"
        case "prefill_step":
            return cost.prefill_step_s, "a step with prefills"
        case "frontend":
            return cost.frontend_s, "a request"
        case "frontend_token":
            return 1e3 * cost.frontend_token_s, "1,000 prompt tokens"


def _value(curve: F64, place: int) -> tuple[float, int]:
    """The curve's value at a place, on a straight line even beyond its end; else that of its last place."""
    last = len(curve) - 1
    if place <= last:
        return float(curve[place]), place
    if last >= 2 and abs(curve[2] * (last - 1) - curve[last]) <= 1e-9 * abs(curve[last]):
        return float(curve[2] * (place - 1)), place
    return float(curve[last]), last


def scaled(parts: Mapping[Part, StepCost], factors: Mapping[Part, float]) -> StepCost:
    """Σ factor · part."""
    costs = [(factors.get(part, 1.0), cost) for part, cost in parts.items()]
    slopes = [
        *("decode_attention_s", "decode_token_s", "window_token_s", "prefill_token2_s", "prefill_window_s"),
        *("prefill_step_s", "frontend_s", "frontend_token_s"),
    ]
    return StepCost(
        tokens_s=np.sum([factor * cost.tokens_s for factor, cost in costs], axis=0),
        requests_s=np.sum([factor * cost.requests_s for factor, cost in costs], axis=0),
        window=next(iter(parts.values())).window,
        ranks_tokens_s=np.zeros(0),  # fitted on a single engine, which waits for no other
        **{name: float(sum(factor * getattr(cost, name) for factor, cost in costs)) for name in slopes},
    )
