"""A plan behind a response cache whose hit rate emerges: its money, its day, and those who read its document."""

from __future__ import annotations

import copy
import json
import shlex
from math import fsum
from typing import Any

import pytest
from response_cache_worlds import DAY, SCENARIO

from planner import Scenario, plan
from planner.cli.options import changes_of
from planner.drift import fleet_model
from planner.drift.actual import actual_of
from planner.drift.mends import response_hit_rate as mended
from planner.drift.mends import setting
from planner.economics import Ads, Demand, Prices, Size, Training, load_shape, unit_economics, utilisation_by_hour
from planner.errors import DataFileError
from planner.manifests.facts import read_facts
from planner.observed import Observed
from planner.planned import planned
from planner.report.page import report_page
from planner.report.page.sums import check_sums
from planner.response_cache import day_hits
from planner.studies.sweep import sweep
from planner.studies.waterfall import with_waterfall

CACHE = {"popularity": {"zipf": 0.9, "queries": 1e6, "new_share": 0.2}, "capacity_queries": 1e5, "ttl_s": 1800}
PAID = {**CACHE, "hit_ms": 12, "usd_per_hit": 0.00001, "usd_per_hour": 0.5}
REQUESTS = 1500


def small(**changes: Any) -> Scenario:
    """On a small GPU, so that there is a fleet to save, with everything that is bought."""
    data = {
        **SCENARIO,
        "name": "behind a cache",
        "hardware": "l4-24gb",
        "query": {**SCENARIO["query"], "response_cache": PAID},
        "traffic": {"peak_qps": 40.0, "day": list(DAY)},
        "slo": {"p90_ttft_ms": "<=1500", "p90_tpot_ms": "<=90"},
        "prices": {"gpu_hour_usd": 1.0, "retrieval_usd_per_query": 0.0002},
        "revenue": {"ads": {"usd_per_query": 0.004}},
    }
    return Scenario.from_dict(data).with_values(changes)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    answer = plan(small(), requests=REQUESTS, worlds=0)
    found: dict[str, Any] = json.loads(json.dumps(answer.as_dict()))
    return found


def test_the_fleet_is_sized_with_what_the_cache_leaves_at_the_peak(document: dict[str, Any]):
    hits = day_hits(small())
    assert 0.3 < hits.of_day < hits.at_peak < 0.6
    assert hits.at_peak == pytest.approx(document["response_cache"]["at_peak"])
    fixed = plan(small(**{"query.response_cache": {"hit_rate": hits.at_peak}}), requests=REQUESTS, worlds=0)
    assert fixed.as_dict()["fleet"] == document["fleet"]
    assert fixed.as_dict()["at_peak"]["ttft_ms"] == pytest.approx(document["at_peak"]["ttft_ms"])


def test_the_bill_has_a_line_for_hits_and_for_the_cache_and_adds_up(document: dict[str, Any]):
    queries = fsum(hour["queries"] for hour in document["day"])
    hit_rate = document["response_cache"]["hit_rate"]
    lines = {line["what"]: line for line in document["cost_lines"]}
    assert queries * hit_rate == pytest.approx(lines["answers from the response cache"]["quantity"])
    assert queries * (1 - hit_rate) == pytest.approx(lines["retrieval"]["quantity"])
    assert (24.0, 0.5) == tuple(lines["response cache, all day"][key] for key in ("quantity", "unit_price_usd"))
    total = fsum(line["product_usd"] for line in document["cost_lines"])
    assert total == pytest.approx(document["cost"]["usd_per_query"] * queries)
    assert total == pytest.approx(fsum(hour["cost"] for hour in document["day"]))
    assert 24 * document["cost"]["usd_per_hour"] == pytest.approx(
        lines["GPUs, spares included, all day"]["product_usd"]
    )


def test_an_hour_buys_retrieval_for_its_own_misses(document: dict[str, Any]):
    cache = document["response_cache"]
    for hour, hit in zip(document["day"], cache["by_hour"], strict=True):
        bought = hour["queries"] * (0.0002 * (1 - hit) + 0.00001 * hit)
        assert document["cost"]["usd_per_hour"] + 0.5 + bought == pytest.approx(hour["cost"])


def test_the_documents_own_sums_hold_and_a_wrong_one_is_told(document: dict[str, Any]):
    check_sums(document, "plan")
    wrong = copy.deepcopy(document)
    wrong["response_cache"]["by_hour"][3] += 0.2
    with pytest.raises(DataFileError, match=r"day\[3\]\.cost"):
        check_sums(wrong, "plan")


def test_latencies_over_all_users_queries_stand_beside_those_of_the_model(document: dict[str, Any]):
    with_hits, model = document["at_peak"]["with_hits_ms"], document["at_peak"]
    share = document["response_cache"]["at_peak"]
    for name in ("ttft", "e2e"):
        assert share * 12 + (1 - share) * model[f"{name}_ms"]["mean"] == pytest.approx(with_hits[name]["mean"])
        assert with_hits[name]["p50"] <= model[f"{name}_ms"]["p50"]
    assert 12 < with_hits["e2e"]["p99"] <= model["e2e_ms"]["p99"]


@pytest.mark.parametrize("training", [None, Training(usd=50_000.0, months=12.0)], ids=["alone", "with a training bill"])
def test_break_even_values_leave_a_margin_of_nothing(training: Training | None):
    fees = {"cache_usd_per_hit": 0.0004, "cache_usd_per_hour": 3.0}
    prices = Prices(2.0, 0.9, 0.001, **fees)  # type: ignore[arg-type]
    uncached = tuple(0.8 - 0.2 * of_peak for of_peak in DAY)
    share = fsum(of * un for of, un in zip(DAY, uncached, strict=True)) / fsum(DAY)
    demand = Demand(10.0, DAY, share, uncached_by_hour=uncached)
    whole = unit_economics(4, prices, demand, Ads(usd_per_query=0.01), training=training)
    found = whole.break_even if training is None else whole.after_training
    assert found is not None
    again = [
        (prices, Demand(found.qps or 0.0, DAY, share, uncached_by_hour=uncached), 0.01),
        (Prices(found.gpu_hour_usd, 0.9, 0.001, **fees), demand, 0.01),  # type: ignore[arg-type]
        (prices, demand, (found.rpm_usd or 0.0) / 1000),
    ]
    for paid, asked, earns in again:
        margin = unit_economics(4, paid, asked, Ads(usd_per_query=earns), training=training).margin
        assert margin is not None
        left = margin.usd_per_query if training is None else margin.after_training_usd_per_query
        assert 0.0 == pytest.approx(left, abs=1e-12)


def test_a_fleet_that_follows_the_day_follows_what_reaches_the_model():
    """Half the users at night, of whom twice the share reaches the model: as many replicas as at noon."""
    day = (0.5,) * 12 + (1.0,) * 12
    demand = Demand(10.0, day, 0.6, uncached_by_hour=(0.8,) * 12 + (0.4,) * 12)
    assert (1.0,) * 24 == demand.model_day
    shape = load_shape(Size(serving=4, spare=1, gpus_per_replica=1), Prices(1.0), demand)
    assert (5,) * 24 == shape.following.replicas
    alike = Demand(10.0, day, 0.6)
    assert day == alike.model_day
    assert (3,) * 12 + (5,) * 12 == load_shape(Size(4, 1, 1), Prices(1.0), alike).following.replicas
    assert (0.7,) * 24 == pytest.approx(utilisation_by_hour(demand, [(10.0, 0.7), (5.0, 0.4)]))


def test_a_plans_document_needs_no_law_to_be_read_back(document: dict[str, Any]):
    at_peak = document["response_cache"]["at_peak"]
    found = planned(document)
    assert 1 - at_peak == pytest.approx(found.uncached_share)
    assert found.pinned.query.response_cache is not None
    assert at_peak == found.pinned.query.response_cache.hit_rate
    assert at_peak == read_facts(document).response_cache_hit_rate
    told = copy.deepcopy(document)
    told["response_cache"]["at_peak"] = 0.123
    assert 0.877 == pytest.approx(planned(told).uncached_share)
    assert 0.123 == read_facts(told).response_cache_hit_rate
    older = {key: value for key, value in document.items() if key != "response_cache"}
    assert found.uncached_share == pytest.approx(planned(older).uncached_share)


@pytest.mark.parametrize(
    ("value", "because"), [(1.0, "all"), (-0.1, "less than none"), ("0.3", "text"), (None, "none")]
)
def test_a_hit_rate_in_a_document_that_cannot_be_is_refused_by_name(document: dict[str, Any], value: Any, because: str):
    damaged = copy.deepcopy(document)
    damaged["response_cache"]["at_peak"] = value
    with pytest.raises(DataFileError, match=r"^my\.json: response_cache\.at_peak"):
        planned(damaged, "my.json")


@pytest.mark.parametrize(("key", "value"), [("by_hour", [2.0] * 24), ("by_hour", "many"), ("usd_per_hour", -1.0)])
def test_the_report_refuses_a_damaged_response_cache_by_name(document: dict[str, Any], key: str, value: Any):
    damaged = copy.deepcopy(document)
    damaged["response_cache"][key] = value
    with pytest.raises(DataFileError, match=rf"response_cache\.{key}"):
        report_page(damaged)


def test_drift_simulates_the_planned_load_and_its_mend_can_be_applied(document: dict[str, Any]):
    found = planned(document)
    model = fleet_model(found).simulated
    assert model is not None
    assert found.uncached_share == pytest.approx(1 - (model.base.query.response_cache.hit_rate or 0.0))  # type: ignore[union-attr]
    seen = Observed(ended_unix_s=43_200.0, window_s=3600.0, queries_per_s=40.0, requests_per_s=32.0)
    mend = setting(mended(found, actual_of(found, seen)))
    words = shlex.split(mend or "")
    cache = small().with_values(changes_of(words[1::2])).query.response_cache
    assert cache is not None
    assert (0.2, None, 0.5) == (cache.hit_rate, cache.popularity, cache.usd_per_hour)


def test_the_waterfall_names_the_emerging_hit_rate_and_takes_the_caches_bill_away_with_it(document: dict[str, Any]):
    bare = small(**{"engine.enable_prefix_caching": False, "engine.quantization": "bf16"})
    answer = with_waterfall(plan(bare, requests=REQUESTS, worlds=0), bare, requests=REQUESTS).as_dict()
    rows = {row["step"]: row for row in answer["waterfall"]}
    row = rows["response cache"]
    assert row["what"].startswith(f"answers {100 * document['response_cache']['at_peak']:.3g} % of the queries at the")
    assert CACHE["ttl_s"] == row["set"]["query.response_cache"]["ttl_s"]
    assert row["removed"]["gpus"] == rows["baseline"]["gpus"] - row["gpus"] > 0
    assert answer["cost"]["usd_per_query"] == pytest.approx(row["usd_per_query"])


def test_a_sweep_of_the_time_to_live_needs_fewer_gpus_for_longer_lives():
    points = sweep(small(), {"ttl_s": [10, 86_400]}, requests=REQUESTS).as_dict()["points"]
    assert points[0]["gpus"] > points[1]["gpus"]


def test_the_report_page_is_made_of_such_a_plan(document: dict[str, Any]):
    assert "answers from the response cache" in report_page(document)
