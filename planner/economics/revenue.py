"""What one query earns; ads -> dollars per query."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, positive, share
from planner.economics.demand import Demand
from planner.economics.lines import MoneyLine, money_line
from planner.errors import InputError
from planner.provenance import Provenance
from planner.scenario.revenue import FACTORS, VOLUME

MILLE = 1000  # eCPM and RPM are prices of a thousand


@dataclass(frozen=True)
class Ads:
    """Ad revenue, stated flat (`usd_per_query`), by its factors, or as a year's revenue over a year's queries.

    `ecpm_usd`: what advertisers pay for 1,000 shown ads; `ads_per_query`: ad slots of one query; `fill`: the share
    of slots that is sold; `publisher_share`: what the publisher keeps of it. `commercial_share`: the share of queries
    that carry ads at all, beside the first two forms, which are then of such a query. None = not given.
    Raises InputError on two forms at once, on none, on a half-given one, and on values out of range.
    """

    usd_per_query: float | None = None
    ecpm_usd: float | None = None
    ads_per_query: float | None = None
    fill: float | None = None
    publisher_share: float | None = None
    revenue_usd_per_year: float | None = None
    queries_per_year: float | None = None
    commercial_share: float | None = None

    def __post_init__(self) -> None:
        if self.commercial_share is not None:
            share("revenue.ads.commercial_share", self.commercial_share)
        factors, volume = self._given(FACTORS), self._given(VOLUME)
        if self.usd_per_query is not None:
            not_negative("revenue.ads.usd_per_query", self.usd_per_query)
            if factors or volume:
                given = ", ".join([*factors, *volume])
                raise InputError("revenue.ads", given, "cannot stand beside usd_per_query: give one form")
        elif volume:
            self._check_volume(volume, factors)
        else:
            self._check_factors(factors)

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    def _check_factors(self, given: list[str]) -> None:
        if not given:
            raise InputError("revenue.ads", "empty", "must give usd_per_query, or ecpm_usd and ads_per_query")
        for name in ("ecpm_usd", "ads_per_query"):
            if name not in given:
                raise InputError(f"revenue.ads.{name}", None, f"must be given with {', '.join(given)}")
        for name in given:
            check = share if name in ("fill", "publisher_share") else not_negative
            check(f"revenue.ads.{name}", getattr(self, name))

    def _check_volume(self, given: list[str], factors: list[str]) -> None:
        if factors:
            raise InputError("revenue.ads", ", ".join(factors), f"cannot stand beside {given[0]}: give one form")
        if self.commercial_share is not None:
            rule = "leave it out: a year's revenue over all its queries counts those without ads too"
            raise InputError("revenue.ads.commercial_share", self.commercial_share, rule)
        for name in VOLUME:
            if name not in given:
                raise InputError(f"revenue.ads.{name}", None, f"must be given with {given[0]}")
            positive(f"revenue.ads.{name}", getattr(self, name))


@dataclass(frozen=True)
class Abandonment:
    """What waiting costs. `usd_per_query_lost` and the revenue at risk are per user query, cached ones included; at
    risk is what a further 100 ms of every latency would lose. `lost_share` is the day's, `lost_share_at_peak` that of
    its busiest hour. `lost_impressions`: ads of a day that nobody stays for; None where ads are not counted.
    """

    metric: str
    lost_share: float
    usd_per_query_lost: float
    at_risk_usd_per_query_per_100ms: float
    at_risk_usd_per_day_per_100ms: float
    source: str
    lost_share_at_peak: float | None = None
    lost_impressions: float | None = None


@dataclass(frozen=True)
class Revenue:
    """What one user query earns, and a thousand of them (query RPM = earnings ÷ queries × 1000, as in AdSense).

    `model` is "ads", "subscription", "api" or "per_word". `lines` are a day's earnings: their products add up to
    usd_per_query · queries of the day. With `abandonment` everything is net of what it loses. `impressions_per_query`:
    ads shown to a user's query, before anyone leaves; None where that is not known.
    """

    usd_per_query: float
    query_rpm_usd: float
    model: str = "ads"
    lines: tuple[MoneyLine, ...] = ()
    abandonment: Abandonment | None = None
    impressions_per_query: float | None = None


def earned(
    usd_per_query: float, model: str, lines: tuple[MoneyLine, ...], impressions_per_query: float | None = None
) -> Revenue:
    """A revenue per query with its RPM."""
    rpm = usd_per_query * MILLE
    return Revenue(usd_per_query, rpm, model, lines, impressions_per_query=impressions_per_query)


def ad_revenue(ads: Ads, demand: Demand | None = None) -> Revenue:
    """usd_per_query; or ecpm_usd/1000 · ads_per_query · fill · publisher_share; or revenue ÷ queries of a year.

    The first two times the commercial share. Every user query earns it, cached or not: the page with its ads is shown
    either way. A factor that was not given counts as 1; `assumed_revenue` lists these. Lines need a `demand`.
    """
    carrying = 1.0 if ads.commercial_share is None else ads.commercial_share
    queries = 0.0 if demand is None else demand.day_queries
    with_ads = f"{100 * carrying:.3g} % of all"
    what = "queries, cached ones included" if ads.commercial_share is None else f"queries with ads, {with_ads}"
    impressions = None
    if ads.usd_per_query is not None:
        per_query = ads.usd_per_query * carrying
        line = money_line(what, queries * carrying, "query", ads.usd_per_query)
    elif ads.revenue_usd_per_year is not None and ads.queries_per_year is not None:
        per_query = ads.revenue_usd_per_year / ads.queries_per_year
        line = money_line("queries, at a year's revenue over its queries", queries, "query", per_query)
    elif ads.ecpm_usd is not None and ads.ads_per_query is not None:
        fill = 1.0 if ads.fill is None else ads.fill
        kept = 1.0 if ads.publisher_share is None else ads.publisher_share
        per_query = ads_usd(ads.ecpm_usd / MILLE, ads.ads_per_query, fill, kept) * carrying
        price = ads.ecpm_usd / MILLE * kept
        impressions = carrying * ads.ads_per_query * fill
        shown = f"ads shown, {ads.ads_per_query:.3g} a query"
        shown += "" if ads.commercial_share is None else f" that carries ads, {with_ads}"
        shown += f", {100 * fill:.3g} % of the places sold" if fill < 1 else ""
        shown += f", {100 * kept:.3g} % of the price kept" if kept < 1 else ""
        line = money_line(shown, queries * impressions, "ad", price)
    else:
        raise InputError("revenue.ads", ads, "must give usd_per_query, or ecpm_usd and ads_per_query")
    return earned(per_query, "ads", () if demand is None else (line,), impressions)


def ads_usd(usd_per_ad: float, ads_per_query: float, fill: float, publisher_share: float) -> float:
    """What the ads of one query earn: price of an ad · ad slots of a query · share sold · share kept, in $."""
    return usd_per_ad * ads_per_query * fill * publisher_share


def assumed_revenue(ads: Ads) -> tuple[Provenance, ...]:
    """The factors that were not given and count as 1, as rows of provenance. Both make revenue look better."""
    if ads.ecpm_usd is None:
        return ()
    rows = []
    if ads.fill is None:
        rows.append(("revenue.ads.fill", "not given: every ad slot counted as sold"))
    if ads.publisher_share is None:
        rows.append(("revenue.ads.publisher_share", "not given: the whole ad price counted as kept"))
    return tuple(Provenance(what, "assumed", why, value="1", errs="optimistic") for what, why in rows)
