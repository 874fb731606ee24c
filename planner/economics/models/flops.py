"""The FLOP basis: what arithmetic a token takes, and what that arithmetic costs on a chip at some utilisation.

Model FLOP utilisation (MFU) is useful FLOP per second ÷ the chip's peak (PaLM, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.gpu_time import FLOP_PER_PARAMETER, FLOP_PER_PARAMETER_TRAINED, gpu_seconds, model_flop
from planner.economics.models.fields import (
    FORWARD,
    FORWARD_AND_BACK,
    Days,
    FlopPerParamToken,
    GflopPerToken,
    Given,
    Gpus,
    Made,
    Params,
    PeakTflopPerS,
    PositiveShare,
    Tokens,
    UsdPerGpuHour,
)
from planner.units import HOURS_PER_DAY, S_PER_HOUR

TERA = 1e12
GIGA = 1e9
S_PER_DAY = HOURS_PER_DAY * S_PER_HOUR
TflopPerS = Annotated[float, Given("TFLOP/s/gpu", 0, above=True)]


@dataclass(frozen=True)
class FlopPerToken:
    """Arithmetic of one token."""

    gflop_per_token: GflopPerToken


@dataclass(frozen=True)
class FlopBasis:
    """Tokens per second and their cost on one chip that is never idle."""

    gflop_per_token: GflopPerToken
    tokens_per_s: Annotated[float, Made("token/s/gpu", "peak_tflop_per_s × 1000 × mfu ÷ gflop_per_token")]
    usd_per_1000_tokens: Annotated[float, Made("USD/ktoken", "usd_per_gpu_hour ÷ 3600 ÷ tokens_per_s × 1000")]


@dataclass(frozen=True)
class Utilisation:
    """Useful arithmetic as a share of the peak."""

    tflop_per_s: Annotated[float, Made("TFLOP/s/gpu")]
    mfu: Annotated[float, Made("", "tflop_per_s ÷ peak_tflop_per_s")]


@dataclass(frozen=True)
class TimeOnChip:
    """How long a chip takes for some tokens."""

    seconds: Annotated[
        float, Made("gpu*s/query", "tokens × params × flop_per_param_token ÷ (peak_tflop_per_s × 10^12 × mfu)")
    ]


def flop_per_token(
    params: Params, flop_per_param_token: Annotated[FlopPerParamToken, FORWARD] = FLOP_PER_PARAMETER
) -> FlopPerToken:
    """FLOP of one token: of a mixture of experts only the active parameters count."""
    return FlopPerToken(params * flop_per_param_token / GIGA)


def flop_basis(
    params: Params,
    peak_tflop_per_s: PeakTflopPerS,
    mfu: PositiveShare,
    usd_per_gpu_hour: UsdPerGpuHour,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD] = FLOP_PER_PARAMETER,
) -> FlopBasis:
    """Cost of 1,000 tokens by arithmetic alone: peak · MFU ÷ (2·N) tokens a second on a chip of so many $ an hour."""
    gflop = params * flop_per_param_token / GIGA
    rate = peak_tflop_per_s * TERA / GIGA * mfu / gflop
    return FlopBasis(gflop, rate, usd_per_gpu_hour / S_PER_HOUR / rate * 1000)


def time_on_chip(
    tokens: Annotated[float, Given("token/query", 0, above=True)],
    params: Params,
    peak_tflop_per_s: PeakTflopPerS,
    mfu: PositiveShare,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD] = FLOP_PER_PARAMETER,
) -> TimeOnChip:
    """How many seconds of one chip the arithmetic of a query takes."""
    flop = model_flop(params, tokens, flop_per_param_token)
    return TimeOnChip(gpu_seconds(flop, peak_tflop_per_s * TERA, mfu))


def utilisation_of_serving(
    tokens_per_s: Annotated[float, Given("token/s/gpu", 0, above=True)],
    params: Params,
    peak_tflop_per_s: PeakTflopPerS,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD] = FLOP_PER_PARAMETER,
) -> Utilisation:
    """The MFU that a measured throughput implies: tokens/s · 2·N ÷ peak."""
    achieved = model_flop(params, tokens_per_s, flop_per_param_token) / TERA
    return Utilisation(achieved, achieved / peak_tflop_per_s)


def utilisation_of_training(
    params: Params,
    tokens: Tokens,
    gpus: Gpus,
    days: Days,
    peak_tflop_per_s: PeakTflopPerS,
    flop_per_param_token: Annotated[FlopPerParamToken, FORWARD_AND_BACK] = FLOP_PER_PARAMETER_TRAINED,
) -> Utilisation:
    """The MFU that a finished training run implies: 6·N·D ÷ (chips · time) ÷ peak."""
    achieved = model_flop(params, tokens, flop_per_param_token) / (gpus * days * S_PER_DAY) / TERA
    return Utilisation(achieved, achieved / peak_tflop_per_s)
