"""Token counts: drawn from a scenario's distributions, and cut to what the model's context holds.

Every draw uses one uniform or normal variate per count, in order, so that the first k counts do not depend on how
many follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.errors import ScenarioError
from planner.scenario import Distribution, Histogram, Joint, Lognormal, Normal, Uniform
from planner.simulation.load import I64
from planner.workload.tables import MOST_TOKENS, read_samples

Resolve = Callable[[str], Path]


def draw_tokens(
    distribution: Distribution, count: int, rng: np.random.Generator, resolve: Resolve, key: str
) -> tuple[I64, I64 | None]:
    """`count` token counts, each at least 1; the second array is the output that a joint draws along, else None.

    `resolve` turns the scenario's file names into paths, `key` names the place in an error. Lognormal: with
    σ² = ln(1 + cv²) and μ = ln mean − σ²/2 the counts have the given mean and coefficient of variation.
    Raises DataFileError for a file that cannot be used.
    """
    match distribution:
        case Uniform(uniform=(low, high)):
            return low + np.floor(rng.random(count) * (high - low + 1)).astype(np.int64), None
        case Lognormal(lognormal=moments):
            variance = math.log1p(moments.cv**2)
            logs = math.log(moments.mean) - variance / 2 + math.sqrt(variance) * rng.standard_normal(count)
            return _rounded(np.exp(np.minimum(logs, math.log(MOST_TOKENS))), 1, MOST_TOKENS), None
        case Normal(normal=moments):
            values = moments.mean + moments.sd * rng.standard_normal(count)
            return _rounded(values, moments.min, moments.max or MOST_TOKENS), None
        case Histogram(histogram=named):
            (samples,) = read_samples(resolve(named.file), f"{key}.histogram.file", [named.column])
            return np.maximum(_with_replacement(samples, count, rng), 1), None
        case Joint(joint=named):
            pairs = np.stack(read_samples(resolve(named.file), f"{key}.joint.file", named.columns), axis=1)
            drawn = np.maximum(_with_replacement(pairs, count, rng), 1)
            return drawn[:, 0], drawn[:, 1]
        case int():
            return np.full(count, distribution, np.int64), None
    raise TypeError(f"not a distribution: {distribution!r}")


def _rounded(values: np.ndarray[tuple[int], np.dtype[np.float64]], least: int, most: int) -> I64:
    return np.clip(np.rint(values), least, most).astype(np.int64)


def _with_replacement(rows: I64, count: int, rng: np.random.Generator) -> I64:
    return rows[np.floor(rng.random(count) * len(rows)).astype(np.int64)]


class Fitted(NamedTuple):
    """Token counts that fit the context, and how many requests were cut for it."""

    prompts: I64  # [queries · calls]
    outputs: I64  # [queries · calls, samples]
    clipped: int


def fit_to_context(prompts: I64, outputs: I64, least_prompt: int, max_model_len: int) -> Fitted:
    """Cut tails so that prompt + output ≤ max_model_len in every request.

    An output is cut to max_model_len − `least_prompt`, then a prompt to max_model_len − its longest output: samples
    of one call share their prompt. `least_prompt` is the fixed prompt, or 1 + what prompts share.
    """
    fitted_outputs = np.minimum(outputs, max_model_len - least_prompt)
    fitted_prompts = np.minimum(prompts, max_model_len - fitted_outputs.max(axis=1))
    cut = (fitted_outputs < outputs) | (fitted_prompts < prompts)[:, None]
    return Fitted(fitted_prompts, fitted_outputs, int(np.count_nonzero(cut)))


def refuse_misfit(
    prompt: Distribution, output: Distribution | None, begins: dict[str, int], max_model_len: int, key: str
) -> int:
    """The shortest prompt that a stage may have; ScenarioError where fixed values cannot fit the context.

    `begins` are the parts that a prompt of the stage begins with and their tokens (0 = none), `key` the stage's dotted
    key.
    """
    least = prompt if isinstance(prompt, int) else sum(begins.values()) + 1
    most = f"max_model_len (={max_model_len})"
    if isinstance(prompt, int) and prompt + (output if isinstance(output, int) else 1) > max_model_len:
        beside = f"with {output} output tokens" if isinstance(output, int) else "with one output token"
        raise ScenarioError(f"{key}.prompt_tokens", prompt, f"{beside} it is longer than {most}")
    if isinstance(output, int) and output + least > max_model_len:
        raise ScenarioError(f"{key}.output_tokens", output, f"with a prompt of {least} it is longer than {most}")
    if least + 1 > max_model_len:
        longest = max(begins, key=begins.__getitem__)
        raise ScenarioError(
            f"{key}.{longest}.tokens", begins[longest], f"leaves no room for prompt and output in {most}"
        )
    return least
