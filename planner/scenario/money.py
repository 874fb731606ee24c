"""What is paid: the GPUs' hours (rented, committed or owned), retrieval, training, and in which currency."""

from __future__ import annotations

from math import fsum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from planner.scenario.amounts import USD, Currency, Price, PriceOrFree, Rates, Sum, SumOrNothing, no_rate
from planner.scenario.types import Fraction, Section, ShareBelowOne, Text, as_tuple, broken, member, one_key, tag

SHARES_OFF = 1e-6  # by which shares may miss 1: 1/3 is written with a few digits


class RateCard(Section):
    """A column of the catalogue's dated price list."""

    rate_card: Text


GpuHour = Annotated[
    Annotated[Price, Tag(tag("number"))] | Annotated[RateCard, Tag(tag("rate_card"))],
    Discriminator(member("number")),
    one_key(("rate_card",), (int, float, str), "a price in USD"),
]


class Commitment(Section):
    """A part of the fleet's GPUs with a price of its own."""

    kind: Literal["reserved", "on_demand", "spot"]
    """reserved is paid for all day, used or not; the others by the hour."""
    share: Fraction
    """Share of the fleet's GPUs; those of all commitments add up to 1."""
    gpu_hour_usd: GpuHour
    interruption_share: ShareBelowOne | None = None
    """Of spot: share of the paid hours that serve nothing (taken away, starting again). Not given: taken as 0."""

    @model_validator(mode="after")
    def _only_spot_is_interrupted(self) -> Commitment:
        if self.interruption_share is not None and self.kind != "spot":
            raise broken(f"is of spot only: {self.kind} capacity is not taken away", "interruption_share")
        return self


class Own(Section):
    """Hardware that is bought: what a GPU costs with its part of server, network and installation."""

    capex_usd_per_gpu: Price
    life_years: Annotated[float, Field(ge=0.01, le=50)]
    residual_share: ShareBelowOne | None = None
    """What it is sold for at the end, as a share of the capex. Not given: taken as 0."""
    watts_per_gpu: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """Mean draw with its part of the server. Not given: the GPU's own board power, all day."""
    staff_usd_per_year: SumOrNothing | None = None
    """Of the whole fleet, whatever its size. Not given: taken as 0."""
    hosting_usd_per_gpu_month: PriceOrFree | None = None
    """Room, rack and network. Not given: taken as 0."""


class Energy(Section):
    """What hardware of one's own draws from."""

    usd_per_kwh: PriceOrFree
    """0 where the hosting price includes the power."""
    pue: Annotated[float, Field(ge=1, le=10)] | None = None
    """Power usage effectiveness: the site's energy ÷ its computers'. Not given: a survey's average."""


class Training(Section):
    """A training bill, spread over the queries of the months that the model is served: finished, or reckoned from
    6 · params · tokens FLOP ÷ (peak FLOP/s of the GPU · mfu) · usd_per_gpu_hour.
    """

    usd: Sum | None = None
    """The finished bill. Instead of it: params, tokens, mfu, gpu, usd_per_gpu_hour."""
    months: Annotated[float, Field(ge=0.01, le=1200)]
    params: Annotated[float, Field(ge=1, le=1e15)] | None = None
    """Parameters that a token passes: of a mixture of experts the active ones."""
    tokens: Annotated[float, Field(ge=1, le=1e18)] | None = None
    """Tokens trained on, all epochs."""
    mfu: Fraction | None = None
    """Useful FLOP/s ÷ the GPU's bf16 peak, over the whole run."""
    gpu: Text | None = None
    """What it is trained on: a name of the catalogue."""
    usd_per_gpu_hour: Price | None = None
    """One of those GPUs for one hour: a name of its own, so that gpu_hour_usd alone is the price of serving."""

    @model_validator(mode="after")
    def _one_bill(self) -> Training:
        parts = ("params", "tokens", "mfu", "gpu", "usd_per_gpu_hour")
        given = [key for key in parts if getattr(self, key) is not None]
        if self.usd is not None and given:
            raise broken(f"give only one of: usd, {given[0]}; the bill is finished or reckoned", given[0])
        missing = [key for key in parts if key not in given]
        if self.usd is None and not given:
            raise broken(f"is required: the finished bill, or instead of it {', '.join(parts)}", "usd")
        if given and missing:
            raise broken(f"is required beside {given[0]}: a bill is reckoned from {', '.join(parts)}", missing[0])
        return self


class Prices(Section):
    """What is paid."""

    gpu_hour_usd: GpuHour | None = None
    """One GPU for one hour. Instead of it: commitments (a mix), or own (hardware that is bought)."""
    commitments: Annotated[tuple[Commitment, ...], BeforeValidator(as_tuple), Field(min_length=1)] | None = None
    own: Own | None = None
    energy: Energy | None = None
    """Beside own: its electricity."""
    compute_share: Fraction = 1.0
    """Compute's part of the inference spend; the rest is added on top."""
    retrieval_usd_per_query: PriceOrFree = 0.0
    training: Training | None = None
    exchange_rates: Rates | None = None
    """Units of a currency per USD, for amounts such as "14.5 CNY" and for `currency`."""
    currency: Currency = USD
    """Shown beside USD in the text answers."""

    @model_validator(mode="after")
    def _one_price_of_a_gpu(self) -> Prices:
        given = [key for key in ("gpu_hour_usd", "commitments", "own") if getattr(self, key) is not None]
        if len(given) > 1:
            raise broken(f"give only one of: {', '.join(given)}", given[1])
        if self.commitments is not None:
            total = fsum(row.share for row in self.commitments)
            if abs(total - 1) > SHARES_OFF:
                raise broken(f"the shares must add up to 1, not {total:g}", "commitments")
        if self.own is not None and self.energy is None:
            raise broken(
                "is required beside own (0 where the hosting price includes the power)", "energy", "usd_per_kwh"
            )
        if self.own is None and self.energy is not None:
            raise broken("is read only beside prices.own: rented GPUs include their power", "energy")
        return self

    @model_validator(mode="after")
    def _currency_has_a_rate(self) -> Prices:
        rates = {USD: 1.0, **(self.exchange_rates or {})}
        if self.currency not in rates:
            rule, nearest = no_rate(self.currency, rates)
            raise broken(rule, "currency", nearest=nearest)
        return self

    @property
    def per_usd(self) -> float:
        """Units of `currency` per USD."""
        return 1.0 if self.currency == USD else (self.exchange_rates or {})[self.currency]
