"""Training: arithmetic 6·N·D, chips, money, time; a programme of years; and training spread over queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.gpu_time import FLOP_PER_PARAMETER, FLOP_PER_PARAMETER_TRAINED, gpu_seconds, model_flop
from planner.economics.models.fields import (
    FORWARD,
    FORWARD_AND_BACK,
    Days,
    FlopPerParamToken,
    Given,
    Gpus,
    Made,
    Params,
    PeakTflopPerS,
    PositiveShare,
    RunFlop,
    Tokens,
    Usd,
    UsdPerGpuHour,
    Why,
)
from planner.economics.models.flops import S_PER_DAY, TERA
from planner.units import S_PER_HOUR


@dataclass(frozen=True)
class TrainingFlop:
    """Arithmetic of a training run."""

    flop: RunFlop


@dataclass(frozen=True)
class Training:
    """Arithmetic, chip-hours and money of a training run."""

    flop: RunFlop
    gpu_hours: Annotated[float, Made("gpu*hour", "flop ÷ (peak_tflop_per_s × 10^12 × mfu) ÷ 3600")]
    usd: Annotated[float, Made("USD", "gpu_hours × usd_per_gpu_hour")]


@dataclass(frozen=True)
class TrainingTime:
    """How long a training run takes."""

    flop: RunFlop
    days: Annotated[float, Made("day", "flop ÷ (gpus × achieved_tflop_per_s × 10^12) ÷ 86400")]


@dataclass(frozen=True)
class TrainableTokens:
    """What a fleet can train in some days."""

    tokens: Annotated[
        float,
        Made("token", "gpus × days × 86400 × peak_tflop_per_s × 10^12 × mfu ÷ (params × flop_per_param_token)"),
    ]


@dataclass(frozen=True)
class Programme:
    """A year of a programme: machines and people."""

    machines_cny: Annotated[float, Made("CNY", "rent_cny_per_month × (1 + overhead) × months")]
    total_cny: Annotated[float, Made("CNY", "machines_cny + labour_cny")]
    labour_share: Annotated[float, Made("", "labour_cny ÷ total_cny")]


@dataclass(frozen=True)
class Amortised:
    """Training as a part of what a query costs."""

    usd_per_query: Annotated[float, Made("USD/query", "training_usd ÷ queries")]


@dataclass(frozen=True)
class Crossover:
    """How many served tokens take as much as the training did."""

    tokens_of_equal_flop: Annotated[
        float, Made("token", "training_tokens × training_flop_per_param_token ÷ serving_flop_per_param_token")
    ]
    tokens_of_equal_cost: Annotated[float, Made("token", "tokens_of_equal_flop × serving_mfu ÷ training_mfu")]


@dataclass(frozen=True)
class GrossedUp:
    """A factor on the cost of compute, and the part of it that comes on top."""

    factor: Annotated[float, Made("", "1 ÷ compute_share")]
    beside_compute: Annotated[float, Made("", "factor − 1")]


def training_flop(
    params: Params,
    tokens: Tokens,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
) -> TrainingFlop:
    """6·N·D: parameters times tokens (Kaplan et al. 2020, arXiv 2001.08361)."""
    return TrainingFlop(model_flop(params, tokens, flop_per_param_token))


def training(
    params: Params,
    tokens: Tokens,
    peak_tflop_per_s: PeakTflopPerS,
    mfu: PositiveShare,
    usd_per_gpu_hour: UsdPerGpuHour,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
) -> Training:
    """What a training run costs in rented chip-hours, failures and trials left out."""
    flop = training_flop(params, tokens, flop_per_param_token).flop
    hours = gpu_seconds(flop, peak_tflop_per_s * TERA, mfu) / S_PER_HOUR
    return Training(flop, hours, hours * usd_per_gpu_hour)


def training_time(
    params: Params,
    tokens: Tokens,
    gpus: Gpus,
    achieved_tflop_per_s: PeakTflopPerS,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
) -> TrainingTime:
    """6·T·P ÷ (n·X): the days that n chips take at X achieved FLOP/s each.

    With activations computed again in the backward pass the factor is 8 (Narayanan et al. 2021, arXiv 2104.04473).
    """
    flop = training_flop(params, tokens, flop_per_param_token).flop
    return TrainingTime(flop, flop / (gpus * achieved_tflop_per_s * TERA) / S_PER_DAY)


def trainable_tokens(
    params: Params,
    gpus: Gpus,
    days: Days,
    peak_tflop_per_s: PeakTflopPerS,
    mfu: PositiveShare,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
) -> TrainableTokens:
    """How many tokens a fleet trains in so many days: n·t·peak·MFU ÷ (6·N)."""
    return TrainableTokens(gpus * days * S_PER_DAY * peak_tflop_per_s * TERA * mfu / (params * flop_per_param_token))


def annual_programme(
    rent_cny_per_month: Annotated[float, Given("CNY/month")],
    overhead: Annotated[float, Given("")],
    labour_cny: Annotated[float, Given("CNY")],
    months: Annotated[float, Given("month", 0, above=True), Why("a year")] = 12.0,
) -> Programme:
    """Rented machines with an overhead (network, storage, failures) for some months, and people for the same time."""
    machines = rent_cny_per_month * (1 + overhead) * months
    everything = machines + labour_cny
    return Programme(machines, everything, labour_cny / everything)


def amortised(training_usd: Usd, queries: Annotated[float, Given("query", 0, above=True)]) -> Amortised:
    """Training spread over all queries that the model will ever answer, without interest."""
    return Amortised(training_usd / queries)


def inference_crossover(
    training_tokens: Tokens,
    serving_mfu: PositiveShare,
    training_mfu: PositiveShare,
    training_flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
    serving_flop_per_param_token: Annotated[FlopPerParamToken, FORWARD] = FLOP_PER_PARAMETER,
) -> Crossover:
    """When serving has taken as much arithmetic, or as much money on the same chips, as training did."""
    equal = training_tokens * training_flop_per_param_token / serving_flop_per_param_token
    return Crossover(equal, equal * serving_mfu / training_mfu)


def grossed_up(compute_share: PositiveShare) -> GrossedUp:
    """Spend in all, as a multiple of what is spent on compute: 1 ÷ compute's share."""
    return GrossedUp(1 / compute_share, (1 - compute_share) / compute_share)
