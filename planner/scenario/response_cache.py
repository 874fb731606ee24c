"""`query.response_cache`: a hit rate that is stated, or what it emerges from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from planner.scenario.amounts import PriceOrFree
from planner.scenario.types import Section, ShareBelowOne, broken, tag, whole


class QueryPopularity(Section):
    """How often which query is asked: a Zipf law over `queries`, and a share of queries that nobody asked before."""

    zipf: Annotated[float, Field(ge=0, le=5)]
    """The k-th most popular query is asked as k^-zipf."""
    queries: Annotated[int, Field(ge=1, le=10**12), BeforeValidator(whole)]
    """How many different queries come again and again."""
    new_share: ShareBelowOne
    """Share of all queries that are asked once and never again."""


def _named_law(value: Any) -> Any:
    """Refuse what is neither a name nor a mapping, in words."""
    if isinstance(value, str | Mapping | QueryPopularity):
        return value
    raise broken("must be web_search, or a law of one's own: {zipf: s, queries: N, new_share: x}")


class ResponseCache(Section):
    """Answers kept and given again: a query answered here reaches no GPU.

    Either its hit rate is stated, or it emerges from popularity, room, time to live and the queries' rate.
    """

    hit_rate: ShareBelowOne | None = None
    """Share of the users' queries that it answers, day and night."""
    popularity: (
        Annotated[
            Annotated[Literal["web_search"], Tag(tag("name"))] | Annotated[QueryPopularity, Tag(tag("law"))],
            Discriminator(lambda value: tag("name") if isinstance(value, str) else tag("law")),
            BeforeValidator(_named_law),
        ]
        | None
    ) = None
    """In place of hit_rate: which queries come again. web_search = fitted to a year of a search engine's log."""
    capacity_queries: Annotated[int, Field(ge=1, le=10**12), BeforeValidator(whole)] | None = None
    """Beside popularity: room for so many answers, the least recently used leaving first. Not given: no limit."""
    ttl_s: Annotated[float, Field(ge=0.001, le=1e9)] | None = None
    """Beside popularity: an answer is valid for so long after it was made. Not given: for ever."""
    hit_ms: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """From a query to its answer from the cache; then percentiles over all users' queries are told too."""
    usd_per_hit: PriceOrFree | None = None
    """What an answer from the cache costs. Not given: taken as 0."""
    usd_per_hour: PriceOrFree | None = None
    """What the cache costs by the hour, whatever it answers. Not given: taken as 0."""

    @model_validator(mode="after")
    def _stated_or_emerging(self) -> ResponseCache:
        if (self.hit_rate is None) == (self.popularity is None):
            if self.popularity is None:
                raise broken("give hit_rate, or popularity beside capacity_queries or ttl_s", nearest="hit_rate: 0.3")
            raise broken("give hit_rate or popularity, not both: a hit rate is stated, or it emerges", "hit_rate")
        for key in ("capacity_queries", "ttl_s"):
            if self.hit_rate is not None and getattr(self, key) is not None:
                raise broken("is read only beside popularity: a stated hit_rate holds whatever it says", key)
        if self.popularity is not None and self.capacity_queries is None and self.ttl_s is None:
            raise broken("is required beside popularity, or ttl_s: else the cache keeps everything", "capacity_queries")
        return self
