"""What is earned: ads, subscriptions, tokens or words sold; and the users whom waiting drives away."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.scenario.amounts import Price, PriceOrFree, Sum
from planner.scenario.types import Fraction, NotNegative, Positive, Section, ShareBelowOne, broken

MODELS = ("ads", "subscription", "api", "per_word")
FACTORS = ("ecpm_usd", "ads_per_query", "fill", "publisher_share")
VOLUME = ("revenue_usd_per_year", "queries_per_year")


class Ads(Section):
    """Ad revenue of one query: flat, or eCPM ÷ 1000 × ads × fill × the publisher's share (not given: taken as 1).

    Or a year's revenue ÷ the year's queries.
    """

    usd_per_query: Price | None = None
    ecpm_usd: Price | None = None
    ads_per_query: Positive | None = None
    fill: Fraction | None = None
    """Share of the ad places that are sold."""
    publisher_share: Fraction | None = None
    """Share of the advertisers' money that the publisher keeps."""
    revenue_usd_per_year: Sum | None = None
    queries_per_year: Annotated[float, Field(ge=1, le=1e18)] | None = None
    commercial_share: Fraction | None = None
    """Share of the queries that carry ads; usd_per_query or the factors are then of such a query."""

    @model_validator(mode="after")
    def _one_basis(self) -> Ads:
        detail = sorted(key for key in FACTORS if getattr(self, key) is not None)
        volume = [key for key in VOLUME if getattr(self, key) is not None]
        if self.usd_per_query is not None:
            if self.fill is not None or self.publisher_share is not None:
                raise broken("is already net of fill and publisher_share; leave them out", "usd_per_query")
            if detail or volume:
                others = ", ".join([*detail, *volume])
                raise broken(f"give usd_per_query alone, or {others} without it", "usd_per_query")
            return self
        if volume:
            self._check_volume(volume, detail)
            return self
        if self.ecpm_usd is None:
            raise broken(
                "is required: usd_per_query, or ecpm_usd with ads_per_query, or revenue_usd_per_year with "
                "queries_per_year",
                "ecpm_usd" if detail else "usd_per_query",
            )
        if self.ads_per_query is None:
            raise broken("is required beside ecpm_usd", "ads_per_query")
        return self

    def _check_volume(self, given: list[str], factors: list[str]) -> None:
        if factors:
            raise broken(f"give {' and '.join(VOLUME)} alone, or {', '.join(factors)} without them", given[0])
        for key in VOLUME:
            if key not in given:
                raise broken(f"is required beside {given[0]}", key)
        if self.commercial_share is not None:
            rule = "leave it out: revenue_usd_per_year ÷ queries_per_year is over all queries, with and without ads"
            raise broken(rule, "commercial_share")


class TailMoments(Section):
    """Coefficient of variation of the monthly queries of a subscriber (not of their logarithm)."""

    cv: Annotated[float, Field(ge=0.001, le=100)]


class Tail(Section):
    """How unequally subscribers ask; the mean is `queries_per_month`."""

    lognormal: TailMoments


class Subscription(Section):
    """A flat price, whatever is asked."""

    usd_per_month: Price
    queries_per_month: Annotated[float, Field(ge=0.001, le=1e9)]
    """Mean queries of a subscriber, cached ones included."""
    tail: Tail | None = None
    """Not given: nothing is said of heavy users."""
    days: Annotated[float, Field(ge=1, le=31)] | None = None
    """Days of the month that is meant. Not given: 365 ÷ 12."""


class Api(Section):
    """Tokens sold by the million; those that the prefix cache held at their own price."""

    usd_per_million_input: Price
    usd_per_million_cached_input: PriceOrFree | None = None
    """Not given: cached input is billed as other input."""
    usd_per_million_output: Price


class PerWord(Section):
    """Words of answers sold by the thousand."""

    usd_per_1000_words: Price
    words_per_1000_tokens: Annotated[float, Field(ge=1, le=10_000)] | None = None
    """Not given: 750, as of English text."""


class Abandonment(Section):
    """Users who leave before the answer and earn nothing: stay = (1 − per_100ms)^(max(0, t − after_ms) ÷ 100)."""

    metric: Literal["ttft", "e2e"]
    """What they wait for: the first token, or the last."""
    after_ms: NotNegative | None = None
    """Waiting that nobody minds. Not given: taken as 0."""
    per_100ms: ShareBelowOne
    """Share of those still there who leave in each further 100 ms."""


class Revenue(Section):
    """What is earned, in exactly one of four ways. Absent = margin is left out, and said so."""

    ads: Ads | None = None
    subscription: Subscription | None = None
    api: Api | None = None
    per_word: PerWord | None = None
    abandonment: Abandonment | None = None

    @model_validator(mode="after")
    def _one_model(self) -> Revenue:
        given = [key for key in MODELS if getattr(self, key) is not None]
        if not given:
            raise broken(f"is required: exactly one of {', '.join(MODELS)}", "ads")
        if len(given) > 1:
            raise broken(f"give only one of: {', '.join(given)}", given[1])
        if self.subscription is not None and self.abandonment is not None:
            rule = "may not stand beside subscription: who leaves a query has paid the month all the same"
            raise broken(rule, "abandonment")
        return self

    @property
    def model(self) -> Ads | Subscription | Api | PerWord:
        """The one that is given."""
        for given in (self.ads, self.subscription, self.api, self.per_word):
            if given is not None:
                return given
        raise AssertionError("a revenue has exactly one model")
