"""Which list price a query is held against: the one given, what the scenario sells tokens for, or a public one."""

from __future__ import annotations

from planner.catalogue.token_prices import token_price
from planner.economics.bases import ListPrice
from planner.scenario import Scenario


def asked_price(scenario: Scenario, given: ListPrice | None = None) -> ListPrice:
    """`given`; else revenue.api; else the catalogue's public price, which says whose it is and until when."""
    return given or _sold_at(scenario) or public_price()


def public_price() -> ListPrice:
    """The catalogue's price as of its listing; another model's, and it says so."""
    found = token_price()
    ends = f" until {found.until}" if found.until else ""
    assumed = (
        f"list price of another model: {found.model}{ends}, as listed on {found.date} by {found.source} "
        f"({found.note}); give your own with --list-price IN,OUT or revenue.api"
    )
    return ListPrice(found.usd_per_million_input, found.usd_per_million_output, assumed=assumed, model=found.model)


def ended(today: str) -> str | None:
    """Why the public price does not hold on a day (YYYY-MM-DD), in words; None where it does."""
    found = token_price()
    if not found.until or today <= found.until:
        return None
    return (
        f"the list price taken, {found.usd_per_million_input:g},{found.usd_per_million_output:g} of {found.model}, "
        f"ended on {found.until}: give one with --list-price IN,OUT"
    )


def _sold_at(scenario: Scenario) -> ListPrice | None:
    """What the scenario itself sells tokens for."""
    api = None if scenario.revenue is None else scenario.revenue.api
    if api is None:
        return None
    reread = api.usd_per_million_cached_input
    return ListPrice(
        float(api.usd_per_million_input),
        float(api.usd_per_million_output),
        None if reread is None else float(reread),
    )
