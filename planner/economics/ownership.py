"""Hardware that is bought -> the price of a GPU-hour, part by part (total cost of ownership)."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, positive
from planner.economics.gpu_price import PricePart
from planner.errors import InputError
from planner.provenance import Provenance
from planner.units import HOURS_PER_MONTH, HOURS_PER_YEAR, W_PER_KW

PUE = 1.56
PUE_SOURCE = "not given: the average of Uptime Institute's Global Data Center Survey 2024"


@dataclass(frozen=True)
class Ownership:
    """What a GPU with its part of the server costs to have and to run. None = not given, and then assumed.

    `staff_usd_per_year` is of the whole fleet, the rest of one GPU. Raises InputError on values out of range.
    """

    capex_usd_per_gpu: float
    life_years: float
    usd_per_kwh: float
    watts_per_gpu: float
    residual_share: float | None = None
    pue: float | None = None
    hosting_usd_per_gpu_month: float | None = None
    staff_usd_per_year: float | None = None

    def __post_init__(self) -> None:
        for key in ("capex_usd_per_gpu", "life_years", "watts_per_gpu"):
            positive(f"prices.own.{key}", getattr(self, key))
        not_negative("prices.energy.usd_per_kwh", self.usd_per_kwh)
        for key in ("hosting_usd_per_gpu_month", "staff_usd_per_year"):
            not_negative(f"prices.own.{key}", getattr(self, key) or 0.0)
        if not 0 <= (self.residual_share or 0.0) < 1:
            rule = "must be a share of at least 0 and below 1"
            raise InputError("prices.own.residual_share", self.residual_share, rule)
        if self.pue is not None and not (1 <= self.pue < float("inf")):
            raise InputError("prices.energy.pue", self.pue, "must be a finite number >= 1")


def owned(own: Ownership) -> tuple[PricePart, ...]:
    """Parts of a GPU-hour; a year has 8,760 hours and a month a twelfth of them.

        hardware = capex · (1 − residual_share) ÷ life_years ÷ 8760
        energy   = watts ÷ 1000 · PUE · usd_per_kwh
        hosting  = hosting_usd_per_gpu_month ÷ 730

    Straight-line write-off, without interest. Only energy stops when a GPU is off. Staff is the fleet's, not a GPU's:
    see `cost.Prices.staff_usd_per_year`. Parts that cost nothing are left out.
    """
    written_off = own.capex_usd_per_gpu * (1 - (own.residual_share or 0.0)) / own.life_years
    kwh = own.watts_per_gpu / W_PER_KW * (PUE if own.pue is None else own.pue)
    hosting = own.hosting_usd_per_gpu_month or 0.0
    left = f" less {100 * own.residual_share:.3g} %" if own.residual_share else ""
    hardware = f"hardware: ${own.capex_usd_per_gpu:,.0f}{left} over {own.life_years:g} years"
    parts = (
        PricePart(hardware, 1.0, "GPU-hour", written_off / HOURS_PER_YEAR, "always"),
        PricePart("energy, cooling included", kwh, "kWh", own.usd_per_kwh, "running"),
        PricePart(f"hosting: ${hosting:,.2f} a GPU and month", 1.0, "GPU-hour", hosting / HOURS_PER_MONTH, "always"),
    )
    return tuple(part for part in parts if part.usd_per_gpu_hour > 0)


def assumed_ownership(own: Ownership) -> tuple[Provenance, ...]:
    """What was not given, with what stands in for it."""
    rows = []
    if own.residual_share is None:
        why = "not given: worth nothing at the end of its life"
        rows.append(Provenance("prices.own.residual_share", "assumed", why, "0", errs="pessimistic"))
    if own.pue is None and own.usd_per_kwh > 0:
        rows.append(Provenance("prices.energy.pue", "assumed", PUE_SOURCE, f"{PUE:g}", "2024", errs="unknown"))
    for key, value in (
        ("hosting_usd_per_gpu_month", own.hosting_usd_per_gpu_month),
        ("staff_usd_per_year", own.staff_usd_per_year),
    ):
        if value is None:
            rows.append(
                Provenance(f"prices.own.{key}", "assumed", "not given: counted as 0", "0 USD", errs="optimistic")
            )
    return tuple(rows)
