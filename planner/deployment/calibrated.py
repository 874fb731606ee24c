"""A calibration file in use: whether it belongs to a candidate, the step cost that it makes, how well it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.coefficients import StepCost
from planner.deployment.candidates import Candidate
from planner.deployment.parts import FRONTEND, NAMES, cut, parts_of, size
from planner.performance import Breakdown, Term, draw_factors, layered_normals
from planner.performance.uncertainty import correlation_root
from planner.provenance import Provenance
from planner.readers.calibration_file import Calibration, Coefficient, Identity, Memory, Part
from planner.specs import EngineOptions

F64 = NDArray[np.float64]
MISFIT = "calibration misfit"
BEYOND = 1.2  # times what was recorded, from where a run is said to leave it


@dataclass(frozen=True)
class Applied:
    """A calibration in use: the file, the planner's own breakdown, and the factors that replace it."""

    calibration: Calibration
    prior: Breakdown
    factors: Mapping[Part, float]
    same_memory: bool


class Difference(NamedTuple):
    """A key of the deployment in which it is not what was calibrated."""

    key: str
    here: Any
    calibrated: Any


def identity(candidate: Candidate) -> Identity:
    """What a calibration of this candidate belongs to."""
    options = candidate.options
    shared = {
        name: getattr(options, name)
        for name in Identity.model_fields
        if name not in ("model", "hardware", "vllm_version")
    }
    version = ".".join(map(str, options.release))
    return Identity(model=candidate.model.name, hardware=candidate.gpu.name, vllm_version=version, **shared)


def memory_settings(options: EngineOptions) -> Memory:
    """What the KV cache depends on beside the identity."""
    return Memory(**{name: getattr(options, name) for name in Memory.model_fields})


def differences(candidate: Candidate, calibration: Calibration) -> list[Difference]:
    """Every key in which a candidate is not what was calibrated: where there is one, the calibration is not used."""
    return _differences(identity(candidate), calibration.deployment)


def _differences(here: Identity | Memory, calibrated: Identity | Memory) -> list[Difference]:
    pairs = [(name, getattr(here, name), getattr(calibrated, name)) for name in type(here).model_fields]
    return [
        Difference(name if name in ("model", "hardware") else f"engine.{name}", mine, theirs)
        for name, mine, theirs in pairs
        if mine != theirs
    ]


def unused_note(file: str, found: list[Difference]) -> str:
    """The warning that a scenario's calibration is not used, with everything in which it is of another deployment."""
    return f"calibration {file} is NOT USED: it is of {_words(found)}. The step cost is the planner's own"


def cache_note(file: str, candidate: Candidate, calibration: Calibration) -> str:
    """The warning that the step cost is calibrated but the KV cache is not the one that was reported."""
    found = _differences(memory_settings(candidate.options), calibration.memory)
    return f"calibration {file} knows the KV cache with {_words(found)}. The KV cache is the planner's own estimate"


def _words(found: list[Difference]) -> str:
    of = ", ".join(f"{one.key} {one.calibrated}" for one in found)
    return f"{of}; this is {', '.join(str(one.here) for one in found)}"


def apply(calibration: Calibration, prior: Breakdown, candidate: Candidate, source: str) -> tuple[Breakdown, Applied]:
    """The candidate's breakdown with its parts as the load test found them; the candidate must match."""
    parts = parts_of(prior, candidate)
    known = {one.part: one for one in calibration.coefficients}
    factors: dict[Part, float] = {}
    rows = []
    for part, cost in parts.items():
        coefficient = known.get(part)
        factors[part] = 1.0 if coefficient is None else coefficient.factor * _rescaled(coefficient, cost, part)
        if coefficient is not None:
            rows.append(
                _row(coefficient, size(cost, part)[0] * factors[part], size(cost, part)[1], calibration, source)
            )
    terms = [
        Term(
            NAMES[part],
            (part,) if part in FRONTEND else (part, MISFIT),
            tokens_s=factors[part] * cost.tokens_s,
            requests_s=factors[part] * cost.requests_s,
            decode_attention_s=factors[part] * cost.decode_attention_s,
            decode_token_s=factors[part] * cost.decode_token_s,
            window_token_s=factors[part] * cost.window_token_s,
            prefill_token2_s=factors[part] * cost.prefill_token2_s,
            prefill_window_s=factors[part] * cost.prefill_window_s,
            prefill_step_s=factors[part] * cost.prefill_step_s,
            frontend_s=factors[part] * cost.frontend_s,
            frontend_token_s=factors[part] * cost.frontend_token_s,
        )
        for part, cost in parts.items()
    ]
    found = replace(prior, terms=tuple(terms), spreads={}, known=True, provenance=tuple(rows))
    same = memory_settings(candidate.options) == calibration.memory
    return found, Applied(calibration, prior, factors, same)


def beyond(applied: Applied, longest_prompt: int, running: float) -> list[str]:
    """Where a run leaves what was recorded: its 99th percentile of prompt tokens, its mean of running requests."""
    said = []
    for name, value, what in (
        ("prompt_tokens", float(longest_prompt), "prompts of {:.0f} tokens, recorded up to {:.0f}"),
        ("requests_in_a_step", running, "a mean of {:.3g} running requests, recorded up to {:.3g}"),
    ):
        covered = applied.calibration.covered.get(name)
        if covered is not None and value > BEYOND * covered.high:
            reach = what.format(value, covered.high)
            said.append(f"beyond the calibration: {reach}; there the planner's own curve is extended")
    return said


def _rescaled(coefficient: Coefficient, cost: StepCost, part: Part) -> float:
    """1, or what keeps the measured seconds where the planner's own constants have changed since.

    Parts whose reference depends on the batch limits are compared only where that reference is the same.
    """
    now, at = size(cost, part)
    return coefficient.reference / now if at == coefficient.reference_at else 1.0


def _row(coefficient: Coefficient, seconds: float, at: str, calibration: Calibration, source: str) -> Provenance:
    what = f"step cost: {NAMES[coefficient.part]}"
    version = calibration.deployment.vllm_version
    value = f"{seconds * 1e3:.4g} ms for {at}"
    if coefficient.status == "kept":
        told = f"{source}: too small in the recorded runs to be told; the planner's own"
        return Provenance(what, "inherited", told, value, calibration.date, version)
    low, high = (end / coefficient.factor * seconds * 1e3 for end in (coefficient.low, coefficient.high))
    told = f"{source}: {len(calibration.records)} recorded runs; 95 % interval {low:.4g} to {high:.4g} ms"
    return Provenance(what, "calibrated", told, value, calibration.date, version)


def draw_calibrated(applied: Applied, candidate: Candidate, count: int, seed: int) -> list[dict[str, float]]:
    """`count` sets of factors on the calibrated parts, their medians 1.

    Calibrated parts are jointly log-normal with the covariance of their fit; kept ones vary as the planner's own do;
    all engine parts share what the fit left unexplained between runs.
    """
    told = applied.calibration.calibrated
    covariance = np.array(applied.calibration.covariance, dtype=np.float64).reshape(len(told), len(told))
    spreads = np.sqrt(np.diag(covariance))
    safe = np.where(spreads > 0, spreads, 1.0)
    root = spreads[:, None] * correlation_root(covariance / np.outer(safe, safe) + np.diag((spreads == 0) * 1.0))
    common = np.column_stack([layered_normals(f"calibrated {one.part}", count, seed) for one in told]) @ root.T
    logs = {one.part: common[:, place] for place, one in enumerate(told)}
    nominal = parts_of(applied.prior, candidate)
    others = [part for part in applied.factors if part not in logs]
    own = (
        [cut(applied.prior.cost(drawn), candidate) for drawn in draw_factors(applied.prior, count, seed)]
        if others
        else []
    )
    for part in others:
        least = size(nominal[part], part)[0]
        logs[part] = np.log([size(world[part], part)[0] / least if part in world else 1.0 for world in own])
    misfit = applied.calibration.misfit_log_sd * layered_normals(MISFIT, count, seed)
    return [
        {**{part: float(np.exp(logs[part][draw])) for part in applied.factors}, MISFIT: float(np.exp(misfit[draw]))}
        for draw in range(count)
    ]
