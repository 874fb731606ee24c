"""Answers kept in front of the fleet and given again: what share of the users' queries never reaches the model.

Where to look: `popularity` how often which query is asked, and the law that is fitted to a web search log · `lru` a
cache with room for so many answers, each valid for so long, under that law · `hits` the one door: a scenario's hit
rate at its peak, by the hour, at any other rate, and of any steps · `told` the same as a plan's document and as
provenance.
"""

from planner.response_cache.hits import KEY, DayHits, day_hits, response_hit_rate, step_hits
from planner.response_cache.told import cache_document, cache_origins, cache_words, read_hit_rate, stated

__all__ = [
    "KEY",
    "DayHits",
    "cache_document",
    "cache_origins",
    "cache_words",
    "day_hits",
    "read_hit_rate",
    "response_hit_rate",
    "stated",
    "step_hits",
]
