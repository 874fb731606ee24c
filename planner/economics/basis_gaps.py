"""What stands between two cost bases, as factors.

Each factor is the ratio of the same bill before and after one change; the bills are taken one after the other, so the
product is the whole ratio, and each factor is a quantity of its own: an MFU, a share of idle time, a count of replicas.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from planner.economics.bases import (
    Chip,
    ListPrice,
    QueryTokens,
    ServedPeak,
    check_mfu,
    flop_usd,
    list_price,
    per_cent,
    simulated,
)
from planner.economics.gpu_time import model_flop
from planner.units import HOURS_PER_DAY, S_PER_HOUR, TOKENS_PER_PRICE


@dataclass(frozen=True)
class Factor:
    """One reason why two bases differ: the cost of a query times `value`."""

    name: str
    value: float
    because: str


@dataclass(frozen=True)
class Gap:
    """From one basis to the next: `ratio` = usd_per_query of `to` ÷ that of `start` = the product of the factors."""

    start: str
    to: str
    ratio: float
    factors: tuple[Factor, ...]


def list_to_flops(tokens: QueryTokens, price: ListPrice, active_parameters: float, chip: Chip, mfu: float) -> Gap:
    """From what an API bills to what the arithmetic costs."""
    check_mfu(mfu)
    start = list_price(tokens, price).usd_per_query
    to = tokens.uncached_share * tokens.total * flop_usd(active_parameters, chip, mfu)
    scale = tokens.uncached_share / TOKENS_PER_PRICE
    plain = scale * (tokens.prompt_once * price.input_usd + tokens.output * price.output_usd)
    repeated = scale * (tokens.prompt * price.input_usd + tokens.output * price.output_usd)
    alike = scale * tokens.total * price.input_usd
    kept = price.provider_margin or 0.0
    factors = (
        Factor(
            "cached input at full price", plain / start, "the API's price of cached input against that of other input"
        ),
        Factor(
            "prompt per sample", repeated / plain, "an API bills a prompt once for all answers, FLOP count it for each"
        ),
        Factor(
            "one price for input and output",
            alike / repeated,
            f"an output token is billed {price.output_usd / price.input_usd:.3g} × an input token; FLOP are alike",
        ),
        Factor("seller's margin", 1.0 - kept, f"{per_cent(kept)} of the price, as given, are not the seller's cost"),
        Factor("a token's FLOP against its list price", to / alike / (1.0 - kept), _left_in_price(price)),
    )
    return _gap("list price", "FLOP", start, to, factors)


def _left_in_price(price: ListPrice) -> str:
    """What a list price has in it beside arithmetic and what the other factors name."""
    margin = "the seller's margin, " if price.provider_margin is None else ""
    said = f"what is left: {margin}idle time and memory-bound decoding, which a list price has in it"
    return f"{said}; and {price.model} is another model" if price.model else said


def flops_to_simulated(tokens: QueryTokens, active_parameters: float, chip: Chip, mfu: float, peak: ServedPeak) -> Gap:
    """From the arithmetic to the planned fleet: what the GPUs do beside full-speed arithmetic."""
    check_mfu(mfu)
    start = tokens.uncached_share * tokens.total * flop_usd(active_parameters, chip, mfu)
    busy_mfu = busy_mfu_of(tokens, active_parameters, chip, peak)
    busy = peak.busy_gpu_s * peak.peak_qps * tokens.uncached_share / peak.serving_gpus
    factors = (
        Factor("prefix cache", tokens.computed / tokens.total, "tokens that are computed ÷ tokens that are counted"),
        Factor(
            "MFU of full prefill steps",
            mfu / peak.prefill_mfu,
            f"{per_cent(peak.prefill_mfu)} simulated where {per_cent(mfu)} was taken",
        ),
        Factor(
            "memory-bound decoding",
            peak.prefill_mfu / busy_mfu,
            f"steps that decode read all weights for few tokens: busy GPUs reach {per_cent(busy_mfu)} at the peak",
        ),
        Factor(
            "idle time at the peak",
            1.0 / peak.utilisation,
            f"serving GPUs are busy {per_cent(peak.utilisation)} of the time at the peak",
        ),
        Factor(
            "the run's ends",
            peak.utilisation / busy,
            "its fleet fills and empties: GPU time of a query over the whole run against that at the stated rate",
        ),
        *_fleet_factors(peak),
    )
    return _gap("FLOP", "simulated", start, simulated(tokens, chip, peak).usd_per_query, factors)


def flops_to_measured(
    active_parameters: float, chip: Chip, mfu: float, measured_chip: Chip, tokens_per_gpu_s: float
) -> Gap:
    """From the arithmetic to what a load test reached, in $ a token: the query's tokens are the same."""
    check_mfu(mfu)
    reached = model_flop(active_parameters, tokens_per_gpu_s) / measured_chip.peak_flops
    start = flop_usd(active_parameters, chip, mfu)
    per_flop = measured_chip.usd_per_hour / measured_chip.peak_flops * chip.peak_flops / chip.usd_per_hour
    factors = (
        *((_price_factor(per_flop, measured_chip, "a FLOP at peak"),) if measured_chip != chip else ()),
        Factor(
            "MFU",
            mfu / reached,
            f"measured {per_cent(reached)}, all tokens counted, where {per_cent(mfu)} was taken: memory-bound "
            "decoding, idle time",
        ),
    )
    return _gap("FLOP", "measured", start, measured_chip.usd_per_hour / S_PER_HOUR / tokens_per_gpu_s, factors)


def measured_to_simulated(
    tokens: QueryTokens, measured_chip: Chip, tokens_per_gpu_s: float, chip: Chip, peak: ServedPeak
) -> Gap:
    """From a load test's throughput to the planned fleet."""
    planned = peak.peak_qps * tokens.uncached_share * tokens.total / peak.serving_gpus
    start = tokens.uncached_share * tokens.total * measured_chip.usd_per_hour / S_PER_HOUR / tokens_per_gpu_s
    dearer = chip.usd_per_hour / measured_chip.usd_per_hour
    factors = (
        *((_price_factor(dearer, chip, "an hour"),) if measured_chip != chip else ()),
        Factor(
            "tokens a second and GPU",
            tokens_per_gpu_s / planned,
            f"{tokens_per_gpu_s:,.0f} measured, {planned:,.0f} at the planned peak",
        ),
        *_fleet_factors(peak),
    )
    return _gap("measured", "simulated", start, simulated(tokens, chip, peak).usd_per_query, factors)


def busy_mfu_of(tokens: QueryTokens, active_parameters: float, chip: Chip, peak: ServedPeak) -> float:
    """MFU of GPUs while they are busy: 2·N · computed tokens of a query ÷ (its busy GPU seconds · peak)."""
    return model_flop(active_parameters, tokens.computed) / (peak.busy_gpu_s * chip.peak_flops)


def _fleet_factors(peak: ServedPeak) -> tuple[Factor, ...]:
    words = f"{peak.replicas - peak.serving} of {peak.replicas} replicas are spare"
    return (
        Factor(
            "hours below the peak",
            1.0 / peak.mean_of_day,
            f"the day's mean load is {per_cent(peak.mean_of_day)} of the peak; all {HOURS_PER_DAY} hours are paid",
        ),
        Factor("spare replicas", peak.replicas / peak.serving, words),
    )


def _price_factor(value: float, chip: Chip, of: str) -> Factor:
    return Factor("another GPU", value, f"price of {of} on {chip.name}")


def _gap(start: str, to: str, start_usd: float, to_usd: float, factors: tuple[Factor, ...]) -> Gap:
    """A gap whose factors explain all of it: a difference beyond rounding is a defect. Those of 1 are left out."""
    ratio = to_usd / start_usd
    explained = prod(factor.value for factor in factors)
    if abs(explained - ratio) > 1e-9 * ratio:
        raise ArithmeticError(f"{start} to {to}: factors make {explained}, the ratio is {ratio}")
    return Gap(start, to, ratio, tuple(factor for factor in factors if factor.value != 1.0))
