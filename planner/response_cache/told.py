"""The response cache in words: in a plan's document, as provenance, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import DataFileError
from planner.provenance import Provenance
from planner.response_cache.hits import KEY, day_hits, law_of, response_hit_rate, steady_at
from planner.response_cache.popularity import FIRST_SHARE, LOG_QUERIES, SEEN_ONCE_SHARE, WEB_SEARCH, ZIPF, seen
from planner.scenario import Scenario
from planner.units import HOURS_PER_DAY

EMERGES = "LRU and time to live under Poisson requests by Che's approximation, each hour at its own load"


def cache_document(scenario: Scenario) -> dict[str, Any] | None:
    """`response_cache` of a plan: {hit_rate (of the day), at_peak (the peak is sized with it), by_hour [24],
    characteristic_time_s and kept_queries at the peak (None: stated, or never full), hit_ms, usd_per_hit,
    usd_per_hour, source}; None without one.
    """
    cache = scenario.query.response_cache
    if cache is None:
        return None
    hits = day_hits(scenario)
    emerging = None if cache.hit_rate is not None else steady_at(cache, scenario.traffic.peak_qps or 0.0)
    return {
        "hit_rate": hits.of_day,
        "at_peak": hits.at_peak,
        "by_hour": list(hits.by_hour or (hits.of_day,) * HOURS_PER_DAY),
        "characteristic_time_s": None if emerging is None else emerging.characteristic_time_s,
        "kept_queries": None if emerging is None else emerging.kept,
        "hit_ms": cache.hit_ms,
        "usd_per_hit": None if cache.usd_per_hit is None else float(cache.usd_per_hit),
        "usd_per_hour": None if cache.usd_per_hour is None else float(cache.usd_per_hour),
        "source": f"stated: {KEY}.hit_rate" if emerging is None else f"{EMERGES}; popularity: {_law_words(scenario)}",
    }


def read_hit_rate(document: Mapping[str, Any], scenario: Scenario, where: str = "plan document") -> float:
    """The hit rate at the peak that a plan's document was made with; of an older one, the scenario's.

    Raises DataFileError where the document has one that cannot be; `where` names the document in the message.
    """
    told = document.get("response_cache")
    if told is None:
        return response_hit_rate(scenario)
    value = told.get("at_peak") if isinstance(told, Mapping) else told
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        rule = f"response_cache.at_peak (={value!r}) must be a share of at least 0 and below 1; plan again"
        raise DataFileError(where, None, rule)
    return float(value)


def stated(scenario: Scenario, hit_rate: float) -> Scenario:
    """The scenario with a stated hit rate where it emerges, what a hit costs and takes unchanged; else itself."""
    cache = scenario.query.response_cache
    if cache is None or cache.hit_rate is not None:
        return scenario
    kept = cache.model_dump(mode="json", include={"hit_ms", "usd_per_hit", "usd_per_hour"}, exclude_none=True)
    return scenario.with_values({KEY: {"hit_rate": hit_rate, **kept}})


def cache_words(scenario: Scenario) -> str:
    """What the cache does, for a line of text; empty where it answers nothing."""
    cache = scenario.query.response_cache
    hits = day_hits(scenario)
    if cache is None or hits.of_day == 0:
        return ""
    if cache.hit_rate is not None:
        return f"answers {100 * cache.hit_rate:.3g} % of the queries without a GPU"
    rooms = "" if cache.capacity_queries is None else f"room for {cache.capacity_queries:,} answers"
    lives = "" if cache.ttl_s is None else f"each valid for {cache.ttl_s:g} s"
    made = ", ".join(part for part in (rooms, lives) if part)
    return (
        f"answers {100 * hits.at_peak:.3g} % of the queries at the peak and {100 * hits.of_day:.3g} % of the day's "
        f"without a GPU, as emerges from {made}"
    )


# --- provenance ---


def cache_origins(scenario: Scenario) -> tuple[Provenance, ...]:
    """What a hit rate rests on, where it is not stated, and what of a cache's bill and latency is not given."""
    cache = scenario.query.response_cache
    if cache is None:
        return ()
    rows = [] if cache.hit_rate is not None else _of_emerging(scenario)
    for key, why in (
        ("usd_per_hit", "not given: an answer from the cache costs nothing"),
        ("usd_per_hour", "not given: the cache itself costs nothing"),
    ):
        if getattr(cache, key) is None and scenario.query.response_cache is not None and cache.hit_rate != 0:
            rows.append(Provenance(f"{KEY}.{key}", "assumed", why, "0 USD", errs="optimistic"))
    return tuple(rows)


def _of_emerging(scenario: Scenario) -> list[Provenance]:
    cache = scenario.query.response_cache
    assert cache is not None
    rows = [
        Provenance(
            f"{KEY}: hit rate",
            "assumed",
            f"{EMERGES}; queries come independently of each other: no news that many ask at once, no drift; equal "
            "means equal to the letter, and an answer is there for others as soon as it is asked for",
            "" if scenario.traffic.peak_qps is None else _rates(scenario),
            errs="unknown",
        )
    ]
    if cache.popularity == "web_search":
        law = seen(WEB_SEARCH, LOG_QUERIES)
        why = (
            f"fitted to a year of Yahoo UK logs (Baeza-Yates et al., SIGIR 2007: {SEEN_ONCE_SHARE:.0%} of the volume "
            f"seen once, a cache that forgets nothing hits {1 - FIRST_SHARE:.0%}; here {law.once:.2%} and "
            f"{1 - law.first:.2%}), of an assumed {LOG_QUERIES:.0e} queries at an assumed exponent of {ZIPF:g}; what "
            "people ask an LLM is longer and comes back less often"
        )
        rows.append(Provenance(f"{KEY}.popularity", "fitted", why, _law_words(scenario), "2007", errs="optimistic"))
    else:
        why = "the scenario's own law, taken to hold at every hour"
        rows.append(Provenance(f"{KEY}.popularity", "assumed", why, _law_words(scenario), errs="unknown"))
    if cache.ttl_s is None:
        why = "not given: an answer never goes stale, nor do the ads beside it"
        rows.append(Provenance(f"{KEY}.ttl_s", "assumed", why, "none", errs="optimistic"))
    if cache.capacity_queries is None:
        why = "not given: room for every answer that is still valid"
        rows.append(Provenance(f"{KEY}.capacity_queries", "assumed", why, "none", errs="optimistic"))
    if scenario.traffic.arrivals != "poisson":
        why = "the cache is taken to see Poisson arrivals, whatever traffic.arrivals says"
        rows.append(Provenance(f"{KEY}: arrivals", "assumed", why, errs="unknown"))
    return rows


def _rates(scenario: Scenario) -> str:
    hits = day_hits(scenario)
    return f"{hits.at_peak:.1%} at the peak, {hits.of_day:.1%} of the day"


def _law_words(scenario: Scenario) -> str:
    cache = scenario.query.response_cache
    assert cache is not None
    law = law_of(cache)
    return f"{law.new_share:.3g} never asked before, else Zipf {law.zipf:g} over {law.queries:.4g} queries"
