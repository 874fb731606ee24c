"""Ads -> dollars per query."""

from __future__ import annotations

from dataclasses import dataclass

from planner.economics.checks import not_negative, share
from planner.errors import InputError
from planner.provenance import Provenance

MILLE = 1000  # eCPM and RPM are prices of a thousand


@dataclass(frozen=True)
class Ads:
    """Ad revenue, stated flat (`usd_per_query`) or by its factors.

    `ecpm_usd`: what advertisers pay for 1,000 shown ads; `ads_per_query`: ad slots of one query; `fill`: the share
    of slots that is sold; `publisher_share`: what the publisher keeps of it. None = not given.
    Raises InputError on both forms at once, on neither, on a half-given second form, and on values out of range.
    """

    usd_per_query: float | None = None
    ecpm_usd: float | None = None
    ads_per_query: float | None = None
    fill: float | None = None
    publisher_share: float | None = None

    def __post_init__(self) -> None:
        factors = {
            "ecpm_usd": self.ecpm_usd,
            "ads_per_query": self.ads_per_query,
            "fill": self.fill,
            "publisher_share": self.publisher_share,
        }
        given = [name for name, value in factors.items() if value is not None]
        if self.usd_per_query is not None:
            not_negative("revenue.ads.usd_per_query", self.usd_per_query)
            if given:
                raise InputError("revenue.ads", ", ".join(given), "cannot stand beside usd_per_query: give one form")
            return
        if not given:
            raise InputError("revenue.ads", "empty", "must give usd_per_query, or ecpm_usd and ads_per_query")
        for name in ("ecpm_usd", "ads_per_query"):
            if factors[name] is None:
                raise InputError(f"revenue.ads.{name}", None, f"must be given with {', '.join(given)}")
        for name, value in factors.items():
            if value is not None:
                (share if name in ("fill", "publisher_share") else not_negative)(f"revenue.ads.{name}", value)


@dataclass(frozen=True)
class Revenue:
    """What one user query earns, and a thousand of them (query RPM = earnings ÷ queries × 1000, as in AdSense)."""

    usd_per_query: float
    query_rpm_usd: float


def ad_revenue(ads: Ads) -> Revenue:
    """The flat figure, or ecpm_usd/1000 · ads_per_query · fill · publisher_share.

    Every user query earns it, cached or not: the page with its ads is shown either way. A `fill` or a
    `publisher_share` that was not given counts as 1; `assumed_revenue` lists these.
    """
    if ads.usd_per_query is not None:
        per_query = ads.usd_per_query
    elif ads.ecpm_usd is not None and ads.ads_per_query is not None:
        fill = 1.0 if ads.fill is None else ads.fill
        kept = 1.0 if ads.publisher_share is None else ads.publisher_share
        per_query = ads.ecpm_usd / MILLE * ads.ads_per_query * fill * kept
    else:
        raise InputError("revenue.ads", ads, "must give usd_per_query, or ecpm_usd and ads_per_query")
    return Revenue(per_query, per_query * MILLE)


def assumed_revenue(ads: Ads) -> tuple[Provenance, ...]:
    """The factors that were not given and count as 1, as rows of provenance. Both make revenue look better."""
    if ads.usd_per_query is not None:
        return ()
    rows = []
    if ads.fill is None:
        rows.append(("revenue.ads.fill", "not given: every ad slot counted as sold"))
    if ads.publisher_share is None:
        rows.append(("revenue.ads.publisher_share", "not given: the whole ad price counted as kept"))
    return tuple(Provenance(what, "assumed", why, value="1", errs="optimistic") for what, why in rows)
