"""Electricity: from a bill to power, and from power to a price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from planner.economics.models.fields import Given, Made
from planner.units import HOURS_PER_YEAR


@dataclass(frozen=True)
class AveragePower:
    """What an electricity bill says of the power drawn."""

    mwh_per_year: Annotated[float, Made("MWh/year", "bill_usd_per_year ÷ usd_per_kwh ÷ 1000")]
    average_mw: Annotated[float, Made("MW", "mwh_per_year ÷ 8760")]


@dataclass(frozen=True)
class Electricity:
    """What a device's electricity costs."""

    usd_per_hour: Annotated[float, Made("USD/gpu/hour", "watts ÷ 1000 × pue × usd_per_kwh")]
    usd_per_year: Annotated[float, Made("USD/gpu/year", "usd_per_hour × 8760")]


def average_power(
    bill_usd_per_year: Annotated[float, Given("USD/year", 0, above=True)],
    usd_per_kwh: Annotated[float, Given("USD/kWh", 0, above=True)],
) -> AveragePower:
    """The average power that a year's bill pays for, the building's own use included."""
    mwh = bill_usd_per_year / usd_per_kwh / 1000
    return AveragePower(mwh, mwh / HOURS_PER_YEAR)


def electricity(
    watts: Annotated[float, Given("W/gpu", 0, above=True)],
    usd_per_kwh: Annotated[float, Given("USD/kWh")],
    pue: Annotated[float, Given("", 1)],
) -> Electricity:
    """Power times price; PUE (power usage effectiveness) is the building's power ÷ its computers'."""
    hourly = watts / 1000 * pue * usd_per_kwh
    return Electricity(hourly, hourly * HOURS_PER_YEAR)
