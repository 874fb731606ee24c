"""One GPU and a scenario's prices -> what an hour of it costs, with where each part comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.catalogue.prices import RATE_CARDS, gpu_hour
from planner.economics import (
    Commitment,
    Ownership,
    PricePart,
    Prices,
    assumed_mix,
    assumed_ownership,
    mixed,
    owned,
    parts_usd,
)
from planner.errors import MisfitError, UnknownNameError, nearest_names
from planner.provenance import Provenance
from planner.scenario import Own, RateCard, Scenario
from planner.scenario.money import Energy, GpuHour
from planner.specs import Gpu

HELD = ("reserved", "owner-tco")  # rate cards of capacity that is paid for whether it runs or not
KEY = "prices.gpu_hour_usd"


@dataclass(frozen=True)
class Priced:
    """Prices of one GPU, and the rows that stand beside every cost made from them."""

    prices: Prices
    provenance: tuple[Provenance, ...] = ()


def check_rate_cards(scenario: Scenario) -> None:
    """Raise UnknownNameError on a rate card that there is not, whatever the GPU."""
    for key, price in _stated(scenario):
        if isinstance(price, RateCard) and price.rate_card not in RATE_CARDS:
            rule = f"must be one of {', '.join(RATE_CARDS)}"
            nearest = nearest_names(price.rate_card, RATE_CARDS)
            raise UnknownNameError(f"{key}.rate_card", price.rate_card, rule, nearest)


def priced(gpu: Gpu, scenario: Scenario) -> Priced:
    """What an hour of `gpu` costs under a scenario; a price of None where none is given.

    Raises UnknownNameError where a rate card has no price of that GPU, MisfitError where owning it needs a draw that
    neither scenario nor catalogue has.
    """
    given = scenario.prices
    cache = scenario.query.response_cache  # what it does not say of its costs is flagged with its hit rate
    beside = Prices(
        None,
        given.compute_share,
        float(given.retrieval_usd_per_query),
        cache_usd_per_hit=0.0 if cache is None else _usd(cache.usd_per_hit) or 0.0,
        cache_usd_per_hour=0.0 if cache is None else _usd(cache.usd_per_hour) or 0.0,
    )
    if given.commitments is not None:
        return _mix(gpu, scenario, beside)
    if given.own is not None and given.energy is not None:
        return _bought(gpu, given.own, given.energy, beside)
    if given.gpu_hour_usd is None:
        return Priced(beside)
    if not isinstance(given.gpu_hour_usd, RateCard):
        return Priced(replace(beside, gpu_hour_usd=float(given.gpu_hour_usd)))
    card = given.gpu_hour_usd.rate_card
    usd, rows = _gpu_hour(gpu, given.gpu_hour_usd, KEY)
    parts = (PricePart("GPUs, spares included, all day", 1.0, "GPU-hour", usd, "always"),) if card in HELD else ()
    return Priced(replace(beside, gpu_hour_usd=usd, kind="rate_card", parts=parts), rows)


def _stated(scenario: Scenario) -> Iterator[tuple[str, GpuHour]]:
    """Every price of a GPU-hour that a scenario states, with its key."""
    if scenario.prices.gpu_hour_usd is not None:
        yield KEY, scenario.prices.gpu_hour_usd
    for index, row in enumerate(scenario.prices.commitments or ()):
        yield f"prices.commitments[{index}].gpu_hour_usd", row.gpu_hour_usd


def _gpu_hour(gpu: Gpu, price: GpuHour, key: str) -> tuple[float, tuple[Provenance, ...]]:
    """A price in USD; one from the rate card with its row. An error names the scenario's own key."""
    if not isinstance(price, RateCard):
        return float(price), ()
    try:
        found = gpu_hour(gpu.name, price.rate_card)
    except UnknownNameError as error:
        rule = error.rule.replace(KEY, key)
        raise UnknownNameError(error.key.replace(KEY, key), error.value, rule, error.nearest) from None
    return found.usd, (replace(found.provenance(), what=key),)


def _mix(gpu: Gpu, scenario: Scenario, beside: Prices) -> Priced:
    rows: list[Provenance] = []
    commitments = []
    for (key, price), row in zip(_stated(scenario), scenario.prices.commitments or (), strict=True):
        usd, origin = _gpu_hour(gpu, price, key)
        rows += origin
        commitments.append(Commitment(row.kind, row.share, usd, row.interruption_share))
    parts = mixed(commitments)
    prices = replace(beside, gpu_hour_usd=parts_usd(parts), kind="commitments", parts=parts)
    return Priced(prices, (*rows, *assumed_mix(commitments)))


def _bought(gpu: Gpu, own: Own, energy: Energy, beside: Prices) -> Priced:
    rows = []
    watts = own.watts_per_gpu
    if watts is None:
        if gpu.power_w is None:
            raise MisfitError("prices.own.watts_per_gpu", None, f"is required: the catalogue has no draw of {gpu.name}")
        watts = gpu.power_w
        why = f"not given: board power of {gpu.name}, all day; the rest of its server is not in it"
        rows.append(Provenance("prices.own.watts_per_gpu", "assumed", why, f"{watts:g} W", errs="unknown"))
    ownership = Ownership(
        capex_usd_per_gpu=float(own.capex_usd_per_gpu),
        life_years=own.life_years,
        usd_per_kwh=float(energy.usd_per_kwh),
        watts_per_gpu=watts,
        residual_share=own.residual_share,
        pue=energy.pue,
        hosting_usd_per_gpu_month=_usd(own.hosting_usd_per_gpu_month),
        staff_usd_per_year=_usd(own.staff_usd_per_year),
    )
    parts = owned(ownership)
    prices = replace(
        beside,
        gpu_hour_usd=parts_usd(parts),
        kind="own",
        parts=parts,
        staff_usd_per_year=ownership.staff_usd_per_year or 0.0,
    )
    return Priced(prices, (*rows, *assumed_ownership(ownership)))


def _usd(amount: float | None) -> float | None:
    return None if amount is None else float(amount)
