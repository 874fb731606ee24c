"""How costs move with time: per generation, per year, per iteration."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Annotated

from planner.economics.models.fields import Factor, Given, Made
from planner.economics.quantity import Quantity, Rates, alike
from planner.errors import InputError

Years = Annotated[float, Given("year", 0, above=True)]


@dataclass(frozen=True)
class Growth:
    """What is added in a year, as a share."""

    per_year: Annotated[float, Made("/year", "gain_per_generation ^ (1 ÷ years_per_generation) − 1")]


@dataclass(frozen=True)
class Decline:
    """A cost some years from now."""

    cost: Quantity


@dataclass(frozen=True)
class YearsTo:
    """When a target is reached."""

    factor: Annotated[float, Made("", "cost ÷ target")]
    years: Annotated[float, Made("year", "ln(factor) ÷ ln(factor_per_year)")]


@dataclass(frozen=True)
class PerIteration:
    """The same factor in every iteration."""

    factor: Annotated[float, Made("", "factor_in_all ^ (1 ÷ iterations)")]


@dataclass(frozen=True)
class HardwareShare:
    """How a cost is made up of hardware and energy if both fell at their own rates."""

    hardware_share: Annotated[float, Made("", "(left − energy_left) ÷ (hardware_left − energy_left)")]
    energy_share: Annotated[float, Made("", "1 − hardware_share")]
    hardware_left: Annotated[float, Made("", "1 ÷ flop_per_usd_gain ^ generations")]
    energy_left: Annotated[float, Made("", "1 ÷ flop_per_watt_gain ^ generations")]


def growth_per_year(gain_per_generation: Factor, years_per_generation: Years) -> Growth:
    """A gain per hardware generation as one per year: g^(1/years) − 1."""
    return Growth(gain_per_generation ** (1 / years_per_generation) - 1)


def declined(cost: Quantity, factor_per_year: Factor, years: Annotated[float, Given("year")]) -> Decline:
    """c(t) = c₀ ÷ r^t: a cost that falls by the same factor every year."""
    return Decline(cost * factor_per_year**-years)


def years_to(
    cost: Quantity, target: Quantity, factor_per_year: Annotated[float, Given("", 1, above=True)], rates: Rates
) -> YearsTo:
    """How many years until a cost that falls by a factor a year reaches a target; 0 or less: it is there."""
    first, second = alike((cost, target), rates, "target")
    if not (first.magnitude > 0 and second.magnitude > 0):
        raise InputError("target", None, "cost and target must both be above 0")
    factor = float(first.magnitude / second.magnitude)
    return YearsTo(factor, log(factor) / log(factor_per_year))


def per_iteration(factor_in_all: Factor, iterations: Factor) -> PerIteration:
    """The geometric mean: which factor, so many times, makes the whole."""
    return PerIteration(factor_in_all ** (1 / iterations))


def hardware_share(
    left: Factor, flop_per_usd_gain: Factor, flop_per_watt_gain: Factor, generations: Factor
) -> HardwareShare:
    """Solve s ÷ g$^n + (1 − s) ÷ gW^n = left for hardware's share s of the old cost.

    Ill-conditioned: where the two gains are close, a small error of either moves s by much.
    """
    hardware, energy = flop_per_usd_gain**-generations, flop_per_watt_gain**-generations
    if hardware == energy:
        raise InputError("flop_per_watt_gain", flop_per_watt_gain, "must differ from flop_per_usd_gain")
    share = (left - energy) / (hardware - energy)
    return HardwareShare(share, 1 - share, hardware, energy)
