"""A response cache whose hit rate emerges: what a scenario may say of it, who reads it, and what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from response_cache_worlds import DAY, SCENARIO, cached_scenario

from planner import Scenario, simulate
from planner.deployment.documents import mixed
from planner.deployment.runs import model_rate_qps
from planner.errors import ScenarioError, UnsupportedError
from planner.response_cache import cache_document, cache_origins, cache_words, day_hits, response_hit_rate, stated
from planner.response_cache.lru import steady
from planner.response_cache.popularity import WEB_SEARCH, Popularity
from planner.workload import build_load

LAW = {"zipf": 0.8, "queries": 1e6, "new_share": 0.4}


def test_a_named_law_is_the_fitted_one_and_ones_own_is_taken_as_it_stands():
    named = cached_scenario({"popularity": "web_search", "capacity_queries": 1e5, "ttl_s": 600})
    assert steady(WEB_SEARCH, 40.0, 1e5, 600.0).hit_rate == pytest.approx(response_hit_rate(named))
    own = cached_scenario({"popularity": LAW, "ttl_s": 600})
    law = Popularity(0.8, 1_000_000, 0.4)
    assert steady(law, 40.0, float("inf"), 600.0).hit_rate == pytest.approx(response_hit_rate(own))


def test_a_stated_hit_rate_is_the_hit_rate_at_every_rate():
    scenario = cached_scenario({"hit_rate": 0.3}, day=list(DAY))
    assert (0.3, 0.3, None) == day_hits(scenario)
    assert 0.3 == response_hit_rate(scenario) == response_hit_rate(scenario, 1.0)
    assert 0.0 == response_hit_rate(cached_scenario({"hit_rate": 0}))


def test_fewer_queries_find_less_where_answers_expire():
    scenario = cached_scenario({"popularity": "web_search", "ttl_s": 600}, day=list(DAY))
    assert response_hit_rate(scenario, 8.0) < response_hit_rate(scenario, 40.0)
    hits = day_hits(scenario)
    assert hits.by_hour is not None
    assert (0, 12) == (int(np.argmin(hits.by_hour)), int(np.argmax(hits.by_hour)))
    assert min(hits.by_hour) < hits.of_day < hits.at_peak


def test_the_peak_is_sized_for_the_hour_in_which_most_reaches_the_model():
    """Up to 09:00 nobody filled the cache: that hour sends more to the model than the busier one after it."""
    day = [0.02] * 9 + [0.98] + [1.0] * 14
    scenario = cached_scenario({"popularity": LAW, "ttl_s": 6 * 3600.0}, day=day)
    hits = day_hits(scenario)
    assert hits.by_hour is not None
    reaching = [of_peak * (1 - hit) for of_peak, hit in zip(day, hits.by_hour, strict=True)]
    assert 9 == int(np.argmax(reaching))
    assert max(reaching) == pytest.approx(1 - hits.at_peak)
    assert 40.0 * max(reaching) == pytest.approx(model_rate_qps(scenario))


def test_the_load_that_is_simulated_is_thinned_by_the_emerging_hit_rate():
    scenario = cached_scenario({"popularity": LAW, "ttl_s": 600})
    load = build_load(
        scenario, queries=20_000, duration_s=None, warmup=0, rng=np.random.default_rng(1), max_model_len=2048
    )
    hit_rate = response_hit_rate(scenario)
    assert hit_rate == pytest.approx(load.cached_share, abs=0.01)
    assert 40.0 * (1 - hit_rate) == pytest.approx(len(load.arrival_s) / load.arrival_s[-1], rel=0.02)


REFUSED = [
    # response_cache, traffic, key, words, because
    ({}, {}, "query.response_cache", "give hit_rate, or popularity", "it says nothing"),
    (
        {"hit_rate": 0.3, "popularity": "web_search", "ttl_s": 60},
        {},
        "query.response_cache.hit_rate (=0.3)",
        "not both",
        "two answers to one question",
    ),
    ({"hit_rate": 0.3, "ttl_s": 60}, {}, "query.response_cache.ttl_s (=60)", "only beside popularity", "unread"),
    (
        {"hit_rate": 0.3, "capacity_queries": 9},
        {},
        "query.response_cache.capacity_queries (=9)",
        "only beside popularity",
        "unread",
    ),
    ({"popularity": "web_search"}, {}, "query.response_cache.capacity_queries", "or ttl_s", "keeps everything"),
    (
        {"popularity": "web_serch", "ttl_s": 60},
        {},
        "query.response_cache.popularity (=web_serch)",
        "nearest: web_search",
        "a slip",
    ),
    ({"popularity": 0.8, "ttl_s": 60}, {}, "query.response_cache.popularity (=0.8)", "a law of one's own", "a number"),
    (
        {"popularity": {"zipf": 0.8, "queries": 100}, "ttl_s": 60},
        {},
        "query.response_cache.popularity.new_share",
        "is required",
        "absent is never zero",
    ),
    (
        {"popularity": {**LAW, "new_share": 1}, "ttl_s": 60},
        {},
        "query.response_cache.popularity.new_share (=1)",
        "must be < 1",
        "nothing comes again",
    ),
    ({"popularity": "web_search", "ttl_s": 0}, {}, "query.response_cache.ttl_s (=0)", "must be >=", "keeps nothing"),
    ({"hit_rate": 0.3, "usd_per_hit": -1}, {}, "query.response_cache.usd_per_hit (=-1)", "must be >= 0", "a gift"),
]


@pytest.mark.parametrize(("cache", "traffic", "key", "words", "because"), REFUSED)
def test_a_cache_that_cannot_be_is_refused_by_name(cache: Any, traffic: Any, key: str, words: str, because: str):
    with pytest.raises(ScenarioError) as caught:
        cached_scenario(cache, **traffic)
    assert str(caught.value).startswith(key)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "demand", "nearest"),
    [
        ("closed", {"concurrency": 4}, "no response_cache"),
        ("offline", {"requests": 4}, "response_cache: {hit_rate: 0.3}"),
        ("trace", {"file": "t.csv", "format": "azure"}, "response_cache: {hit_rate: 0.3}"),
    ],
)
def test_a_hit_rate_cannot_emerge_from_a_load_without_a_rate(kind: str, demand: Any, nearest: str):
    data = {**SCENARIO, "traffic": {"arrivals": {kind: demand}}}
    with pytest.raises(UnsupportedError, match=rf"popularity \(=web_search\): arrivals: {kind} has no rate") as caught:
        Scenario.from_dict(data)
    assert nearest == caught.value.nearest
    fixed = {**data, "query": {**data["query"], "response_cache": {"hit_rate": 0 if kind == "closed" else 0.3}}}
    assert kind == Scenario.from_dict(fixed).demand


def test_sessions_and_an_emerging_hit_rate_are_refused_by_name():
    stage = {**SCENARIO["query"]["stages"][0], "turns": 3}
    with pytest.raises(UnsupportedError, match=r"^query\.response_cache\.popularity .*beside turns \(=3\)"):
        Scenario.from_dict({**SCENARIO, "query": {**SCENARIO["query"], "stages": [stage]}})


def test_without_a_peak_there_is_nothing_that_a_hit_rate_could_emerge_from():
    scenario = Scenario.from_dict({**SCENARIO, "traffic": {}})
    with pytest.raises(ScenarioError, match=r"^traffic\.peak_qps: is required: the hit rate of query\.response_cache"):
        response_hit_rate(scenario)


def test_a_cache_that_answers_everything_is_refused_since_nothing_is_left_to_size():
    law = {"zipf": 1.0, "queries": 1000, "new_share": 0}
    with pytest.raises(ScenarioError, match=r"^query\.response_cache\.capacity_queries \(=5000\): answers every query"):
        response_hit_rate(cached_scenario({"popularity": law, "capacity_queries": 5000}))


# --- what is told ---


def test_the_document_has_every_hour_what_the_peak_is_sized_with_and_where_it_comes_from():
    scenario = cached_scenario(None, day=list(DAY))
    told, hits = cache_document(scenario), day_hits(scenario)
    assert told is not None
    assert (hits.of_day, hits.at_peak, list(hits.by_hour or ())) == (told["hit_rate"], told["at_peak"], told["by_hour"])
    assert "Zipf 0.85 over 1.176e+08" in told["source"]
    assert (None, None, None) == (told["hit_ms"], told["usd_per_hit"], told["usd_per_hour"])
    fixed = cache_document(cached_scenario({"hit_rate": 0.3}))
    assert fixed is not None
    assert ([0.3] * 24, None, "stated: query.response_cache.hit_rate") == (
        fixed["by_hour"],
        fixed["characteristic_time_s"],
        fixed["source"],
    )
    assert None is cache_document(scenario.with_values({"query.response_cache": None}))


def test_what_a_hit_rate_rests_on_is_told_with_its_direction():
    rows = {row.what: row for row in cache_origins(cached_scenario({"popularity": "web_search", "ttl_s": 60}))}
    key = "query.response_cache"
    assert ("fitted", "optimistic") == (rows[f"{key}.popularity"].kind, rows[f"{key}.popularity"].errs)
    assert "SIGIR 2007: 44% of the volume seen once" in rows[f"{key}.popularity"].source
    assert "at the peak" in rows[f"{key}: hit rate"].value
    for name in ("capacity_queries", "usd_per_hit", "usd_per_hour"):
        assert ("assumed", "optimistic") == (rows[f"{key}.{name}"].kind, rows[f"{key}.{name}"].errs)
        assert rows[f"{key}.{name}"].source.startswith("not given")
    assert f"{key}.ttl_s" not in rows
    given = {"hit_rate": 0.3, "usd_per_hit": 0, "usd_per_hour": "0.5 USD"}
    assert () == cache_origins(cached_scenario(given))


def test_simulate_tells_the_rows_too():
    document = simulate(cached_scenario(), requests=300).as_dict()
    assert "query.response_cache.popularity" in {row["what"] for row in document["provenance"]}
    assert "with_hits_ms" not in document  # nobody said how long a hit takes


def test_the_words_name_the_emerging_hit_rate():
    words = cache_words(cached_scenario())
    assert words.startswith("answers ")
    assert "as emerges from room for 100,000 answers, each valid for 600 s" in words
    assert "answers 30 % of the queries without a GPU" == cache_words(cached_scenario({"hit_rate": 0.3}))
    assert (
        ""
        == cache_words(cached_scenario({"hit_rate": 0}))
        == cache_words(cached_scenario().with_values({"query.response_cache": None}))
    )


def test_a_stated_hit_rate_in_place_of_an_emerging_one_keeps_what_a_hit_costs():
    given = {"popularity": "web_search", "ttl_s": 60, "hit_ms": 5, "usd_per_hit": 0.1, "usd_per_hour": 2}
    found = stated(cached_scenario(given), 0.25).query.response_cache
    assert found is not None
    assert {"hit_rate": 0.25, "hit_ms": 5, "usd_per_hit": 0.1, "usd_per_hour": 2} == found.model_dump(exclude_none=True)
    fixed = cached_scenario({"hit_rate": 0.3})
    assert fixed is stated(fixed, 0.25)


# --- latency with the hits ---

MIXED = [
    # latencies, hit share, hit_ms, p50, p99, mean, because
    ([100.0, 200.0, 300.0, 400.0], 0.0, 10.0, 200.0, 400.0, 250.0, "no hits: the model's own"),
    ([100.0, 200.0, 300.0, 400.0], 0.6, 10.0, 10.0, 400.0, 106.0, "more than half are hits"),
    ([100.0, 200.0, 300.0, 400.0], 0.4, 10.0, 100.0, 400.0, 154.0, "40 % hits, then 15 % each"),
    ([100.0, 200.0, 300.0, 400.0], 0.5, 250.0, 250.0, 400.0, 250.0, "a hit may be slower than some"),
    ([100.0, np.inf], 0.5, 10.0, 10.0, 100.0, 55.0, "a query that failed has no latency"),
]


@pytest.mark.parametrize(("latencies", "share", "hit_ms", "p50", "p99", "mean", "because"), MIXED)
def test_percentiles_over_all_users_queries_count_each_hit_as_hit_ms(
    latencies: list[float], share: float, hit_ms: float, p50: float, p99: float, mean: float, because: str
):
    found = mixed(np.array(latencies), share, hit_ms)
    assert found is not None
    assert (p50, p99, pytest.approx(mean)) == (found["p50"], found["p99"], found["mean"])
    assert None is mixed(np.array([np.inf]), share, hit_ms)
